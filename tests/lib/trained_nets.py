"""Small random trained networks (level ``ann``) for tests of quantisation: skips, poolings, concatenations."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_pointwise import LeakyRelu


class Trained:
    """Builds a network op by op; every op gets a location."""

    def __init__(self, seed: int, *shape: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ops: list[Op] = []
        self.x = self.add(ann.Input, shape=shape)

    def add(self, kind: type[Op], *data: Value, **fields: Any) -> Value:
        name = f"v{len(self.ops)}"
        if data:
            fields["data"] = data if kind in (ann.Add, ann.Concat) else data[0]
        self.ops.append(kind(out=name, loc=Loc("t.onnx", name), **fields))
        return self.ops[-1].result

    def const(self, name: str, *shape: int, size: float = 1.0) -> Const:
        spread = size * float(np.prod(shape[1:])) ** -0.5
        return Const(f"{name}{len(self.ops)}", (self.rng.normal(size=shape) * spread).astype(np.float32))

    def conv(self, data: Value, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Value:
        rank = len(data.shape) - 1
        return self.add(
            ann.Conv, data, weight=self.const("w", channels, data.shape[0] // groups, *(kernel,) * rank),
            bias=self.const("b", channels, size=0.3), stride=(stride,) * rank, pad=(kernel // 2,) * (2 * rank),
            dilation=(1,) * rank, groups=groups,
        )  # fmt: skip

    def relu(self, data: Value) -> Value:
        return self.add(ann.Relu, data)

    def pool(self, kind: type[Op], data: Value, kernel: int = 2, stride: int = 2, pad: int = 0) -> Value:
        rank = len(data.shape) - 1
        return self.add(
            kind, data, kernel=(kernel,) * rank, stride=(stride,) * rank, pad=(pad,) * (2 * rank),
            dilation=(1,) * rank,
        )  # fmt: skip

    def dense(self, data: Value, outputs: int) -> Value:
        if len(data.shape) > 1:
            data = self.add(ann.Reshape, data, shape=(data.type.size,))
        weight = self.const("w", outputs, data.shape[0])
        return self.add(ann.Dense, data, weight=weight, bias=self.const("b", outputs, size=0.3))

    def module(self, data: Value) -> Module:
        self.ops.append(ann.Output(data=data, loc=Loc("t.onnx", "out")))
        return Module("m", "ann", tuple(self.ops))

    def samples(self, count: int, low: float = 0.0) -> Array:
        return self.rng.uniform(low, 1.0, (count, *self.x.shape)).astype(np.float32)


def block(net: Trained, kind: str, x: Value) -> Value:
    """One part of a network behind a population."""
    if kind == "skip":
        return net.relu(net.add(ann.Add, net.conv(net.relu(net.conv(x, x.shape[0])), x.shape[0]), x))
    if kind == "max":
        return net.relu(net.pool(ann.MaxPool, net.conv(x, 4), 3, 2, 1))
    if kind == "average":
        return net.relu(net.conv(net.pool(ann.AvgPool, x), 4))
    if kind == "leaky":
        return net.add(LeakyRelu, net.conv(x, 4), slope=Const(f"s{len(net.ops)}", np.array(0.25, np.float32)))
    if kind == "concat":
        return net.add(ann.Concat, net.relu(net.conv(x, 2)), net.relu(net.conv(x, 2, kernel=1)))
    return net.relu(net.conv(x, 4, groups=2 if x.shape[0] % 2 == 0 else 1))


BLOCKS = ("skip", "max", "average", "concat", "leaky", "conv")


def network(seed: int, kinds: list[str], rank: int = 2) -> tuple[Module, Trained]:
    """A network of the given blocks on data of one or two spatial axes."""
    net = Trained(seed, *((2, 8, 8) if rank == 2 else (2, 12)))
    value = net.relu(net.conv(net.x, 4))
    for kind in kinds:
        value = block(net, kind, value)
    return net.module(net.dense(value, 5)), net


networks = st.builds(
    network, st.integers(0, 1 << 16), st.lists(st.sampled_from(BLOCKS), max_size=3), st.sampled_from([1, 2])
)
