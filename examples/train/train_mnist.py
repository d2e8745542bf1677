# mypy: disable-error-code="import-not-found, import-untyped"
"""Train the two MNIST networks, ``mnist_mlp.onnx`` and ``mnist_cnn.onnx``.

From the top of the repository, with the packages that `common` names (one minute on two idle cores)::

    python examples/train/train_mnist.py --data ../shared/data/mnist_full.npz --out examples/models

Float accuracy reached on the 10,000 test images: MLP 98.05 %, CNN 99.45 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from common import Images, Recipe, Split, conv_block, prepare, train_and_export
from torch import nn

MODELS = Path(__file__).resolve().parent.parent / "models"
MLP = Recipe(epochs=15, batch=100, rate=4e-3, decay=2e-2, shift=0)
CNN = Recipe(epochs=10, batch=100, rate=1e-2, decay=2e-2, shift=1)


def read_mnist(path: Path) -> Split:
    """Return MNIST in its published split, 60,000 training and 10,000 test images.

    Parameters
    ----------
    path : Path
        An ``.npz`` file with `x_train`, `x_test` (n, 28, 28) uint8 and `y_train`, `y_test` (n,).

    Returns
    -------
    Split
        Images of shape (n, 1, 28, 28), pixel values divided by 255.
    """
    with np.load(path) as file:
        return Split(
            scaled(file["x_train"]),
            file["y_train"].astype(np.int64),
            scaled(file["x_test"]),
            file["y_test"].astype(np.int64),
        )


def scaled(pixels: npt.NDArray[np.uint8]) -> Images:
    """Return (n, 28, 28) pixels 0 to 255 as (n, 1, 28, 28) float32 in [0, 1]."""
    return (pixels.astype(np.float32) / np.float32(255))[:, None]


def mlp_layers() -> list[nn.Module]:
    """Return the layers of the 784-128-10 perceptron with one ReLU."""
    return [nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)]


def cnn_layers() -> list[nn.Module]:
    """Return the layers of the network with three convolutions.

    Neurons: 14x14x12, 14x14x16 (pooled to 7x7x16), 4x4x32 and 10.
    """
    blocks = [*conv_block(1, 12, stride=2), *conv_block(12, 16), nn.AvgPool2d(2)]
    return [*blocks, *conv_block(16, 32, stride=2), nn.Flatten(), nn.Linear(512, 10)]


def main() -> None:
    """Read the options, train both networks and write both files."""
    parser = argparse.ArgumentParser(description="Train the MNIST networks and export them to ONNX.")
    parser.add_argument("--data", type=Path, required=True, help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the .onnx files")
    options = parser.parse_args()
    data = read_mnist(options.data)
    prepare(MLP.seed)
    train_and_export("mnist_mlp", mlp_layers(), data, MLP, options.out)
    prepare(CNN.seed)
    train_and_export("mnist_cnn", cnn_layers(), data, CNN, options.out)


if __name__ == "__main__":
    main()
