# mypy: disable-error-code="import-not-found, import-untyped"
"""Train the MNIST network with max pooling, ``mnist_cnn_max.onnx``.

From the top of the repository, with the packages that `common` names (two to three minutes on two cores)::

    python examples/train/train_mnist_max.py --data ../shared/data/mnist_full.npz --out examples/models

Float accuracy reached on the 10,000 test images: 99.35 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import Recipe, conv_block, prepare, train_and_export
from torch import nn
from train_mnist import read_mnist

MODELS = Path(__file__).resolve().parent.parent / "models"
CNN = Recipe(epochs=10, batch=100, rate=1e-2, decay=2e-2, shift=1)


def cnn_layers() -> list[nn.Module]:
    """Return the layers of the network with three convolutions and two max poolings.

    Neurons: 28x28x8 (pooled to 14x14x8), 14x14x16 (pooled to 7x7x16), 4x4x32 and 10.
    """
    blocks = [*conv_block(1, 8), nn.MaxPool2d(2), *conv_block(8, 16), nn.MaxPool2d(2)]
    return [*blocks, *conv_block(16, 32, stride=2), nn.Flatten(), nn.Linear(512, 10)]


def main() -> None:
    """Read the options, train the network and write its file."""
    parser = argparse.ArgumentParser(
        description="Train the MNIST network with max pooling; export it to ONNX."
    )
    parser.add_argument("--data", type=Path, required=True, help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the .onnx file")
    options = parser.parse_args()
    data = read_mnist(options.data)
    prepare(CNN.seed)
    train_and_export("mnist_cnn_max", cnn_layers(), data, CNN, options.out)


if __name__ == "__main__":
    main()
