"""nmc, the neuromorphic compiler: from an ONNX model to the images of a neuromorphic chip."""

__version__ = "0.1.0"
