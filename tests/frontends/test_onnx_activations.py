"""Activation functions, and the patterns that exporters write for them, compute what onnxruntime computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper

from nmc.ir.diagnostics import Diagnostic
from nmc.ir.module import Module
from nmc.ir.ops.ann_pointwise import Activation

Array = NDArray[Any]
Check = Callable[..., Module]
Refusals = Callable[[ModelProto], tuple[Diagnostic, ...]]
node = helper.make_node


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def number(value: float) -> Array:
    return np.asarray(value, np.float32)


def names(module: Module) -> list[str]:
    return [op.name.removeprefix("ann.") for op in module.ops]


@pytest.mark.parametrize(
    ("op", "attrs", "opset"),
    [
        ("Sigmoid", {}, 13),
        ("Tanh", {}, 13),
        ("Elu", {"alpha": 0.7}, 13),
        ("Selu", {}, 13),
        ("Selu", {"alpha": 1.1, "gamma": 0.8}, 13),
        ("Celu", {"alpha": 0.5}, 13),
        ("Softplus", {}, 13),
        ("Softsign", {}, 13),
        ("HardSwish", {}, 14),
        ("Mish", {}, 18),
        ("Gelu", {}, 20),
        ("Gelu", {"approximate": "tanh"}, 20),
        ("Erf", {}, 13),
        ("Exp", {}, 13),
    ],
)
def test_smooth_functions(same_as_ort: Check, op: str, attrs: dict[str, Any], opset: int) -> None:
    module = same_as_ort([node(op, ["x"], ["y"], **attrs)], ["N", 3, 40], opset=opset)
    assert names(module) == ["input", "activation", "output"]


def test_sigmoid_far_out_neither_warns_nor_overflows() -> None:
    from nmc.ir.ops.functions import evaluate

    with np.errstate(all="raise"):
        found = evaluate("sigmoid", np.asarray([-700.0, 0.0, 700.0]), 1.0, 1.0)
    assert found[1] == 0.5
    assert (found[0] < 1e-300, found[2]) == (True, 1.0)


def test_hard_sigmoid_is_a_line_with_limits(same_as_ort: Check) -> None:
    module = same_as_ort([node("HardSigmoid", ["x"], ["y"], alpha=0.3, beta=0.4)], ["N", 40])
    assert names(module) == ["input", "affine", "relu", "output"]


def test_leaky_relu_and_abs(same_as_ort: Check) -> None:
    nodes = [node("LeakyRelu", ["x"], ["a"], alpha=0.2), node("Abs", ["a"], ["y"])]
    module = same_as_ort(nodes, ["N", 40])
    assert names(module) == ["input", "leaky_relu", "leaky_relu", "output"]


@pytest.mark.parametrize("shape", [(1,), (3, 1, 1), (3, 4, 5), (5,)])
def test_prelu(same_as_ort: Check, shape: tuple[int, ...]) -> None:
    same_as_ort([node("PRelu", ["x", "s"], ["y"])], ["N", 3, 4, 5], {"s": normal(*shape)})


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("bound", [(), (1,), (4,), (3, 1)])
def test_extremes_with_a_constant(same_as_ort: Check, op: str, bound: tuple[int, ...]) -> None:
    same_as_ort([node(op, ["x", "c"], ["y"])], ["N", 3, 4], {"c": np.asarray(normal(*bound))})


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extremes_of_activations(same_as_ort: Check, op: str) -> None:
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Mul", ["x", "half"], ["h"]),
        node(op, ["x", "n", "h"], ["y"]),
    ]
    assert "relu" in names(same_as_ort(nodes, ["N", 12], {"half": number(0.5)}))


def test_the_larger_of_x_and_zero_is_a_relu(same_as_ort: Check) -> None:
    module = same_as_ort([node("Max", ["zero", "x"], ["y"])], ["N", 12], {"zero": number(0)})
    assert names(module) == ["input", "relu", "output"]


@pytest.mark.parametrize("swapped", [False, True])
def test_x_times_its_sigmoid_is_silu(same_as_ort: Check, swapped: bool) -> None:
    operands = ["s", "x"] if swapped else ["x", "s"]
    nodes = [node("Sigmoid", ["x"], ["s"]), node("Mul", operands, ["y"])]
    module = same_as_ort(nodes, ["N", 40])
    assert names(module) == ["input", "activation", "output"]
    assert module.of_type(Activation)[0].fn == "silu"


def test_quick_gelu_is_silu_with_a_factor(same_as_ort: Check) -> None:
    nodes = [
        node("Mul", ["x", "k"], ["k_x"]),
        node("Sigmoid", ["k_x"], ["s"]),
        node("Mul", ["x", "s"], ["y"]),
    ]
    (op,) = same_as_ort(nodes, ["N", 40], {"k": number(1.702)}).of_type(Activation)
    assert (op.fn, round(op.alpha, 3)) == ("silu", 1.702)


@pytest.mark.parametrize("form", ["half last", "half first"])
def test_gelu_as_torch_writes_it(same_as_ort: Check, form: str) -> None:
    """``torch.nn.GELU`` before operator set 20."""
    nodes = [
        node("Div", ["x", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["a"]),
    ]
    if form == "half last":
        nodes += [node("Mul", ["x", "a"], ["m"]), node("Mul", ["m", "half"], ["y"])]
    else:
        nodes += [node("Mul", ["x", "half"], ["h"]), node("Mul", ["h", "a"], ["y"])]
    weights = {"root": number(2**0.5), "one": number(1), "half": number(0.5)}
    module = same_as_ort(nodes, ["N", 40], weights)
    assert [op.fn for op in module.of_type(Activation)] == ["gelu"]


def test_hard_swish_as_a_product(same_as_ort: Check) -> None:
    by_op = [node("HardSigmoid", ["x"], ["h"], alpha=1 / 6, beta=0.5), node("Mul", ["x", "h"], ["y"])]
    by_clip = [
        node("Add", ["x", "three"], ["a"]),
        node("Clip", ["a", "zero", "six"], ["c"]),
        node("Mul", ["x", "c"], ["m"]),
        node("Div", ["m", "six"], ["y"]),
    ]
    weights = {"zero": number(0), "three": number(3), "six": number(6)}
    for nodes, given in ((by_op, {}), (by_clip, weights)):
        module = same_as_ort(nodes, ["N", 40], given)
        assert [op.fn for op in module.of_type(Activation)] == ["hard_swish"]


def test_mish_as_a_product(same_as_ort: Check) -> None:
    nodes = [node("Softplus", ["x"], ["s"]), node("Tanh", ["s"], ["t"]), node("Mul", ["x", "t"], ["y"])]
    module = same_as_ort(nodes, ["N", 40])
    assert [op.fn for op in module.of_type(Activation)] == ["mish"]


def test_other_products_are_refused_each_at_its_node(
    model_of: Callable[..., ModelProto], refusals: Refusals
) -> None:
    nodes = [
        node("Sigmoid", ["x"], ["s"]),
        node("Tanh", ["x"], ["t"]),
        node("Mul", ["s", "t"], ["gate"], name="gate"),
        node("Mul", ["x", "x"], ["square"], name="square"),
        node("Add", ["gate", "square"], ["y"]),
    ]
    found = refusals(model_of(nodes, ["N", 4]))
    assert [(item.code, item.where) for item in found] == [
        ("E0302", 'bad.onnx: node "gate" (Mul)'),
        ("E0302", 'bad.onnx: node "square" (Mul)'),
    ]


def test_an_added_axis_is_repeated(same_as_ort: Check) -> None:
    nodes = [node("GlobalAveragePool", ["x"], ["g"]), node("Sub", ["x", "g"], ["y"])]
    assert "take" in names(same_as_ort(nodes, ["N", 3, 4, 5]))


def test_a_last_argmax_is_dropped_and_another_refused(
    model_of: Callable[..., ModelProto], refusals: Refusals, tmp_path: Any
) -> None:
    from onnx import save

    from nmc.frontends.onnx import load_onnx

    save(
        model_of([node("Relu", ["x"], ["r"]), node("ArgMax", ["r"], ["y"], axis=1)], ["N", 4]),
        tmp_path / "m.onnx",
    )
    assert names(load_onnx(tmp_path / "m.onnx")) == ["input", "relu", "output"]
    middle = [node("ArgMax", ["x"], ["a"], axis=1), node("Cast", ["a"], ["y"], to=1)]
    (found,) = refusals(model_of(middle, ["N", 4]))
    assert "in the middle" in found.message
