# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call"
"""What the two training scripts share: the training loop, the ONNX export and the check of the file.

PyTorch is needed only here, never by nmc itself::

    pip install torch==2.13.0 numpy onnx onnxruntime scikit-learn
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

OPSET = 17
"""ONNX operator set of the exported files; every operator used here has been stable since 13 to 15."""

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A data set split into a training and a test part.

    Attributes
    ----------
    x_train, x_test : ndarray of float32, shape (n, 1, height, width)
        Images with values in [0, 1].
    y_train, y_test : ndarray of int64, shape (n,)
        Class numbers 0 to 9.
    """

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Passes over the training images.
    batch : int
        Images per step; the last, shorter batch of an epoch is left out.
    rate : float
        Peak learning rate of a one-cycle schedule for AdamW.
    decay : float
        Decoupled weight decay. It keeps single weights from growing large, which is what costs accuracy
        when the weights of a channel later share one 8-bit scale.
    shift : int
        Each training image is moved by up to this many pixels, in x and in y, at random.
    seed : int
        Seed of the initial weights, the order of the images and the shifts.
    """

    epochs: int
    batch: int
    rate: float
    decay: float
    shift: int
    seed: int = 7


@dataclass(frozen=True)
class FileReport:
    """What onnxruntime and the graph say about an exported file.

    Attributes
    ----------
    correct, images : int
        Test images classified correctly, and test images in all.
    operators : tuple of str
        Operator types in graph order.
    size : int
        Bytes of the file.
    """

    correct: int
    images: int
    operators: tuple[str, ...]
    size: int


def prepare(seed: int, threads: int = 2) -> None:
    """Make the following torch operations repeatable, on a fixed number of threads."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def conv_block(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    """Return a 3x3 convolution with padding 1 and no bias, its batch normalisation and a ReLU."""
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(channels_out), nn.ReLU()]


def shifted(x: torch.Tensor, reach: int, generator: torch.Generator) -> torch.Tensor:
    """Move each image by its own random offset in [-reach, reach]^2; what comes in is zero.

    Parameters
    ----------
    x : Tensor of float32, shape (n, 1, height, width)
    """
    if reach == 0:
        return x
    count, _, height, width = x.shape
    padded = nn.functional.pad(x, (reach,) * 4)[:, 0]
    offsets = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height))[:, :, None]
    columns = (offsets[1] + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns][:, None]


def train(model: nn.Module, x: Images, y: Labels, recipe: Recipe) -> None:
    """Train a classifier in place with cross entropy; leave it in evaluation mode."""
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = len(images) // recipe.batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.epochs * steps)
    loss_of = nn.CrossEntropyLoss()
    model.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)[: steps * recipe.batch]
        for chosen in order.split(recipe.batch):
            optimizer.zero_grad()
            loss = loss_of(model(shifted(images[chosen], recipe.shift, generator)), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def count_correct(model: nn.Module, x: Images, y: Labels) -> int:
    """Return how many images the model, in evaluation mode, puts into their class."""
    with torch.no_grad():
        parts = [model(part).argmax(1) for part in torch.from_numpy(x).split(1000)]
    return int((torch.cat(parts).numpy() == y).sum())


def export(model: nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    """Write the model as ONNX: input ``x`` (N, *shape), output ``logits`` (N, 10), any batch size N.

    With ``TrainingMode.PRESERVE`` and without constant folding the exporter does not merge batch
    normalisation into the convolutions, so that the file has ``BatchNormalization`` nodes for nmc to fold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model.eval(),
        (torch.zeros(1, *shape),),
        str(path),
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "N"}, "logits": {0: "N"}},
        opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )


def inspect(path: Path, x: Images, y: Labels) -> FileReport:
    """Check an exported file and run it on the test images with onnxruntime."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = np.asarray(session.run(["logits"], {"x": x})[0])
    operators = tuple(str(node.op_type) for node in model.graph.node)
    return FileReport(int((logits.argmax(1) == y).sum()), len(y), operators, path.stat().st_size)


def train_and_export(name: str, layers: Sequence[nn.Module], data: Split, recipe: Recipe, out: Path) -> None:
    """Train one network, write ``out/name.onnx`` and print its accuracy in torch and in onnxruntime."""
    model = nn.Sequential(*layers)
    train(model, data.x_train, data.y_train, recipe)
    correct = count_correct(model, data.x_test, data.y_test)
    height, width = data.x_test.shape[2:]
    path = out / f"{name}.onnx"
    export(model, (1, height, width), path)
    report = inspect(path, data.x_test, data.y_test)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{name}: {parameters} parameters, {report.size} bytes in {path}")
    print(f"  torch       {correct} of {report.images} correct, {correct / report.images:.2%}")
    print(f"  onnxruntime {report.correct} of {report.images} correct, {report.correct / report.images:.2%}")
    print(f"  operators   {' '.join(report.operators)}", flush=True)
