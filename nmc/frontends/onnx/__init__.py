"""The ONNX frontend: a trained network in an ``.onnx`` file becomes a module of level ``ann``."""

from nmc.frontends.onnx.convert import load_onnx
from nmc.frontends.onnx.table import supported_ops

__all__ = ["load_onnx", "supported_ops"]
