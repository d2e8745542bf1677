"""The reference interpreter against hand-written loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ir_strategies as irs
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_ann, run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann, snn
from nmc.ir.types import Type
from nmc.ir.verify import verify

Array = np.ndarray[Any, Any]
STEPS = 12


def _module(*ops: Op) -> Module:
    module = Module("m", "snn", ops)
    assert verify(module) == ()
    return module


def _raster(*shape: int, share: float = 0.4, seed: int = 0) -> Array:
    """Spikes (B, T, *shape)."""
    return (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)


def _source(*shape: int, encoder: Any = "raster") -> snn.Input:
    return snn.Input(out="x", source="x", shape=shape, encoder=encoder)


def _if_loop(drive: list[float], bias: float, start: int, op: snn.If) -> tuple[list[int], list[float]]:
    """One neuron, one step after another."""
    v, spikes, trace = op.v_init, [], []
    for t, current in enumerate(drive):
        v += current + (bias if t >= start else 0.0)
        fired = v >= op.threshold if op.compare == "ge" else v > op.threshold
        if fired:
            v = v - op.threshold if op.reset == "subtract" else 0.0
        spikes.append(int(fired))
        trace.append(v)
    return spikes, trace


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("compare", ["gt", "ge"])
@settings(max_examples=25)
@given(
    weights=st.lists(st.integers(-4, 6), min_size=2, max_size=2),
    threshold=st.sampled_from([1.0, 2.0, 2.5]),
    v_init=st.sampled_from([0.0, 1.0, -0.5]),
    bias=st.sampled_from([0.0, 0.5, -1.0]),
    start=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_integrate_and_fire_is_the_loop_over_one_neuron(
    reset: Any,
    compare: Any,
    weights: list[int],
    threshold: float,
    v_init: float,
    bias: float,
    start: int,
    seed: int,
) -> None:
    """Two currents, all resets and comparisons, bias from a step on; halves, so exactly."""
    x = _source(2)
    weight = Const("w", np.array(weights, np.float32) / 2)
    first = snn.OneToOne(out="i", spikes=x.result, weight=weight)
    second = snn.OneToOne(out="j", spikes=x.result, weight=Const("k", np.array([0.5])))
    law: dict[str, Any] = {
        "threshold": threshold, "v_init": v_init, "reset": reset, "compare": compare, "start": start,
    }  # fmt: skip
    bias_const = Const("b", np.array([bias]))
    p = snn.If(out="p", current=(first.result, second.result), bias=bias_const, **law)
    total = snn.Integrator(out="q", current=(first.result,), bias=bias_const, start=start)
    raster = _raster(2, STEPS, 2, seed=seed)
    module = _module(x, first, second, p, total, snn.Output(data=total.result))
    result = run_snn(module, {"x": raster}, STEPS, probes=["p.spikes", "p.v", "q.v"])
    for b, n in np.ndindex(2, 2):
        drive = [float(weights[n] / 2 + 0.5) * spike for spike in raster[b, :, n]]
        spikes, trace = _if_loop(drive, bias, start, p)
        assert result.probes["p.spikes"][b, :, n].tolist() == spikes
        assert result.probes["p.v"][b, :, n].tolist() == trace
        potential = np.cumsum(
            [weights[n] / 2 * s + bias * (t >= start) for t, s in enumerate(raster[b, :, n])]
        )
        np.testing.assert_array_equal(result.probes["q.v"][b, :, n], potential)
        assert result.outputs["q"][b, n] == potential[-1]
    np.testing.assert_array_equal(result.spikes["p"], result.probes["p.spikes"].sum(axis=(0, 1)))


def test_reaching_the_threshold_suffices_only_with_ge() -> None:
    x = _source(1, encoder="constant")
    found = {}
    for compare in ("gt", "ge"):
        p = snn.If(out="p", current=(x.result,), threshold=1.0, compare=compare)
        result = run_snn(_module(x, p), {"x": np.ones((1, 1))}, 3, probes=["p.spikes"])
        found[compare] = result.probes["p.spikes"][0, :, 0].tolist()
    assert found == {"gt": [0, 1, 1], "ge": [1, 1, 1]}


def _relay(delays: list[int]) -> Module:
    """A chain of populations that repeat every spike, each `delay` steps later."""
    x = _source(3)
    ops: list[Op] = [x]
    spikes = x.result
    for n, delay in enumerate(delays):
        wire = snn.OneToOne(out=f"i{n}", spikes=spikes, weight=Const("one", np.ones(1)), delay=delay)
        relay = snn.If(out=f"p{n}", current=(wire.result,), threshold=1.0, compare="ge")
        ops += [wire, relay]
        spikes = relay.result
    return _module(*ops)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_a_chain_gives_the_same_train_as_many_steps_later_as_its_delays_add_up_to(delays: list[int]) -> None:
    raster = _raster(2, 20, 3)
    last = f"p{len(delays) - 1}.spikes"
    train = run_snn(_relay(delays), {"x": raster}, 20, probes=[last]).probes[last]
    late = sum(delays)
    np.testing.assert_array_equal(train[:, late:], raster[:, : 20 - late])
    assert not train[:, :late].any()


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_every_projection_delays(kind: str) -> None:
    x = _source(1, 4)
    if kind == "dense":
        weight = Const("w", np.eye(4))
        wire: Op = snn.Dense(out="i", spikes=x.result, weight=weight, delay=3, shape=(1, 4))
    else:
        window: dict[str, Any] = {"stride": (1,), "pad": (0, 0), "dilation": (1,)}
        wire = snn.Conv(out="i", spikes=x.result, weight=Const("w", np.ones((1, 1, 1))), delay=3, **window)
    p = snn.If(out="p", current=(wire.result,), compare="ge")
    raster = _raster(2, STEPS, 1, 4)
    train = run_snn(_module(x, wire, p), {"x": raster}, STEPS, probes=["p.spikes"]).probes["p.spikes"]
    np.testing.assert_array_equal(train[:, 3:], raster[:, :-3])
    assert not train[:, :3].any()


def test_one_value_may_be_asked_for_with_several_delays() -> None:
    x = _source(1)
    wires = [
        snn.OneToOne(out=f"i{d}", spikes=x.result, weight=Const(f"w{d}", np.array([10.0**d])), delay=d)
        for d in (3, 0, 2)
    ]
    q = snn.Integrator(out="q", current=tuple(wire.result for wire in wires))
    raster = np.zeros((1, 8, 1), np.uint8)
    raster[0, 1] = 1
    trace = run_snn(_module(x, *wires, q), {"x": raster}, 8, probes=["q.v"]).probes["q.v"][0, :, 0]
    assert np.diff(trace, prepend=0).tolist() == [0, 1, 0, 100, 1000, 0, 0, 0]


@pytest.mark.parametrize("delay", [1, 2, 5])
@pytest.mark.parametrize("before", [True, False], ids=["forward reference", "backward reference"])
def test_a_recurrent_population_is_the_loop_over_its_own_spikes(delay: int, before: bool) -> None:
    rng = np.random.default_rng(delay)
    weight = rng.integers(-2, 3, (4, 4)).astype(float)
    x = _source(4)
    feed = snn.OneToOne(out="i", spikes=x.result, weight=Const("f", np.array([1.5])))
    here = Value("p", Type("spikes", (4,)))
    back = snn.Dense(out="r", spikes=here, weight=Const("w", weight), delay=delay)
    p = snn.If(out="p", current=(feed.result, back.result))
    late = snn.Integrator(out="late", current=(Value("r2", Type("current", (4,))),))
    again = snn.Dense(out="r2", spikes=here, weight=Const("w", weight), delay=delay)
    ops = (x, again, feed, back, p, late) if before else (x, feed, back, p, again, late)
    raster = _raster(2, 30, 4, seed=delay)
    result = run_snn(_module(*ops), {"x": raster}, 30, probes=["p.spikes", "late.v"])
    for b in range(2):
        v, currents = np.zeros(4), np.zeros(4)
        history: list[Array] = []
        for t in range(30):
            old = history[t - delay] if t >= delay else np.zeros(4)
            v = v + 1.5 * raster[b, t] + weight @ old
            currents = currents + weight @ old
            fired = (v > 1.0).astype(float)
            v = v - fired
            history.append(fired)
            np.testing.assert_array_equal(result.probes["late.v"][b, t], currents)
        np.testing.assert_array_equal(result.probes["p.spikes"][b], history)
    assert result.spikes["p"].any()


def test_two_populations_may_excite_each_other() -> None:
    """A ping that goes round a ring of two for ever, once every two delays."""
    x = _source(1)
    one = Const("one", np.ones(1))
    kick = snn.OneToOne(out="k", spikes=x.result, weight=one)
    back = snn.OneToOne(out="ba", spikes=Value("b", Type("spikes", (1,))), weight=one, delay=2)
    a = snn.If(out="a", current=(kick.result, back.result), compare="ge")
    forth = snn.OneToOne(out="ab", spikes=a.result, weight=one, delay=1)
    b = snn.If(out="b", current=(forth.result,), compare="ge")
    raster = np.zeros((1, 10, 1), np.uint8)
    raster[0, 0] = 1
    probes = run_snn(
        _module(x, kick, back, a, forth, b), {"x": raster}, 10, probes=["a.spikes", "b.spikes"]
    ).probes
    assert probes["a.spikes"][0, :, 0].tolist() == [1, 0, 0] * 3 + [1]
    assert probes["b.spikes"][0, :, 0].tolist() == [0, 1, 0] * 3 + [0]


def _data_for(module: Module, samples: int) -> dict[str, Array]:
    (source,) = module.of_type(snn.Input)
    rng = np.random.default_rng(3)
    if source.encoder == "raster":
        return {"x": (rng.random((samples, STEPS, *source.shape)) < 0.5).astype(np.uint8)}
    return {"x": rng.random((samples, *source.shape))}


@settings(max_examples=40)
@given(irs.snn_modules(), st.integers(1, 6), st.integers(0, 50))
def test_the_batch_size_does_not_change_anything(module: Module, batch: int, first: int) -> None:
    """Weights are small integers and potentials multiples of them: every sum is exact in any order."""
    (source,) = module.of_type(snn.Input)
    data = _data_for(module, 5)
    if source.encoder == "constant":
        data = {"x": np.round(data["x"] * 8) / 8}
    probes = [f"{op.out}.{what}" for op in module.of_type(snn.If) for what in ("spikes", "v")]
    whole = run_snn(module, data, STEPS, probes=probes, first_sample=first)
    split = run_snn(module, data, STEPS, probes=probes, first_sample=first, batch=batch)
    for one, other in (
        (whole.outputs, split.outputs),
        (whole.probes, split.probes),
        (whole.spikes, split.spikes),
    ):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    for op in module.of_type(snn.If):
        assert whole.probes[f"{op.out}.v"].shape == (5, STEPS, *op.result.shape)
        np.testing.assert_array_equal(whole.spikes[op.out], whole.probes[f"{op.out}.spikes"].sum(axis=(0, 1)))


def test_random_input_is_keyed_by_the_number_of_the_sample() -> None:
    x = _source(5, encoder="rate")
    data = np.full((6, 5), 0.5)
    all_six = run_snn(_module(x), {"x": data}, STEPS, probes=["x.spikes"]).probes["x.spikes"]
    last_two = run_snn(_module(x), {"x": data[4:]}, STEPS, probes=["x.spikes"], first_sample=4).probes[
        "x.spikes"
    ]
    np.testing.assert_array_equal(all_six[4:], last_two)
    assert (all_six[0] != all_six[1]).any()


@pytest.mark.parametrize(("decoder", "expected"), [("last", 0.5 * 6), ("count", 0.5 * (0 + 1 + 3 + 6))])
def test_decoders(decoder: Any, expected: float) -> None:
    x = _source(1)
    wires = [snn.OneToOne(out="i", spikes=x.result, weight=Const("w", np.ones(1)))]
    q = snn.Integrator(out="q", current=(wires[0].result,))
    module = _module(x, *wires, q, snn.Output(data=q.result, decoder=decoder, scale=0.5))
    raster = np.array([0, 1, 2, 3]).reshape(1, 4, 1)
    assert run_snn(module, {"x": raster}, 4).outputs == {"q": [[expected]]}


def test_a_spike_count_does_not_overflow_its_byte() -> None:
    x = _source(1)
    module = _module(x, snn.Output(data=x.result, decoder="count"))
    result = run_snn(module, {"x": np.ones((1, 300, 1), np.uint8)}, 300)
    assert result.outputs["x"] == [[300.0]]
    assert result.spikes["x"].tolist() == [300]


def test_probes_keep_what_was_when_it_was() -> None:
    """Recorded state is a copy: later steps do not change it."""
    x = _source(1, encoder="constant")
    q = snn.Integrator(out="q", current=(x.result,))
    result = run_snn(_module(x, q), {"x": np.full((1, 1), 2.0)}, 4, probes=["q.v", "q.spikes"])
    assert result.probes["q.v"][0, :, 0].tolist() == [2, 4, 6, 8]
    assert result.probes["q.spikes"][0, :, 0].tolist() == [2, 4, 6, 8]


class _InPlace(snn.Integrator):
    """An op that updates its state in place, as it may."""

    def step(self, state: dict[str, Array], t: int, *currents: Array) -> Array:
        state["v"] += currents[0]
        return state["v"] * 1


def test_a_probe_of_state_that_is_updated_in_place_is_a_copy() -> None:
    x = _source(1, encoder="constant")
    module = _module(x, _InPlace(out="q", current=(x.result,)))
    result = run_snn(module, {"x": np.full((1, 1), 2.0)}, 3, probes=["q.v"])
    assert result.probes["q.v"][0, :, 0].tolist() == [2, 4, 6]


def test_progress_is_told_in_samples() -> None:
    told: list[tuple[int, int]] = []
    run_snn(
        _module(_source(1)), {"x": _raster(5, 2, 1)}, 2, batch=2, progress=lambda *done: told.append(done)
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


BAD_RUNS: dict[str, dict[str, Any]] = {
    "no data for input x; there is y": {"inputs": {"y": _raster(1, 2, 3)}},
    "there is nothing": {"inputs": {}},
    "shape (4,) a sample, the network takes (3,)": {"inputs": {"x": _raster(1, 2, 4)}},
    "shape () a sample, the network takes (3,)": {"inputs": {"x": _raster(1, 2)}},
    "there are no samples": {"inputs": {"x": _raster(0, 2, 3)}},
    "no population for probe ghost.v": {"probes": ["ghost.v"]},
    "no population for probe p": {"probes": ["p"]},
    "no population for probe i.v": {"probes": ["i.v"]},
    "snn.if has no state u for probe p.u": {"probes": ["p.u"]},
    "cannot run 0 steps": {"steps": 0},
    "in batches of 0": {"batch": 0},
}


@pytest.mark.parametrize("message", BAD_RUNS)
def test_a_run_that_cannot_be_is_refused(message: str) -> None:
    x = _source(3)
    wire = snn.OneToOne(out="i", spikes=x.result, weight=Const("w", np.ones(1)))
    module = _module(x, wire, snn.If(out="p", current=(wire.result,)))
    arguments = {"inputs": {"x": _raster(1, 2, 3)}, "steps": 2, **BAD_RUNS[message]}
    with pytest.raises(NmcError) as caught:
        run_snn(module, **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("encoder", ["constant", "rate"])
def test_misshapen_numbers_are_refused(encoder: str) -> None:
    with pytest.raises(NmcError, match=r"shape \(4,\) a sample, the network takes \(3,\)"):
        run_snn(_module(_source(3, encoder=encoder)), {"x": np.ones((1, 4))}, 2)
    with pytest.raises(NmcError, match="no data for input x"):
        run_ann(Module("m", "ann", (ann.Input(out="x", shape=(3,)),)), {"z": np.ones((1, 3))})


def test_a_tensor_program_keeps_a_value_until_its_last_use() -> None:
    """A residual connection over several ops, a value used twice by one op, one that nobody uses."""
    x = ann.Input(out="x", shape=(2,))
    a = ann.Affine(out="a", data=x.result, scale=Const("s", np.array(2.0)), offset=Const("o", np.array(1.0)))
    unused = ann.Relu(out="u", data=a.result)
    r = ann.Relu(out="r", data=a.result)
    total = ann.Add(out="t", data=(r.result, x.result, r.result))
    module = Module(
        "m", "ann", (x, a, unused, r, total, ann.Output(data=total.result), ann.Output(data=r.result))
    )
    result = run_ann(module, {"x": np.array([[1.0, -2.0]])}, keep=["a"])
    assert {name: array.tolist() for name, array in result.items()} == {
        "a": [[3.0, -3.0]],
        "r": [[3.0, 0.0]],
        "t": [[7.0, -2.0]],
    }
