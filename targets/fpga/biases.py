"""Biases that enter in parts: events of the host, because the core itself takes a bias at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import exact, snn
from nmc.passes.base import Pass
from nmc.passes.graph import fresh_name

Array = NDArray[np.int64]
#: Largest weight of a synapse of the core.
_WIDEST = 127


@dataclass(frozen=True)
class Biases(Pass, name="fpga-biases", takes="snn"):
    """Let the host send the biases that ``snn.stbif`` takes over its first steps (`spread`), before ``retime``.

    In each of these steps one event a place of the feature map (one event for populations of a single dimension) brings
    the same part of the bias, through a weight a channel (a neuron) and with a payload that makes the widest weight fit
    8 bits. What these parts leave, less than a part in each step, is there from the start, so that the sum is the same
    bias. Populations whose biases are too small for parts take them at once.

        before: %h = snn.stbif(%h.x, @theta, @offset) {levels=8, spread=8} : graded<16x28x28>
        after:  %h.host = snn.input() {shape=[1, 28, 28], encoder=spread, low=24, high=24, over=8} : graded<1x28x28>
                %h.part = snn.conv(%h.host, @h.part) {stride=[1, 1], ...} : current<16x28x28>
                %h = snn.stbif(%h.x, %h.part, @theta, @h.rest) {levels=8} : graded<16x28x28>
    """

    exact = False  # the same counts in the end; on the way some spikes come a step earlier or later

    def run(self, module: Module) -> Module:
        """Rewrite the populations that spread their biases."""
        if not any(op.spread for op in module.of_type(exact.StBif)):
            return module
        taken, ops = set(module.producers), list[Op]()
        for op in module.ops:
            ops += _in_parts(op, taken) if isinstance(op, exact.StBif) and op.spread else [op]
        return module.with_ops(ops)


def _in_parts(op: exact.StBif, taken: set[str]) -> list[Op]:
    """What takes the place of a population."""
    offset, steps = op.offset.array().astype(np.int64), op.spread
    part, unit = _parts(offset - op.theta.array().astype(np.int64) // 2, steps)
    if not part.any():
        return [replace(op, spread=0)]
    names = [fresh_name(f"{op.out}.{kind}", taken) for kind in ("host", "part", "rest")]
    taken.update(names)
    host, via, rest = names
    left = Const(rest, offset - part * unit * steps)
    part = part.reshape((1,) * (len(op.shape) - part.ndim) + part.shape)
    shared = 2 <= len(op.shape) <= 3 and part.shape[1:] == (1,) * (len(op.shape) - 1)
    sent = snn.Input(
        out=host, loc=fuse("fpga-biases", [op.loc]), source="", shape=(1, *op.shape[1:]) if shared else (1,),
        encoder="spread", low=steps * unit, high=steps * unit, over=steps,
    )  # fmt: skip
    brought = (_shared if shared else _each)(op, part, sent, via)
    return [sent, brought, replace(op, current=(*op.current, brought.result), offset=left, spread=0)]


def _parts(bias: Array, steps: int) -> tuple[Array, int]:
    """The part of each bias that enters in a step, as a weight, and the payload of its events."""
    each = np.abs(bias) // steps
    unit = max(1, -(-int(each.max(initial=0)) // _WIDEST))
    return np.sign(bias) * (each // unit), unit


def _shared(op: exact.StBif, part: Array, sent: snn.Input, name: str) -> snn.ProjectionOp:
    """The weights of all places, one a channel."""
    ones = (1,) * (len(op.shape) - 1)
    weight = np.broadcast_to(part, (op.shape[0], *ones)).reshape(-1, 1, *ones).astype(np.int8)
    return snn.Conv(
        out=name, loc=sent.loc, spikes=sent.result, weight=Const(name, weight), stride=ones,
        pad=(0,) * (2 * len(ones)), dilation=ones,
    )  # fmt: skip


def _each(op: exact.StBif, part: Array, sent: snn.Input, name: str) -> snn.ProjectionOp:
    """A weight a neuron."""
    weight = np.broadcast_to(part, op.shape).reshape(-1, 1).astype(np.int8)
    return snn.Dense(out=name, loc=sent.loc, spikes=sent.result, weight=Const(name, weight), shape=op.shape)
