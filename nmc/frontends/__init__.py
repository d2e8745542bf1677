"""Frontends: from other people's network formats to the program text."""
