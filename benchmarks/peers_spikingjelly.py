# mypy: disable-error-code="import-not-found, import-untyped, misc, no-any-return, untyped-decorator"
"""SpikingJelly's conversion of an ONNX network, for `conversion.py`: accuracy after T steps, CPU seconds.

SpikingJelly reads no ONNX, so the float network is built here from the file's nodes and weights as a
`torch.nn.Module`, and must classify as onnxruntime does before anything is converted. Run it in an environment
of its own (nmc needs no torch)::

    pip install torch==2.13.0 spikingjelly==2.0.0 onnx onnxruntime numpy
    python benchmarks/peers_spikingjelly.py --model mnist_cnn.onnx --calib mnist_calib.npz --data mnist_test.npz

The recipes and how they are called are those of SpikingJelly's own ``ann2snn/examples/cnn_mnist.py``: the image is
a constant current, the outputs of the steps are added, the largest sum is the answer (no delayed read-out).

- ``max``, ``99.9%``: ``RateCodingRecipe``, one threshold a layer.
- ``channel``: ``RateCodingRecipe`` with 99.9 % thresholds per channel, the membrane starting at half a threshold, and
  max pooling moved before the neurons.
- ``balanced``: ``LocalThresholdBalancingRecipe``. Its thresholds grow with every batch; the calibration images are
  gone over until it has seen ``--balance-batches`` (100) of them, as few batches leave it far from converged.

Beside the answers to the test images, each method tells how far its outputs are from the float network's on the last
quarter of the calibration images, at most 512 (``held``, by T; mean squared distance of the directions of the logits,
as in `nmc.passes.quantize.trials`): what a recipe can be chosen by without test images.

Standard output is one JSON object; SpikingJelly writes its progress to standard error.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import spikingjelly
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from spikingjelly.activation_based import ann2snn, functional
from torch import nn

Array = NDArray[Any]
STEPS = (4, 8, 16, 32)


@dataclass(frozen=True)
class Node:
    """One ONNX node, its attributes as Python values.

    Attributes
    ----------
    kind : str
        Operator type.
    inputs : tuple of str
        Names of the operands that are computed.
    weights : tuple of Tensor
        Operands stored in the file, in order.
    output : str
        Name of the first result.
    options : dict
        Attributes.
    """

    kind: str
    inputs: tuple[str, ...]
    weights: tuple[torch.Tensor, ...]
    output: str
    options: dict[str, Any]


class Graph(nn.Module):
    """An ONNX graph as a module that `torch.fx` can trace, as SpikingJelly wants it.

    Parameters
    ----------
    source, result : str
        Names of the graph's input and output.
    nodes : sequence of Node
        In an order in which they can be computed.
    """

    def __init__(self, source: str, result: str, nodes: Sequence[Node]) -> None:
        super().__init__()
        self.source, self.result = source, result
        self.plan = [(f"n{i}_{node.kind.lower()}", node.inputs, node.output) for i, node in enumerate(nodes)]
        for (name, _, _), node in zip(self.plan, nodes, strict=True):
            if node.kind != "Add":
                self.add_module(name, BUILDERS[node.kind](node))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (n, classes).

        Parameters
        ----------
        x : Tensor of float32, shape (n, *sample)
        """
        values = {self.source: x}
        for name, inputs, output in self.plan:
            operands = [values[i] for i in inputs]
            values[output] = (
                operands[0] + operands[1] if len(operands) == 2 else getattr(self, name)(*operands)
            )
        return values[self.result]


def conv(node: Node) -> nn.Module:
    """Return a two-dimensional convolution with the node's weights."""
    weight, *bias = node.weights
    options = node.options
    module = nn.Conv2d(
        weight.shape[1] * options.get("group", 1),
        weight.shape[0],
        tuple(weight.shape[2:]),
        tuple(options.get("strides", (1, 1))),
        margins(node),
        tuple(options.get("dilations", (1, 1))),
        options.get("group", 1),
        bias=bool(bias),
    )
    return filled(module, {"weight": weight, **({"bias": bias[0]} if bias else {})})


def batch_norm(node: Node) -> nn.Module:
    """Return a batch normalisation with the node's statistics."""
    names = ("weight", "bias", "running_mean", "running_var")
    module = nn.BatchNorm2d(len(node.weights[0]), eps=node.options.get("epsilon", 1e-5))
    return filled(module, dict(zip(names, node.weights, strict=True)))


def gemm(node: Node) -> nn.Module:
    """Return a dense layer with the node's weights."""
    weight, *bias = node.weights
    if node.options.get("transA", 0) or {node.options.get(k, 1.0) for k in ("alpha", "beta")} != {1.0}:
        raise ValueError(f"Gemm {node.output}: transA, alpha and beta are not supported")
    weight = weight if node.options.get("transB", 0) else weight.T
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias))
    return filled(module, {"weight": weight, **({"bias": bias[0]} if bias else {})})


def max_pool(node: Node) -> nn.Module:
    """Return a max pooling."""
    return nn.MaxPool2d(*window(node))


def average_pool(node: Node) -> nn.Module:
    """Return an average pooling."""
    counted = bool(node.options.get("count_include_pad", 0))
    return nn.AvgPool2d(*window(node), count_include_pad=counted)


def window(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return kernel, strides and padding of a pooling; rounding up and dilation are refused."""
    if node.options.get("ceil_mode", 0) or set(node.options.get("dilations", (1,))) != {1}:
        raise ValueError(f"{node.kind} {node.output}: ceil_mode and dilations are not supported")
    kernel = tuple(node.options["kernel_shape"])
    return kernel, tuple(node.options.get("strides", (1, 1))), margins(node)


def margins(node: Node) -> tuple[int, ...]:
    """Return the padding of each spatial axis, which must be the same on both sides."""
    pads = tuple(node.options.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:] or node.options.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError(f"{node.kind} {node.output}: only explicit symmetric padding is supported")
    return pads[:2]


def filled(module: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """Return the module with these parameters and buffers."""
    module.load_state_dict(state, strict=False)
    return module


BUILDERS: dict[str, Callable[[Node], nn.Module]] = {
    "Conv": conv,
    "BatchNormalization": batch_norm,
    "Gemm": gemm,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda _: nn.AdaptiveAvgPool2d(1),
    "Relu": lambda _: nn.ReLU(),
    "Flatten": lambda node: nn.Flatten(node.options.get("axis", 1)),
}
"""Module of each ONNX operator; Add is a plain sum of two computed operands."""


def build(path: Path) -> Graph:
    """Return the float network of an ONNX file with one input and one output.

    Raises
    ------
    ValueError
        For operators, or uses of them, that are not in `BUILDERS`.
    """
    graph = onnx.load(str(path)).graph
    stored = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    for proto in graph.node:  # torch's exporter stores equal parameters once and names them anew
        if proto.op_type == "Identity" and proto.input[0] in stored:
            stored[proto.output[0]] = stored[proto.input[0]]
    nodes = [
        Node(
            str(proto.op_type),
            tuple(i for i in proto.input if i not in stored),
            tuple(stored[i] for i in proto.input if i in stored),
            proto.output[0],
            {a.name: helper.get_attribute_value(a) for a in proto.attribute},
        )
        for proto in graph.node
        if proto.output[0] not in stored
    ]
    unknown = sorted(
        {n.kind for n in nodes if n.kind not in BUILDERS and (n.kind, len(n.inputs)) != ("Add", 2)}
    )
    if unknown:
        raise ValueError(f"{path}: no module for {', '.join(unknown)}")
    sources = [v.name for v in graph.input if v.name not in stored]
    return Graph(sources[0], graph.output[0].name, nodes).eval()


def recipe(method: str, batches: Sequence[torch.Tensor], balance_batches: int) -> Any:
    """Return SpikingJelly's recipe of a method of this file's head, for these calibration images."""
    if method == "balanced":
        again = list(itertools.islice(itertools.cycle(batches), balance_batches))
        return ann2snn.LocalThresholdBalancingRecipe(dataloader=again)
    if method == "channel":
        options = {"mode": "99.9%", "channel_wise": True, "half_threshold": True, "pre_spike_maxpool": True}
        return ann2snn.RateCodingRecipe(dataloader=batches, **options)
    return ann2snn.RateCodingRecipe(dataloader=batches, mode=method)


HELD = 512
"""Calibration images that a recipe is judged by, at most; at most a quarter of them."""
METHODS = ("max", "99.9%", "channel", "balanced")


def simulate(
    net: nn.Module, x: torch.Tensor, y: Array, steps: Sequence[int], batch: int, floats: Array
) -> dict[str, dict[str, Any]]:
    """Run a converted network; give answers, accuracy (0 to 1), CPU seconds, what differs from `floats`, by T."""
    spent, found = dict.fromkeys(steps, 0.0), dict[int, list[Array]]((t, []) for t in steps)
    net(x[:batch])  # what torch prepares at its first call is not timed
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        functional.reset_net(net)
        begin = time.process_time()
        total = torch.zeros(())
        for t in range(1, max(steps) + 1):
            total = total + net(part)
            if t in found:
                found[t].append(total.argmax(1).numpy())
                spent[t] += time.process_time() - begin
    answers = {t: np.concatenate(parts) for t, parts in found.items()}
    return {
        "answers": {str(t): answers[t].tolist() for t in steps},
        "accuracy": {str(t): float((answers[t] == y).mean()) for t in steps},
        "seconds": {str(t): spent[t] for t in steps},
        "differ": {str(t): int((answers[t] != floats).sum()) for t in steps},
    }


def apart(net: nn.Module, x: torch.Tensor, floats: Array, steps: Sequence[int]) -> dict[str, float]:
    """Mean squared distance of the directions of the logits from the float network's `floats`, by T."""
    functional.reset_net(net)
    total, found = torch.zeros(()), dict[str, float]()
    for t in range(1, max(steps) + 1):
        total = total + net(x)
        if t in steps:
            far = np.square(directions(total.numpy()) - directions(floats)).sum(axis=1)
            found[str(t)] = float(far.mean())
    return found


def directions(logits: Array) -> Array:
    """Logits (n, classes) without their mean, of length 1."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-30))


def check_float(net: nn.Module, path: Path, x: torch.Tensor, y: Array) -> dict[str, float]:
    """Return the float accuracy in torch and in onnxruntime, and the largest difference of a logit.

    Raises
    ------
    ValueError
        If the two do not classify every image alike.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    found = torch.cat([net(part) for part in x.split(500)]).numpy()
    if not np.array_equal(expected.argmax(1), found.argmax(1)):
        raise ValueError(f"{path}: the network built in torch classifies otherwise than onnxruntime")
    return {
        "torch": float((found.argmax(1) == y).mean()),
        "onnxruntime": float((expected.argmax(1) == y).mean()),
        "largest_difference": float(np.abs(expected - found).max()),
    }


def read_images(path: Path, count: int, shape: Sequence[int]) -> tuple[torch.Tensor, Array]:
    """Return the first `count` images as float32 (n, *shape), bytes divided by 255, and their labels."""
    with np.load(path) as file:
        x, y = file["x"][:count], file["y"][:count]
    scale = np.float32(255) if x.dtype == np.uint8 else np.float32(1)
    return torch.from_numpy((x.astype(np.float32) / scale).reshape(len(x), *shape)), y.astype(np.int64)


def sample_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of one sample: the dimensions of the first input after the batch's."""
    dims = onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim
    return tuple(int(d.dim_value) for d in dims[1:])


@torch.no_grad()
def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Check the float network, convert it with every method and run the results."""
    shape = sample_shape(options.model)
    x, y = read_images(options.data, options.limit, shape)
    calibration, _ = read_images(options.calib, options.calib_count, shape)
    batches = list(calibration.split(options.batch))
    net = build(options.model)
    floats = torch.cat([net(part) for part in x.split(500)]).argmax(1).numpy()
    held = calibration[-min(HELD, max(1, len(calibration) // 4)) :]
    real = net(held).numpy()
    report: dict[str, Any] = {
        "spikingjelly": version(),
        "torch": torch.__version__,
        "images": len(x),
        "calibration": len(calibration),
        "float": check_float(net, options.model, x, y),
        "methods": {},
    }
    for method in options.methods:
        begin = time.process_time()
        made = recipe(method, batches, options.balance_batches)
        spiking = ann2snn.FXConverter(recipe=made).convert(copy.deepcopy(net)).eval()
        converted = time.process_time() - begin
        figures: dict[str, Any] = simulate(spiking, x, y, options.steps, options.batch, floats)
        figures["held"] = apart(spiking, held, real, options.steps)
        report["methods"][method] = {**figures, "conversion_seconds": converted}
    return report


def version() -> str:
    """Return the version of SpikingJelly."""
    from importlib.metadata import version as installed

    return str(getattr(spikingjelly, "__version__", "") or installed("spikingjelly"))


def main(arguments: Iterable[str] | None = None) -> None:
    """Read the options and print the JSON."""
    parser = argparse.ArgumentParser(
        description="Accuracy and time of SpikingJelly's conversions of a network."
    )
    parser.add_argument("--model", type=Path, required=True, help="float ONNX file")
    parser.add_argument("--calib", type=Path, required=True, help=".npz with x: calibration images")
    parser.add_argument("--data", type=Path, required=True, help=".npz with x and y: test images")
    parser.add_argument("--calib-count", type=int, default=500, help="first images of --calib (default 500)")
    parser.add_argument("--limit", type=int, default=500, help="first images of --data (default 500)")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--batch", type=int, default=100, help="images at a time (default 100)")
    parser.add_argument("--balance-batches", type=int, default=100, help="batches that `balanced` sees")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(None if arguments is None else list(arguments))
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    json.dump(measure(options), sys.stdout)
    print()


if __name__ == "__main__":
    main()
