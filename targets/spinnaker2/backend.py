"""What the driver asks of this target: image files from a mapped module, and running them.

The runner reads nothing but the image files: whatever the chip would not have, it does not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.interp import Progress, Result, join_results
from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import resolve
from nmc.targets.common.batches import batches, steps_of
from nmc.targets.common.hostdata import input_op, numbers
from nmc.targets.spinnaker2 import deadline
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.build import used_bytes
from nmc.targets.spinnaker2.costs import summary
from nmc.targets.spinnaker2.emit import build_image, layout_of, programs
from nmc.targets.spinnaker2.engines import ENGINES as ENGINES
from nmc.targets.spinnaker2.engines import make_engine
from nmc.targets.spinnaker2.engines.chip import EventCounts, RunResult, load_chip
from nmc.targets.spinnaker2.host import Input, Poisson
from nmc.targets.spinnaker2.image import from_files, to_files, to_module
from nmc.targets.spinnaker2.layout import OutputMap
from nmc.targets.spinnaker2.target import pe_number, place_of
from nmc.targets.spinnaker2.wiring import neurons_of

Array = NDArray[Any]


def emit(module: Module) -> dict[str, bytes]:
    """Make the image files of a mapped and placed module, by file name."""
    return to_files(build_image(module))


def disassemble(files: Mapping[str, bytes]) -> Module:
    """Give the image files as a module of level ``image``."""
    return to_module(from_files(files))


class Runner:
    """Emulated chips with a program on them.

    Parameters
    ----------
    files : mapping of str to bytes
        The image files.
    engine : str
        One of `ENGINES`.

    Raises
    ------
    NmcError
        E0802 for an unknown engine, E0914 where one lacks something, E09xx for a damaged image.
    """

    def __init__(self, files: Mapping[str, bytes], engine: str = "functional") -> None:
        self.image = from_files(files)
        self.chip = load_chip(self.image)
        self.engine = make_engine(self.chip, engine)
        self._inputs = [input_op(entry, Input, Poisson, "E0913") for entry in self.image.inputs]
        self.sources = {op.source: op.shape for op in self._inputs if op.source}
        self.timed = {op.source for op in self._inputs if op.in_time}

    def run(
        self,
        data: Mapping[str, Array],
        steps: int | None = None,
        *,
        probes: Sequence[str] = (),
        first_sample: int = 0,
        batch: int = 128,
        progress: Progress | None = None,
        trace: bool = False,
    ) -> tuple[Result, EventCounts]:
        """Encode and run samples.

        Parameters
        ----------
        data : mapping of str to (N, *shape) array
            Samples by the name of the data source (spikes (N, T, *shape) for the raster encoder).
        steps : int or None
            Time steps a sample; the image's own number by default.
        probes, first_sample, batch, progress, trace
            As `nmc.ir.interp.run_snn`.

        Returns
        -------
        Result, EventCounts
            Outputs are floats in the network's own range; the counts are for all samples together.
        """
        count = steps_of(self.image.steps, steps)
        parts: list[Result] = []
        watched = dict.fromkeys([*probes, *map(_watched, self.image.outputs if trace else ())])
        events: EventCounts | None = None
        for start, size, part in batches(data, batch, progress):
            sent = {op.out: numbers(op, part, size, count, first_sample + start) for op in self._inputs}
            found = self.engine.run(sent, count, probes=list(watched))
            parts.append(self._decoded(found, probes, trace))
            events = found.events if events is None else events + found.events
        assert events is not None  # there is one batch at least
        return join_results(parts), events

    def memory(self) -> dict[str, Array]:
        """State, ring and recordings of every PE after the last sample of the last run."""
        regions = ("state", "ring", "rec_spikes", "rec_v", "rec_payload")
        return {
            f"{chip}:{pe} {name}": words
            for chip, pe in self.chip.pes
            for name, words in self.engine.words((chip, pe)).items()
            if name in regions
        }

    def _decoded(self, found: RunResult, probes: Sequence[str], trace: bool) -> Result:
        """What the host makes of the numbers that it reads from the chip."""
        tables = self.image.outputs if trace else ()
        traces = {m.name: _traced(m, found.probes[_watched(m)]) * m.scale for m in tables}
        return Result(dict(found.outputs), {probe: found.probes[probe] for probe in probes}, traces=traces)


def _watched(entry: OutputMap) -> str:
    """The probe that shows an output on the way."""
    return f"{entry.population}.{'v' if entry.kind == 'v' else 'spikes'}"


def _traced(entry: OutputMap, seen: Array) -> Array:
    """What an output would be after each step (N, T, ...), from its potentials or spikes in every step."""
    counted: Array = seen.astype(np.float64)
    if entry.kind == "v":
        return counted
    counted[:, : entry.first_step] = 0.0
    return np.asarray(np.cumsum(counted, axis=1))


def event_summary(events: EventCounts, samples: int) -> dict[str, float]:
    """Spikes, synaptic operations, energy (J) and time (s) a sample, from event counts of `samples` samples."""
    return summary(events, samples)


def describe(module: Module) -> dict[str, Any]:
    """Use of each PE of a mapped module by resource, synapses, the margin to the deadline, and warnings."""
    where = layout_of(module)
    every = programs(module, where)
    cores = {
        pe_number(item.chip, item.pe): {"compartments": item.neurons, "sram_bytes": used_bytes(item)}
        for item in every
    }
    synapses = sum(_synapses(via) for via in module.ops if isinstance(via, s2.SynapseOp))
    found: dict[str, Any] = {"cores": cores, "synapses": synapses, "warnings": _lost(module)}
    if table := deadline.loads(module):
        told = deadline.summary(module, table)
        target = resolve(module.attr("target", "spinnaker2"))
        found |= {"deadline": told}
        found["warnings"] = deadline.warnings(table, told["measured"], target, len(cores)) + found["warnings"]
    return found


def _lost(module: Module) -> list[str]:
    """Weights that rounding made zero, by projection."""
    rows: dict[str, dict[str, Any]] = module.attr("rows", {})
    lost = {name: int(row["lost"]) for name, row in rows.items() if row["lost"]}
    if not lost:
        return []
    worst = ", ".join(
        f"%{name}: {count:,}" for name, count in sorted(lost.items(), key=lambda item: -item[1])[:3]
    )
    return [
        f"{sum(lost.values()):,} weights are so small that they are stored as 0 ({worst}); more --bits keep them"
    ]


def _synapses(via: s2.SynapseOp) -> int:
    """Synapses of a projection, zero weights of lists aside, kernels at every place."""
    if isinstance(via, s2.Conv):
        each = int(np.prod(via.weight.shape[1:]))
        return each * via.result.type.size
    weight = via.weight.array()
    if isinstance(via, s2.Dense):
        return int(np.count_nonzero(weight))
    count = via.source.shape[0] if isinstance(via, s2.Sparse) else via.result.type.size
    return int(np.count_nonzero(weight)) if weight.size == count else count


def layers(module: Module) -> list[dict[str, Any]]:
    """One row a population: name, source, neurons, PEs, row formats, worst weight error, weights lost to zero."""
    errors: dict[str, float] = module.attr("weight_error", {})
    rows: dict[str, dict[str, Any]] = module.attr("rows", {})
    found = []
    for op in module.of_type(s2.NeuronOp):
        vias = [value.name for value in (*op.current, *op.second)]
        found.append({
            "name": op.out, "source": str(op.loc or ""), "neurons": op.result.type.size,
            "compartments": op.result.type.size,
            "cores": sorted(
                pe_number(*place_of(part.core)) for part in module.of_type(Neurons) if part.of.name == op.out
            ),
            "weight_error": max((errors.get(via, 0.0) for via in vias), default=0.0),
            "formats": sorted({rows[via]["format"] for via in vias if via in rows}),
            "lost_weights": sum(int(rows[via]["lost"]) for via in vias if via in rows),
        })  # fmt: skip
    return found


def places(module: Module) -> dict[str, Any]:
    """Where every neuron lives, for ``map.json``: number of its PE over all chips, and its own on the PE."""
    table = {}
    for op in module.of_type(s2.NeuronOp):
        core, number = np.full(op.result.type.size, -1), np.zeros(op.result.type.size, np.int64)
        for part in module.of_type(Neurons):
            if part.of.name == op.out and part.core != HOST:
                neurons = neurons_of(op.shape, part.box)
                core[neurons], number[neurons] = pe_number(*place_of(part.core)), np.arange(neurons.size)
        shape = op.shape
        table[op.out] = {
            "shape": list(shape), "source": str(op.loc or ""), "core": core.tolist(),
            "compartment": number.tolist(), "receives": number.tolist(),
        }  # fmt: skip
    return table
