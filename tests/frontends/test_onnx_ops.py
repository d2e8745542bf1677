"""Each operator family computes what onnxruntime computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, save

from nmc.frontends.onnx import load_onnx
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.ops import ann

Array = NDArray[Any]
Check = Callable[..., Module]
Build = Callable[..., ModelProto]
node = helper.make_node
relaxed = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*items: int) -> Array:
    return np.asarray(items, np.int64)


def names(module: Module) -> list[str]:
    return [op.name for op in module.ops]


@st.composite
def windows(draw: st.DrawFn, *, dilated: bool) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Spatial extents and window attributes (without the kernel's shape)."""
    axes = draw(st.integers(1, 2))
    space = tuple(draw(st.integers(5, 9)) for _ in range(axes))
    attrs: dict[str, Any] = {"strides": [draw(st.integers(1, 3)) for _ in range(axes)]}
    if dilated:
        attrs["dilations"] = [draw(st.integers(1, 2)) for _ in range(axes)]
    how = draw(st.sampled_from(["pads", "VALID", "SAME_UPPER", "SAME_LOWER", "none"]))
    if how == "pads":
        attrs["pads"] = [draw(st.integers(0, 1)) for _ in range(2 * axes)]
    elif how != "none":
        attrs["auto_pad"] = how
    return space, attrs


def ort_can(attrs: dict[str, Any], kernel: int) -> bool:
    """onnxruntime refuses SAME with dilations, and computes negative pads where strides leave gaps."""
    same = attrs.get("auto_pad", "").startswith("SAME")
    return not same or (max(attrs.get("dilations", [1])) == 1 and max(attrs["strides"]) <= kernel)


@relaxed
@given(
    window=windows(dilated=True),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 3),
    bias=st.booleans(),
)
def test_conv(same_as_ort: Check, window: Any, groups: int, kernel: int, bias: bool) -> None:
    space, attrs = window
    assume(ort_can(attrs, kernel))
    weights = {"w": normal(8, 4 // groups, *[kernel] * len(space))}
    if bias:
        weights["b"] = normal(8, seed=1)
    module = same_as_ort(
        [node("Conv", ["x", *weights], ["y"], group=groups, **attrs)], ["N", 4, *space], weights
    )
    assert names(module) == ["ann.input", "ann.conv", "ann.output"]


@relaxed
@given(window=windows(dilated=False), kernel=st.integers(2, 3), ceil=st.booleans(), counts=st.booleans())
def test_average_pool(same_as_ort: Check, window: Any, kernel: int, ceil: bool, counts: bool) -> None:
    space, attrs = window
    assume(ort_can(attrs, kernel))
    attrs |= {"ceil_mode": int(ceil), "count_include_pad": int(counts), "kernel_shape": [kernel] * len(space)}
    same_as_ort([node("AveragePool", ["x"], ["y"], **attrs)], ["N", 2, *space], opset=19)


@relaxed
@given(window=windows(dilated=True), kernel=st.integers(2, 3), ceil=st.booleans())
def test_max_pool(same_as_ort: Check, window: Any, kernel: int, ceil: bool) -> None:
    space, attrs = window
    assume(ort_can(attrs, kernel))
    attrs |= {"ceil_mode": int(ceil), "kernel_shape": [kernel] * len(space)}
    same_as_ort([node("MaxPool", ["x"], ["y"], **attrs)], ["N", 2, *space])


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4)])
def test_global_pools(same_as_ort: Check, op: str, shape: tuple[int, ...]) -> None:
    same_as_ort([node(op, ["x"], ["y"])], ["N", *shape])


@pytest.mark.parametrize(("axes", "keepdims"), [([2, 3], 1), ([2, 3], 0), ([-1], 0), ([2], 1)])
def test_reduce_mean(same_as_ort: Check, axes: list[int], keepdims: int) -> None:
    same_as_ort([node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=keepdims)], ["N", 3, 4, 5])
    by_input = node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)
    same_as_ort([by_input], ["N", 3, 4, 5], {"axes": ints(*axes)}, opset=18)


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (1,), (4,), (1, 4)])
def test_gemm(same_as_ort: Check, trans_b: int, bias: tuple[int, ...] | None) -> None:
    weights = {"w": normal(4, 6) if trans_b else normal(6, 4)}
    if bias is not None:
        weights["b"] = normal(*bias, seed=2)
    gemm = node("Gemm", ["x", *weights], ["y"], transB=trans_b, alpha=0.5, beta=2.0)
    same_as_ort([gemm], ["N", 6], weights)


@pytest.mark.parametrize("constant_first", [False, True])
def test_matmul_takes_the_following_add_as_its_bias(same_as_ort: Check, constant_first: bool) -> None:
    operands = ["b", "m"] if constant_first else ["m", "b"]
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", operands, ["y"])]
    module = same_as_ort(nodes, ["N", 6], {"w": normal(6, 4), "b": normal(4)})
    assert names(module) == ["ann.input", "ann.dense", "ann.output"]


def test_matmul_with_another_reader_keeps_its_value(same_as_ort: Check) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Add", ["m", "b"], ["a"]),
        node("Add", ["a", "m"], ["y"]),
    ]
    same_as_ort(nodes, ["N", 6], {"w": normal(6, 4), "b": normal(4)})


@pytest.mark.parametrize("lead", [(5,), (2, 5)])
def test_matmul_over_several_rows(same_as_ort: Check, lead: tuple[int, ...]) -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])]
    same_as_ort(nodes, ["N", *lead, 6], {"w": normal(6, 4), "b": normal(4)})


@pytest.mark.parametrize("space", [(), (4,), (4, 5)])
def test_batch_normalization(same_as_ort: Check, space: tuple[int, ...]) -> None:
    weights = {name: np.abs(normal(3, seed=seed)) + 0.1 for seed, name in enumerate("sbmv")}
    same_as_ort([node("BatchNormalization", ["x", *"sbmv"], ["y"], epsilon=1e-3)], ["N", 3, *space], weights)


@pytest.mark.parametrize(
    ("low", "high", "op"),
    [(0.0, 6.0, "ann.relu"), (None, 1.0, "ann.clip"), (-1.0, 1.0, "ann.clip"), (0.0, None, "ann.relu")],
)
def test_clip(same_as_ort: Check, low: float | None, high: float | None, op: str) -> None:
    bounds = {"min": low, "max": high}
    attrs: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    assert op in names(same_as_ort([node("Clip", ["x"], ["y"], **attrs)], ["N", 9], opset=10))
    weights = {name: np.float32(bound) for name, bound in attrs.items()}
    inputs = ["x", *(name if name in weights else "" for name in bounds)]
    assert op in names(same_as_ort([node("Clip", inputs, ["y"])], ["N", 9], weights))


def test_lrn(same_as_ort: Check) -> None:
    for size in (3, 5):  # onnxruntime takes odd sizes only
        same_as_ort([node("LRN", ["x"], ["y"], size=size, alpha=0.3, beta=0.6, bias=2.0)], ["N", 6, 3, 3])


@pytest.mark.parametrize(
    ("op", "constant_first"),
    [
        ("Add", False),
        ("Add", True),
        ("Sub", False),
        ("Sub", True),
        ("Mul", False),
        ("Mul", True),
        ("Div", False),
    ],
)
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (1, 3, 4, 5), (5,), (1, 1, 1, 1)])
def test_arithmetic_with_a_constant(
    same_as_ort: Check, op: str, constant_first: bool, shape: tuple[int, ...]
) -> None:
    operands = ["c", "x"] if constant_first else ["x", "c"]
    weights = {"c": np.asarray(np.abs(normal(*shape)) + 0.5)}
    module = same_as_ort([node(op, operands, ["y"])], ["N", 3, 4, 5], weights)
    assert names(module) == ["ann.input", "ann.affine", "ann.output"]


def test_sums_and_differences_of_activations(same_as_ort: Check) -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Neg", ["x"], ["n"]),
        node("Sum", ["r", "c", "n", "x", "d"], ["s"]),
        node("Sub", ["s", "r"], ["t"]),
        node("Add", ["t", "t"], ["y"]),
    ]
    same_as_ort(nodes, ["N", 3, 4], {"c": normal(4), "d": normal(3, 1)})


def test_concat_with_itself_and_others(same_as_ort: Check) -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Concat", ["x", "r", "x"], ["y"], axis=-2)]
    same_as_ort(nodes, ["N", 3, 4], opset=13)


@pytest.mark.parametrize("batch", ["N", 1, 2])
@pytest.mark.parametrize("shape", [(0, -1), (-1, 12), (0, 0, 2, -1), (-1, 3, 0, 4)])
def test_reshape(same_as_ort: Check, batch: str | int, shape: tuple[int, ...]) -> None:
    space = [3, 4] if shape != (-1, 3, 0, 4) else [3, 1, 4]
    same_as_ort([node("Reshape", ["x", "s"], ["y"])], [batch, *space], {"s": ints(*shape)})


def test_reshape_to_the_static_batch_size(same_as_ort: Check) -> None:
    same_as_ort([node("Reshape", ["x", "s"], ["y"])], [2, 3, 4], {"s": ints(2, -1)})


def test_reshape_with_a_computed_batch_size(same_as_ort: Check) -> None:
    """``x.view(x.size(0), -1)`` as torch exports it."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.asarray(0, np.int64), "axes": ints(0), "rest": ints(-1)}
    same_as_ort(nodes, ["N", 3, 4], weights)


def test_index_maps(same_as_ort: Check) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        node("Unsqueeze", ["t", "two"], ["u"]),
        node("Squeeze", ["u", "two"], ["q"]),
        node("Flatten", ["q"], ["y"], axis=-3),
    ]
    same_as_ort(nodes, ["N", 3, 4, 5], {"two": ints(2)})


def test_index_maps_of_old_operator_sets(same_as_ort: Check) -> None:
    nodes = [node("Unsqueeze", ["x"], ["u"], axes=[1, 4]), node("Squeeze", ["u"], ["y"], axes=[1])]
    same_as_ort(nodes, ["N", 3, 4], opset=11)


def test_pad(same_as_ort: Check) -> None:
    pads = [0, 0, 1, 2, 0, 1, 0, -1]
    same_as_ort([node("Pad", ["x"], ["y"], pads=pads, value=0.5)], ["N", 2, 4, 5], opset=9)
    weights = {"p": ints(*pads), "v": np.float32(0.5)}
    same_as_ort([node("Pad", ["x", "p", "v"], ["y"])], ["N", 2, 4, 5], weights, opset=13)
    weights = {"p": ints(1, 2, 0, 1), "a": ints(2, -1)}
    same_as_ort([node("Pad", ["x", "p", "", "a"], ["y"])], ["N", 2, 4, 5], weights, opset=18)


def test_slice_and_split(same_as_ort: Check) -> None:
    nodes = [
        node("Slice", ["x", "starts", "ends", "axes"], ["s"]),
        node("Split", ["s", "sizes"], ["p", "q"], axis=1),
        node("Concat", ["q", "p"], ["y"], axis=1),
    ]
    weights = {"starts": ints(0, -4), "ends": ints(2**63 - 1, -1), "axes": ints(0, 3), "sizes": ints(1, 2)}
    same_as_ort(nodes, ["N", 3, 4, 5], weights)


def test_what_does_nothing_leaves_no_op(same_as_ort: Check) -> None:
    nodes = [
        node("Identity", ["x"], ["i"]),
        node("Dropout", ["i"], ["d", "mask"]),
        node("Cast", ["d"], ["c"], to=TensorProto.FLOAT),
        node("Relu", ["c"], ["y"]),
    ]
    assert names(same_as_ort(nodes, ["N", 4])) == ["ann.input", "ann.relu", "ann.output"]


def test_last_softmax_is_dropped(tmp_path: Any, model_of: Callable[..., Any]) -> None:
    from onnx import save

    from nmc.frontends.onnx import load_onnx

    for op in ("Softmax", "LogSoftmax"):
        nodes = [node("Relu", ["x"], ["r"]), node(op, ["r"], ["s"], axis=1), node("Identity", ["s"], ["y"])]
        save(model_of(nodes, ["N", 4]), tmp_path / "m.onnx")
        module = load_onnx(tmp_path / "m.onnx")
        assert names(module) == ["ann.input", "ann.relu", "ann.output"]
        assert module.of_type(ann.Output)[0].data.name == "r"


def test_constants_are_folded(same_as_ort: Check) -> None:
    nodes = [
        node("Constant", [], ["half"], value_float=0.5),
        node("Mul", ["w", "half"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[1, 0]),
        node("Slice", ["b", "starts", "ends", "axes", "steps"], ["c"]),
        node("Sqrt", ["positive"], ["d"]),
        node("Reciprocal", ["d"], ["e"]),
        node("Expand", ["e", "shape"], ["f"]),
        node("Where", ["mask", "c", "f"], ["g"]),
        node("ReduceSum", ["g", "zero"], ["h"], keepdims=0),
        node("Gemm", ["x", "g", "h"], ["y"]),
    ]
    weights = {
        "w": normal(4, 6), "starts": ints(-1), "ends": ints(-(2**63)), "axes": ints(1), "zero": ints(0),
        "steps": ints(-1), "positive": np.asarray([4.0], np.float32), "shape": ints(6, 4),
        "mask": normal(6, 4) > 0,
    }  # fmt: skip
    assert names(same_as_ort(nodes, ["N", 6], weights)) == ["ann.input", "ann.dense", "ann.output"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_float_types(same_as_ort: Check, dtype: Any) -> None:
    weights = {"w": normal(6, 4).astype(dtype)}
    nodes = [node("Cast", ["w"], ["v"], to=TensorProto.FLOAT), node("MatMul", ["x", "v"], ["y"])]
    module = same_as_ort(nodes, ["N", 6], weights)
    assert all(str(const.array().dtype) == "float32" for const in module.consts)


def test_an_input_of_bytes_takes_bytes_divided_by_255(tmp_path: Path, model_of: Build) -> None:
    nodes = [node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Sub", ["f", "m"], ["y"])]
    model = model_of(nodes, ["N", 4], {"m": np.asarray([1, 2, 3, 4], np.float32)}, elem=TensorProto.UINT8)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    save(model, tmp_path / "bytes.onnx")
    pixels = np.asarray([[0, 2, 128, 255]], np.uint8)
    (got,) = run_ann(load_onnx(tmp_path / "bytes.onnx"), {"x": pixels / np.float32(255)}).values()
    np.testing.assert_allclose(got, pixels.astype(np.float32) - [[1, 2, 3, 4]], atol=1e-4)


def test_a_softmax_before_an_argmax_over_the_same_axis_is_dropped(tmp_path: Path, model_of: Build) -> None:
    nodes = [node("Softmax", ["x"], ["s"], axis=1), node("ArgMax", ["s"], ["y"], axis=1, keepdims=0)]
    save(model_of(nodes, ["N", 4]), tmp_path / "m.onnx")
    assert [op.name for op in load_onnx(tmp_path / "m.onnx").ops] == ["ann.input", "ann.output"]
