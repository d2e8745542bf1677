"""Passes that choose thresholds and precision from data."""
