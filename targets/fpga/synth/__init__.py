"""Synthesis, place and route of the core with open tools, and bitstreams with other weights without either."""
