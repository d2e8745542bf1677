"""Delays and missed updates change nothing but time, and rest is more than silence."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact_nets import ByHand, assert_same, chain, delayed, find, random_data, random_net, skipping
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, State, StatefulOp
from nmc.ir.ops import exact, snn
from nmc.ir.rest import mistimed, settle_bound
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime

SEEDS = st.integers(0, 1 << 20)


@settings(max_examples=30)
@given(seed=SEEDS, schedule=st.sampled_from(["burst", "spread", "count"]))
def test_signed_spikes_settle_on_the_same_counts_under_any_delays(seed: int, schedule: str) -> None:
    module = random_net(seed, signed=schedule != "count")
    data = random_data(module, seed)
    late = delayed(SpikeCode(schedule=schedule).run(module), seed)  # type: ignore[arg-type]
    found = find(late, data, until_quiescent=True)
    assert_same(found, find(module, data))
    assert found.result.settled is not None
    assert found.result.settled.max() <= (settle_bound(late) or 0)


@settings(max_examples=25)
@given(seed=SEEDS)
def test_signed_spikes_settle_on_the_same_counts_when_updates_are_missed(seed: int) -> None:
    module = random_net(seed)
    data = random_data(module, seed)
    lazy = skipping(delayed(SpikeCode().run(module), seed), seed)
    assert_same(find(lazy, data, until_quiescent=True, steps=5000), find(module, data))


@settings(max_examples=15)
@given(seed=SEEDS)
def test_graded_events_settle_on_the_same_counts_under_any_delays(seed: int) -> None:
    module = random_net(seed)
    data = random_data(module, seed)
    late = delayed(SpikeCode(code="graded", schedule="spread").run(module), seed)
    assert_same(find(late, data, until_quiescent=True), find(module, data))


@settings(max_examples=15)
@given(seed=SEEDS)
def test_windows_and_digits_take_delays_that_are_there_before_the_code_is_chosen(seed: int) -> None:
    module = random_net(seed, pools=False)
    data = random_data(module, seed)
    for code in ("phased-if", "bit-serial"):
        late = SpikeCode(code=code).run(delayed(module, seed))
        assert_same(find(late, data), find(module, data))


@settings(max_examples=20)
@given(seed=SEEDS, code=st.sampled_from(["phased-if", "bit-serial", "stbif"]))
def test_events_at_the_wrong_time_are_told(seed: int, code: Any) -> None:
    """What the pass and retiming give is in time; whatever is found in time gives the right answer."""
    module = random_net(seed, pools=code != "bit-serial")
    made = SpikeCode(code=code).run(module)
    assert not mistimed(made) and not mistimed(Retime().run(made))
    late = delayed(made, seed)
    if code == "stbif":
        assert not mistimed(late)
    elif not mistimed(late):
        data = random_data(module, seed)
        assert_same(find(late, data, steps=settle_bound(late)), find(module, data))


def test_a_projection_that_is_too_slow_is_told_with_the_steps() -> None:
    for code, words in (("phased-if", "opens in step 2, and events come in until step 4"),
                        ("bit-serial", "due in step 5 and come in step 7")):  # fmt: skip
        made = SpikeCode(code=code).run(chain(3, 3))  # type: ignore[arg-type]
        slow = made.map_ops(
            lambda op: replace(op, delay=2) if isinstance(op, snn.OneToOne) and op.out == "p1.p0" else op
        )
        (problem,) = mistimed(slow)
        assert problem.code == "E0655" and words in problem.message


def first_silent_step(module: Module, data: dict[str, Array]) -> int:
    """When a detector that looks only for spikes would stop: the first step without an event."""
    sent: dict[int, bool] = {}

    def watch(t: int, op: Op, item: Array, state: State) -> None:
        if isinstance(op, StatefulOp) and not isinstance(op, exact.Readout):
            sent[t] = sent.get(t, False) or bool(item.any())

    run_snn(module, data, 60, recorder=watch)
    return min(t for t in range(60) if not sent[t])


def test_a_step_without_spikes_is_not_rest() -> None:
    """The trap of facts/conversion.md 3.7: events are under way on a slow connection."""
    module = SpikeCode().run(chain(3, 3, delay=2))
    data = {"x": np.array([[0.4, 1.0]])}
    careless = run_snn(module, data, first_silent_step(module, data) + 1).outputs["r"]
    rested = run_snn(module, data, until_quiescent=True)
    assert not np.array_equal(careless, rested.outputs["r"])
    np.testing.assert_array_equal(rested.outputs["r"], run_snn(chain(3, 3), data).outputs["r"])
    assert rested.settled is not None and rested.settled[0] > first_silent_step(module, data) + 1


def test_a_window_that_is_still_to_open_is_not_rest() -> None:
    """Nothing is under way and nobody fires, but one population waits for its time."""
    wait = SpikeCode(code="phased-if", schedule="burst").run(chain(3))
    later = wait.map_ops(lambda op: replace(op, open=9) if isinstance(op, exact.Phased) else op)
    data = {"x": np.array([[1.0, 0.5]])}
    result = run_snn(later, data, until_quiescent=True)
    np.testing.assert_array_equal(result.outputs["r"], run_snn(chain(3), data).outputs["r"])
    assert result.settled is not None and result.settled.tolist() == [12]


def test_a_start_that_is_still_to_come_is_not_rest() -> None:
    for code in ("stbif", "graded", "bit-serial"):
        made = SpikeCode(code=code).run(chain(3))
        late = made.map_ops(lambda op: replace(op, start=7) if isinstance(op, exact.ExactNeuron) else op)
        if code == "bit-serial":  # its read-out takes the digits as much later
            late = late.map_ops(
                lambda op: (
                    replace(op, doubling_until=op.doubling_until + 7) if isinstance(op, exact.Readout) else op
                )
            )
            late = late.map_ops(
                lambda op: replace(op, delay=7) if isinstance(op, snn.OneToOne) and op.out == "p0.x" else op
            )
        data = {"x": np.array([[1.0, 0.5]])}
        wanted = run_snn(chain(3), data).outputs["r"]
        np.testing.assert_array_equal(run_snn(late, data, until_quiescent=True).outputs["r"], wanted)


def test_a_bias_that_is_still_entering_is_not_rest() -> None:
    """Nothing came in, and the bias of 4 over 4 steps makes a spike only in step 3 + 3."""
    plain = chain(3).map_ops(
        lambda op: replace(op, offset=Const("bias", np.array([6]))) if isinstance(op, exact.Graded) else op
    )
    made = SpikeCode(schedule="spread", over=4).run(plain)
    late = made.map_ops(lambda op: replace(op, start=3) if isinstance(op, exact.StBif) else op)
    result = run_snn(late, {"x": np.zeros((1, 2))}, until_quiescent=True, probes=["p0.spikes"])
    assert result.probes["p0.spikes"][0, :, 0].tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert result.settled is not None and result.settled.tolist() == [7]


@settings(max_examples=20)
@given(seed=SEEDS)
def test_each_sample_settles_when_it_would_alone(seed: int) -> None:
    """From its settled step on a sample's output stays, one step earlier something still happened."""
    module = delayed(SpikeCode().run(random_net(seed)), seed)
    data = random_data(module, seed)
    together = run_snn(module, data, until_quiescent=True, trace=True)
    assert together.settled is not None
    for b, steps in enumerate(together.settled):
        one = {name: values[b : b + 1] for name, values in data.items()}
        alone = run_snn(module, one, until_quiescent=True)
        assert alone.settled is not None and alone.settled.tolist() == [steps]
        held = together.trace[b, steps - 1 :]
        assert (held == held[-1]).all()
        np.testing.assert_array_equal(
            run_snn(module, one, int(steps)).outputs["r"], together.outputs["r"][b : b + 1]
        )


def test_batches_do_not_change_the_result() -> None:
    module = SpikeCode().run(random_net(25))
    data = random_data(module, 25, samples=7)
    sent = [f"{op.out}.spikes" for op in module.of_type(exact.ExactNeuron)]
    options = {"until_quiescent": True, "trace": True, "probes": ["p0.v", *sent]}
    whole, parts = (run_snn(module, data, batch=size, **options) for size in (7, 2))  # type: ignore[arg-type]
    assert (
        whole.settled is not None and whole.settled[:2].max() < whole.settled.max()
    )  # batches end at their own time
    np.testing.assert_array_equal(whole.outputs["r"], parts.outputs["r"])
    np.testing.assert_array_equal(whole.trace, parts.trace)
    np.testing.assert_array_equal(whole.settled, parts.settled)
    for name in whole.probes:
        np.testing.assert_array_equal(whole.probes[name], parts.probes[name])
    for name in whole.spikes:
        np.testing.assert_array_equal(whole.spikes[name], parts.spikes[name])


def test_what_never_rests_is_refused_and_too_few_steps_are_told() -> None:
    module = SpikeCode().run(chain(5, 5))
    with pytest.raises(NmcError, match="not at rest after 2 steps") as caught:
        run_snn(module, {"x": np.ones((1, 2))}, 2, until_quiescent=True)
    assert caught.value.diagnostics[0].code == "E0406"
    source = snn.Input(out="x", source="x", shape=(2,), encoder="constant")
    always = snn.If(out="p", current=(source.result,))
    wire = snn.OneToOne(out="i", spikes=always.result, weight=Const("w", np.ones(1)))
    total = snn.Integrator(out="r", current=(wire.result,))
    restless = Module("m", "snn", (source, always, wire, total, snn.Output(data=total.result)))
    with pytest.raises(NmcError) as caught:
        run_snn(restless, {"x": np.ones((1, 2))}, 9, until_quiescent=True)
    assert [item.code for item in caught.value.diagnostics] == ["E0406"] * 3
    assert settle_bound(restless) is None


def test_bound_on_the_steps_follows_the_longest_path() -> None:
    net = ByHand()
    a = net.population("a", 5, net.x)
    b = net.population("b", 3, a, delay=4)
    module = SpikeCode().run(net.finished(b, a, delay=1))
    assert settle_bound(module) == 1 + (5 - 1) + 4 + (3 - 1) + 1
    assert module.attr("steps") == settle_bound(module)
