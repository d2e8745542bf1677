"""Layers and index maps beyond the common ones compute what onnxruntime computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, helper

from nmc.ir.diagnostics import Diagnostic
from nmc.ir.module import Module

Array = NDArray[Any]
Check = Callable[..., Module]
Refusals = Callable[[ModelProto], tuple[Diagnostic, ...]]
node = helper.make_node
relaxed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*items: int) -> Array:
    return np.asarray(items, np.int64)


def names(module: Module) -> list[str]:
    return [op.name.removeprefix("ann.") for op in module.ops]


def test_convolution_over_three_axes(same_as_ort: Check) -> None:
    conv = node("Conv", ["x", "w", "b"], ["y"], pads=[1, 0, 1, 0, 1, 1], strides=[2, 1, 1], group=2)
    same_as_ort([conv], ["N", 4, 4, 5, 6], {"w": normal(6, 2, 3, 2, 2), "b": normal(6)})


@relaxed
@given(data=st.data(), axes=st.integers(1, 2), groups=st.sampled_from([1, 2]), bias=st.booleans())
def test_conv_transpose(same_as_ort: Check, data: Any, axes: int, groups: int, bias: bool) -> None:
    def numbers(low: int, high: int, count: int = axes) -> list[int]:
        found: list[int] = data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
        return found

    kernel, strides, dilations = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    attrs: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    extra = numbers(0, 2)
    assume(all(more < step for more, step in zip(extra, strides, strict=True)))  # onnxruntime wants that
    attrs["output_padding"] = extra
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    attrs["pads"] = [min(pad, size - 1) for pad, size in zip(numbers(0, 2, 2 * axes), reach * 2, strict=True)]
    space = numbers(4, 6)
    weights = {"w": normal(4, 3, *kernel)}
    if bias:
        weights["b"] = normal(3 * groups)
    same_as_ort([node("ConvTranspose", ["x", *weights], ["y"], **attrs)], ["N", 4, *space], weights)


@pytest.mark.parametrize(
    "attrs",
    [
        {"output_shape": [10, 11]},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID", "output_padding": [1, 0]},
    ],
)
def test_conv_transpose_with_other_ways_to_pad(same_as_ort: Check, attrs: dict[str, Any]) -> None:
    layer = node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], **attrs)
    same_as_ort([layer], ["N", 2, 5, 5], {"w": normal(2, 3, 3, 3)})


@pytest.mark.parametrize("how", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_resize_to_the_nearest_element(same_as_ort: Check, how: str, nearest: str) -> None:
    attrs = {"mode": "nearest", "coordinate_transformation_mode": how, "nearest_mode": nearest}
    scales = np.asarray([1, 1, 2, 1.6], np.float32)
    same_as_ort([node("Resize", ["x", "", "s"], ["y"], **attrs)], ["N", 2, 4, 5], {"s": scales})
    sizes = ints(2, 2, 7, 3)
    same_as_ort([node("Resize", ["x", "", "", "s"], ["y"], **attrs)], [2, 2, 4, 5], {"s": sizes})


def test_resize_of_some_axes(same_as_ort: Check) -> None:
    resize = node("Resize", ["x", "", "s"], ["y"], mode="nearest", axes=[3, -2])
    same_as_ort([resize], ["N", 2, 4, 5], {"s": np.asarray([2, 0.5], np.float32)}, opset=18)


def test_upsample(same_as_ort: Check) -> None:
    scales = np.asarray([1, 1, 2, 3], np.float32)
    module = same_as_ort([node("Upsample", ["x", "s"], ["y"])], ["N", 2, 4, 5], {"s": scales}, opset=9)
    assert names(module) == ["input", "take", "take", "output"]
    same_as_ort([node("Resize", ["x", "s"], ["y"])], ["N", 2, 4, 5], {"s": scales}, opset=10)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_and_back(same_as_ort: Check, mode: str) -> None:
    nodes = [
        node("DepthToSpace", ["x"], ["d"], blocksize=2, mode=mode),
        node("SpaceToDepth", ["d"], ["y"], blocksize=3),
    ]
    same_as_ort(nodes, ["N", 8, 3, 6])


def test_channel_shuffle_is_an_index_map(same_as_ort: Check) -> None:
    nodes = [
        node("Reshape", ["x", "groups"], ["g"]),
        node("Transpose", ["g"], ["t"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["t", "back"], ["y"]),
    ]
    weights = {"groups": ints(0, 2, 3, 4, 5), "back": ints(0, 6, 4, 5)}
    module = same_as_ort(nodes, ["N", 6, 4, 5], weights)
    assert set(names(module)) == {"input", "reshape", "transpose", "output"}


@pytest.mark.parametrize("index", [2, [2], [-1, 0, 0], [[1, 0], [2, -2]], [1, 2, 3]])
@pytest.mark.parametrize("axis", [1, -1])
def test_gather(same_as_ort: Check, index: Any, axis: int) -> None:
    same_as_ort(
        [node("Gather", ["x", "i"], ["y"], axis=axis)], ["N", 4, 5], {"i": np.asarray(index, np.int64)}
    )


def test_tile_and_expand(same_as_ort: Check) -> None:
    same_as_ort([node("Tile", ["x", "r"], ["y"])], ["N", 2, 3], {"r": ints(1, 2, 3)})
    same_as_ort([node("Expand", ["x", "s"], ["y"])], ["N", 1, 3], {"s": ints(4, 1)})
    same_as_ort([node("Expand", ["x", "s"], ["y"])], [2, 1, 3], {"s": ints(1, 5, 1)})


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_borders_of_the_elements_themselves(same_as_ort: Check, mode: str) -> None:
    pads = ints(0, 0, 2, 1, 0, 0, 1, 3)
    same_as_ort([node("Pad", ["x", "p"], ["y"], mode=mode)], ["N", 2, 4, 5], {"p": pads}, opset=19)


@pytest.mark.parametrize(("start", "stop", "step"), [(0, 9, 2), (8, -100, -1), (-2, 0, -3), (1, 8, 3)])
def test_slices_with_steps(same_as_ort: Check, start: int, stop: int, step: int) -> None:
    weights = {"b": ints(start, 1), "e": ints(stop, 3), "a": ints(2, 1), "t": ints(step, 1)}
    same_as_ort([node("Slice", ["x", "b", "e", "a", "t"], ["y"])], ["N", 4, 9], weights)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax"])
@pytest.mark.parametrize("axes", [[1], [2], [-1], [1, 3], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(same_as_ort: Check, op: str, axes: list[int], keepdims: int) -> None:
    keepdims = 1 if len(axes) == 3 else keepdims  # one number a sample needs an axis to stand on
    same_as_ort(
        [node(op, ["x", "a"], ["y"], keepdims=keepdims)], ["N", 3, 4, 5], {"a": ints(*axes)}, opset=18
    )


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("fn", ["Relu", "Tanh"])
@pytest.mark.parametrize("output", ["all", "last"])
def test_simple_recurrent_layers(same_as_ort: Check, direction: str, fn: str, output: str) -> None:
    """``torch.nn.RNN(batch_first=True)``: the batch axis moves to the middle and back."""
    count = 2 if direction == "bidirectional" else 1
    rnn = node(
        "RNN",
        ["t", "w", "r", "b"],
        ["all", "last"],
        hidden_size=3,
        direction=direction,
        activations=[fn] * count,
    )
    nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), rnn]
    if output == "all":
        nodes += [node("Transpose", ["all"], ["y"], perm=[2, 0, 1, 3])]
    else:
        nodes += [node("Transpose", ["last"], ["y"], perm=[1, 0, 2])]
    weights = {"w": normal(count, 3, 4), "r": normal(count, 3, 3), "b": normal(count, 6)}
    assert "rnn" in names(same_as_ort(nodes, ["N", 5, 4], weights))


def test_the_last_step_of_a_recurrent_layer(same_as_ort: Check) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("RNN", ["t", "w", "r", "", "", "h"], ["all"], hidden_size=3),
        node("Squeeze", ["all", "one"], ["rows"]),
        node("Transpose", ["rows"], ["seq"], perm=[1, 0, 2]),
        node("Gather", ["seq", "last"], ["y"], axis=1),
    ]
    weights = {"w": normal(1, 3, 4), "r": normal(1, 3, 3), "one": ints(1), "last": np.asarray(-1, np.int64)}
    same_as_ort(nodes, [2, 5, 4], {**weights, "h": np.zeros((1, 2, 3), np.float32)})


@pytest.mark.parametrize(
    ("made", "shape", "says"),
    [
        (node("ReduceMax", ["x"], ["y"], axes=[1, 2], keepdims=0), (5, 4), "without an axis"),
        (node("RNN", ["x", "w", "r"], ["y"]), (5, 4), "axis 0 of its operand is the sequence"),
        (node("RNN", ["x", "w", "r"], ["y"], layout=1, activations=["Softsign"]), (5, 4), "activations"),
        (node("RNN", ["x", "w", "r"], ["y"], layout=1, clip=1.0), (5, 4), "'clip'"),
        (node("RNN", ["x", "w", "w"], ["y"], layout=1), (5, 4), "instead of"),
        (node("Resize", ["x", "", "s"], ["y"], mode="linear"), (5, 4), "mode 'linear'"),
        (node("Resize", ["x", "", "huge"], ["y"], mode="nearest"), (5, 4), "sensible"),
        (node("Tile", ["x", "many"], ["y"]), (5, 4), "sensible"),
        (node("Tile", ["x", "long"], ["y"]), (5, 4), "index map of 20,971,520 elements"),
        (node("Slice", ["x", "b", "e", "a", "s2"], ["y"]), (5, 2**27), "index map of 67,108,864 elements"),
        (node("RNN", ["x", "w", "r"], ["y"], layout=1), (5000, 4), "5,000 steps"),
        (node("Gather", ["x", "far"], ["y"], axis=1), (5, 4), "leave the 5 elements"),
        (node("Gather", ["x", "far"], ["y"]), (5, 4), "samples of the batch"),
        (node("ConvTranspose", ["x", "w"], ["y"]), (5, 4), "kernel has 1 input channels"),
        (node("ConvTranspose", ["x", "w"], ["y"], strides=[2**30]), (1, 4), "too large"),
        (node("DepthToSpace", ["x"], ["y"], blocksize=0), (5, 4), "two spatial axes"),
        (node("Pad", ["x", "wide"], ["y"], mode="reflect"), (5, 4), "border of 0 and 7"),
        (node("Transpose", ["x"], ["y"], perm=[1, 0, 2]), (5, 4), "moves the batch axis"),
    ],
    ids=lambda item: item.op_type if hasattr(item, "op_type") else None,
)
def test_what_a_layer_cannot_do_is_said(
    model_of: Callable[..., ModelProto], refusals: Refusals, made: Any, shape: tuple[int, ...], says: str
) -> None:
    weights = {
        "w": normal(1, 3, 4), "r": normal(1, 3, 3), "s": np.ones(3, np.float32), "far": ints(0, 9),
        "huge": np.asarray([1, 1e30, 1e30], np.float32), "many": ints(1, 2**40, 2**40),
        "wide": ints(0, 0, 0, 0, 0, 7), "long": ints(1, 2**22, 1), "b": ints(0), "e": ints(2**30), "a": ints(2),
        "s2": ints(2),
    }  # fmt: skip
    used = {name: array for name, array in weights.items() if name in made.input}
    (found,) = refusals(
        model_of([made], ["N", *shape], used, opset=17 if made.op_type == "ReduceMax" else 19)
    )
    assert found.code == "E0302"
    assert says in f"{found.message} {found.hint}"


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_gated_cells_are_refused_by_name(
    model_of: Callable[..., ModelProto], refusals: Refusals, op: str
) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(op, ["t", "w", "r"], ["y"], name="cell", hidden_size=3),
    ]
    gates = {"LSTM": 4, "GRU": 3}[op]
    weights = {"w": normal(1, 3 * gates, 4), "r": normal(1, 3 * gates, 3)}
    (found,) = refusals(model_of(nodes, ["N", 5, 4], weights))
    assert (found.code, found.where) == ("E0301", f'bad.onnx: node "cell" ({op})')
    assert "gates multiply activations" in found.message
