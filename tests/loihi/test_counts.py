"""Counting axons and words by structure agrees with making the lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.op import Span, Value
from nmc.ir.types import Type
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.axons import axon_lists
from nmc.targets.loihi.counts import axon_counts


def _box(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Span, ...]:
    bounds = [sorted(draw(st.lists(st.integers(0, e), min_size=2, max_size=2, unique=True))) for e in shape]
    return tuple(Span(low, high) for low, high in bounds)


@st.composite
def _projections(draw: st.DrawFn) -> tuple[loihi.SynapseOp, tuple[Span, ...]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["conv", "dense", "one_to_one", "line"]))

    def mantissas(*shape: int) -> Const:
        return Const("w", (rng.integers(1, 128, shape) * rng.choice([-2, 2], shape)).astype(np.int16))

    if kind == "dense":
        source, target = draw(st.integers(1, 40)), draw(st.integers(2, 200))
        spikes = Value("s", Type("spikes", (source,)))
        op: loihi.SynapseOp = loihi.Dense(out="p", spikes=spikes, weight=mantissas(target, source))
    elif kind == "one_to_one":
        shape = (draw(st.integers(1, 5)), draw(st.integers(1, 6)))
        op = loihi.Diagonal(out="p", spikes=Value("s", Type("spikes", shape)), weight=mantissas(*shape))
    else:
        half = 1 if kind == "line" else 2
        groups = draw(st.sampled_from([1, 1, 2]))
        channels = groups * draw(st.integers(1, 3))
        space = tuple(draw(st.integers(4, 11)) for _ in range(half))
        kernel = tuple(draw(st.integers(1, 3)) for _ in range(half))
        op = loihi.Conv(
            out="p",
            spikes=Value("s", Type("spikes", (channels, *space))),
            weight=mantissas(groups * draw(st.integers(1, 9)), channels // groups, *kernel),
            stride=tuple(draw(st.integers(1, 3)) for _ in range(half)),
            pad=tuple(draw(st.integers(0, 2)) for _ in range(2 * half)),
            dilation=(1,) * half,
            groups=groups,
        )
    return op, _box(draw, op.result.shape)


@settings(max_examples=150)
@given(_projections(), st.sampled_from([1, 2, 3]), st.integers(0, 250), st.booleans())
def test_counts_equal_the_lists_when_no_weight_is_zero(
    case: tuple[loihi.SynapseOp, tuple[Span, ...]], per_neuron: int, neurons: int, injected: bool
) -> None:
    op, box = case
    base = neurons * per_neuron
    lists = axon_lists(op, box, per_neuron, base, injected)
    counted = axon_counts(op, box, per_neuron, base, injected)
    assert counted.axons == len(lists.source)
    if isinstance(op, loihi.Diagonal):  # equal weights of different neurons share a list
        assert counted.words >= int(lists.words.sum())
    else:
        assert counted.words == int(lists.words.sum())
        assert counted.longest == int(lists.words.max(initial=0))
