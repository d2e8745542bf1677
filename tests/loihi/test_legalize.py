"""From spiking populations to registers: precision, bounds that hold, gates, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_chain import compile_legal
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.types import Type
from nmc.ir.verify import verify_or_raise
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.legalize import Legalize

Array = np.ndarray[Any, Any]
Q_MAX, V_MAX = (1 << 21) - 1, (1 << 23) - 1


def module(*ops: Op, steps: int = 20) -> Module:
    found = Module("net", "snn", tuple(ops), (("steps", steps),))
    verify_or_raise(found)
    return found


def raster(*shape: int, out: str = "x") -> snn.Input:
    return snn.Input(out=out, source=out, shape=shape, encoder="raster")


def dense(out: str, source: Op, weight: Array, name: str = "", **fields: Any) -> snn.Dense:
    delay = 0 if isinstance(source, snn.Input) else 1
    return snn.Dense(**{
        "out": out, "spikes": source.result, "weight": Const(name or f"{out}.w", weight.astype(np.float32)),
        "delay": delay, **fields,
    })  # fmt: skip


def neurons(out: str, *currents: Op, **fields: Any) -> snn.If:
    if isinstance(fields.get("bias"), np.ndarray):
        fields["bias"] = Const(f"{out}.b", fields["bias"].astype(np.float32))
    return snn.If(out=out, current=tuple(op.result for op in currents), **fields)


def legalised(*ops: Op, bits: int = 8, steps: int = 20) -> Module:
    found = Legalize(bits=bits).run(module(*ops, steps=steps))
    verify_or_raise(found)
    return found


def population(found: Module, name: str) -> loihi.Lif:
    op = found.producers[name]
    assert isinstance(op, loihi.Lif)
    return op


def synapses(found: Module, name: str) -> loihi.SynapseOp:
    op = found.producers[name]
    assert isinstance(op, loihi.SynapseOp)
    return op


def refusals(*ops: Op, bits: int = 8) -> list[str]:
    with pytest.raises(NmcError) as caught:
        Legalize(bits=bits).run(module(*ops))
    return [item.code for item in caught.value.diagnostics]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.sampled_from([2, 3, 4, 5, 6, 8]),
    size=st.sampled_from([0.01, 0.3, 2.0]),
    sign=st.sampled_from([-1, 0, 1]),
    threshold=st.sampled_from([1.0, 0.5, 3.0]),
)
def test_weights_are_within_half_a_step_and_sums_within_the_accumulator(
    seed: int, bits: int, size: float, sign: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((7, int(rng.integers(1, 60)))) * size
    weight = np.abs(weight) * sign if sign else weight
    x = raster(weight.shape[1])
    one = dense("p.x", x, weight)
    skip = snn.Dense(
        out="p.s", spikes=x.result, weight=Const("p.s.w", weight[:, ::-1].astype(np.float32) / 3), delay=2
    )
    found = legalised(x, one, skip, neurons("p", one, skip, threshold=threshold), bits=bits)
    p = population(found, "p")
    unit = (p.vth << 6) / threshold
    total = np.zeros((2, 7))
    for name, wanted in (("p.x", weight), ("p.s", weight[:, ::-1] / 3)):
        op = synapses(found, name)
        step = ((2 if op.sign == "mixed" else 1) << (8 - bits)) * 2.0 ** (op.exp + 6)
        made = op.mantissas * 2.0 ** (op.exp + 6)
        np.testing.assert_array_equal(op.mantissas, op.weight.array())  # registers hold them exactly
        assert np.abs(made - wanted.astype(np.float32) * unit).max() <= step / 2 * (1 + 1e-5)
        assert op.sign == {-1: "inhibitory", 0: "mixed", 1: "excitatory"}[sign] or sign == 0
        total += [np.maximum(made, 0).sum(axis=1), np.maximum(-made, 0).sum(axis=1)]
    assert total.max() + (p.reset_mant << p.reset_exp << 6) <= Q_MAX
    assert p.reset_mant << p.reset_exp == p.vth


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_all_inputs_at_once_do_not_overflow(sign: float) -> None:
    """Every input spikes in every step: u must be the plain sum, which a wrapped accumulator would not give."""
    rng = np.random.default_rng(1)
    x = raster(200)
    weight = np.abs(rng.standard_normal((10, 200))) * sign
    one = dense("p.x", x, weight)
    found = legalised(x, one, neurons("p", one))
    chain = compile_legal(found)
    spikes = np.ones((1, 10, 200), np.uint8)
    result = chain.assert_equal_everywhere({"x": spikes}, 10)
    op, p = synapses(found, "p.x"), population(found, "p")
    plain = (op.mantissas.sum(axis=1) << op.exp) << 6
    fired = np.concatenate([np.zeros((1, 10), np.int64), result.probes["p.spikes"][0][:-1]])
    np.testing.assert_array_equal(result.probes["p.u"][0], plain - fired * (p.vth << 6))
    assert np.abs(plain).max() > Q_MAX // 4, "the bound is not needlessly far away"


def test_a_readout_stays_in_the_membrane_for_the_whole_run() -> None:
    rng = np.random.default_rng(2)
    x = raster(50)
    one = dense("y.x", x, np.abs(rng.standard_normal((4, 50))))
    bias = Const("y.b", np.array([0.5, -0.5, 3.0, 0.0], np.float32))
    y = snn.Integrator(out="y", current=(one.result,), bias=bias)
    found = legalised(x, one, y, snn.Output(data=y.result), steps=40)
    result = run_snn(found, {"x": np.ones((1, 40, 50), np.uint8)}, 40, probes=["y.v"])
    v = result.probes["y.v"][0]
    assert np.abs(v).max() < V_MAX and np.abs(v).max() > V_MAX // 4
    expected = run_snn(
        module(x, one, y, snn.Output(data=y.result)), {"x": np.ones((1, 40, 50), np.uint8)}, 40
    )
    np.testing.assert_allclose(result.outputs["y"], expected.outputs["y"], rtol=0.02, atol=0.5)


def _hand(found: Module, name: str, start: int, v_init: float, spikes: Array, steps: int) -> Array:
    """Integers that wait until `start`, then integrate bias and input: the law of the level above, by hand."""
    p, op = population(found, name), synapses(found, f"{name}.x")
    weight = (op.mantissas << op.exp) << 6
    bias = p.bias.array().astype(np.int64) << p.bias_exp.array().astype(np.int64)  # type: ignore[union-attr]
    unit = p.vth << 6
    v = np.full(weight.shape[0], round(v_init * unit), np.int64)
    rows = []
    for t in range(steps):
        arrived = spikes[t - op.delay] if t >= op.delay else np.zeros(weight.shape[1], np.int64)
        v = v + weight @ arrived.astype(np.int64) + (bias if t >= start else 0)
        fired = v > unit
        v = v - unit * fired if p.reset == "soft" else np.where(fired, 0, v)
        rows.append(fired)
    return np.array(rows, np.uint8)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), start=st.integers(1, 9), reset=st.sampled_from(["subtract", "zero"]))
def test_late_populations_spike_as_if_their_bias_began_late(seed: int, start: int, reset: Any) -> None:
    rng = np.random.default_rng(seed)
    x = raster(6)
    bias = rng.uniform(-3, 1.0, 5)
    one = dense("p.x", x, rng.uniform(-0.5, 2.0, (5, 6)), delay=start)
    p = neurons("p", one, bias=bias, start=start, v_init=0.5, reset=reset)
    found = legalised(x, one, p)
    spikes = (rng.random((1, 25, 6)) < 0.7).astype(np.uint8)
    result = compile_legal(found).assert_equal_everywhere({"x": spikes}, 25)
    expected = _hand(found, "p", start, 0.5, spikes[0], 25)
    np.testing.assert_array_equal(result.probes["p.spikes"][0], expected)
    assert not result.probes["p.spikes"][0, :start].any()
    assert any(isinstance(op, loihi.Input) and op.kind == "pulse" for op in found.ops) == (
        bias.min() < -0.5 / max(start - 1, 0.001)
    )


def test_one_pulse_opens_all_populations_of_a_start() -> None:
    x = raster(3)
    ops: list[Op] = [x]
    for name in ("p", "q"):
        one = dense(f"{name}.x", x, np.full((2, 3), 0.9), delay=4)
        ops += [one, neurons(name, one, bias=np.array([-2.0, 0.1]), start=4, v_init=0.5)]
    found = legalised(*ops)
    assert [op.at for op in found.of_type(loihi.Input) if op.kind == "pulse"] == [4]
    assert synapses(found, "p.gate").sign == "excitatory"


def test_a_constant_image_is_coded_in_exact_grey_levels() -> None:
    """Pixel k/255 is bias 16 * k of 4,080 and spikes exactly floor-like often: k times in 255 steps."""
    x = snn.Input(out="x", source="x", shape=(16, 16))
    p = neurons("p", x, v_init=0.5)
    found = legalised(x, p, snn.Output(data=p.result, decoder="count"))
    host = found.of_type(loihi.Input)[0]
    grey = np.arange(256, dtype=np.float32).reshape(1, 16, 16) / np.float32(255)
    np.testing.assert_array_equal(
        host.mantissas(grey).reshape(-1) << host.exponent, np.arange(256) * (4080 << 6) // 255
    )
    result = compile_legal(found).assert_equal_everywhere({"x": grey}, 255)
    np.testing.assert_array_equal(result.outputs["p"].reshape(-1), np.arange(256))


def test_shared_weights_may_be_rounded_differently() -> None:
    """Two layers share a constant, and their populations need different scales."""
    x, weight = raster(4), np.array([[0.5, -0.25, 0.1, 0.9]] * 3)
    one, two = dense("p.x", x, weight, name="w"), dense("q.x", x, weight, name="w")
    big = dense("q.y", x, weight * 300)
    found = legalised(x, one, two, big, neurons("p", one), neurons("q", two, big))
    compile_legal(found).assert_equal_everywhere({"x": np.ones((1, 5, 4), np.uint8)}, 8)
    assert len({const.name for const in found.consts}) == len(found.consts)


def test_two_populations_may_take_the_same_image() -> None:
    x = snn.Input(out="x", source="x", shape=(5,))
    p, q = neurons("p", x), neurons("q", x, threshold=2.0)
    found = legalised(x, p, q)
    image = np.linspace(0, 1, 5, dtype=np.float32)[None]
    result = compile_legal(found).assert_equal_everywhere({"x": image}, 40)
    counts = {name: result.probes[f"{name}.spikes"].sum(axis=(0, 1)) for name in "pq"}
    assert (np.abs(counts["p"] - 2 * counts["q"]) <= 2).all() and counts["p"].max() > 30


def test_what_loihi_cannot_do_is_told_all_at_once() -> None:
    x = raster(3)
    one = dense("p.x", x, np.array([[0.1, 0.37, 0.011], [1.0, 0.5, 1 / np.pi]]))
    p = neurons("p", one, compare="ge")
    late = dense("q.x", p, np.ones((2, 2)), delay=0)
    q = neurons("q", late)
    assert refusals(x, one, p, late, q) == ["E0611", "E0612"]


def test_a_fan_in_beyond_the_accumulator_is_refused() -> None:
    x = raster(4000)
    one = dense("p.x", x, np.full((1, 4000), 50.0))
    assert refusals(x, one, neurons("p", one)) == ["E0613"]


def test_weights_that_would_all_vanish_are_refused() -> None:
    x = raster(20_000)
    one = dense("y.x", x, np.full((2, 20_000), 0.1))
    assert refusals(x, one, snn.Integrator(out="y", current=(one.result,))) == ["E0613"]


def test_a_bias_that_leaves_the_membrane_while_it_waits_is_refused() -> None:
    x = raster(3)
    one = dense("p.x", x, np.full((1, 3), 0.1))
    assert refusals(x, one, neurons("p", one, bias=np.array([0.9]), start=500)) == ["E0614"]


def test_structures_without_counterpart_are_refused() -> None:
    x, image = raster(1, 3, 3, 3), snn.Input(out="i", source="i", shape=(2,))
    weight = Const("c.w", np.ones((1, 1, 2, 2, 2), np.float32))
    conv = snn.Conv(
        out="c.x", spikes=x.result, weight=weight, stride=(1,) * 3, pad=(0,) * 6, dilation=(1,) * 3
    )
    both = neurons("b", image, bias=np.ones(2))
    assert refusals(x, image, conv, neurons("c", conv), both) == ["E0610", "E0610"]


@pytest.mark.parametrize("bits", [0, 7, 9])
def test_a_width_that_no_register_has_is_refused(bits: int) -> None:
    x = raster(3)
    one = dense("p.x", x, np.ones((2, 3)))
    assert refusals(x, one, neurons("p", one), bits=bits) == ["E0618"]


def test_recurrent_populations_are_legalised() -> None:
    x = raster(4)
    rng = np.random.default_rng(4)
    one = dense("p.x", x, rng.uniform(0, 1, (4, 4)))
    loop = snn.Dense(
        out="p.r", spikes=Value("p", Type("spikes", (4,))), delay=2,
        weight=Const("p.r.w", rng.uniform(-0.5, 0.5, (4, 4)).astype(np.float32)),
    )  # fmt: skip
    found = legalised(x, one, loop, neurons("p", one, loop, v_init=0.5))
    spikes = (rng.random((2, 20, 4)) < 0.5).astype(np.uint8)
    result = compile_legal(found).assert_equal_everywhere({"x": spikes}, 25)
    assert result.probes["p.spikes"].any()
