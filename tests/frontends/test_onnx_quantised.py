"""Quantised networks: the grids of QDQ models and of quantised activations are kept exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, save

from nmc.driver import CompileOptions, integer_network
from nmc.frontends.onnx import load_onnx
from nmc.ir.diagnostics import Diagnostic
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.ops import ann, exact, snn
from nmc.ir.ops.ann_pointwise import Quantize
from nmc.passes.quantize.integer import run_integer

Array = NDArray[Any]
Check = Callable[..., Module]
Build = Callable[..., ModelProto]
Refusals = Callable[[ModelProto], tuple[Diagnostic, ...]]
node = helper.make_node


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def number(value: float) -> Array:
    return np.asarray(value, np.float32)


def names(module: Module) -> list[str]:
    return [op.name.removeprefix("ann.") for op in module.ops]


def pair(data: str, scale: str = "s", zero: str = "z", out: str = "y", **attrs: Any) -> list[Any]:
    """A QuantizeLinear and its DequantizeLinear."""
    return [
        node("QuantizeLinear", [data, scale, zero], [f"{data}_q"], **attrs),
        node("DequantizeLinear", [f"{data}_q", scale, zero], [out], **attrs),
    ]


@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 0), (np.int8, -7), (np.uint8, 100), (np.int16, 3)])
def test_a_grid_around_zero_stays_a_quantisation(same_as_ort: Check, dtype: Any, zero: int) -> None:
    module = same_as_ort(
        pair("x"), ["N", 3, 50], {"s": number(0.013), "z": np.asarray(zero, dtype)}, opset=21
    )
    (op,) = module.of_type(Quantize)
    assert (op.low, op.high) == (np.iinfo(dtype).min, np.iinfo(dtype).max)
    assert (float(op.scale.array()), int(op.zero_point.array())) == (float(number(0.013)), zero)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_scale_a_channel(same_as_ort: Check, axis: int) -> None:
    count = (3, 5)[axis - 1]
    weights = {"s": np.abs(normal(count)) + 0.01, "z": np.arange(count).astype(np.int8)}
    (op,) = same_as_ort(pair("x", axis=axis), ["N", 3, 5], weights).of_type(Quantize)
    assert op.scale.shape == ((3, 1), (5,))[axis - 1]


def test_a_grid_from_zero_up_is_a_relu_with_levels(same_as_ort: Check) -> None:
    nodes = [node("Neg", ["x"], ["n"]), *pair("n")]
    module = same_as_ort(nodes, ["N", 3, 50], {"s": number(0.01), "z": np.asarray(0, np.uint8)})
    (relu,) = module.of_type(ann.Relu)
    assert relu.levels == 255
    assert relu.threshold is not None
    assert float(relu.threshold.array()) == 255 * float(number(0.01))


def test_it_takes_the_place_of_the_relu_before_it(same_as_ort: Check) -> None:
    nodes = [node("Relu", ["x"], ["r"]), *pair("r")]
    module = same_as_ort(nodes, ["N", 3, 50], {"s": number(0.01), "z": np.asarray(-128, np.int8)})
    assert names(module) == ["input", "relu", "output"]


def test_a_relu_that_is_read_elsewhere_stays(same_as_ort: Check) -> None:
    nodes = [node("Relu", ["x"], ["r"]), *pair("r", out="d"), node("Add", ["r", "d"], ["y"])]
    module = same_as_ort(nodes, ["N", 3, 50], {"s": number(0.01), "z": np.asarray(0, np.uint8)})
    assert names(module) == ["input", "relu", "relu", "add", "output"]


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_weights_are_folded(same_as_ort: Check, per_channel: bool) -> None:
    rng = np.random.default_rng(3)
    weights: dict[str, Array] = {
        "w": rng.integers(-127, 128, (6, 4)).astype(np.int8),
        "ws": np.abs(normal(6)) + 0.01 if per_channel else number(0.02),
        "wz": np.zeros(6, np.int8) if per_channel else np.asarray(0, np.int8),
        "b": rng.integers(-999, 1000, 6).astype(np.int32),
        "bs": number(0.001),
    }
    nodes = [
        node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        node("DequantizeLinear", ["b", "bs"], ["bf"]),
        node("Gemm", ["x", "wf", "bf"], ["y"], transB=1),
    ]
    module = same_as_ort(nodes, ["N", 4], weights)
    assert names(module) == ["input", "dense", "output"]


def test_weights_that_are_quantised_and_back_are_folded(same_as_ort: Check) -> None:
    nodes = [*pair("w", out="wf", axis=1), node("MatMul", ["x", "wf"], ["y"])]
    weights = {"w": normal(4, 6), "s": np.abs(normal(6)) + 0.01, "z": np.zeros(6, np.int8)}
    assert names(same_as_ort(nodes, ["N", 4], weights)) == ["input", "dense", "output"]


@pytest.fixture(params=["conv", "residual"])
def float_model(request: pytest.FixtureRequest, tmp_path: Path, model_of: Build) -> Path:
    """A network with means and one with a sum."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        node("Relu", ["c"], ["r"], name="relu"),
    ]
    pooled = "r"
    if request.param == "residual":
        pooled = "t"
        nodes += [
            node("Conv", ["r", "v"], ["d"], pads=[1, 1, 1, 1], name="conv2"),
            node("Add", ["d", "r"], ["s"], name="add"),
            node("Relu", ["s"], ["t"], name="relu2"),
        ]
    nodes += [
        node("GlobalAveragePool", [pooled], ["p"], name="pool"),
        node("Flatten", ["p"], ["f"], name="flat"),
        node("Gemm", ["f", "m", "n"], ["y"], name="gemm"),
    ]
    weights = {"w": normal(4, 2, 3, 3), "b": normal(4), "m": normal(4, 3), "n": normal(3)}
    if request.param == "residual":
        weights["v"] = normal(4, 4, 3, 3, seed=1) / 4
    model = model_of(nodes, ["N", 2, 6, 6], weights)
    for extent in ("N", 3):
        dim = model.graph.output[0].type.tensor_type.shape.dim.add()
        setattr(dim, "dim_param" if extent == "N" else "dim_value", extent)
    save(model, tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("activations", "symmetric"), [("QUInt8", False), ("QInt8", False), ("QInt8", True)])
def test_a_network_that_onnxruntime_quantised(
    float_model: Path, per_channel: bool, activations: str, symmetric: bool
) -> None:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    images = normal(8, 2, 6, 6)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"x": images}])

        def get_next(self) -> Any:
            return next(self.left, None)

    path = float_model.parent / "qdq.onnx"
    quantize_static(
        float_model, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
        activation_type=QuantType[activations], weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric},
    )  # fmt: skip
    trained = load_onnx(path)
    (got,) = run_ann(trained, {"x": images}).values()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": images})
    step = 2 * float(np.abs(got).max()) / 255
    np.testing.assert_allclose(got, wanted, atol=step)
    np.savez(path.parent / "calib.npz", x=images)
    made = integer_network(path, CompileOptions(target="spinnaker2", calib=str(path.parent / "calib.npz")))
    (entry,), (out,) = made.of_type(snn.Input), made.of_type(snn.Output)
    counted = run_integer(made, {entry.source: images})[out.data.name] * out.scale
    assert np.abs(counted - wanted).max() < 0.05 * np.ptp(wanted)
    assert all(op.levels in (127, 255) for op in made.of_type(exact.Graded))


@pytest.mark.parametrize(
    ("nodes", "code", "says"),
    [
        ([node("QuantizeLinear", ["x", "s", "z"], ["y"])], "E0305", "holds integers"),
        (
            [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("Relu", ["q"], ["y"])],
            "E0302",
            "only DequantizeLinear can read",
        ),
        (
            [
                node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                node("DequantizeLinear", ["q", "t", "z"], ["y"]),
            ],
            "E0302",
            "not that of the QuantizeLinear",
        ),
        (pair("x", scale="negative"), "E0302", "not a positive number"),
        (pair("x", scale="many", zero="zeros", axis=0), "E0302", "3 scales on axis 0"),
    ],
)
def test_what_cannot_be_kept_is_said(
    model_of: Build, refusals: Refusals, nodes: list[Any], code: str, says: str
) -> None:
    weights = {
        "s": number(0.1), "t": number(0.2), "z": np.asarray(0, np.int8), "negative": number(-1),
        "many": np.ones(3, np.float32), "zeros": np.zeros(3, np.int8),
    }  # fmt: skip
    (found, *_) = refusals(model_of(nodes, ["N", 3], weights))
    assert found.code == code
    assert says in found.message


def staircase(form: str, levels: int, threshold: float) -> tuple[list[Any], dict[str, Array]]:
    """A quantised activation as different trainers write it."""
    weights = {
        "up": number(levels / threshold), "down": number(threshold / levels), "half": number(0.5),
        "zero": number(0), "top": number(levels), "one": number(1), "theta": number(threshold),
        "low": number(-levels),
    }  # fmt: skip
    forms = {
        "QCFS": [("Mul", "x", "up"), ("Add", "half"), ("Floor",), ("Clip", "zero", "top"), ("Mul", "down")],
        "original": [
            ("Div", "x", "theta"), ("Mul", "top"), ("Add", "half"), ("Floor",), ("Div", "top"),
            ("Clip", "zero", "one"), ("Mul", "theta"),
        ],
        "cut first": [
            ("Div", "x", "theta"), ("Clip", "zero", "one"), ("Mul", "top"), ("Add", "half"), ("Floor",),
            ("Mul", "down"),
        ],
        "rounded": [("Mul", "x", "up"), ("Round",), ("Clip", "zero", "top"), ("Div", "up")],
        "relu first": [("Relu", "x"), ("Mul", "up"), ("Round",), ("Clip", "zero", "top"), ("Mul", "down")],
        "min and max": [
            ("Div", "x", "theta"), ("Max", "zero"), ("Min", "one"), ("Mul", "top"), ("Round",), ("Div", "top"),
            ("Mul", "theta"),
        ],
        "relu and min": [("Relu", "x"), ("Min", "theta"), ("Mul", "up"), ("Round",), ("Mul", "down")],
        "min and max behind": [("Mul", "x", "up"), ("Round",), ("Min", "top"), ("Max", "zero"), ("Mul", "down")],
        "up": [("Relu", "x"), ("Mul", "up"), ("Ceil",), ("Clip", "zero", "top"), ("Mul", "down")],
        "signed": [("Mul", "x", "up"), ("Round",), ("Clip", "low", "top"), ("Mul", "down")],
        "offset": [("Mul", "x", "up"), ("Floor",), ("Clip", "zero", "top"), ("Mul", "theta")],
    }  # fmt: skip
    nodes, last = [], ""
    for index, (op, *operands) in enumerate(forms[form]):
        out = "y" if index == len(forms[form]) - 1 else f"v{index}"
        nodes.append(node(op, operands if index == 0 else [last, *operands], [out]))
        last = out
    return nodes, weights


@pytest.mark.parametrize("levels", [1, 4, 15])
@pytest.mark.parametrize(
    "form",
    [
        "QCFS",
        "original",
        "cut first",
        "rounded",
        "relu first",
        "min and max",
        "relu and min",
        "min and max behind",
    ],
)
def test_quantised_activations_become_one_relu(same_as_ort: Check, form: str, levels: int) -> None:
    nodes, weights = staircase(form, levels, 1.7)
    used = {name for item in nodes for name in item.input}
    given = {name: array for name, array in weights.items() if name in used}
    module = same_as_ort(nodes, ["N", 5, 20], given)
    assert names(module) == ["input", "relu", "output"]
    (relu,) = module.of_type(ann.Relu)
    assert relu.threshold is not None
    assert (relu.levels, round(float(relu.threshold.array()), 5)) == (levels, 1.7)


def test_rounding_up_leaves_zero_where_it_is(same_as_ort: Check) -> None:
    nodes, weights = staircase("up", 4, 1.7)
    used = {name for item in nodes for name in item.input}
    module = same_as_ort(
        nodes, ["N", 5, 20], {name: array for name, array in weights.items() if name in used}, atol=2e-2
    )
    assert names(module) == ["input", "affine", "relu", "output"]
    (got,) = run_ann(module, {"x": np.zeros((1, 5, 20), np.float32)}).values()
    assert not got.any()


@pytest.mark.parametrize(("form", "ops"), [("signed", ["quantize"]), ("offset", ["affine", "relu"])])
def test_other_staircases(same_as_ort: Check, form: str, ops: list[str]) -> None:
    nodes, weights = staircase(form, 4, 1.7)
    used = {name for item in nodes for name in item.input}
    given = {name: array for name, array in weights.items() if name in used}
    assert names(same_as_ort(nodes, ["N", 5, 20], given)) == ["input", *ops, "output"]


def test_a_threshold_a_channel(same_as_ort: Check) -> None:
    theta = np.abs(normal(3, 1, 1)) + 0.5
    nodes, weights = staircase("QCFS", 4, 1.0)
    weights.update(up=4 / theta, down=theta / 4)
    used = {name for item in nodes for name in item.input}
    given = {name: array for name, array in weights.items() if name in used}
    (relu,) = same_as_ort(nodes, ["N", 3, 5, 5], given).of_type(ann.Relu)
    assert relu.threshold is not None
    np.testing.assert_allclose(relu.threshold.array(), theta, rtol=1e-6)


def test_an_unbounded_or_shared_rounding_is_refused(model_of: Build, refusals: Refusals) -> None:
    nodes = [node("Floor", ["x"], ["y"], name="steps")]
    (found,) = refusals(model_of(nodes, ["N", 4]))
    assert (found.code, found.where) == ("E0301", 'bad.onnx: node "steps" (Floor)')
    made, weights = staircase("QCFS", 4, 1.0)
    made.append(node("Add", ["y", "v2"], ["z"]))
    (found,) = refusals(model_of(made, ["N", 4], weights, output="z"))
    assert (found.code, "(Floor)" in found.where) == ("E0301", True)


def test_double_weights_are_as_good_as_single(same_as_ort: Check) -> None:
    nodes = [node("Cast", ["x"], ["c"], to=TensorProto.FLOAT), *pair("c")]
    same_as_ort(nodes, ["N", 4], {"s": number(0.1), "z": np.asarray(1, np.int8)})


@pytest.mark.parametrize("exporter", ["", "_dynamo"])
@pytest.mark.parametrize(("net", "levels"), [("mlp_q8", [8, 8]), ("cnn_q4", [4, 4, 4])])
def test_our_quantised_networks_of_both_exporters(
    shared: Path, net: str, levels: list[int], exporter: str
) -> None:
    import onnxruntime

    path = shared / "data" / "models" / f"dev_{net}_float{exporter}.onnx"
    images = (np.load(shared / "data" / "mnist_test.npz")["x"][:64] / 255).astype(np.float32)[:, None]
    module = load_onnx(path)
    assert [relu.levels for relu in module.of_type(ann.Relu)] == levels
    assert "affine" not in names(module)
    (got,) = run_ann(module, {"x": images}).values()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    want = session.run(None, {"x": images})[0]
    equal = np.isclose(got, want, atol=1e-3).all(axis=1)
    assert equal.mean() > 0.95, "float sums on the edge of a step may fall on either side, in a few images"
    assert (got.argmax(axis=1) == want.argmax(axis=1)).all()
