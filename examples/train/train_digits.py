# mypy: disable-error-code="import-not-found, import-untyped"
"""Train the two 8x8 digit networks, ``digits_mlp.onnx`` and ``digits_cnn.onnx``.

From the top of the repository, with the packages that `common` names (one minute on two cores)::

    python examples/train/train_digits.py --out examples/models

Float accuracy reached on the 450 held-out images: MLP 93.11 % (419), CNN 98.44 % (443). Weight decay and
shifts were chosen on the last 270 training images, never on the held-out ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import Images, Labels, Recipe, Split, conv_block, prepare, train_and_export
from torch import nn

FIRST_TEST = 1347
"""Index of the first test image: the last 450 of the 1,797, in the order of ``load_digits``."""

MODELS = Path(__file__).resolve().parent.parent / "models"
MLP = Recipe(epochs=100, batch=32, rate=5e-3, decay=1e-1, shift=0)
CNN = Recipe(epochs=60, batch=32, rate=1e-2, decay=1e-1, shift=1)


def read_images(path: Path | None) -> tuple[Images, Labels]:
    """Return all images and labels of the digits data set.

    Parameters
    ----------
    path : Path or None
        An ``.npz`` file with `x` (n, 8, 8), values 0 to 16, and `y` (n,); None takes scikit-learn's
        ``load_digits``, which needs no download.

    Returns
    -------
    x : ndarray of float32, shape (n, 1, 8, 8)
        Values divided by 16, hence in [0, 1] and exact in binary.
    y : ndarray of int64, shape (n,)
    """
    if path is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        x, y = digits.images, digits.target
    else:
        with np.load(path) as file:
            x, y = file["x"], file["y"]
    return (np.asarray(x, np.float32) / np.float32(16))[:, None], np.asarray(y, np.int64)


def split(x: Images, y: Labels) -> Split:
    """Hold out every image from `FIRST_TEST` on for the test; train on those before it."""
    return Split(x[:FIRST_TEST], y[:FIRST_TEST], x[FIRST_TEST:], y[FIRST_TEST:])


def mlp_layers() -> list[nn.Module]:
    """Return the layers of the 64-64-10 perceptron with one ReLU."""
    return [nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]


def cnn_layers() -> list[nn.Module]:
    """Return the layers of the network with two convolutions; neurons 8x8x12, 4x4x24 and 10."""
    first = [*conv_block(1, 12), nn.AvgPool2d(2)]
    return [*first, *conv_block(12, 24), nn.Flatten(), nn.Linear(384, 10)]


def main() -> None:
    """Read the options, train both networks and write both files."""
    parser = argparse.ArgumentParser(description="Train the 8x8 digit networks and export them to ONNX.")
    parser.add_argument("--data", type=Path, help=".npz with x (n,8,8) and y; default: sklearn load_digits")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the .onnx files")
    options = parser.parse_args()
    data = split(*read_images(options.data))
    prepare(MLP.seed)
    train_and_export("digits_mlp", mlp_layers(), data, MLP, options.out)
    prepare(CNN.seed)
    train_and_export("digits_cnn", cnn_layers(), data, CNN, options.out)


if __name__ == "__main__":
    main()
