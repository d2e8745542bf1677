"""Passes that turn a trained network into a spiking one."""
