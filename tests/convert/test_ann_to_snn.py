"""Conversion gives rates that provably approach the network's activations, or refuses with every reason."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, Value
from nmc.ir.ops import ann, snn
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify
from nmc.passes.convert import linear
from nmc.passes.convert.ann_to_snn import AnnToSnn
from nmc.passes.manager import run_pipeline
from nmc.passes.optimize.retime import Retime
from nmc.passes.quantize.calibrate import Calibrate

STEPS = 512


class Build:
    """Builds a network op by op; every op gets a location."""

    def __init__(self, *shape: int) -> None:
        self.rng = np.random.default_rng(7)
        self.ops: list[Op] = []
        self.x = self.add(ann.Input, shape=shape)

    def add(self, kind: type[Op], *data: Value, **fields: Any) -> Value:
        name = f"v{len(self.ops)}"
        if data:
            fields["data"] = data if kind in (ann.Add, ann.Concat) else data[0]
        self.ops.append(kind(out=name, loc=Loc("t.onnx", name), **fields))
        return self.ops[-1].result

    def const(self, *shape: int) -> Const:
        spread = float(np.prod(shape[1:])) ** -0.5
        return Const(
            f"c{self.rng.integers(1 << 60)}", (self.rng.normal(size=shape) * spread).astype(np.float32)
        )

    def conv(self, data: Value, channels: int, *kernel: int, **given: Any) -> Value:
        rank, groups = len(kernel), given.get("groups", 1)
        fields = {"stride": (1,) * rank, "pad": (0,) * (2 * rank), "dilation": (1,) * rank, **given}
        weight = self.const(channels, data.shape[0] // groups, *kernel)
        bias = Const(f"b{len(self.ops)}", (self.rng.normal(size=channels) * 0.2).astype(np.float32))
        return self.add(ann.Conv, data, weight=weight, bias=bias, **fields)

    def relu(self, data: Value, limit: float = float("inf")) -> Value:
        return self.add(ann.Relu, data, limit=limit)

    def pool(self, data: Value, kernel: int, stride: int = 0) -> Value:
        rank = len(data.shape) - 1
        return self.add(
            ann.AvgPool, data, kernel=(kernel,) * rank, stride=(stride or kernel,) * rank, pad=(0,) * (2 * rank),
            dilation=(1,) * rank,
        )  # fmt: skip

    def dense(self, data: Value, outputs: int) -> Value:
        if len(data.shape) > 1:
            data = self.add(ann.Reshape, data, shape=(data.type.size,))
        return self.add(ann.Dense, data, weight=self.const(outputs, data.shape[0]), bias=self.const(outputs))

    def module(self, result: Value) -> Module:
        self.ops.append(ann.Output(data=result, loc=Loc("t.onnx", "out")))
        return Module("m", "ann", tuple(self.ops))

    def samples(self, low: float = 0.0) -> Array:
        return self.rng.uniform(low, 1.0, (16, *self.x.shape)).astype(np.float32)


Case = tuple[Module, Array]
SAME = (1, 1, 1, 1)


def residual_identity() -> Case:
    net = Build(2, 5, 5)
    first = net.relu(net.conv(net.x, 3, 3, 3, pad=SAME))
    second = net.relu(net.conv(first, 3, 3, 3, pad=SAME))
    joined = net.relu(net.add(ann.Add, net.conv(second, 3, 3, 3, pad=SAME), first))
    return net.module(net.dense(net.pool(joined, 5), 4)), net.samples()


def residual_projection() -> Case:
    net = Build(2, 6, 6)
    first = net.relu(net.conv(net.x, 3, 3, 3, pad=SAME))
    second = net.relu(net.conv(first, 4, 3, 3, pad=SAME, stride=(2, 2)))
    skip = net.conv(first, 4, 1, 1, stride=(2, 2))
    joined = net.relu(net.add(ann.Add, net.conv(second, 4, 3, 3, pad=SAME), skip))
    return net.module(net.dense(joined, 3)), net.samples()


def inception() -> Case:
    net = Build(2, 5, 5)
    left = net.relu(net.conv(net.x, 2, 1, 1))
    right = net.relu(net.conv(net.x, 3, 3, 3, pad=SAME))
    both = net.add(ann.Concat, left, right, axis=0)
    return net.module(net.dense(net.relu(net.conv(both, 3, 3, 3)), 4)), net.samples()


def dense_block() -> Case:
    net = Build(2, 4, 4)
    first = net.relu(net.conv(net.x, 2, 3, 3, pad=SAME))
    both = net.add(ann.Concat, net.x, first, axis=0)
    one = Const("one", np.full((4, 1, 1), 0.8, np.float32))
    shifted = net.relu(
        net.add(ann.Affine, both, scale=one, offset=Const("off", np.full((1, 1, 1), -0.2, np.float32)))
    )
    return net.module(net.dense(net.pool(net.conv(shifted, 3, 1, 1), 2), 3)), net.samples()


def relu6() -> Case:
    net = Build(3)
    hidden = net.relu(net.dense(net.x, 8), limit=0.5)
    return net.module(net.dense(net.relu(net.dense(hidden, 8), limit=0.25), 3)), net.samples()


def signed_input() -> Case:
    net = Build(1, 6)
    return net.module(net.dense(net.relu(net.conv(net.x, 3, 3, pad=(1, 1))), 3)), net.samples(-2.0)


def two_branches() -> Case:
    net = Build(2, 6)
    left = net.dense(net.relu(net.conv(net.x, 2, 3)), 4)
    right = net.dense(net.relu(net.conv(net.x, 3, 5)), 4)
    return net.module(net.dense(net.relu(net.add(ann.Add, left, right)), 3)), net.samples()


def separable() -> Case:
    net = Build(2, 6, 6)
    first = net.relu(net.conv(net.x, 4, 3, 3), limit=6.0)
    deep = net.relu(net.conv(first, 4, 3, 3, pad=SAME, groups=4), limit=6.0)
    return net.module(net.dense(net.relu(net.conv(deep, 3, 1, 1), limit=6.0), 3)), net.samples()


def one_dimension() -> Case:
    net = Build(2, 12)
    first = net.relu(net.conv(net.x, 4, 5, stride=(2,)))
    return net.module(net.dense(net.relu(net.conv(net.pool(first, 2), 3, 2)), 3)), net.samples()


def ends_in_relu() -> Case:
    net = Build(5)
    return net.module(net.relu(net.dense(net.x, 6))), net.samples()


def relayed_pool() -> Case:
    """Without the bound on matrices these poolings need no relay; the test lowers it."""
    net = Build(2, 8, 8)
    pooled = net.pool(net.relu(net.conv(net.x, 3, 3, 3)), 3, 1)
    left, right = net.relu(net.conv(pooled, 2, 3, 3)), net.relu(net.conv(pooled, 2, 3, 3))
    return net.module(net.dense(net.add(ann.Add, left, right), 3)), net.samples()


def relayed_concat_pool() -> Case:
    net = Build(2, 6, 6)
    parts = net.relu(net.conv(net.x, 2, 3, 3)), net.relu(net.conv(net.x, 3, 3, 3))
    pooled = net.pool(net.add(ann.Concat, *parts, axis=0), 2, 1)
    padded = net.add(ann.Pad, pooled, pad=(0, 1, 1, 0, 1, 1))
    return net.module(net.dense(net.relu(net.conv(padded, 2, 3, 3)), 3)), net.samples()


def mixed_pool() -> Case:
    """The mean of a difference says nothing about the mean of its parts."""
    net = Build(2, 6, 6)
    negative = net.add(
        ann.Affine, net.x, scale=Const("minus", np.full((), -0.9)), offset=Const("off", np.zeros(()))
    )
    sums = [net.pool(net.add(ann.Add, net.relu(net.x), negative), 6), net.pool(net.x, 6)]
    return net.module(net.dense(net.relu(net.dense(net.add(ann.Add, *sums), 4)), 3)), net.samples()


def wide_pool() -> Case:
    net = Build(2, 8, 8)
    pooled = net.pool(net.relu(net.conv(net.x, 3, 1, 1)), 4)
    return net.module(net.dense(net.relu(net.conv(pooled, 2, 2, 2)), 3)), net.samples()


def uneven_bias() -> Case:
    net = Build(1, 5, 5)
    first = net.conv(net.conv(net.x, 2, 3, 3, pad=SAME), 2, 3, 3, pad=SAME)
    return net.module(net.dense(net.relu(first), 3)), net.samples()


def linear_only() -> Case:
    net = Build(2, 3, 3)
    return net.module(net.dense(net.pool(net.x, 3), 4)), net.samples(-1.0)


RELAYED = (relayed_pool, relayed_concat_pool)
CASES = (
    residual_identity, residual_projection, inception, dense_block, relu6, signed_input, two_branches, separable,
    one_dimension, ends_in_relu, uneven_bias, linear_only, mixed_pool, wide_pool, *RELAYED,
)  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    if request.param in RELAYED:
        monkeypatch.setattr(linear, "MAX_MATRIX", 100)
    made: Case = request.param()
    return made


def calibrated(module: Module, samples: Array) -> Module:
    return Calibrate(method="max", samples=samples).run(module)


def converted(module: Module, samples: Array, **options: Any) -> Module:
    passes = (Calibrate(method="max", samples=samples), AnnToSnn(**options))
    return run_pipeline(module, passes).module


def clipped(module: Module, samples: Array) -> Array:
    """What the calibrated network computes when each activation is cut at its threshold, float64."""
    env: dict[str, Array] = {}
    for op in module.ops:
        if isinstance(op, ann.Input):
            env[op.out] = samples.astype(np.float64)
        elif isinstance(op, ann.Relu):
            assert op.threshold is not None
            env[op.out] = np.clip(env[op.data.name], 0.0, op.threshold.array())
        elif isinstance(op, ann.Output):
            return env[op.data.name]
        else:
            env[op.out] = op.run(*(env[value.name] for value in op.operands))
    raise AssertionError("no output")


def deviation(module: Module) -> Array:
    """A proven bound on the distance of a converted network's output from `clipped`, times the number of steps.

    A neuron whose current sums to a t + e(t) with |e| <= E (0.5 of it the start value) has fired
    clip(a, 0, 1) t times up to step t, give or take E + 1: it fires only while the sum is above its count, and
    since the last step without a spike, at which the sum was at most one more, it fired at every step.
    """
    off: dict[str, Array] = {}
    for op in module.ops:
        if isinstance(op, snn.ProjectionOp):
            size = replace(op, weight=Const("w", np.abs(op.weight.array())))
            off[op.out] = size.run(off[op.spikes.name][None])[0]
        elif isinstance(op, snn.NeuronOp):
            total = sum((off.get(value.name, np.zeros(value.shape)) for value in op.current), np.zeros(()))
            off[op.out] = total + 1.5 if isinstance(op, snn.If) else total
        elif isinstance(op, snn.Output):
            return off[op.data.name]
    raise AssertionError("no output")


def outputs(module: Module, samples: Array, steps: int) -> Array:
    return next(iter(run_snn(module, {"v0": samples}, steps).outputs.values()))


def test_result_is_well_formed_and_knows_where_it_is_from(case: Case) -> None:
    module = converted(*case)
    assert verify(module) == ()
    assert all(op.loc is not None for op in module.ops)
    origins = {leaf.node for op in module.ops if op.loc for leaf in op.loc.leaves()}
    used = {op.out or "out" for op in case[0].ops}
    assert used <= origins


def test_output_approaches_the_clipped_network(case: Case) -> None:
    module, samples = case
    spiking = converted(module, samples, steps=STEPS)
    wanted = clipped(calibrated(module, samples), samples)
    error = np.abs(outputs(spiking, samples, STEPS) - wanted)
    assert (error <= deviation(spiking) / STEPS + 1e-9).all()
    assert error.max() <= 0.02 * max(1.0, np.ptp(wanted))


def test_rate_coded_output_approaches_the_clipped_network(case: Case) -> None:
    module, samples = case
    spiking = converted(module, samples, steps=4 * STEPS, encoder="rate")
    wanted = clipped(calibrated(module, samples), samples)
    error = np.abs(outputs(spiking, samples, 4 * STEPS) - wanted)
    assert np.sqrt((error**2).mean()) <= 0.06 * max(1.0, np.ptp(wanted))


def test_retimed_network_gives_what_the_converted_one_gave_earlier(case: Case) -> None:
    module, samples = case
    spiking = converted(module, samples, steps=24)
    retimed = Retime().run(spiking)
    ((_, late),) = retimed.attr("latency").items()
    before = outputs(spiking, samples, 24 - late)
    np.testing.assert_allclose(outputs(retimed, samples, 24), before * 24 / (24 - late), rtol=1e-12)


def names(module: Module, kind: type[Op]) -> list[str]:
    return [op.out for op in module.of_type(kind)]


def test_pooling_that_no_kernel_takes_in_gets_one_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_MATRIX", 100)
    monkeypatch.setattr(linear, "MAX_KERNEL", 100)
    module = converted(*relayed_pool())
    assert [name for name in names(module, snn.If) if name.endswith(".relay")] == ["v3.relay"]


def test_pooled_sum_that_may_be_negative_gets_no_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_MATRIX", 100)
    monkeypatch.setattr(linear, "MAX_KERNEL", 100)
    net = Build(2, 8, 8)
    pooled = net.pool(net.conv(net.x, 3, 3, 3), 3, 1)
    module = net.module(net.dense(net.relu(net.conv(pooled, 2, 3, 3)), 3))
    with pytest.raises(NmcError, match="E0602"):
        converted(module, net.samples())


def test_bias_uniform_over_space_is_kept_per_channel() -> None:
    shapes = {op.out: op.bias.shape for op in converted(*residual_identity()).of_type(snn.If) if op.bias}
    assert set(shapes.values()) == {(3, 1, 1)}
    (bias,) = (op.bias for op in converted(*uneven_bias()).of_type(snn.If) if op.bias)
    assert bias.shape == (2, 5, 5)


def test_signed_input_comes_in_twice() -> None:
    module = converted(*signed_input())
    gains = {op.out: op.gain for op in module.of_type(snn.Input)}
    assert sorted(gains) == ["v0", "v0.neg"]
    assert gains["v0"] == -gains["v0.neg"] > 0


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_reset_is_that_of_the_option(reset: Literal["subtract", "zero"]) -> None:
    assert {op.reset for op in converted(*relu6(), reset=reset).of_type(snn.If)} == {reset}


def test_threshold_above_the_limit_is_cut() -> None:
    module = calibrated(*relu6())
    wide = module.map_ops(
        lambda op: replace(op, threshold=Const("t", np.full(8, 9.0))) if isinstance(op, ann.Relu) else op
    )
    samples = np.random.default_rng(0).random((4, 3))
    wanted = clipped(
        module.map_ops(
            lambda op: (
                replace(op, threshold=Const("t", np.full(8, op.limit))) if isinstance(op, ann.Relu) else op
            )
        ),
        samples,
    )
    spiking = AnnToSnn(steps=STEPS).run(wide)
    assert (np.abs(outputs(spiking, samples, STEPS) - wanted) <= deviation(spiking) / STEPS).all()


def test_names_of_the_network_are_not_taken_twice() -> None:
    """A value that is named as a projection or read-out would be."""
    module, samples = residual_identity()
    renamed = {"v1": "v4.from.v2", "v2": "v0.spikes", "v3": "v2.readout"}

    def rename(op: Op) -> Op:
        fields: dict[str, Any] = {"out": renamed.get(op.out, op.out)}
        if op.operands:
            uses = [replace(value, name=renamed.get(value.name, value.name)) for value in op.operands]
            fields["data"] = tuple(uses) if isinstance(op, ann.Add) else uses[0]
        return replace(op, **fields)

    assert verify(converted(module.map_ops(rename), samples)) == ()


REFUSED = """module @m ann {
  %x = ann.input() {shape=[2, 4, 4], high=1.0} : f32<2x4x4>  #0
  %a = ann.relu(%x) : f32<2x4x4>  #1
  %b = ann.maxpool(%x) {kernel=[2, 2], stride=[2, 2], pad=[0, 0, 0, 0], dilation=[1, 1]} : f32<2x2x2>  #2
  %c = ann.lrn(%x) {size=3} : f32<2x4x4>  #3
  %d = ann.clip(%x) {low=-1.0, high=1.0} : f32<2x4x4>  #4
  %e = ann.relu(%d) : f32<2x4x4>  #5
  ann.output(%a)  #6
}
#0 = "n.onnx" "x"
#1 = "n.onnx" "/relu"
#2 = "n.onnx" "/pool"
#3 = "n.onnx" "/lrn"
#4 = "n.onnx" "/clip"
#5 = "n.onnx" "/after"
#6 = "n.onnx" "y"
"""


def test_everything_that_cannot_be_converted_is_told_at_once() -> None:
    with pytest.raises(NmcError) as caught:
        AnnToSnn().run(parse(REFUSED))
    assert caught.value.exit_code == 1
    found = {(problem.code, problem.where) for problem in caught.value.diagnostics}
    at = 'n.onnx: node "{}"'.format
    assert found == {
        ("E0603", at("/relu")),
        ("E0601", at("/pool")),
        ("E0601", at("/lrn")),
        ("E0601", at("/clip")),
    }
    assert all(problem.hint for problem in caught.value.diagnostics)


def with_threshold(values: Array) -> Callable[[Op], Op]:
    return lambda op: replace(op, threshold=Const("t", values)) if isinstance(op, ann.Relu) else op


@pytest.mark.parametrize(
    "threshold",
    [np.zeros((2, 1, 1)), np.full((2, 1, 1), np.nan), -np.ones(()), np.ones((2, 4, 4)), np.ones(4)],
    ids=["zero", "nan", "negative", "each neuron", "last axis"],
)
def test_useless_thresholds_are_refused(threshold: Array) -> None:
    ops = [op for op in parse(REFUSED).ops if op.out in ("x", "a") or not op.out]
    module = Module("m", "ann", tuple(ops)).map_ops(with_threshold(threshold))
    with pytest.raises(NmcError, match="E0603"):
        AnnToSnn().run(module)


def test_input_of_unknown_range_is_refused() -> None:
    text = REFUSED.replace(", high=1.0} : f32<2x4x4>  #0", "} : f32<2x4x4>  #0")
    ops = [op for op in parse(text).ops if op.out in ("x", "a") or not op.out]
    module = Module("m", "ann", tuple(ops)).map_ops(with_threshold(np.ones(())))
    with pytest.raises(NmcError, match="range of the input is not known"):
        AnnToSnn().run(module)


def test_relu_of_what_no_projection_carries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_MATRIX", 10)
    monkeypatch.setattr(linear, "MAX_LISTED", 10)
    net = Build(6)
    halves = [net.relu(net.dense(net.x, 4)) for _ in range(2)]
    with pytest.raises(NmcError, match="E0602"):
        converted(net.module(net.relu(net.add(ann.Concat, *halves, axis=0))), net.samples())
