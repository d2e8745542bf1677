"""The whole way from a spiking module to SpiNNaker2's engines, and that all stages do the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmc.ir.interp import run_snn
from nmc.ir.interp_mapped import run_mapped
from nmc.ir.module import Module
from nmc.ir.verify import verify_or_raise
from nmc.passes.optimize.retime import Retime
from nmc.targets.spinnaker2 import backend
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.drive import Drive
from nmc.targets.spinnaker2.fit import Fit
from nmc.targets.spinnaker2.layout import ChipImage
from nmc.targets.spinnaker2.legalize import Legalize
from nmc.targets.spinnaker2.placing import gathered
from nmc.targets.spinnaker2.pools import Pools
from nmc.targets.spinnaker2.relays import Relays

Array = np.ndarray[Any, Any]


def _equal(a: Array, b: Array) -> bool:
    """Numbers are equal; what is no number, too."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f" == b.dtype.kind)


@dataclass(frozen=True)
class Chain:
    """All stages of one network."""

    legal: Module
    mapped: Module
    files: dict[str, bytes]

    @property
    def image(self) -> ChipImage:
        return backend.Runner(self.files).image

    def probes(self) -> list[str]:
        """Every probe that all stages know."""
        found = []
        for op in self.legal.of_type(s2.NeuronOp):
            found += [f"{op.out}.v"] + ([f"{op.out}.spikes"] if op.law.fires else [])
        return found

    def differences(self, data: Mapping[str, Array], steps: int, engines: Sequence[str]) -> list[str]:
        """Probes and outputs in which a stage differs from the interpreter, and memories from `native`."""
        probes = self.probes()
        first = run_snn(self.legal, data, steps, probes=probes)
        results = {"mapped": run_mapped(self.mapped, data, steps, probes=probes)}
        runners = {name: backend.Runner(self.files, name) for name in engines}
        results |= {name: runner.run(data, steps, probes=probes)[0] for name, runner in runners.items()}
        wrong = []
        for name, other in results.items():
            pairs = [(p, first.probes[p], other.probes[p]) for p in probes]
            pairs += [(out, want, other.outputs[out]) for out, want in first.outputs.items()]
            wrong += [f"{name} {what}" for what, want, have in pairs if not _equal(want, have)]
        if {"native", "exact"} <= set(engines):
            for place in runners["native"].chip.pes:
                ends = [runners[name].engine.words(place) for name in ("native", "exact")]
                wrong += [f"{place} {r}" for r in ends[0] if not np.array_equal(ends[0][r], ends[1][r])]
        return wrong


def legalised(module: Module, **options: Any) -> Module:
    """Run the passes of the default pipeline on a spiking network, up to the integers."""
    for item in (
        Drive(),
        Pools(),
        Retime(max_delay=1000, input_delay=1),
        Relays(),
        Legalize(**options),
    ):
        module = item.run(module)
        verify_or_raise(module)
    return module


def compile_legal(legal: Module, target: str = "") -> Chain:
    """Partition, place and emit."""
    mapped = Fit(target=target).run(legal)
    verify_or_raise(mapped)
    placed = gathered(mapped)  # the order of the parts is a placement, too
    return Chain(legal, placed, backend.emit(placed))
