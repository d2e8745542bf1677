"""The ops of the target: exact neurons are those of the integer networks, synapses those of the spiking level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Span, Value, VerifyError
from nmc.ir.ops import exact, snn
from nmc.ir.text.parser import parse
from nmc.ir.types import Type
from nmc.ir.verify import verify_or_raise
from nmc.targets.spinnaker2 import ops as s2

Array = NDArray[Any]
SHAPE = (3, 4)
CURRENT = Value("i", Type("current", SHAPE))


def const(name: str, values: Any) -> Const:
    return Const(name, np.asarray(values))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["graded", "stbif", "phased", "bit_serial", "readout"])
def test_exact_neurons_are_those_of_the_integer_network(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta = const("theta", 2 * rng.integers(3, 40, (3, 1)) + 1)
    offset = const("offset", theta.array() // 2 + rng.integers(-30, 30, SHAPE))
    start = int(rng.integers(0, 4))
    opened, bits, levels = int(rng.integers(0, 6)), int(rng.integers(1, 5)), int(rng.integers(1, 9))
    pairs: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "graded": (exact.Graded, s2.Graded, {"levels": levels}),
        "stbif": (exact.StBif, s2.StBif, {"levels": levels, "spread": int(rng.choice([0, 1, 5]))}),
        "phased": (exact.Phased, s2.Phased, {"levels": levels, "open": opened}),
        "bit_serial": (exact.BitSerial, s2.BitSerial,
                       {"levels": min(levels, (1 << bits) - 1), "open": opened, "bits": bits}),
        "readout": (exact.Readout, s2.Readout, {"doubling_until": int(rng.choice([0, 6]))}),
    }  # fmt: skip
    theirs, ours, more = pairs[name]
    given: dict[str, Any] = {"current": (CURRENT,), "offset": offset, "start": start, **more}
    given |= {} if name == "readout" else {"theta": theta}
    a, b = theirs(**given), ours(**given)
    assert a.infer() == b.infer() and a.rests == b.rests and a.active_until == b.active_until
    states = a.begin(4), b.begin(4)
    for t in range(18):
        x = rng.integers(-40, 60, (4, *SHAPE)) * (t < 12)
        assert np.array_equal(a.step(states[0], t, x), b.step(states[1], t, x.astype(np.int32))), t
        assert np.array_equal(a.eligible(states[0], t), b.eligible(states[1], t)), t


def synapses() -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(1)
    x = Value("x", Type("graded", (4, 5, 6)))
    w = const("w", rng.integers(-127, 128, (6, 2, 3, 2)))
    shape: dict[str, Any] = {"stride": (2, 1), "pad": (1, 0, 1, 1), "dilation": (1, 2), "groups": 2}
    dense, one = const("d", rng.integers(-127, 128, (7, 120))), const("o", rng.integers(-9, 9, (4, 1, 1)))
    lists: dict[str, Any] = {
        "weight": const("s", rng.integers(-15, 16, 50)), "source": const("a", rng.integers(0, 120, 50)),
        "target": const("b", rng.integers(0, 30, 50)), "shape": (5, 6),
    }  # fmt: skip
    return [
        (s2.Conv(spikes=x, weight=w, format="conv", **shape), snn.Conv(spikes=x, weight=w, **shape)),
        (s2.Dense(spikes=x, weight=dense), snn.Dense(out="y", spikes=x, weight=dense)),
        (s2.Diagonal(spikes=x, weight=one, format="sparse16"), snn.OneToOne(spikes=x, weight=one)),
        (s2.Sparse(spikes=x, format="sparse16", **lists), _sparse(x, lists)),
    ]


def _sparse(x: Value, lists: dict[str, Any]) -> Any:
    from nmc.ir.optable import find_op

    return find_op("snn.sparse")(spikes=x, **lists)  # type: ignore[call-arg]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("size", [1, 100_000])
def test_synapses_sum_as_those_of_the_spiking_level(number: int, size: int) -> None:
    ours, theirs = synapses()[number]
    x = np.random.default_rng(2).integers(-size, size + 1, (3, 4, 5, 6)).astype(np.int32)
    assert ours.infer() == theirs.infer()
    want = theirs.run(x)
    assert np.array_equal(ours.run(x), np.rint(want).astype(np.int64).astype(np.int32))


def test_sums_wrap_and_gain_multiplies() -> None:
    x = Value("x", Type("spikes", (2,)))
    op = s2.Dense(spikes=x, weight=const("w", [[127, 127]]), gain=1 << 24)
    assert op.run(np.ones((1, 2), np.uint8)).tolist() == [[(254 << 24) - (1 << 32)]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"delay": 0}, "outside 1..8"),
        ({"delay": 9}, "outside 1..8"),
        ({"format": "sparse16"}, "leave -15..15"),
        ({"weight": const("w", [[0.5, 1.0]])}, "not integers"),
    ],
)
def test_synapses_must_fit_their_format(change: dict[str, Any], text: str) -> None:
    x = Value("x", Type("spikes", (2,)))
    with pytest.raises(VerifyError, match=text):
        s2.Dense(**{"spikes": x, "weight": const("w", [[100, 1]]), **change}).verify()


def test_module_of_these_ops_is_well_formed_and_reads_back_from_text() -> None:
    source = snn.Input(out="x", source="x", shape=(4, 5, 6), encoder="raster")
    w = const("w", np.ones((7, 120), np.int8))
    dense = s2.Dense(out="h.x", spikes=source.result, weight=w, delay=3)
    theta, offset = const("t", np.array([5])), const("o", np.array([2]))
    neuron = s2.StBif(out="h", current=(dense.result,), theta=theta, offset=offset, levels=8)
    output = snn.Output(data=neuron.result, decoder="count")
    module = Module("m", "snn", (source, dense, neuron, output))
    verify_or_raise(module)
    text = str(module)
    assert "spinnaker2.stbif(%h.x" in text
    assert str(parse(text)) == text


def test_part_of_a_population_is_its_box() -> None:
    rng = np.random.default_rng(4)
    scale, threshold = (
        const("s", rng.random(SHAPE).astype(np.float32)),
        const("t", rng.random((3, 1)).astype(np.float32)),
    )
    whole = s2.Lif(
        current=(CURRENT,),
        second=(CURRENT,),
        scale=scale,
        threshold=threshold,
        alpha2=const("a", np.array([0.5], np.float32)),
    )
    box = (Span(1, 3), Span(0, 2))
    part = whole.part(box)
    states = whole.begin(2), part.begin(2)
    for t in range(10):
        x = rng.integers(-3, 5, (2, *SHAPE)).astype(np.int32)
        cut = x[:, 1:3, 0:2]
        assert np.array_equal(whole.step(states[0], t, x, x)[:, 1:3, 0:2], part.step(states[1], t, cut, cut))


def test_only_leaky_neurons_have_two_synapse_types() -> None:
    with pytest.raises(VerifyError, match="one synapse type"):
        s2.If(current=(CURRENT,), second=(CURRENT,)).verify()
    s2.LifFixed(current=(CURRENT,), second=(CURRENT,)).verify()


@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (1, 1, 1, 0)])
def test_maximum_of_counts_is_that_of_the_integer_network(pad: Any) -> None:
    events = Value("e", Type("graded", (2, 7, 6)))
    window: dict[str, Any] = {"kernel": (3, 2), "stride": (2, 2), "dilation": (1, 1)}
    theirs = exact.MaxPool(out="p", events=events, pad=pad, **window)
    extents = theirs.result.shape[1:]
    places = []
    for ky in range(3):
        for kx in range(2):  # a convolution with a single 1 that reads place (ky, kx) of each window
            before = (pad[0] - ky, pad[1] - kx)
            after = tuple(
                (n - 1) * 2 + 1 - size - b for n, size, b in zip(extents, (7, 6), before, strict=True)
            )
            ones = const("one", np.ones((2, 1, 1, 1), np.int8))
            places.append(s2.Conv(out=f"p.{ky}{kx}", spikes=events, weight=ones, format="conv", stride=(2, 2), groups=2,
                                  pad=(*before, *after), dilation=(1, 1)))  # fmt: skip
    ours = s2.MaxPool(out="p", current=tuple(place.result for place in places))
    ours.verify()
    rng, counts = np.random.default_rng(6), np.zeros((2, 2, 7, 6), np.int64)
    states = theirs.begin(2), ours.begin(2)
    for t in range(12):
        change = np.where(rng.random(counts.shape) < 0.3, rng.integers(-2, 4, counts.shape), 0)
        change = np.maximum(counts + change, 0) - counts
        counts += change
        want = theirs.step(states[0], t, change)
        assert np.array_equal(ours.step(states[1], t, *(place.run(change) for place in places)), want), t
