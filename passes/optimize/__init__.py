"""Passes that improve or simplify a network without leaving its level."""
