"""Write the weight files of the programs in this folder: ``python examples/snn/make_weights.py``.

``mlp.npz`` has the weights of ``examples/models/mnist_mlp.onnx`` in float16 (stored as float32 numbers would be twice
as large), ``scnn.npz`` random ones.
"""

from pathlib import Path

import numpy as np

from nmc.frontends.onnx import load_onnx
from nmc.ir.npz import write_npz

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write both files."""
    module = load_onnx(HERE.parent / "models" / "mnist_mlp.onnx")
    consts = [const.array() for const in module.consts]
    matrices = [array for array in consts if array.ndim == 2]
    biases = [array for array in consts if array.ndim == 1]
    names = ("fc1", "b1", "fc2", "b2")
    arrays = (matrices[0], biases[0], matrices[1], biases[1])
    write_npz(
        HERE / "mlp.npz",
        {name: array.astype(np.float16) for name, array in zip(names, arrays, strict=True)},
    )
    rng = np.random.default_rng(0)
    shapes = {"c1": (16, 2, 5, 5), "c3": (8, 16, 3, 3)}
    random = {name: rng.normal(0.05, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    write_npz(HERE / "scnn.npz", random)


if __name__ == "__main__":
    main()
