"""What calibration data do in a network while it is quantised, and in the trained network beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann, exact, snn
from nmc.passes.convert.linear import LinearMap
from nmc.passes.quantize.integer import counts, current_type, evaluate, project
from nmc.passes.quantize.refit import Fit, Sums
from nmc.passes.quantize.scales import Scaled

Array = NDArray[Any]
_BATCH = 64
#: Elements of the largest population over all samples that are kept at once.
_KEPT = 1 << 25


class Tape:
    """Counts of the populations made so far, for every calibration sample, and what they should be.

    Parameters
    ----------
    module : Module
        The trained network, level ``ann``.
    inputs : mapping of str to (N, *shape) array
        Calibration data by input name.
    """

    def __init__(self, module: Module, inputs: Mapping[str, Array]) -> None:
        largest = max((op.result.type.size for op in module.ops if op.out), default=1)
        room = max(1, _KEPT // largest)
        self._inputs = {name: data[:room] for name, data in inputs.items()}
        shapes = {op.data.name: op.data.shape for op in module.ops if isinstance(op, ann.Relu | ann.Output)}
        self._trained = Sums(shapes, min(len(data) for data in self._inputs.values()))
        self._means = preactivations(module, self._inputs, self._trained.add)
        self._counts: dict[str, Array] = {}
        self._sums: list[Array] = []

    def observe(self, op: Op) -> None:
        """Compute what a population that was just made counts; sums were computed by `correction`."""
        if isinstance(op, exact.Graded):
            parts = [counts(op, part) for part in self._sums]
            self._counts[op.out] = np.concatenate(parts).astype(_count_type(op.levels))
        elif isinstance(op, snn.Input):
            wide = evaluate(op, {}, self._inputs, np.float64)
            self._counts[op.out] = wide.astype(_count_type(max(op.high, -op.low)))
        elif isinstance(op, exact.MaxPool):
            self._counts[op.out] = op.maxima(self._counts[op.events.name])

    def collect(self, currents: list[snn.ProjectionOp], bound: int) -> Array:
        """Compute the sums of a population that is about to be made.

        Parameters
        ----------
        currents : list of ProjectionOp
            What drives it.
        bound : int
            Largest absolute sum, 0 where that is not known.

        Returns
        -------
        (C,) float64 array
            Largest sum of each channel.
        """
        kind = current_type(bound)
        total = min(len(data) for data in self._inputs.values())
        self._sums = [self._batch(currents, first, kind) for first in range(0, total, _BATCH)]
        largest = [part.reshape(*part.shape[:2], -1).max(axis=(0, 2)) for part in self._sums]
        return np.asarray(np.max(largest, axis=0), np.float64)

    def refitted(self, source: str, maps: Sequence[LinearMap], heard: Sequence[str], constant: Array) -> Fit:
        """Weights that make up for what counts lose (see `nmc.passes.quantize.refit`).

        Parameters
        ----------
        source : str
            Value of the trained network that the sum stands for.
        maps : sequence of LinearMap
            One a branch.
        heard : sequence of str
            Population of each branch.
        constant : (C, *space) array
            What the neurons of the population that is about to be made get whatever they hear.
        """
        return self._trained.refitted(source, maps, [self._counts[name] for name in heard], constant)

    def correction(self, source: str, currents: list[snn.ProjectionOp], scaled: Scaled) -> Array:
        """Bias correction of a population: how far its mean sum is from that of the trained network.

        Parameters
        ----------
        source : str
            Value of the trained network that the sum stands for.
        currents : list of ProjectionOp
            What drives the population.
        scaled : Scaled
            Its integers so far.

        Returns
        -------
        (C,) int64 array
            What to add to the bias, in integer units.
        """
        self.collect(currents, int(scaled.bound.max()))
        total = min(len(data) for data in self._inputs.values())
        shape = currents[0].result.shape
        bias = np.broadcast_to(scaled.bias, shape).reshape(len(scaled.k), -1).mean(axis=1)
        mean = channel_sum(self._sums) / total + bias
        return np.asarray(np.rint(self._means[source] * scaled.k - mean).astype(np.int64))

    def _batch(self, currents: list[snn.ProjectionOp], first: int, kind: Any) -> Array:
        parts = [
            project(op, self._counts[op.spikes.name][first : first + _BATCH].astype(kind)) for op in currents
        ]
        found: Array = sum(parts[1:], parts[0])
        return found


def channel_sum(parts: list[Array]) -> Array:
    """Sum over samples of the mean over space of each channel, (C,) float64."""
    sums = [part.reshape(*part.shape[:2], -1).mean(axis=2, dtype=np.float64).sum(axis=0) for part in parts]
    return np.asarray(sum(sums[1:], sums[0]))


def preactivations(
    module: Module, inputs: Mapping[str, Array], look: Callable[[str, Array], None]
) -> dict[str, Array]:
    """Mean of each channel of what enters each relu and output of the trained network, (C,) float64.

    Computed in float64, so that biases are rounded alike where sums are taken in another order. `look` is shown each
    batch of each value.
    """
    names = {op.data.name for op in module.ops if isinstance(op, ann.Relu | ann.Output)}
    total = min(len(data) for data in inputs.values())
    sums: dict[str, Array] = {}
    for first in range(0, total, _BATCH):
        part = {name: data[first : first + _BATCH] for name, data in inputs.items()}
        for name, values in run_ann(module, part, keep=names, dtype=np.float64).items():
            sums[name] = sums.get(name, np.zeros(values.shape[1])) + channel_sum([values])
            look(name, values)
    return {name: values / total for name, values in sums.items()}


def _count_type(levels: int) -> Any:
    return np.int16 if levels < 1 << 15 else np.int32
