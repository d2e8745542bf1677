"""``approximate`` states an error and keeps it."""

from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.ops import ann
from nmc.ir.ops.ann_pointwise import Activation, Quantize
from nmc.ir.ops.functions import FUNCTIONS, evaluate
from nmc.ir.verify import verify
from nmc.passes.convert.ann_to_snn import AnnToSnn
from nmc.passes.convert.approximate import Approximate
from nmc.passes.convert.lines import fit_lines
from nmc.passes.manager import run_pipeline
from nmc.passes.pipeline import parse_pipeline
from nmc.passes.quantize.calibrate import Calibrate

Array = NDArray[Any]
SMOOTH = sorted(set(FUNCTIONS) - {"sqrt", "exp"})


def network(fn: Any, **fields: Any) -> Module:
    x = ann.Input(out="x", shape=(1,))
    y = Activation(out="y", data=x.result, fn=fn, **fields)
    return Module("m", "ann", (x, y, ann.Output(data=y.result)))


def test_the_op_names_every_function_of_the_table() -> None:
    assert set(get_args(get_type_hints(Activation)["fn"])) == set(FUNCTIONS)


@pytest.mark.parametrize("fn", SMOOTH)
@pytest.mark.parametrize("span", [(-8.0, 8.0), (-1.5, 4.0)])
def test_the_certificate_bounds_the_error(fn: str, span: tuple[float, float]) -> None:
    low, high = span
    data: Array = np.linspace(low, high, 5001)[:, None]
    module = network(fn, alpha=1.2, beta=1.1)
    lines = Approximate(samples=data).run(module)
    assert verify(lines) == ()
    certificate = lines.attr("approximations")["y"]
    assert (certificate["fn"], certificate["low"], certificate["high"]) == (fn, low, high)
    (want,) = run_ann(module, {"x": data}, dtype=np.float64).values()
    (got,) = run_ann(lines, {"x": data}, dtype=np.float64).values()
    worst = float(np.abs(got - want).max())
    assert worst <= certificate["error"]
    assert worst >= certificate["error"] * 0.9


@pytest.mark.parametrize("fn", SMOOTH)
def test_more_lines_are_closer(fn: str) -> None:
    errors = [fit_lines(fn, 1.0, 1.0, -8.0, 8.0, segments).error for segments in (2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


@pytest.mark.parametrize("fn", ["sigmoid", "tanh", "silu", "gelu", "softplus", "elu"])
def test_beyond_the_range_the_lines_go_on_as_the_function_does(fn: str) -> None:
    lines = fit_lines(fn, 1.0, 1.0, -8.0, 8.0, 8)
    far: Array = np.asarray([-30.0, 30.0])
    np.testing.assert_allclose(lines(far), evaluate(fn, far, 1.0, 1.0), atol=0.3)


def test_the_choice_of_lines_is_at_least_as_good_as_equal_ones() -> None:
    knots: Array = np.linspace(-8, 8, 9)
    x: Array = np.linspace(-8, 8, 4001)
    want = evaluate("sigmoid", x, 1.0, 1.0)
    equal = np.abs(np.interp(x, knots, evaluate("sigmoid", knots, 1.0, 1.0)) - want).max()
    assert fit_lines("sigmoid", 1.0, 1.0, -8.0, 8.0, 8).error < equal / 2


def test_rounding_is_left_out_with_half_a_step_of_error() -> None:
    x = ann.Input(out="x", shape=(3,))
    scale, zero = Const("s", np.asarray(0.5, np.float32)), Const("z", np.asarray(2, np.int32))
    q = Quantize(out="q", data=x.result, scale=scale, zero_point=zero, low=-8, high=7)
    module = Module("m", "ann", (x, q, ann.Output(data=q.result)))
    samples = np.linspace(-6, 2, 30).reshape(10, 3)
    plain = Approximate(samples=samples).run(module)
    assert [op.name for op in plain.ops] == ["ann.input", "ann.output"]
    assert 1.0 <= plain.attr("approximations")["q"]["error"] < 1.001, (
        "-6 lies 1 below the grid, which begins at -5"
    )


def test_a_module_without_smooth_ops_stays() -> None:
    x = ann.Input(out="x", shape=(3,))
    module = Module("m", "ann", (x, ann.Output(data=x.result)))
    assert Approximate().run(module) is module


def test_all_functions_that_are_not_finite_are_told_at_once() -> None:
    x = ann.Input(out="x", shape=(1,))
    a = Activation(out="a", data=x.result, fn="sqrt")
    b = Activation(out="b", data=x.result, fn="sqrt")
    module = Module("m", "ann", (x, a, b, ann.Output(data=a.result), ann.Output(data=b.result)))
    with pytest.raises(NmcError) as caught:
        Approximate().run(module)
    assert [(item.code, item.where) for item in caught.value.diagnostics] == [
        ("E0604", "%a"),
        ("E0604", "%b"),
    ]


def test_without_it_the_conversion_refuses_and_names_it() -> None:
    with pytest.raises(NmcError) as caught:
        AnnToSnn().run(Calibrate(samples=np.ones((4, 1))).run(network("gelu")))
    (found,) = caught.value.diagnostics
    assert (found.code, "gelu" in found.message, "--approximate" in found.hint) == ("E0601", True, True)


def test_the_spiking_network_follows_the_function() -> None:
    passes = parse_pipeline("approximate{segments=6}, unroll, fold-affine, dead-code")
    samples: Array = np.linspace(0, 4, 64)[:, None]
    lines = run_pipeline(network("tanh"), passes).module
    converted = AnnToSnn(steps=256).run(Calibrate(samples=samples, method="max", floor=0.0).run(lines))
    from nmc.ir.interp import run_snn

    (got,) = run_snn(converted, {"x": samples}, 256).outputs.values()
    assert np.abs(got - np.tanh(samples)).max() < 0.15
