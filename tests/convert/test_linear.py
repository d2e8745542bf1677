"""What `realise` makes of a chain of linear ops computes what the chain computes, on spikes times their scale."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.op import Op, Value, VerifyError
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import Take
from nmc.ir.types import Type
from nmc.passes.convert import linear
from nmc.passes.convert.ann_to_snn import _build
from nmc.passes.convert.linear import ConvMap, DenseMap, LinearMap, ScaleMap, Source, Term

Draw = Callable[[st.SearchStrategy[Any]], Any]
Ints = tuple[int, ...]


class Chain:
    """Builds a chain of ops behind a population of spikes."""

    def __init__(self, *shape: int, scale: str = "channel", seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        spikes = Value("s", Type("spikes", shape))
        scales = {"one": (1,) * len(shape), "channel": (shape[0], *[1] * (len(shape) - 1)), "each": shape}
        self.source = Source(spikes, self.rng.uniform(0.5, 2.0, scales[scale]))
        self.ops: list[Op] = []

    @property
    def data(self) -> Value:
        return self.ops[-1].result if self.ops else Value("s", Type("f32", self.source.spikes.shape))

    def const(self, *shape: int) -> Const:
        return Const(f"c{self.rng.integers(1 << 60)}", self.rng.normal(size=shape).astype(np.float32))

    def add(self, kind: type[Op], **fields: Any) -> "Chain":
        self.ops.append(kind(out=f"v{len(self.ops)}", **{"data": self.data, **fields}))
        return self

    def conv(self, channels: int, kernel: Ints, **given: Any) -> "Chain":
        rank, groups = len(kernel), given.get("groups", 1)
        fields = {"stride": (1,) * rank, "pad": (0,) * (2 * rank), "dilation": (1,) * rank, **given}
        weight = self.const(channels, self.data.shape[0] // groups, *kernel)
        return self.add(ann.Conv, weight=weight, bias=self.const(channels), **fields)

    def pool(self, kernel: Ints, stride: Ints = (), **given: Any) -> "Chain":
        rank = len(kernel)
        fields = {"pad": (0,) * (2 * rank), "dilation": (1,) * rank, **given}
        return self.add(ann.AvgPool, kernel=kernel, stride=stride or kernel, **fields)

    def pad(self, *border: int) -> "Chain":
        return self.add(ann.Pad, pad=border, value=0.25)

    def dense(self, outputs: int) -> "Chain":
        return self.add(ann.Dense, weight=self.const(outputs, self.data.shape[0]), bias=self.const(outputs))

    def flatten(self) -> "Chain":
        return self.add(ann.Reshape, shape=(self.data.type.size,))

    def norm(self) -> "Chain":
        one = self.data.shape[:1]
        var = Const("var", self.rng.uniform(0.5, 2, one).astype(np.float32))
        scale, bias, mean = (self.const(*one) for _ in range(3))
        return self.add(ann.BatchNorm, scale=scale, bias=bias, mean=mean, var=var)

    def affine(self, *shape: int) -> "Chain":
        return self.add(ann.Affine, scale=self.const(*shape), offset=self.const(*shape))

    def term(self) -> Term:
        data, chain = Value("s", self.source.spikes.type), []
        for op in self.ops:
            chain.append(linear.without_bias(op, data))
            data = chain[-1].result
        return Term(self.source, tuple(chain))

    def check(self, kind: type[LinearMap] | None = None) -> None:
        """Compare what `realise` gives with the ops themselves, less what they give for silence."""
        term = self.term()
        assert linear.realisable(term)
        found = linear.realise(term)
        assert found is not None and isinstance(found, kind or LinearMap), found
        spikes = self.rng.integers(0, 2, (3, *self.source.spikes.shape)).astype(np.uint8)
        data, silent = spikes * self.source.scale, np.zeros((1, *spikes.shape[1:]))
        for op in self.ops:
            data, silent = op.run(data), op.run(silent)
        made = _build("p", found, self.source.spikes, np.ones((1,) * len(term.shape)), None)
        assert made.result.shape == term.shape
        np.testing.assert_allclose(made.run(spikes), data - silent, rtol=1e-9, atol=1e-9)


def small_ints(draw: Draw, rank: int, low: int, high: int) -> Ints:
    return tuple(draw(st.integers(low, high)) for _ in range(rank))


@st.composite
def spaces(draw: Draw) -> tuple[Chain, int]:
    rank = draw(st.integers(1, 2))
    scale = draw(st.sampled_from(["one", "channel", "each"]))
    chain = Chain(
        draw(st.sampled_from([2, 4])),
        *small_ints(draw, rank, 3, 7),
        scale=scale,
        seed=draw(st.integers(0, 99)),
    )
    return chain, rank


def any_conv(draw: Draw, chain: Chain, rank: int) -> None:
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if chain.data.shape[0] % g == 0]))
    chain.conv(
        4, small_ints(draw, rank, 1, 3), groups=groups, stride=small_ints(draw, rank, 1, 2),
        pad=small_ints(draw, 2 * rank, -1, 2), dilation=small_ints(draw, rank, 1, 2),
    )  # fmt: skip


def any_pool(draw: Draw, chain: Chain, rank: int) -> None:
    kernel = small_ints(draw, rank, 1, 3)
    stride = kernel if draw(st.booleans()) else small_ints(draw, rank, 1, 3)
    pad = small_ints(draw, 2 * rank, 0, 1) if draw(st.booleans()) else (0,) * (2 * rank)
    dilation = small_ints(draw, rank, 1, 2)
    chain.pool(kernel, stride, pad=pad, dilation=dilation, count_pad=draw(st.booleans()))


def any_pad(draw: Draw, chain: Chain, rank: int) -> None:
    chain.pad(*small_ints(draw, 2 + 2 * rank, -1, 2))


def any_norm(draw: Draw, chain: Chain, rank: int) -> None:
    chain.norm()


def any_affine(draw: Draw, chain: Chain, rank: int) -> None:
    shape = chain.data.shape
    chain.affine(*draw(st.sampled_from([(), shape[-1:], shape, (shape[0], *[1] * rank)])))


STEPS = st.sampled_from([any_conv, any_conv, any_pool, any_pool, any_pad, any_norm, any_affine])


def grow(draw: Draw, step: Callable[[Draw, Chain, int], None], chain: Chain, rank: int) -> None:
    """Add an op; examples whose windows do not fit are of no use."""
    try:
        step(draw, chain, rank)
        assume(min(chain.data.shape) > 0)
    except VerifyError:
        assume(False)


@given(st.data())
def test_a_projection_computes_its_chain(data: st.DataObject) -> None:
    draw: Draw = data.draw
    chain, rank = draw(spaces())
    for step in draw(st.lists(STEPS, min_size=1, max_size=3)):
        grow(draw, step, chain, rank)
    if draw(st.booleans()):
        chain.flatten().dense(3)
    chain.check()


@given(st.data())
def test_pooling_before_a_convolution(data: st.DataObject) -> None:
    draw: Draw = data.draw
    chain, rank = draw(spaces())
    kernel = small_ints(draw, rank, 1, 3)
    grow(draw, lambda *_: chain.pool(kernel) and None, chain, rank)
    grow(draw, any_conv, chain, rank)
    chain.check()


@given(st.data())
def test_padding_before_a_convolution(data: st.DataObject) -> None:
    draw: Draw = data.draw
    chain, rank = draw(spaces())
    for _ in range(draw(st.integers(1, 2))):
        grow(draw, any_pad, chain, rank)
    grow(draw, any_conv, chain, rank)
    chain.check()


CHAINS: dict[str, tuple[Chain, type[LinearMap]]] = {
    "nothing": (Chain(2, 3), ScaleMap),
    "conv": (Chain(2, 5, 5).conv(4, (3, 3), pad=(1, 1, 1, 1), stride=(2, 2)), ConvMap),
    "conv 1d": (Chain(2, 9).conv(4, (3,), pad=(2, 0), stride=(2,)), ConvMap),
    "depthwise": (Chain(4, 5, 5).conv(8, (3, 3), groups=4), ConvMap),
    "dilated": (Chain(2, 7, 6).conv(3, (3, 2), dilation=(2, 3), pad=(2, 1, 2, 0)), ConvMap),
    "pool": (Chain(3, 4, 6).pool((2, 3)), ConvMap),
    "pool, overlapping": (Chain(3, 5, 5).pool((3, 3), (1, 1)), ConvMap),
    "pool, dilated": (Chain(3, 5, 5).pool((2, 2), (1, 1), dilation=(2, 2)), ConvMap),
    "pool, border counts": (Chain(3, 5, 5).pool((3, 3), (2, 2), pad=(1, 1, 1, 1), count_pad=True), ConvMap),
    "pool, border does not count": (Chain(3, 5, 5).pool((3, 3), (2, 2), pad=(1, 1, 1, 1)), DenseMap),
    "pool, conv": (Chain(2, 6, 6).pool((2, 2)).conv(3, (2, 2)), ConvMap),
    "pool, padded conv": (Chain(2, 6, 6).pool((2, 2)).conv(3, (3, 3), pad=(1, 1, 1, 1)), ConvMap),
    "pool with remainder, conv": (Chain(2, 7, 7).pool((2, 2)).conv(3, (2, 2)), ConvMap),
    "pool with remainder, padded conv": (Chain(2, 7, 7).pool((2, 2)).conv(3, (2, 2), pad=(1,) * 4), DenseMap),
    "pool, grouped conv": (Chain(4, 6, 6).pool((3, 3)).conv(4, (2, 2), groups=2), ConvMap),
    "pool, norm, conv": (Chain(2, 6, 6).pool((2, 2)).norm().conv(3, (2, 2)), ConvMap),
    "overlapping pool, conv": (Chain(2, 6, 6).pool((2, 2), (1, 1)).conv(3, (2, 2)), ConvMap),
    "pad, conv": (Chain(2, 4, 4).pad(0, 1, 2, 0, 0, 1).conv(3, (3, 3), pad=(0, 0, 1, 0)), ConvMap),
    "crop, padded conv": (Chain(2, 5).pad(0, -1, 0, 0).conv(3, (2,), pad=(1, 0)), DenseMap),
    "concat, conv": (Chain(2, 4, 4).pad(1, 0, 0, 3, 0, 0).conv(3, (3, 3)), ConvMap),
    "concat, grouped conv": (Chain(2, 4, 4).pad(1, 0, 0, 3, 0, 0).conv(6, (3, 3), groups=3), ConvMap),
    "concat twice, conv": (Chain(2, 4).pad(1, 0, 0, 0).pad(0, 0, 4, 0).conv(3, (3,)), ConvMap),
    "concat": (Chain(2, 4, 4).pad(1, 0, 0, 3, 0, 0), ConvMap),
    "border only": (Chain(2, 4).pad(0, 1, 0, 2), ConvMap),
    "concat, pool": (Chain(2, 4, 4).pad(1, 0, 0, 3, 0, 0).pool((2, 2), (1, 1)), ConvMap),
    "concat, pool, conv": (Chain(2, 4, 4).pad(1, 0, 0, 3, 0, 0).pool((2, 2)).conv(4, (2, 2), groups=2), ConvMap),
    "border, pool": (Chain(2, 4, 4).pad(0, 1, 1, 0, 1, 1).pool((3, 3)), ConvMap),
    "one by one, conv": (Chain(2, 5, 5).conv(4, (1, 1), groups=2).conv(2, (3, 3), pad=(1,) * 4), ConvMap),
    "concat, norm": (Chain(2, 4, 4).pad(1, 0, 0, 3, 0, 0).norm(), ConvMap),
    "concat of vectors": (Chain(3).pad(2, 1), DenseMap),
    "concat, dense": (Chain(3).pad(2, 1).dense(4), DenseMap),
    "flatten, concat, dense": (Chain(2, 3).flatten().pad(2, 1).dense(4), DenseMap),
    "flatten, dense": (Chain(2, 3, 4).flatten().dense(5), DenseMap),
    "transpose, flatten, dense": (
        Chain(2, 3, 4).add(ann.Transpose, perm=(1, 2, 0)).flatten().dense(5), DenseMap,
    ),
    "pool of all, flatten, dense": (Chain(4, 3, 3).pool((3, 3)).flatten().dense(5), DenseMap),
    "conv, flatten, dense": (Chain(2, 3, 3).conv(3, (2, 2)).flatten().dense(5), DenseMap),
    "norm": (Chain(3, 4).norm(), ScaleMap),
    "norm of a vector": (Chain(3).norm(), ScaleMap),
    "affine along the last axis": (Chain(3, 3).affine(3), ScaleMap),
    "conv, norm": (Chain(2, 5).conv(3, (3,)).norm(), ConvMap),
    "conv, affine along an axis as long as the channels": (Chain(2, 5).conv(3, (3,)).affine(3), DenseMap),
    "conv, affine of each channel": (Chain(2, 5).conv(3, (3,)).affine(3, 1), ConvMap),
    "conv, conv": (Chain(2, 5, 5).conv(3, (3, 3)).conv(2, (2, 2)), ConvMap),
    "conv, padded conv": (Chain(2, 5, 5).conv(3, (3, 3)).conv(2, (2, 2), pad=(1,) * 4), DenseMap),
    "grouped conv, grouped conv": (
        Chain(4, 5).conv(6, (2,), groups=2, stride=(2,)).conv(6, (2,), groups=3), ConvMap,
    ),
    "padded conv, pool": (Chain(2, 6, 6).conv(4, (3, 3), pad=(1,) * 4).pool((2, 2)), ConvMap),
    "grouped conv, pool": (Chain(4, 6, 6).conv(4, (1, 1), groups=2).pool((3, 3), (1, 1)), ConvMap),
    "shuffle, padded conv, conv": (
        Chain(4, 5, 5).add(ann.Reshape, shape=(2, 2, 5, 5)).add(ann.Transpose, perm=(1, 0, 2, 3))
        .add(ann.Reshape, shape=(4, 5, 5)).conv(4, (3, 3), groups=4, pad=(1,) * 4).norm().conv(6, (1, 1), groups=2),
        ConvMap,
    ),
    "transpose, conv": (Chain(4, 5, 5).add(ann.Transpose, perm=(0, 2, 1)).conv(2, (2, 2)), DenseMap),
    "dense, dense": (Chain(4).dense(3).dense(2), DenseMap),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_chain_becomes_the_expected_projection(case: str) -> None:
    chain, kind = CHAINS[case]
    chain.check(kind)


def test_chain_without_structure_is_refused_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_MATRIX", 10)
    monkeypatch.setattr(linear, "MAX_KERNEL", 10)
    term = Chain(2, 5, 5).conv(3, (3, 3)).conv(2, (2, 2)).term()
    assert not linear.realisable(term)
    assert linear.realise(term) is None


@pytest.mark.parametrize(
    "case", ["flatten, concat, dense", "transpose, flatten, dense", "concat", "pool, conv"]
)
def test_what_needs_no_matrix_has_no_bound(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_MATRIX", 1)
    CHAINS[case][0].check()


def test_negative_scale_is_carried() -> None:
    chain = Chain(2, 4).conv(3, (2,))
    chain.source = replace(chain.source, scale=-chain.source.scale)
    chain.check(ConvMap)


def test_elements_taken_several_times_add_up_in_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Value("s", Type("spikes", (2, 3)))
    data = np.random.default_rng(2).normal(size=(4, 2, 3))
    index = Const("i", np.array([0, 0, 2, 1, 1]))
    taken = Take(out="t", data=source, index=index, axis=1)
    flat = ann.Reshape(out="f", data=taken.result, shape=(10,))
    weight = np.random.default_rng(3).normal(size=(3, 10))
    last = ann.Dense(out="d", data=flat.result, weight=Const("w", weight))
    monkeypatch.setattr(linear, "MAX_MATRIX", 0)
    found = linear.realise(Term(Source(source, np.ones((1, 1))), (taken, flat, last)))
    assert isinstance(found, DenseMap)
    np.testing.assert_allclose(data.reshape(4, 6) @ found.weight.T, last.run(flat.run(taken.run(data))))


def test_channels_that_are_dropped_and_shuffled_stay_a_convolution() -> None:
    chain = Chain(4, 3, 3)
    ops = [
        ann.Pad(out="half", data=chain.data, pad=(-2, 0, 0, 0, 0, 0)),
        ann.Pad(out="among", data=Value("half", Type("f32", (2, 3, 3))), pad=(2, 0, 0, 0, 0, 0)),
        ann.Reshape(out="apart", data=Value("among", Type("f32", (4, 3, 3))), shape=(2, 2, 3, 3)),
        ann.Transpose(out="mixed", data=Value("apart", Type("f32", (2, 2, 3, 3))), perm=(1, 0, 2, 3)),
        ann.Reshape(out="whole", data=Value("mixed", Type("f32", (2, 2, 3, 3))), shape=(4, 3, 3)),
    ]
    found = linear.realise(Term(chain.source, tuple(ops)))
    assert isinstance(found, ConvMap)
    scale = np.broadcast_to(chain.source.scale.reshape(-1), (4,))
    wanted = np.zeros((4, 4))
    wanted[1, 2], wanted[3, 3] = scale[2], scale[3]  # behind the two of nothing: 0, 2, 1, 3
    np.testing.assert_allclose(found.weight.reshape(4, 4), wanted)
