"""The ops of exact networks against plain loops over one neuron, and what their verifier refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact_nets import chain
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, Span, Value, VerifyError
from nmc.ir.ops import exact, snn
from nmc.ir.types import Type
from nmc.ir.verify import verify

STEPS = 12
CURRENT = Value("i", Type("current", (3,)))


def common(theta: list[int], offset: list[int], levels: int, start: int = 0) -> dict[str, Any]:
    return {
        "out": "p", "current": (CURRENT,), "theta": Const("t", np.array(theta)),
        "offset": Const("o", np.array(offset)), "levels": levels, "start": start,
    }  # fmt: skip


def stbif_loop(x: list[int], theta: int, offset: int, levels: int, start: int, spread: int) -> list[int]:
    bias = offset - theta // 2
    v, c, entered, sent = offset - (bias if spread else 0), 0, 0, []
    for t, current in enumerate(x):
        v += current
        if spread and 0 <= t - start < spread:
            v += (t - start + 1) * bias // spread - entered
            entered = (t - start + 1) * bias // spread
        event = 0
        if t >= start and v >= theta and c < levels:
            event = 1
        elif t >= start and v < 0 and c > 0:
            event = -1
        v -= event * theta
        c += event
        sent.append(event)
    return sent


def graded_loop(x: list[int], theta: int, offset: int, levels: int, start: int) -> list[int]:
    total, c, sent = offset, 0, []
    for t, current in enumerate(x):
        total += current
        new = min(max(total // theta, 0), levels) if t >= start else c
        sent.append(new - c)
        c = new
    return sent


def phased_loop(x: list[int], theta: int, offset: int, levels: int, start: int, opening: int) -> list[int]:
    v, sent = offset, []
    for t, current in enumerate(x):
        v += current
        fires = start + opening <= t < start + opening + levels and v >= theta
        v -= theta * fires
        sent.append(int(fires))
    return sent


def digits_loop(
    x: list[int], theta: int, offset: int, levels: int, start: int, opening: int, bits: int
) -> list[int]:
    acc, sent = 0, [0] * len(x)
    for t, current in enumerate(x):
        if t < start + opening:
            acc = 2 * acc + current
    count = min(max((offset + acc) // theta, 0), levels)
    for digit in range(bits):
        t = start + opening + digit
        if t < len(x):
            sent[t] = count >> (bits - 1 - digit) & 1
    return sent


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    kind=st.sampled_from(["graded", "stbif", "phased", "digits"]),
    levels=st.sampled_from([1, 3, 8, 200]),
    start=st.integers(0, 4),
    extra=st.integers(0, 5),
)
def test_a_population_is_the_loop_over_one_neuron(
    seed: int, kind: str, levels: int, start: int, extra: int
) -> None:
    rng = np.random.default_rng(seed)
    theta, offset = rng.integers(1, 30, 3).tolist(), rng.integers(-40, 40, 3).tolist()
    x = rng.integers(-25, 40, (2, STEPS, 3))
    law = common(theta, offset, levels, start)
    bits = levels.bit_length()
    ops: dict[str, tuple[exact.ExactNeuron, Any, tuple[int, ...]]] = {
        "graded": (exact.Graded(**law), graded_loop, ()),
        "stbif": (exact.StBif(**law, spread=extra), stbif_loop, (extra,)),
        "phased": (exact.Phased(**law, open=extra), phased_loop, (extra,)),
        "digits": (exact.BitSerial(**law, open=extra, bits=bits), digits_loop, (extra, bits)),
    }
    op, loop, more = ops[kind]
    state = op.begin(2)
    sent = np.stack([op.step(state, t, x[:, t].astype(np.float64)) for t in range(STEPS)], axis=1)
    for b, n in np.ndindex(2, 3):
        wanted = loop(x[b, :, n].tolist(), theta[n], offset[n], levels, start, *more)
        assert sent[b, :, n].tolist() == wanted


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1 << 30),
    kind=st.sampled_from(["graded", "stbif", "phased", "digits"]),
    t=st.integers(0, 9),
)
def test_eligible_tells_whether_something_would_still_be_sent(seed: int, kind: str, t: int) -> None:
    rng = np.random.default_rng(seed)
    law = common(
        rng.integers(1, 9, 3).tolist(), rng.integers(-30, 30, 3).tolist(), 3, int(rng.integers(0, 4))
    )
    ops = {"graded": exact.Graded(**law), "stbif": exact.StBif(**law), "phased": exact.Phased(**law, open=3),
           "digits": exact.BitSerial(**law, open=3, bits=5)}  # fmt: skip
    op: exact.ExactNeuron = ops[kind]
    state = op.begin(8)
    for now in range(t + 1):
        op.step(state, now, rng.integers(-20, 20, (8, 3)))
    told = op.eligible(state, t)
    sent = np.stack([op.step(state, now, np.zeros((8, 3))) for now in range(t + 1, t + 30)], axis=1)
    assert told.tolist() == sent.any(axis=(1, 2)).tolist()


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 30))
def test_a_pool_sends_the_changes_of_the_maxima(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (STEPS, 2, 3, 6, 5))
    counts[rng.random(STEPS) < 0.3] = 0
    pad, kernel, stride, dilation = (1, 0, -1, 2), (2, 2), (2, 1), (1, 2)
    value = Value("e", Type("graded", (3, 6, 5)))
    op = exact.MaxPool(out="q", events=value, kernel=kernel, stride=stride, pad=pad, dilation=dilation)
    state, before = op.begin(2), np.zeros_like(counts[0])
    sums: Array = np.zeros((2, *op.result.shape), np.int64)
    for t, now in enumerate(counts):
        sums = sums + op.step(state, t, now - before)
        before = now
        padded = np.pad(now[:, :, :-1], ((0, 0), (0, 0), (1, 0), (0, 2)))
        for y, x in np.ndindex(*op.result.shape[1:]):
            window = padded[:, :, y * 2 : y * 2 + 2, x : x + 3 : 2]
            np.testing.assert_array_equal(sums[:, :, y, x], window.max(axis=(2, 3)))


@settings(max_examples=40)
@given(number=st.integers(-9, 9), over=st.integers(1, 12))
def test_whole_numbers_have_entered_after_their_schedule(number: int, over: int) -> None:
    data = np.array([[number / 9]])
    for encoder, factor in (("burst", 1), ("spread", 1), ("const", over)):
        op = snn.Input(out="x", source="x", shape=(1,), encoder=encoder, gain=9.0, low=-9, high=9, over=over)  # type: ignore[arg-type]
        sent = [int(op.encode(data, 0, t)[0, 0]) for t in range(over + 3)]
        assert sum(sent) == number * factor
        assert not any(sent[op.active_until :])
        if encoder == "spread":
            assert max(sent[:over]) - min(sent[:over]) <= 1


def test_counts_and_digits_are_spikes_that_stand_for_the_number() -> None:
    numbers = np.arange(8)[None] / 7
    count = snn.Input(out="x", source="x", shape=(8,), encoder="count", gain=7.0, high=7, over=9)
    digits = replace(count, encoder="bits", over=3)
    sent = np.stack([count.encode(numbers, 0, t) for t in range(9)])
    assert sent.max() == 1 and sent.dtype == np.uint8
    assert sent.sum(axis=0)[0].tolist() == list(range(8))
    bits = np.stack([digits.encode(numbers, 0, t) for t in range(5)])
    assert (bits[:3, 0] * np.array([[4], [2], [1]])).sum(axis=0).tolist() == list(range(8))
    assert not bits[3:].any()
    assert count.result.type.kind == digits.result.type.kind == "spikes"


def test_data_are_rounded_cut_and_must_be_numbers() -> None:
    op = snn.Input(out="x", source="x", shape=(5,), encoder="burst", gain=10.0, low=-4, high=6)
    assert op.encode(np.array([[0.25, 0.35, 9.0, -9.0, -0.14]]), 0, 0).tolist() == [[2, 4, 6, -4, -1]]
    with pytest.raises(NmcError) as caught:
        op.encode(np.array([[np.nan] * 5]), 0, 0)
    assert caught.value.diagnostics[0].code == "E0403"


def test_a_readout_adds_up_and_takes_digits() -> None:
    plain = exact.Readout(out="r", current=(CURRENT,), offset=Const("o", np.array([7, 0, -1])))
    state = plain.begin(1)
    for t, x in enumerate(([1, 2, 3], [10, -20, 30])):
        value = plain.step(state, t, np.array([x]))
    assert value.tolist() == [[18, -18, 32]] and value.dtype == np.int64
    digits = replace(plain, doubling_until=2, start=1)
    state = digits.begin(1)
    for t, x in enumerate(([0, 0, 0], [1, 0, 1], [0, 1, 1], [9, 9, 9])):
        value = digits.step(state, t, np.array([x]))
    assert value.tolist() == [[7 + 2, 1, -1 + 3]]


def test_sums_are_exact_beyond_what_single_precision_holds() -> None:
    """Weights and events whose sum needs 25 bits, with a small one at the end."""
    weight = np.full((1, 600), 127, np.int8)
    weight[0, -1] = 1
    source = snn.Input(out="x", source="x", shape=(600,), encoder="burst", gain=1.0, high=255)
    wire = snn.Dense(out="i", spikes=source.result, weight=Const("w", weight))
    readout = exact.Readout(out="r", current=(wire.result,), offset=Const("o", np.array([0])))
    module = Module("m", "snn", (source, wire, readout, snn.Output(data=readout.result)))
    data = np.full((2, 600), 255.0)
    data[:, -1] = 254.0  # makes the sum odd: above 2**24 single precision holds even numbers only
    data[1, ::2] = 1.0
    found = run_snn(module, {"x": data}, 1).outputs["r"][:, 0]
    assert found.tolist() == (data @ weight[0].astype(np.float64)).tolist()
    assert found[0] > 1 << 24 and found[0] % 2 == 1


def test_samples_without_events_cost_no_product_and_have_no_current() -> None:
    weight = Const("w", np.array([[3, -4]], np.int8))
    source = Value("s", Type("graded", (2,)))
    wire = snn.Dense(out="i", spikes=source, weight=weight)
    events = np.array([[0, 0], [1, 2], [0, 0]], np.int8)
    assert wire.run(events).tolist() == [[0.0], [-5.0], [0.0]]
    assert wire.run(np.zeros((2, 2), np.int8)).tolist() == [[0.0], [0.0]]
    assert wire.run(events).dtype == np.float64


def test_a_part_is_the_population_on_its_box() -> None:
    whole = exact.StBif(**{**common([3, 4, 5], [1, 1, 2], 5)})
    part = whole.part((Span(1, 3),))
    assert isinstance(part, exact.StBif)
    x = np.array([[9, -3, 12]])
    sent, states = [], (whole.begin(1), part.begin(1))
    for t in range(4):
        sent.append((whole.step(states[0], t, x)[:, 1:], part.step(states[1], t, x[:, 1:])))
    for left, right in sent:
        np.testing.assert_array_equal(left, right)


WRONG: dict[str, tuple[type[Op], dict[str, Any]]] = {
    "theta": (exact.Graded, {**common([0], [0], 3)}),
    "offset": (exact.Graded, {**common([2], [0], 3), "offset": Const("o", np.array([0.5]))}),
    "levels": (exact.Graded, {**common([2], [0], 0)}),
    "broadcast": (exact.Graded, {**common([2, 3], [0], 3)}),
    "start": (exact.Graded, {**common([2], [0], 3, -1)}),
    "spread": (exact.StBif, {**common([2], [0], 3), "spread": -1}),
    "open": (exact.Phased, {**common([2], [0], 3), "open": -1}),
    "digits": (exact.BitSerial, {**common([2], [0], 8), "open": 0, "bits": 3}),
    "range": (snn.Input, {"out": "x", "source": "x", "shape": (3,), "encoder": "burst", "low": 3, "high": 2}),
    "hold": (snn.Input, {"out": "x", "source": "x", "shape": (3,), "encoder": "count", "high": 9, "over": 8}),
    "over": (snn.Input, {"out": "x", "source": "x", "shape": (3,), "encoder": "spread", "over": 0}),
    "stream": (snn.Input, {"out": "x", "source": "x", "shape": (3,), "encoder": "rate", "stream": True}),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_parameters_are_refused(what: str) -> None:
    cls, fields = WRONG[what]
    with pytest.raises(VerifyError, match=what):
        cls(**fields).verify()


def test_pools_with_wrong_windows_are_refused() -> None:
    value = Value("e", Type("graded", (3, 6, 5)))
    fields: dict[str, Any] = {"kernel": (2, 2), "stride": (1, 1), "pad": (0, 0, 0, 0), "dilation": (1, 1)}
    for wrong in (
        {"kernel": (2,)},
        {"stride": (0, 1)},
        {"pad": (0, 0)},
        {"kernel": (7, 1)},
        {"dilation": (1, 0)},
    ):
        with pytest.raises(VerifyError):
            exact.MaxPool(out="q", events=value, **{**fields, **wrong}).infer()
    with pytest.raises(VerifyError):
        exact.MaxPool(out="q", events=Value("c", Type("current", (3, 6, 5))), **fields).verify()


def test_networks_by_hand_are_well_formed() -> None:
    assert not verify(chain(3, 4, 5))
