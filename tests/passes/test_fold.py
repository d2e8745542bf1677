"""Folding keeps what the network computes (the interpreter is the law) and leaves nothing to fold behind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann
from nmc.ir.verify import verify
from nmc.passes.convert.fold_affine import FoldAffine
from nmc.passes.convert.fold_batchnorm import FoldBatchNorm
from nmc.passes.explain import ExplainLog, recording
from nmc.passes.manager import ManagerOptions, run_pipeline

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Net:
    """A random chain of layers, normalisations and scales."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))
        space = draw(st.sampled_from([(), (4,), (4, 3)]))
        self.ops: list[Op] = [ann.Input(out="v", shape=(draw(st.sampled_from([2, 4])), *space))]
        for kind in draw(
            st.lists(st.sampled_from(["layer", "norm", "affine", "relu"]), min_size=1, max_size=6)
        ):
            self.ops.append(getattr(self, kind)(self.ops[-1].result))
        self.ops.append(ann.Output(data=self.ops[-1].result))

    def const(self, *shape: int) -> Const:
        number = len(self.ops)
        values = self.rng.normal(size=shape)
        return Const(f"c{number}.{self.rng.integers(1 << 40)}", values.astype(np.float32))

    def layer(self, data: Value) -> Op:
        out, channels = f"v{len(self.ops)}", data.shape[0]
        rank = len(data.shape) - 1
        bias = self.const(4) if self.draw(st.booleans()) else None
        if not rank:
            return ann.Dense(out=out, data=data, weight=self.const(4, channels), bias=bias)
        groups = self.draw(st.sampled_from([1, 2]))
        weight = self.const(4, channels // groups, *[self.draw(st.integers(1, 2))] * rank)
        pad = tuple(self.draw(st.integers(0, 1)) for _ in range(2 * rank))
        ones = (1,) * rank
        pad = pad if min(data.shape[1:]) > 1 else (1,) * (2 * rank)
        return ann.Conv(
            out=out, data=data, weight=weight, bias=bias, stride=ones, pad=pad, dilation=ones, groups=groups
        )

    def norm(self, data: Value) -> Op:
        channels = data.shape[0]
        parts = [self.const(channels) for _ in range(3)]
        var = Const(f"var{len(self.ops)}", np.abs(parts[0].array()) + np.float32(0.5))
        return ann.BatchNorm(
            out=f"v{len(self.ops)}", data=data, scale=parts[0], bias=parts[1], mean=parts[2], var=var
        )

    def affine(self, data: Value) -> Op:
        shapes = [(), (data.shape[0], *[1] * (len(data.shape) - 1)), data.shape]
        scale, offset = (self.const(*self.draw(st.sampled_from(shapes))) for _ in range(2))
        return ann.Affine(out=f"v{len(self.ops)}", data=data, scale=scale, offset=offset)

    def relu(self, data: Value) -> Op:
        return ann.Relu(out=f"v{len(self.ops)}", data=data)


@st.composite
def nets(draw: Draw) -> Module:
    return Module("net", "ann", tuple(Net(draw).ops))


@given(nets())
def test_folding_keeps_the_results(module: Module) -> None:
    assert verify(module) == ()
    data = {"v": np.random.default_rng(0).normal(size=(3, *module.ops[0].result.shape))}
    before = run_ann(module, data, dtype=np.float64)
    folded = run_pipeline(module, [FoldBatchNorm(), FoldAffine()], ManagerOptions(check_each=data)).module
    after = run_ann(folded, data, dtype=np.float64)
    for name, wanted in before.items():
        np.testing.assert_allclose(after[name], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(initial=1))
    assert folded.of_type(ann.BatchNorm) == ()


@given(nets())
def test_nothing_is_left_to_fold(module: Module) -> None:
    once = FoldAffine().run(FoldBatchNorm().run(module))
    assert FoldAffine().run(once) is once
    for affine in once.of_type(ann.Affine):
        assert not isinstance(once.producers[affine.data.name], ann.Affine)


def test_precision_is_that_of_float64_rounded_once() -> None:
    rng = np.random.default_rng(7)
    weight, *parts = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 5), 6, 6, 6))
    var = rng.uniform(1e-6, 3, 6).astype(np.float32)
    scale, bias, mean = (Const(f"c{number}", part) for number, part in enumerate(parts))
    x = ann.Input(out="x", shape=(5,))
    dense = ann.Dense(out="d", data=x.result, weight=Const("w", weight))
    norm = ann.BatchNorm(out="n", data=dense.result, scale=scale, bias=bias, mean=mean, var=Const("var", var))
    module = Module("m", "ann", (x, dense, norm, ann.Output(data=norm.result)))
    (folded,) = FoldBatchNorm().run(module).of_type(ann.Dense)
    factor = parts[0].astype(np.float64) / np.sqrt(var.astype(np.float64) + 1e-5)
    np.testing.assert_array_equal(folded.weight.array(), (weight * factor[:, None]).astype(np.float32))


def test_missing_data_are_a_reason_not_a_crash(ann_module: Module) -> None:
    conv = ann_module.of_type(ann.Conv)[0]
    absent = Const("w", None, (conv.weight.type, "0" * 16))
    module = ann_module.map_ops(lambda op: replace(op, weight=absent) if isinstance(op, ann.Conv) else op)
    with recording(ExplainLog("fold-batchnorm")) as log:
        result = FoldBatchNorm().run(module)
    assert log.explanations[0].reason == "the data of constant @w are missing"
    assert result.of_type(ann.Affine) and verify(result) == ()


@pytest.mark.parametrize("factor", [1e38, -1e38])
def test_weights_that_would_overflow_are_left_alone(ann_module: Module, factor: float) -> None:
    scale = Const("scale", np.array([factor, 1.0], np.float32))
    module = ann_module.map_ops(lambda op: replace(op, scale=scale) if isinstance(op, ann.BatchNorm) else op)
    wide = Const("w", np.full((2, 1, 2), 1e5, np.float32))
    module = module.map_ops(lambda op: replace(op, weight=wide) if isinstance(op, ann.Conv) else op)
    assert len(FoldBatchNorm().run(module).of_type(ann.Affine)) == 1
