"""Concatenations move behind what acts on each channel, and nothing is computed differently."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.ops import ann
from nmc.ir.ops.ann_pointwise import Activation, LeakyRelu
from nmc.ir.verify import verify
from nmc.passes.convert.split_concat import SplitConcat
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.search import prepared
from nmc.passes.quantize.trials import integer_logits, trained_logits
from trained_nets import Trained


def channelwise(net: Trained, kind: str, value: Any) -> Any:
    shape = (value.shape[0], *[1] * (len(value.shape) - 1))
    if kind == "affine":
        return net.add(ann.Affine, value, scale=net.const("s", *shape), offset=net.const("o", *shape[1:]))
    if kind == "norm":
        one = shape[:1]
        var = Const(f"var{len(net.ops)}", net.rng.uniform(0.5, 2, one).astype(np.float32))
        return net.add(
            ann.BatchNorm, value, scale=net.const("s", *one), bias=net.const("b", *one),
            mean=net.const("m", *one), var=var,
        )  # fmt: skip
    if kind == "leaky":
        return net.add(LeakyRelu, value, slope=net.const("slope", *shape))
    if kind == "sigmoid":
        return net.add(Activation, value, fn="sigmoid")
    pools = {"max": ann.MaxPool, "average": ann.AvgPool, "sum": ann.SumPool}
    return net.pool(pools[kind], value, 3, 1, 1) if kind in pools else net.relu(value)


KINDS = ("affine", "norm", "leaky", "sigmoid", "max", "average", "sum", "relu")


@settings(max_examples=40)
@given(st.integers(0, 999), st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), st.sampled_from([1, 2]))
def test_the_network_computes_the_same(seed: int, kinds: list[str], rank: int) -> None:
    net = Trained(seed, *((2, 5, 4) if rank == 2 else (2, 6)))
    inner = net.add(ann.Concat, net.x, net.conv(net.x, 3))
    value = joined = net.add(ann.Concat, inner, net.conv(net.x, 1))
    for kind in kinds:
        value = channelwise(net, kind, value)
    module = net.module(net.dense(net.add(ann.Concat, value, joined), 3))
    made = SplitConcat().run(module)
    assert not verify(made)
    data = {"v0": net.samples(4, -1.0)}
    (before,), (after,) = run_ann(module, data).values(), run_ann(made, data).values()
    np.testing.assert_allclose(after, before, atol=1e-4)
    joins = {op.out for op in made.of_type(ann.Concat)}
    acting = (
        ann.Relu,
        ann.Affine,
        ann.BatchNorm,
        ann.MaxPool,
        ann.AvgPool,
        ann.SumPool,
        LeakyRelu,
        Activation,
    )
    assert not any(op.operands[0].name in joins for kind in acting for op in made.of_type(kind))


@pytest.mark.parametrize("rank", [1, 2])
def test_a_dense_block_converts_and_comes_near_to_the_trained_network(rank: int) -> None:
    """DenseNet: each layer reads a normalised concatenation of all before it; a pool stands behind a bare layer."""
    net = Trained(4, *((2, 8, 8) if rank == 2 else (2, 16)))
    value: Any = net.relu(net.conv(net.x, 4))
    for _ in range(3):
        own = net.conv(net.relu(channelwise(net, "norm", value)), 3)
        value = net.add(ann.Concat, value, own)
    pooled = net.pool(ann.AvgPool, net.conv(net.relu(channelwise(net, "norm", value)), 4, kernel=1))
    module: Module = net.module(net.dense(net.relu(channelwise(net, "norm", pooled)), 5))
    samples = net.samples(32)
    ready = Calibrate(samples=samples, levels=64, method="max").run(prepared(module))
    made = Quantize(samples=samples, levels=64).run(ready)
    real, whole = trained_logits(module, {"v0": samples}), integer_logits(made, {"v0": samples})
    assert np.abs(whole - real).max() < 0.1 * np.abs(real).max()
