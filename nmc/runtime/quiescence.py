"""When the emulated chip of an exact network is at rest: told by the spikes of all its populations.

A chip runs as many steps as are proved to suffice; the host then knows of each sample after which step nothing
happened any more. A step without spikes is not enough: a spike may still be on a connection with a delay, and the host
may still send (`nmc.ir.rest` says the same of the interpreter, and gives the same steps).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.module import Module
from nmc.ir.op import StatefulOp
from nmc.ir.ops import snn
from nmc.ir.rest import latest_delays

Array = NDArray[Any]
#: Bytes of spikes that are held at once; more samples run in groups.
_BYTES = 1 << 28


@dataclass(frozen=True)
class Watch:
    """What has to be looked at to see a compiled network come to rest.

    Parameters
    ----------
    begin : int
        Steps before which no sample is at rest: the host sends, or a window is open.
    delays : mapping of str to int
        Population -> the longest delay with which its spikes are used.
    neurons : int
        Neurons of all these populations.
    """

    begin: int
    delays: Mapping[str, int]
    neurons: int

    @property
    def probes(self) -> list[str]:
        """The recordings that it needs."""
        return [f"{name}.spikes" for name in self.delays]

    def group(self, steps: int) -> int:
        """How many samples run at once."""
        return max(1, _BYTES // max(4 * self.neurons * steps, 1))

    def settled(self, probes: Mapping[str, Array], samples: int, steps: int) -> Array:
        """Steps after which each sample was at rest, (N,) int64, `steps` at most."""
        until = np.full(samples, self.begin, np.int64)
        for name, delay in self.delays.items():
            spikes = probes[f"{name}.spikes"]
            fired = spikes.reshape(*spikes.shape[:2], -1) != 0
            active = np.any(fired, axis=2)
            last = active.shape[1] - np.argmax(active[:, ::-1], axis=1)
            until = np.maximum(until, np.where(active.any(axis=1), last + delay, 0))
        return np.minimum(until, steps)


def watch_of(module: Module, target: str) -> Watch:
    """Find out what has to be looked at.

    Parameters
    ----------
    module : Module
        The final one of a program.
    target : str
        For the text of errors.

    Raises
    ------
    NmcError
        E0406 where the network never comes to rest: only exact ones are proved to.
    """
    if module.attr("spike_code") is None:
        hint = "compile it in the exact mode, or leave --until-quiescent away"
        raise fail("E0406", f"this network on {target} is never known to be at rest", hint=hint)
    network = module.with_ops([op for op in module.ops if "snn" in op.belongs], level="snn")
    delays, begin, watched, neurons = latest_delays(network), 1, dict[str, int](), 0
    problems: list[Diagnostic] = []
    for op in network.of_type(StatefulOp):
        if isinstance(op, snn.InputOp):
            if not op.rests:
                problems.append(Diagnostic("E0406", f"input {op.source or op.out} never ends"))
            begin = max(begin, op.active_until + delays.get(op.out, 0))
        else:
            begin = max(begin, op.active_until)
            if op.out in delays:
                watched[op.out], neurons = delays[op.out], neurons + op.result.type.size
    if problems:
        raise NmcError(problems)
    return Watch(begin, watched, neurons)
