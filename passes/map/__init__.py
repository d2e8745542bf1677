"""Mapping: which core holds which part of the network (placement on the mesh)."""
