"""The NIR frontend: a network of the Neuromorphic Intermediate Representation becomes a module of level ``snn``."""

from nmc.frontends.nir.load import load_nir

__all__ = ["load_nir"]
