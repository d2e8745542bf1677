# mypy: disable-error-code="import-not-found, import-untyped, misc, no-any-return"
"""Train the small residual MNIST network, ``mnist_resnet.onnx``.

From the top of the repository, with the packages that `common` names (two to three minutes on two cores)::

    python examples/train/train_mnist_resnet.py --data ../shared/data/mnist_full.npz --out examples/models

Float accuracy reached on the 10,000 test images: 99.62 %. The two `Identity` nodes at the head of the file are
the exporter's: the last biases of a block's two branches get the same gradients and stay equal, and it stores
equal parameters once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import Recipe, conv_block, prepare, train_and_export
from torch import nn
from train_mnist import read_mnist

MODELS = Path(__file__).resolve().parent.parent / "models"
RESNET = Recipe(epochs=12, batch=100, rate=1e-2, decay=2e-2, shift=1)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))``.

    The shortcut is the identity where the shape stays, else a 1x1 convolution with batch normalisation.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after the block.
    stride : int
        Stride of the first convolution and of the shortcut.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        first = conv_block(channels_in, channels_out, stride)
        second = conv_block(channels_out, channels_out)[:-1]  # its ReLU comes after the sum
        self.body = nn.Sequential(*first, *second)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            conv = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels_out))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output.

        Parameters
        ----------
        x : Tensor of float32, shape (n, channels_in, height, width)
        """
        return self.relu(self.body(x) + self.shortcut(x))


def resnet_layers() -> list[nn.Module]:
    """Return the stem, the three residual blocks and the read-out after global average pooling.

    Neurons: 14x14x8 (stem, and twice in the first block), twice 7x7x16, twice 4x4x32, 10.
    """
    blocks = [Residual(8, 8), Residual(8, 16, stride=2), Residual(16, 32, stride=2)]
    return [*conv_block(1, 8, stride=2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]


def main() -> None:
    """Read the options, train the network and write its file."""
    parser = argparse.ArgumentParser(description="Train the residual MNIST network and export it to ONNX.")
    parser.add_argument("--data", type=Path, required=True, help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the .onnx file")
    options = parser.parse_args()
    data = read_mnist(options.data)
    prepare(RESNET.seed)
    train_and_export("mnist_resnet", resnet_layers(), data, RESNET, options.out)


if __name__ == "__main__":
    main()
