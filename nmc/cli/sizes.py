"""How large a converted network is: neurons, synapses, cores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import ceil
from typing import TYPE_CHECKING, Any

from nmc.ir.dataclass import dataclass

if TYPE_CHECKING:
    from nmc.ir.module import Module
    from nmc.ir.ops.snn import Conv, ProjectionOp


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network; None where it did not get that far.

    Parameters
    ----------
    neurons : int or None
        Neurons of the spiking network, read-outs included.
    synapses : int or None
        Connections between two neurons whose weight is not zero; those of an input included.
    silent : int or None
        Connections whose weight is zero, by structure or rounding.
    cores : int or None
        Cores it takes, or, where it does not fit, the least that its neurons would take.
    bound : bool
        Whether `cores` is only that least number.
    """

    neurons: int | None = None
    synapses: int | None = None
    silent: int | None = None
    cores: int | None = None
    bound: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """The sizes for JSON."""
        return {
            "neurons": self.neurons,
            "synapses": self.synapses,
            "zero_weights": self.silent,
            "cores": self.cores,
            "cores_bound": self.bound,
        }

    @property
    def text(self) -> str:
        """The sizes in words; empty where nothing is known."""
        parts = [
            f"{amount:,} {name}"
            for amount, name in ((self.neurons, "neurons"), (self.synapses, "synapses"))
            if amount is not None
        ]
        if self.silent and self.synapses is not None and self.silent > self.synapses:
            parts.append(f"{self.silent:,} more of weight zero")
        if self.cores is not None:
            parts.append(
                f"{'at least ' if self.bound else ''}{self.cores:,} core{'s' if self.cores != 1 else ''}"
            )
        return ", ".join(parts)


def sizes(modules: Sequence[Module], target: str) -> Sizes:
    """Measure the network after the last stage that it reached.

    Parameters
    ----------
    modules : sequence of Module
        The network after each stage.
    target : str
        Name of the target, or its file.
    """
    from nmc.ir.ops import snn

    spiking = next((module for module in reversed(modules) if module.of_type(snn.ProjectionOp)), None)
    if spiking is None:
        return Sizes()
    counts = [synapse_count(op) for op in spiking.of_type(snn.ProjectionOp)]
    synapses, silent = (sum(column) for column in zip(*counts, strict=True))
    used = modules[-1].attr("cores")
    if isinstance(used, int):
        return Sizes(_neurons(spiking), synapses, silent, used)
    least = _least_cores(modules[-1], target)
    return Sizes(_neurons(spiking), synapses, silent, least, least is not None)


def _neurons(module: Module) -> int:
    from nmc.ir.op import StatefulOp
    from nmc.ir.ops import snn

    return sum(op.result.type.size for op in module.of_type(StatefulOp) if not isinstance(op, snn.InputOp))


def synapse_count(op: ProjectionOp) -> tuple[int, int]:
    """Connections that a projection makes: those with a weight, and those of weight zero."""
    import numpy as np

    from nmc.ir.ops import snn

    weight = op.weight.array()
    if isinstance(op, snn.Conv):
        return _conv_count(op)
    if isinstance(op, snn.OneToOne):
        weight = np.broadcast_to(weight, op.result.shape)
    filled = int(np.count_nonzero(weight))
    return filled, weight.size - filled


def _conv_count(op: Conv) -> tuple[int, int]:
    """Weights that are not zero and those that are, each as often as its element of the kernel lies inside."""
    import numpy as np

    weight = op.weight.array()
    filled = np.count_nonzero(weight, axis=(0, 1))
    inside = []
    for axis, (stride, dilation) in enumerate(zip(op.stride, op.dilation, strict=True)):
        taps = np.arange(weight.shape[2 + axis])[:, None] * dilation
        reads = np.arange(op.result.shape[1 + axis]) * stride - op.pad[axis] + taps
        inside.append(((reads >= 0) & (reads < op.spikes.shape[1 + axis])).sum(axis=1))
    times = reduce(np.multiply.outer, inside)
    found = int((filled * times).sum())
    return found, int(times.sum()) * weight.shape[0] * weight.shape[1] - found


def _least_cores(module: Module, target: str) -> int | None:
    """Cores that the neurons alone fill, None before the target has made its own of them."""
    from nmc.ir.diagnostics import NmcError
    from nmc.ir.target import resolve
    from nmc.passes.map.tiling import smallest_box

    try:
        found = resolve(target)
        limit = found.limits["compartments"]
        total = 0
        for op in found.demands.populations(module):
            demand = found.demands.incoming(module, op, smallest_box(op.result.shape), structure=True)
            total += op.result.type.size * demand["compartments"]
    except (NmcError, KeyError, AttributeError):
        return None
    return max(1, ceil(total / limit)) if total else None
