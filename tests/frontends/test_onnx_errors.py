"""Every problem of a model is told, all at once, with code, place and a way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, save

from nmc.frontends.onnx import load_onnx, supported_ops
from nmc.ir.diagnostics import Diagnostic, NmcError

Refusals = Callable[[ModelProto], tuple[Diagnostic, ...]]
Build = Callable[..., ModelProto]
node = helper.make_node


def normal(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def codes(found: tuple[Diagnostic, ...]) -> list[str]:
    return sorted(item.code for item in found)


def test_all_problems_are_told_at_once(model_of: Build, refusals: Refusals) -> None:
    nodes = [
        node("Shrink", ["x"], ["a"], name="first"),
        node("Relu", ["a"], ["b"], name="fine"),
        node("LSTM", ["b", "w", "w"], ["c"], name="second"),
        node("Sign", ["c"], ["d"]),
        node("Mystery", ["d"], ["e"], name="third", domain="com.example"),
        node("Transpose", ["x"], ["f"], name="mover", perm=[1, 0]),
        node("Concat", ["e", "f"], ["y"], axis=1),
    ]
    found = refusals(model_of(nodes, ["N", 4], {"w": normal(1, 16, 4)}))
    assert [(item.code, item.where) for item in found] == [
        ("E0301", 'bad.onnx: node "first" (Shrink)'),
        ("E0301", 'bad.onnx: node "second" (LSTM)'),
        ("E0301", 'bad.onnx: node "Sign#3" (Sign)'),
        ("E0301", 'bad.onnx: node "third" (com.example.Mystery)'),
        ("E0302", 'bad.onnx: node "mover" (Transpose)'),
    ]
    assert all(item.message and item.hint for item in found)


@pytest.mark.parametrize(
    ("made", "shape", "says"),
    [
        (node("Conv", ["x", "kernel4d"], ["y"]), (2, 5, 5, 5, 5), "4 axes"),
        (node("Conv", ["x", "x"], ["y"]), (2, 5, 5), "computed from the network's input"),
        (node("Conv", ["x", "kernel"], ["y"]), (3, 5, 5), "kernel has 2 input channels"),
        (node("Conv", ["x", "kernel"], ["y"]), (2, 2, 2), "window of 3 over 2"),
        (node("Conv", ["x", "kernel"], ["y"], pads=[1, 1]), (2, 5, 5), "2 entries instead of 4"),
        (node("Conv", ["x", "kernel"], ["y"], pads=[2**30] * 4), (2, 5, 5), "too large"),
        (node("Conv", ["x", "kernel"], ["y"], strides=[0, 1]), (2, 5, 5), "must be positive"),
        (node("Conv", ["x", "kernel"], ["y"], auto_pad="MAYBE"), (2, 5, 5), "MAYBE"),
        (node("Conv", ["x", "kernel"], ["y"], colour=1), (2, 5, 5), "colour"),
        (node("Conv", ["x", "nan"], ["y"]), (2, 5, 5), "1 NaN"),
        (node("Conv", ["x"], ["y"]), (2, 5, 5), "1 inputs"),
        (node("Gemm", ["x", "matrix"], ["y"], transA=1), (4,), "batch axis"),
        (node("Gemm", ["x", "matrix", "rows"], ["y"]), (4,), "not one row"),
        (node("MatMul", ["matrix", "x"], ["y"]), (4,), "left operand"),
        (node("MatMul", ["x", "x"], ["y"]), (4,), "both operands"),
        (node("Mul", ["x", "x"], ["y"]), (4,), "multiplies two activations"),
        (node("Div", ["matrix", "x"], ["y"]), (4,), "divides by an activation"),
        (node("Div", ["x", "zero"], ["y"]), (4,), "infinite"),
        (node("Add", ["x", "matrix"], ["y"]), (4,), "the first a batch axis"),
        (node("Add", ["x", "wide"], ["y"]), (4, 1), "does not broadcast"),
        (node("Softmax", ["x"], ["y"], axis=0), (4,), "batch axis"),
        (node("Flatten", ["x"], ["y"], axis=2), (4, 2), "axis=2"),
        (node("Reshape", ["x", "shape"], ["y"]), (4, 2), "batch axis"),
        (node("Concat", ["x", "x"], ["y"], axis=0), (4,), "batch axis"),
        (node("Concat", ["x", "zero"], ["y"], axis=1), (4,), "input 1 is a constant"),
        (node("Pad", ["x", "shape"], ["y"], mode="mirror"), (4,), "mirror"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[2, 2, 2, 2]), (2, 5, 5), "as wide as"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], storage_order=1), (2, 5, 5), "storage_order"),
        (node("ReduceMean", ["x"], ["y"], axes=[0, 2, 3]), (2, 5, 5), "axes (0, 2, 3)"),
        (node("Clip", ["x", "matrix"], ["y"]), (4,), "16 elements"),
        (node("Clip", ["x", "six", "zero"], ["y"]), (4,), "above its upper bound"),
        (node("BatchNormalization", ["x", *["wide"] * 4], ["y"]), (4,), "shape (4, 7)"),
        (node("Cast", ["x"], ["y"], to=TensorProto.INT8), (4,), "element type 3"),
        (node("Slice", ["x", "shape", "shape"], ["y"]), (4, 2), "slices the batch axis"),
        (node("Reshape", ["x", "wide"], ["y"]), (4, 2), "float32 instead of integers"),
        (node("Tile", ["x", "wide"], ["y"]), (4, 2), "float32 instead of integers"),
        (node("Gather", ["x", "wide"], ["y"], axis=1), (4, 2), "float32 instead of integers"),
    ],
    ids=lambda item: item.op_type if hasattr(item, "op_type") else None,
)
def test_what_a_node_cannot_do_is_said(
    model_of: Build, refusals: Refusals, made: Any, shape: tuple[int, ...], says: str
) -> None:
    nan = normal(1, 2, 3, 3)
    nan[0, 1, 2, 0] = np.nan
    weights = {
        "kernel": normal(1, 2, 3, 3), "kernel4d": normal(1, 2, 3, 3, 3, 3), "nan": nan, "matrix": normal(4, 4),
        "rows": normal(2, 4), "zero": np.float32(0), "six": np.float32(6), "wide": normal(4, 7),
        "shape": np.asarray([4, -1], np.int64),
    }  # fmt: skip
    used = {name: array for name, array in weights.items() if name in made.input}
    (found,) = refusals(model_of([made], ["N", *shape], used))
    assert found.code == "E0302"
    assert says in found.message
    assert made.op_type in found.where


def test_softmax_in_the_middle_is_refused(model_of: Build, refusals: Refusals) -> None:
    nodes = [node("Softmax", ["x"], ["s"]), node("Relu", ["s"], ["y"])]
    (found,) = refusals(model_of(nodes, ["N", 4]))
    assert (found.code, "in the middle" in found.message) == ("E0302", True)


def test_used_indices_of_a_pooling_are_refused(model_of: Build, refusals: Refusals) -> None:
    nodes = [node("MaxPool", ["x"], ["p", "y"], kernel_shape=[2, 2])]
    (found,) = refusals(model_of(nodes, ["N", 1, 4, 4]))
    assert (found.code, "further output" in found.message) == ("E0302", True)


def test_a_value_that_depends_on_the_batch_size_is_refused(model_of: Build, refusals: Refusals) -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=1),
        node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        node("Div", ["x", "f"], ["y"]),
    ]
    (found,) = refusals(model_of(nodes, ["N", 4]))
    assert (found.code, "depends on the batch size" in found.message) == ("E0302", True)


@pytest.mark.parametrize(
    ("shape", "elem", "says"),
    [
        (["N"], TensorProto.FLOAT, "1 axes"),
        (["N", "C", 4], TensorProto.FLOAT, "axis 1"),
        ([None, None], TensorProto.FLOAT, "axis 1"),
        (["N", 4], TensorProto.INT64, "floating-point"),
        (["N", 2**40], TensorProto.FLOAT, "1099511627776"),
        (None, TensorProto.FLOAT, "known shape"),
    ],
)
def test_inputs_without_a_fixed_shape(
    model_of: Build, refusals: Refusals, shape: Any, elem: int, says: str
) -> None:
    (found,) = refusals(model_of([node("Relu", ["x"], ["y"])], shape, elem=elem))
    assert found.code == "E0305"
    assert says in found.message
    assert found.where == 'bad.onnx: input "x"'


def test_graph_problems(model_of: Build, refusals: Refusals) -> None:
    nodes = [
        node("Add", ["x", "nowhere"], ["a"], name="lost"),
        node("Add", ["b", "a"], ["c"], name="one"),
        node("Relu", ["c"], ["b"], name="two"),
        node("Relu", ["x"], ["a"], name="again"),
        node("Add", ["c", "a"], ["y"]),
    ]
    found = refusals(model_of(nodes, ["N", 4]))
    assert codes(found) == ["E0305"] * 3
    told = "\n".join(map(str, found))
    assert "'a' is defined 2 times" in told
    assert '"nowhere"' in told
    assert '"one", "two"' in told


def test_a_missing_output_and_a_constant_output(model_of: Build, refusals: Refusals) -> None:
    (found,) = refusals(model_of([node("Relu", ["x"], ["y"])], ["N", 4], output="z"))
    assert (found.code, '"z"' in found.message) == ("E0305", True)
    (found,) = refusals(model_of([node("Constant", [], ["y"], value_float=1.0)], ["N", 4]))
    assert (found.code, "constant" in found.message) == ("E0305", True)


@pytest.mark.parametrize("opset", [5, 9999])
def test_operator_sets_that_are_not_known(model_of: Build, refusals: Refusals, opset: int) -> None:
    model = model_of([node("Relu", ["x"], ["y"])], ["N", 4])
    model.opset_import[0].version = opset
    (found,) = refusals(model)
    assert (found.code, str(opset) in found.message) == ("E0305", True)


def test_nodes_in_any_order_and_dead_nodes(tmp_path: Path, model_of: Build) -> None:
    nodes = [
        node("Sigmoid", ["x"], ["dead"]),
        node("Relu", ["m"], ["y"]),
        node("MatMul", ["x", "w"], ["m"]),
    ]
    save(model_of(nodes, ["N", 4], {"w": normal(4, 3)}), tmp_path / "m.onnx")
    assert [op.name for op in load_onnx(tmp_path / "m.onnx").ops] == [
        "ann.input", "ann.dense", "ann.relu", "ann.output",
    ]  # fmt: skip


def test_names_and_places_are_those_of_the_model(tmp_path: Path, model_of: Build) -> None:
    nodes = [
        node("Relu", ["x"], ["/layer 1/out:0"], name="/layer 1/Relu"),
        node("Relu", ["/layer 1/out:0"], ["/layer_1/out_0"]),
        node("Relu", ["/layer_1/out_0"], ["y"]),
    ]
    path = tmp_path / "3 layers (new).onnx"
    save(model_of(nodes, ["N", 4]), path)
    module = load_onnx(path)
    assert module.name == "3_layers__new_"
    assert [op.out for op in module.ops] == ["x", "_/layer_1/out_0", "_/layer_1/out_0.2", "y", ""]
    assert str(module.ops[1].loc) == '3 layers (new).onnx: node "/layer 1/Relu"'
    assert str(module.ops[2].loc) == '3 layers (new).onnx: node "Relu#1"'


def test_shared_weights_are_one_constant(tmp_path: Path, model_of: Build) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Gemm", ["b", "w"], ["y"], transB=1),
    ]
    save(model_of(nodes, ["N", 4], {"w": normal(4, 4)}), tmp_path / "m.onnx")
    assert [const.name for const in load_onnx(tmp_path / "m.onnx").consts] == ["w", "w.2"]


def test_supported_ops_is_a_table_with_remarks() -> None:
    table = dict(supported_ops())
    assert list(table) == sorted(table)
    assert {"Conv", "Gemm", "ConstantOfShape", "Softmax"} <= set(table)
    assert all(remark.endswith(".") for remark in table.values())


def test_the_error_shows_every_diagnostic(tmp_path: Path, model_of: Build) -> None:
    save(model_of([node("Tan", ["x"], ["a"]), node("Sin", ["a"], ["y"])], ["N", 4]), tmp_path / "m.onnx")
    with pytest.raises(NmcError) as caught:
        load_onnx(tmp_path / "m.onnx")
    assert str(caught.value).count("error[E0301]") == 2
