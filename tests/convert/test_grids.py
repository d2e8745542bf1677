"""Maxima of anything and roundings of quantised files become integer networks that compute nearly the same."""

from typing import Any

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.op import Array, Value
from nmc.ir.ops import ann, exact, snn
from nmc.ir.ops.ann_pointwise import LeakyRelu
from nmc.passes.convert.grids import Grids
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.integer import run_integer
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.search import prepared
from trained_nets import Trained


def integers(module: Module, samples: Array, levels: int = 32) -> Module:
    ready = Calibrate(samples=samples, levels=levels, method="max").run(prepared(module, samples))
    return Quantize(samples=samples, levels=levels).run(ready)


def distance(made: Module, trained: Module, data: Array) -> float:
    """Largest difference of the read-outs, of their range."""
    (entry,), (out,) = made.of_type(snn.Input), made.of_type(snn.Output)
    found = run_integer(made, {entry.source: data})[out.data.name] * out.scale
    (wanted,) = run_ann(trained, {entry.source: data}).values()
    return float(np.abs(found - wanted).max() / np.ptp(wanted))


def leaky(net: Trained, x: Value) -> Value:
    return net.add(LeakyRelu, net.conv(x, 4), slope=Const("slope", np.array(0.2, np.float32)))


def residual(net: Trained, x: Value) -> Value:
    first = net.relu(net.conv(x, 4))
    return net.add(ann.Add, first, net.relu(net.conv(x, 4)))


def falling(net: Trained, x: Value) -> Value:
    scale = Const("fall", np.array([-1.0, 1.0, -0.5, 2.0], np.float32).reshape(4, 1, 1))
    offset = Const("add", np.array([0.5, -0.5, 0.25, 0.0], np.float32).reshape(4, 1, 1))
    return net.add(ann.Affine, net.relu(net.conv(x, 4)), scale=scale, offset=offset)


def scores(net: Trained, x: Value) -> Value:
    return net.conv(x, 4)


def itself(net: Trained, x: Value) -> Value:
    return x


@pytest.mark.parametrize("pooled", [leaky, residual, falling, scores, itself])
def test_the_maximum_of_anything_converts(pooled: Any) -> None:
    net = Trained(3, 2, 8, 8)
    pool = net.pool(ann.MaxPool, pooled(net, net.x))
    trained = net.module(net.dense(net.relu(net.conv(pool, 4)), 5))
    data = net.samples(64, low=-1.0)
    made = integers(trained, data)
    assert len(made.of_type(exact.MaxPool)) == 1
    assert distance(made, trained, data) < 0.1


def test_a_maximum_of_data_that_are_not_negative_needs_no_population() -> None:
    net = Trained(3, 2, 8, 8)
    trained = net.module(net.dense(net.relu(net.conv(net.pool(ann.MaxPool, net.x), 4)), 5))
    made = integers(trained, net.samples(32))
    assert len(made.of_type(exact.Graded)) == 1


def test_levels_that_are_asked_for_replace_those_of_a_quantised_file() -> None:
    net = Trained(1, 4)
    top = Const("top", np.array(2.55))
    trained = net.module(net.add(ann.Relu, net.x, threshold=top, levels=255))
    assert Grids().run(trained) == trained
    (relu,) = Grids(most=8).run(trained).of_type(ann.Relu)
    assert (relu.levels, relu.threshold, relu.limit) == (0, None, 2.55)


def test_roundings_of_means_are_left_out_with_their_error() -> None:
    net = Trained(1, 1, 8)
    mean = net.pool(ann.AvgPool, net.relu(net.x))
    top = Const("top", np.array(2.55))
    made = Grids().run(net.module(net.add(ann.Relu, mean, threshold=top, levels=255)))
    assert [op.name for op in made.ops] == ["ann.input", "ann.relu", "ann.avgpool", "ann.output"]
    (told,) = made.attr("approximations").values()
    assert (told["high"], told["error"]) == (2.55, 0.005)
