"""Whatever the spike code and the schedule, every count and every output is that of the integer network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact_nets import ByHand, assert_same, chain, find, random_data, random_net
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, State
from nmc.ir.ops import exact, snn
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify
from nmc.passes.convert.delta_stream import DeltaStream
from nmc.passes.convert.readout import Readout
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime

CODES: dict[str, dict[str, Any]] = {
    "stbif burst": {},
    "stbif spread": {"schedule": "spread", "over": 5},
    "stbif const": {"schedule": "const", "over": 3},
    "stbif count": {"schedule": "count"},
    "phased burst": {"code": "phased-if"},
    "phased spread": {"code": "phased-if", "schedule": "spread"},
    "phased const": {"code": "phased-if", "schedule": "const", "over": 2},
    "phased count": {"code": "phased-if", "schedule": "count"},
    "graded burst": {"code": "graded"},
    "graded spread": {"code": "graded", "schedule": "spread"},
    "bit-serial": {"code": "bit-serial"},
    "bit-serial burst": {"code": "bit-serial", "schedule": "burst"},
}


def coded(module: Module, options: dict[str, Any]) -> Module | None:
    """The network in another code; None where the code refuses it by name."""
    try:
        return SpikeCode(**options).run(module)
    except NmcError as error:
        assert {item.code for item in error.diagnostics} == {"E0652"}
        return None


@pytest.mark.parametrize("name", CODES)
@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 20))
def test_all_counts_are_those_of_the_integer_network(name: str, seed: int) -> None:
    pools = seed % 2 == 0 and not name.startswith("bit-serial")
    module = random_net(seed, pools=pools, signed=pools is False or "count" not in name)
    data = random_data(module, seed)
    other = coded(module, CODES[name])
    if other is None:
        return
    assert not verify(other)
    found, wanted = find(other, data), find(module, data)
    assert_same(found, wanted)
    assert_same(find(other, data, until_quiescent=True), wanted)
    assert str(parse(str(other))) == str(other)


@pytest.mark.parametrize("name", CODES)
@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 20))
def test_retiming_shifts_the_whole_run(name: str, seed: int) -> None:
    module = random_net(seed, pools=not name.startswith("bit-serial"), layers=3)
    data = random_data(module, seed)
    other = coded(module, CODES[name])
    if other is None:
        return
    late = Retime(min_delay=1, input_delay=0).run(other)
    assert all(op.delay >= 1 for op in late.of_type(snn.ProjectionOp) if not from_input(late, op))
    found, wanted = find(late, data), find(other, data)
    assert_same(found, wanted)
    for key, spikes in wanted.result.spikes.items():
        np.testing.assert_array_equal(found.result.spikes[key], spikes, err_msg=key)


def from_input(module: Module, op: snn.ProjectionOp) -> bool:
    """Whether a projection brings the input in, perhaps through pools."""
    source = module.producers[op.spikes.name]
    while isinstance(source, exact.MaxPool):
        source = module.producers[source.events.name]
    return isinstance(source, snn.Input)


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 20), name=st.sampled_from([*CODES]))
def test_membranes_stay_within_the_proved_bound(seed: int, name: str) -> None:
    module = random_net(seed, pools=not name.startswith("bit-serial"))
    other = coded(module, CODES[name])
    if other is None:
        return
    seen = 0

    def watch(t: int, op: Op, item: Array, state: State) -> None:
        nonlocal seen
        if isinstance(op, exact.ExactNeuron | exact.Readout):
            values = state.get("v", state.get("acc", state.get("s")))
            assert values is not None and np.abs(values).max() <= op.bound
            seen += 1

    run_snn(other, random_data(module, seed), recorder=watch)
    assert seen >= other.attr("steps")


def test_the_certified_number_of_steps_is_needed_and_enough() -> None:
    """For windows the bound is tight: one step less is wrong on some sample."""
    module = random_net(11, pools=False, layers=3)
    data = random_data(module, 11, samples=64)
    wanted = find(module, data)
    for options in ({"code": "phased-if"}, {"code": "bit-serial"}):
        other = SpikeCode(**options).run(module)  # type: ignore[arg-type]
        assert_same(find(other, data), wanted)
        short = find(other, data, steps=other.attr("steps") - 1)
        assert not np.array_equal(short.outputs["r"], wanted.outputs["r"])


def test_window_of_a_population_opens_when_its_sources_are_done() -> None:
    module = chain(4, 7)
    plain = SpikeCode(code="phased-if").run(module)
    first, second = plain.of_type(exact.Phased)
    assert (first.open, second.open, plain.attr("steps")) == (0, 3, 10)
    slow = SpikeCode(code="phased-if", schedule="count").run(module)
    assert [op.open for op in slow.of_type(exact.Phased)] == [14, 17]


def test_lowest_digits_of_all_sources_arrive_together() -> None:
    """A skip of one digit joins a path of three digits: it is delayed, and another use of it is not."""
    net = ByHand(high=7)
    a = net.population("a", 1, net.x)
    b = net.population("b", 7, a)
    made = SpikeCode(code="bit-serial").run(net.finished(net.population("c", 3, b, a)))
    delays = {op.out: op.delay for op in made.of_type(snn.ProjectionOp)}
    assert delays == {"a.x": 0, "b.a": 0, "c.b": 0, "c.a": 3, "r.c": 0}
    assert [(op.open, op.bits) for op in made.of_type(exact.BitSerial)] == [(3, 1), (4, 3), (7, 2)]
    (readout,) = made.of_type(exact.Readout)
    assert (readout.doubling_until, made.attr("steps")) == (9, 9)


def test_digits_of_inner_layers_only_make_a_run_shorter() -> None:
    """An input that enters at once, as everywhere else, costs one step instead of one a digit."""
    module = chain(7, 7)
    whole, digits = (SpikeCode(code="bit-serial", schedule=how).run(module) for how in ("burst", "bits"))
    (entry,) = digits.of_type(snn.Input)
    assert whole.attr("steps") == 1 + 3 + 3 == digits.attr("steps") + 1 - entry.over
    assert not whole.of_type(snn.Input)[0].over > 1 and whole.attr("spike_code")["schedule"] == "burst"


def test_a_projection_that_two_populations_need_at_different_times_becomes_two() -> None:
    net = ByHand(high=7)
    a = net.population("a", 7, net.x)
    slow = net.population("b", 3, a)
    both = net.population("c", 5, slow, a)  # delays the way from a
    shared = next(op for op in net.ops if op.out == "c.a")
    early = net.population("d", 3, a)
    (neurons,) = (op for op in net.ops if op.out == "d")
    assert isinstance(neurons, exact.Graded)
    net.ops[net.ops.index(neurons)] = replace(neurons, current=(shared.result,))
    module = net.finished(both, early)
    made = SpikeCode(code="bit-serial").run(module)
    delays = {op.out: op.delay for op in made.of_type(snn.OneToOne)}
    assert (delays["c.a"], delays["c.a.late2"]) == (0, 2)
    data = {"x": np.array([[0.3, 1.0], [0.9, 0.1]])}
    assert_same(find(made, data), find(module, data))


def test_inputs_below_zero_become_two_where_events_have_no_sign() -> None:
    net = ByHand(size=3, low=-3, high=3)
    module = net.finished(net.population("a", 5, net.x))
    data = {"x": np.array([[-1.0, 0.4, 1.0], [0.7, -0.4, -2.0]])}
    for options in ({"code": "bit-serial"}, {"code": "phased-if", "schedule": "count"}):
        made = SpikeCode(**options).run(module)  # type: ignore[arg-type]
        assert [(op.out, op.gain, op.high) for op in made.of_type(snn.Input)] == [
            ("x", 3.0, 3),
            ("x.neg", -3.0, 3),
        ]
        assert_same(find(made, data), find(module, data))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"code": "bit-serial", "schedule": "spread"}, "another schedule"),
        ({"code": "stbif", "schedule": "count", "over": 3}, "up to 15"),
        ({"code": "stbif", "schedule": "bits"}, "as binary digits"),
    ],
)
def test_what_a_code_cannot_carry_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(NmcError, match=words) as caught:
        SpikeCode(**options).run(chain(4))
    assert {item.code for item in caught.value.diagnostics} == {"E0652"}


def test_a_coded_network_is_not_coded_again() -> None:
    once = SpikeCode(schedule="spread").run(chain(4, 4))
    with pytest.raises(NmcError) as caught:
        SpikeCode().run(once)
    assert [item.code for item in caught.value.diagnostics] == ["E0651"] * 3  # two populations and the input


def test_what_was_chosen_for_samples_is_not_carried_over_to_another_code() -> None:
    for module, code, wanted in (
        (DeltaStream().run(chain(4)), "phased-if", "E0651"),
        (Readout(margin=3).run(chain(4)), "bit-serial", "E0652"),
    ):
        with pytest.raises(NmcError) as caught:
            SpikeCode(code=code).run(module)  # type: ignore[arg-type]
        assert [item.code for item in caught.value.diagnostics] == [wanted]


def test_pools_are_refused_by_digits_and_mixed_constant_inputs_by_name() -> None:
    refused = dict.fromkeys(("bit-serial", "stbif const"), 0)
    for seed in range(30):
        module = random_net(seed)
        for name in refused:
            refused[name] += coded(module, CODES[name]) is None
        pooled = bool(module.of_type(exact.MaxPool))
        assert (coded(module, CODES["bit-serial"]) is None) == pooled
    assert 0 < refused["stbif const"] < 30
