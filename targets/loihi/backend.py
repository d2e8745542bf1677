"""What the driver asks of this target: image files from a mapped module, and running them.

The runner reads nothing but the image files: whatever the chip would not have, it does not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.encode import rate_spikes
from nmc.ir.interp import Progress, Result, join_results
from nmc.ir.module import Module
from nmc.ir.ops.mapped import Neurons
from nmc.ir.ops.snn import Input
from nmc.targets.common.batches import batches, steps_of
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.allocate import groups
from nmc.targets.loihi.binary import from_bytes, to_bytes
from nmc.targets.loihi.emit import build_image, neuron_places
from nmc.targets.loihi.emulator.energy import EventCounts, add_events, energy
from nmc.targets.loihi.emulator.engine import Emulator, EmulatorResult
from nmc.targets.loihi.emulator.hostmaps import process_of
from nmc.targets.loihi.image import to_module
from nmc.targets.loihi.layout import InputMap, LoihiImage, OutputMap

Array = NDArray[Any]
IMAGE = "loihi.nmcl"
ENGINES = ("functional",)


def emit(module: Module) -> dict[str, bytes]:
    """Make the image files of an allocated module, by file name."""
    return {IMAGE: to_bytes(build_image(module))}


def disassemble(files: Mapping[str, bytes]) -> Module:
    """Give the image files as a module of level ``image``."""
    return to_module(_image(files))


def _image(files: Mapping[str, bytes]) -> LoihiImage:
    if IMAGE not in files:
        raise fail("E0801", f"the program holds no {IMAGE}; it is not for Loihi")
    return from_bytes(files[IMAGE])


class Runner:
    """An emulated chip with a program on it.

    Parameters
    ----------
    files : mapping of str to bytes
        The image files.
    engine : str
        One of `ENGINES`.

    Raises
    ------
    NmcError
        E0802 for an unknown engine, E05xx for a damaged image.
    """

    def __init__(self, files: Mapping[str, bytes], engine: str = "functional") -> None:
        if engine not in ENGINES:
            raise fail("E0802", f"Loihi has no engine {engine!r}", hint=f"engines: {', '.join(ENGINES)}")
        self.image = _image(files)
        self._emulator = Emulator(self.image)
        self.sources = {entry.source: entry.shape for entry in self.image.inputs if entry.source}
        self.timed = {
            entry.source for entry in self.image.inputs if entry.source and entry.encoder == "raster"
        }

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
        count = steps_of(self.image.header.steps, steps)
        parts: list[Result] = []
        watched = dict.fromkeys([*probes, *map(_watched, self.image.outputs if trace else ())])
        events: EventCounts | None = None
        for start, size, part in batches(data, batch, progress):
            inputs = {m.name: _encoded(m, part, size, count, first_sample + start) for m in self.image.inputs}
            found = self._emulator.run(inputs, count, probes=list(watched), batch=batch)
            parts.append(self._decoded(found, probes, trace))
            events = found.events if events is None else add_events(events, found.events)
        assert events is not None  # there is one batch at least
        return join_results(parts), events

    def _decoded(self, found: EmulatorResult, probes: Sequence[str], trace: bool) -> Result:
        """What the host makes of the numbers that it reads from the chip."""
        tables = self.image.outputs
        outputs = {m.name: found.outputs[m.name].astype(np.float64) * m.scale for m in tables}
        traces = {m.name: _traced(m, found.probes[_watched(m)]) * m.scale for m in tables if trace}
        return Result(outputs, {probe: found.probes[probe] for probe in probes}, traces=traces)


def _watched(entry: OutputMap) -> str:
    """The probe that shows an output on the way."""
    return f"{entry.name}.{'v' if entry.kind == 'v' else 'spikes'}"


def _traced(entry: OutputMap, seen: Array) -> Array:
    """What an output would be after each step (N, T, ...), from its potentials or spikes in every step."""
    if entry.kind == "v":
        return seen.astype(np.float64)
    counted: Array = seen.astype(np.float64)
    counted[:, : entry.first_step] = 0.0
    return np.cumsum(counted, axis=1)


def _encoded(entry: InputMap, data: Mapping[str, Array], size: int, steps: int, first: int) -> Array:
    """What the host sends for one input, for a batch of samples."""
    if entry.encoder == "pulse":
        spikes = np.zeros((size, steps, *entry.shape), np.uint8)
        if entry.at < steps:
            spikes[:, entry.at] = 1
        return spikes
    if entry.encoder == "poisson":
        process, silent = process_of(entry), np.zeros((size, *entry.shape), np.uint8)
        return np.stack([process.encode(silent, first, t) for t in range(steps)], axis=1)
    if entry.source and entry.source not in data:
        raise fail("E0401", f"no data for input {entry.source}; there is {', '.join(data) or 'nothing'}")
    item = np.asarray(data[entry.source]) if entry.source else np.zeros((size, *entry.shape))
    if entry.encoder == "rate":
        rate = item.astype(np.float64) * entry.gain
        return np.stack([rate_spikes(rate, entry.seed, first, t) for t in range(steps)], axis=1)
    if entry.encoder == "count":
        counter = Input(out=entry.name, source=entry.source, shape=entry.shape, encoder="count", gain=entry.gain,
                        high=entry.at, over=max(entry.at, 1))  # fmt: skip
        numbers = counter.integers(item)
        return np.stack([counter.schedule(numbers, t) for t in range(steps)], axis=1)
    if entry.encoder == "raster":
        spikes = np.zeros((size, steps, *entry.shape), np.uint8)
        spikes[:, : item.shape[1]] = item[:, :steps]
        return spikes
    return item


def event_summary(events: EventCounts, samples: int) -> dict[str, float]:
    """Spikes, synaptic operations, energy (J) and time (s) a sample, from event counts of `samples` samples."""
    cost = energy(events)
    return {
        "spikes_per_sample": int(events.spikes.sum()) / samples,
        "synaptic_operations_per_sample": int(events.synaptic_events.sum()) / samples,
        "neuron_updates_per_sample": int(events.neuron_updates.sum()) / samples,
        "energy_per_sample_j": cost.total / samples,
        "time_per_sample_s": cost.time_s / samples,
    }


def describe(module: Module) -> dict[str, Any]:
    """Use of the memories of an allocated module: the largest of any core and the sum, by resource."""
    used: dict[int, dict[str, int]] = {}
    parts = {part.out: part for part in module.of_type(Neurons)}
    for part in parts.values():
        if part.core >= 0:
            row = used.setdefault(
                part.core, {"compartments": 0, "in_axons": 0, "synapse_words": 0, "out_axon_words": 0}
            )
            row["compartments"] += len(part.slots)
    synapses = 0
    for group in groups(module):
        row = used[group.target.core]
        row["synapse_words"] += int(group.lists.words.sum())
        synapses += int(_diff(group.lists.offsets)[group.lists.list_of].sum())
        for link in group.links:
            row["in_axons"] += len(link.axons)
            source = parts[link.source.name].core
            if source >= 0:
                used[source]["out_axon_words"] += len(link.axons)
    return {"cores": used, "synapses": synapses}


def _diff(offsets: Array) -> Array:
    sizes: Array = np.diff(offsets)
    return sizes


def layers(module: Module) -> list[dict[str, Any]]:
    """One row a population: name, source, neurons, compartments, cores, worst weight error of its projections."""
    errors: dict[str, float] = module.attr("weight_error", {})
    rows = []
    for op in module.of_type(loihi.Lif):
        cores = sorted({part.core for part in module.of_type(Neurons) if part.of.name == op.out})
        worst = max((errors.get(value.name, 0.0) for value in op.current), default=0.0)
        rows.append({
            "name": op.out, "source": str(op.loc or ""), "neurons": op.result.type.size,
            "compartments": op.result.type.size * op.compartments, "cores": cores, "weight_error": worst,
        })  # fmt: skip
    return rows


def places(module: Module) -> dict[str, Any]:
    """Where every neuron lives, for ``map.json``: core, spiking and receiving compartment by population."""
    table = {}
    for op in module.of_type(loihi.Lif):
        core, cx, receiving = neuron_places(module)[op.out]
        table[op.out] = {
            "shape": list(op.shape), "source": str(op.loc or ""), "core": np.asarray(core).tolist(),
            "compartment": np.asarray(cx).tolist(), "receives": np.asarray(receiving).tolist(),
        }  # fmt: skip
    return table
