"""Synapses that learn: the op against a scalar reference that knows nothing of traces, rings or arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Value, VerifyError
from nmc.ir.ops import snn
from nmc.ir.ops.plastic import MAX_TRACES, Plastic
from nmc.ir.text.parser import parse
from nmc.ir.types import Type
from nmc.ir.verify import verify

Array = np.ndarray[Any, Any]
PRE, POST, SYNAPSES, STEPS = 6, 5, 19, 60
RULE: dict[str, Any] = {
    "decay_plus": 0.8, "decay_minus": 0.7, "a_plus": 0.11, "a_minus": 0.09, "w_min": -0.2, "w_max": 1.1,
}  # fmt: skip


def plastic(spread: bool, seed: int = 3, **changes: Any) -> Plastic:
    """A projection of random synapses, pairs may repeat."""
    rng = np.random.default_rng(seed)
    lists = {"source": rng.integers(0, PRE, SYNAPSES), "target": rng.integers(0, POST, SYNAPSES)}
    lists |= {"late": rng.integers(0, 4, SYNAPSES)} if spread else {}
    consts = {name: Const(f"p.{name}", item.astype(np.int32)) for name, item in lists.items()}
    weight = Const("p.w", rng.uniform(0, 1, SYNAPSES))
    spikes, post = Value("x", Type("spikes", (PRE,))), Value("y", Type("spikes", (POST,)))
    return Plastic(**{
        "out": "p", "spikes": spikes, "post": post, "weight": weight, **consts, "shape": (POST,), "delay": 2, **RULE,
        **changes,
    })  # fmt: skip


def module_of(op: Plastic) -> Module:
    """Both trains come from outside, so that the reference has them too."""
    x = snn.Input(out="x", source="x", shape=(PRE,), encoder="raster")
    y = snn.Input(out="y", source="y", shape=(POST,), encoder="raster")
    return Module("m", "snn", (x, y, op, snn.Integrator(out="v", current=(op.result,))))


def trains(seed: int, batch: int = 2, density: float = 0.25) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.random((batch, STEPS, size)) < density).astype(np.uint8)
        for name, size in (("x", PRE), ("y", POST))
    }


def one_synapse(
    op: Plastic, weight: float, arrivals: list[int], meets: list[int]
) -> tuple[list[float], list[float]]:
    """Weight and current of one synapse after each step: sums over pairs of spikes, from their times alone."""
    weights, currents = [], []
    for t in range(STEPS):
        earlier_pre, earlier_post = ([s for s in times if s < t] for times in (arrivals, meets))
        if op.pairing == "nearest":
            earlier_pre, earlier_post = earlier_pre[-1:], earlier_post[-1:]
        if t in meets:
            weight = min(weight + op.a_plus * sum(op.decay_plus ** (t - s) for s in earlier_pre), op.w_max)
        if t in arrivals:
            weight = max(weight - op.a_minus * sum(op.decay_minus ** (t - s) for s in earlier_post), op.w_min)
        weights.append(weight)
        currents.append(weight if t in arrivals else 0.0)
    return weights, currents


def reference(op: Plastic, data: dict[str, Array], sample: int) -> tuple[Array, Array]:
    """Weights (T, synapses) and potentials (T, targets) of a sample."""
    weights, potential = np.zeros((STEPS, SYNAPSES)), np.zeros((STEPS, POST))
    for index in range(SYNAPSES):
        source, target = int(op.source.array()[index]), int(op.target.array()[index])
        delay = op.delay + (int(op.late.array()[index]) if op.late is not None else 0)
        arrivals = [t + delay for t in range(STEPS) if data["x"][sample, t, source]]
        meets = [t + 1 for t in range(STEPS) if data["y"][sample, t, target]]
        found, current = one_synapse(op, float(op.weight.array()[index]), arrivals, meets)
        weights[:, index] = found
        potential[:, target] += np.cumsum(current)
    return weights, potential


@pytest.mark.parametrize("pairing", ["all", "nearest"])
@pytest.mark.parametrize("late", [False, True])
def test_weights_and_currents_are_those_of_the_pairs_of_spikes(late: bool, pairing: str) -> None:
    op = plastic(late, pairing=pairing)
    data = trains(7)
    found = run_snn(module_of(op), data, STEPS, probes=("p.w", "v.v"))
    for sample in range(2):
        weights, potential = reference(op, data, sample)
        assert np.abs(found.probes["p.w"][sample] - weights).max() < 1e-12
        assert np.abs(found.probes["v.v"][sample] - potential).max() < 1e-11


def test_weights_reach_their_bounds_and_stay_within() -> None:
    op = plastic(True, a_plus=0.6, a_minus=0.6)
    found = run_snn(module_of(op), trains(1), STEPS, probes=("p.w",)).probes["p.w"]
    assert found.max() == op.w_max and found.min() == op.w_min


def test_samples_learn_by_themselves_whatever_the_batch() -> None:
    op, data = plastic(True), trains(4, batch=3)
    together = run_snn(module_of(op), data, STEPS, probes=("p.w",)).probes["p.w"]
    alone = run_snn(module_of(op), data, STEPS, probes=("p.w",), batch=1).probes["p.w"]
    assert (together == alone).all() and (together[0] != together[1]).any()


def pair(gap: int, pairing: str = "all") -> float:
    """Change of a weight by a presynaptic spike and a postsynaptic one, fired `gap` steps after its arrival."""
    one = Const("one", np.zeros(1, np.int32))
    spikes, post = Value("x", Type("spikes", (1,))), Value("y", Type("spikes", (1,)))
    op = Plastic(out="p", spikes=spikes, post=post, weight=Const("w", np.full(1, 0.5)), source=one, target=one,
                 shape=(1,), **{**RULE, "pairing": pairing})  # fmt: skip
    x = snn.Input(out="x", source="x", shape=(1,), encoder="raster")
    y = snn.Input(out="y", source="y", shape=(1,), encoder="raster")
    module = Module("m", "snn", (x, y, op, snn.Integrator(out="v", current=(op.result,))))
    data = {name: np.zeros((1, STEPS, 1), np.uint8) for name in "xy"}
    data["x"][0, 30], data["y"][0, 30 + gap] = 1, 1
    return float(run_snn(module, data, STEPS, probes=("p.w",)).probes["p.w"][0, -1, 0]) - 0.5


@pytest.mark.parametrize("gap", [-9, -2, -1, 0, 1, 8])
def test_the_window_of_a_pair_is_two_exponentials_with_nothing_at_its_middle(gap: int) -> None:
    met = gap + 1  # the spike reaches the synapse a step after it was fired
    expected = 0.11 * 0.8**met if met > 0 else -0.09 * 0.7**-met if met < 0 else 0.0
    assert pair(gap) == pytest.approx(expected, abs=1e-15)


def loop(delay: int) -> Module:
    op = plastic(False, delay=delay)
    spikes = Value("y", Type("spikes", (POST,)))
    op = replace(op, spikes=spikes, source=Const("p.source", op.source.array() % POST))
    drive = snn.Input(out="d", source="d", shape=(POST,))
    return Module("m", "snn", (drive, op, snn.If(out="y", current=(op.result, drive.result))))


def test_a_population_learns_from_itself() -> None:
    module = loop(1)
    assert verify(module) == ()
    found = run_snn(module, {"d": np.full((1, POST), 0.4)}, STEPS, probes=("p.w", "y.spikes"))
    spikes = found.probes["y.spikes"][0]
    assert spikes.any() and (found.probes["p.w"][0, -1] != found.probes["p.w"][0, 0]).any()
    op = module.of_type(Plastic)[0]
    assert (
        np.abs(found.probes["p.w"][0] - reference(op, {"x": spikes[None], "y": spikes[None]}, 0)[0]).max()
        < 1e-12
    )


def test_a_loop_without_a_delay_is_refused_but_the_feedback_of_spikes_is_not() -> None:
    assert [item.code for item in verify(loop(0))] == ["E0114"]
    op = plastic(False, delay=0)
    late = Module("m", "snn", (
        snn.Input(out="x", source="x", shape=(PRE,), encoder="raster"), op, snn.If(out="y", current=(op.result,)),
    ))  # fmt: skip
    assert verify(late) == ()


def test_the_text_form_keeps_everything() -> None:
    module = parse(str(module_of(plastic(True, pairing="nearest"))))
    assert "pairing=nearest" in str(module) and parse(str(module)) == module


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay_plus": 1.0}, "decay_plus"),
        ({"a_minus": -1.0}, "negative"),
        ({"w_max": -1.0}, "w_min is above"),
        ({"w_max": 0.5}, "leave"),
        ({"shape": (3,)}, "postsynaptic"),
        ({"delay": -1}, "delay"),
        ({"a_plus": float("nan")}, "w_min"),
        ({"late": Const("l", np.full(SYNAPSES, MAX_TRACES, np.int32))}, "traces"),
        ({"source": Const("s", np.full(SYNAPSES, PRE, np.int32))}, "leaves"),
    ],
)
def test_wrong_synapses_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        plastic(False, **changes).verify()
