"""What the driver asks of this target: image files from a mapped module, and running them.

The runner reads nothing but the image files: whatever the core would not have, it does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import Diagnostic, DoesNotFit, fail
from nmc.ir.interp import Progress, Result, join_results
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import Neurons
from nmc.ir.ops.neurons import Sparse
from nmc.targets.common.batches import batches, steps_of
from nmc.targets.common.hostdata import input_op, numbers
from nmc.targets.fpga import dialect
from nmc.targets.fpga.demands import FpgaDemands, vias_of
from nmc.targets.fpga.emit import build_image
from nmc.targets.fpga.engines import ENGINES, Ask, Counts, Functional, Rtl, Seen
from nmc.targets.fpga.fit import shape_of
from nmc.targets.fpga.image import Image, OutputMap, from_files, to_files, to_module
from nmc.targets.fpga.layout import layout_of
from nmc.targets.fpga.sender import Sender
from nmc.targets.fpga.sizing import sample_cycles, sample_time, sizing

Array = NDArray[Any]


def emit(module: Module) -> dict[str, bytes]:
    """Make the image files of a mapped module, by file name."""
    return to_files(build_image(module))


def disassemble(files: Mapping[str, bytes]) -> Module:
    """Give the image files as a module of level ``image``."""
    return to_module(from_files(files))


class Runner:
    """A chip with a program on it.

    Parameters
    ----------
    files : mapping of str to bytes
        The image files.
    engine : {"functional", "rtl"}
        The law in numpy, or the RTL itself under Verilator or CXXRTL.

    Raises
    ------
    NmcError
        E0802 for an unknown engine, E1010 where the simulation lacks a tool, E0947, E1001 to E1005 for a damaged one.
    """

    def __init__(self, files: Mapping[str, bytes], engine: str = "functional") -> None:
        if engine not in ENGINES:
            raise fail("E0802", f"there is no engine {engine!r}", hint=f"engines: {', '.join(ENGINES)}")
        self.image: Image = from_files(files)
        self.engine = Functional(self.image) if engine == "functional" else Rtl(self.image)
        self._inputs = [
            (entry, input_op(entry, dialect.Input, dialect.Poisson, "E0947")) for entry in self.image.inputs
        ]
        self.sources = {op.source: op.shape for _, op in self._inputs if op.source}
        self.timed = {op.source for _, op in self._inputs if op.in_time}

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
    ) -> tuple[Result, tuple[Image, Counts]]:
        """Encode and run samples.

        Parameters
        ----------
        data : mapping of str to (N, *shape) array
            Samples by the name of the data source (spikes (N, T, *shape) for the raster encoder).
        steps : int or None
            Time steps a sample; the image's own number by default.
        probes, first_sample, batch, progress, trace
            As `nmc.ir.interp.run_snn`; what can be probed are ``population.spikes`` and ``population.v``.

        Returns
        -------
        Result, (Image, Counts)
            Outputs are floats in the network's own range; the counts are for all samples together.
        """
        count = self._steps(steps)
        ask = self._asked(probes, trace)
        parts: list[Result] = []
        counts = Counts(0, 0, 0, 0, 0)
        for start, size, part in batches(data, batch, progress):
            maps = [
                (entry, numbers(op, part, size, count, first_sample + start)) for entry, op in self._inputs
            ]
            sender = Sender(maps, count, self.image.shape.payload_bits)
            seen = self.engine.run(sender, size, count, ask)
            parts.append(self._decoded(seen, probes, trace))
            counts += seen.counts
        return join_results(parts), (self.image, counts)

    def _steps(self, steps: int | None) -> int:
        count = steps_of(self.image.steps, steps)
        if self.image.proved and count > self.image.proved:
            text = f"it is proved for {self.image.proved:,} steps that no membrane leaves its bits, not for {count:,}"
            raise fail("E0948", text, hint=f"compile with --steps {count}")
        return count

    def _asked(self, probes: Sequence[str], trace: bool) -> Ask:
        """What the engine has to show for the probes and outputs."""
        kinds: dict[str, set[str]] = {"spikes": set(), "v": set()}
        known = {pop.name for pop in self.image.pops}
        for probe in probes:
            name, _, kind = probe.rpartition(".")
            if name not in known or kind not in kinds:
                hint = f"populations: {', '.join(sorted(known))}; each has .spikes and .v"
                raise fail("E0540", f"there is no probe {probe}", hint=hint)
            kinds[kind].add(name)
        counted = {item.population for item in self.image.outputs if item.kind == "count"}
        read = {item.population for item in self.image.outputs if item.kind == "v"}
        return Ask(
            frozenset(kinds["spikes"] | counted),
            frozenset(kinds["v"] | (read if trace else set())),
            frozenset(read),
        )

    def _decoded(self, seen: Seen, probes: Sequence[str], trace: bool) -> Result:
        """What the host makes of what it was sent."""
        outputs = {item.population: _decode(item, seen) for item in self.image.outputs}
        shown = {
            probe: (seen.after if probe.endswith(".v") else seen.fired)[probe.rpartition(".")[0]]
            for probe in probes
        }
        traces = {item.population: _trace(item, seen) for item in self.image.outputs} if trace else {}
        return Result(outputs, shown, traces=traces)


def _decode(entry: OutputMap, seen: Seen) -> Array:
    """An output after the last tick, float64."""
    if entry.kind == "v":
        return np.asarray(seen.after[entry.population][:, -1].astype(np.float64) * entry.scale)
    return np.asarray(seen.fired[entry.population].astype(np.float64).sum(axis=1) * entry.scale)


def _trace(entry: OutputMap, seen: Seen) -> Array:
    """An output after each tick, float64."""
    if entry.kind == "v":
        return np.asarray(seen.after[entry.population].astype(np.float64) * entry.scale)
    return np.asarray(np.cumsum(seen.fired[entry.population].astype(np.float64), axis=1) * entry.scale)


def event_summary(events: tuple[Image, Counts], samples: int) -> dict[str, float]:
    """Spikes, synaptic operations and time (s) a sample; nothing is known of the energy of the FPGA."""
    image, counts = events
    return {
        "spikes_per_sample": counts.spikes / samples,
        "synaptic_operations_per_sample": counts.walks * image.shape.lanes / samples,
        "time_per_sample_s": sample_time(image.shape, counts.events / samples, counts.walks / samples,
                                         counts.ticks / samples, counts.cycles / samples, image.device),
    }  # fmt: skip


def describe(module: Module) -> dict[str, Any]:
    """Use of each core of a mapped module by resource, and synapses."""
    shape = shape_of(module)
    layout = layout_of(module, FpgaDemands(shape.lanes))
    cores = {
        number: {
            "compartments": sum(len(part.neurons) for part in core.parts), "groups": core.groups,
            "in_axons": core.count, "weight_rows": core.rows, "geometries": len(core.geometries),
            "classes": len(core.parts),
        }
        for number, core in enumerate(layout.cores)
    }  # fmt: skip
    synapses = sum(_synapses(via) for op in module.of_type(dialect.Neuron) for via in vias_of(module, op))
    return {"cores": cores, "synapses": synapses, "sizing": sizing(module), "warnings": _lost(module)}


def synthesize(
    module: Module, options: Any, tell: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Place and route the shape of a mapped module, and make the bitstream with its weights.

    Parameters
    ----------
    module : Module
    options : CompileOptions
        ``device``, ``shell``, ``pins``, ``seed``, ``target_rate``.
    tell : callable
        Called with the name of each stage.

    Returns
    -------
    dict, dict of str to bytes
        For the report; bitstream and the words that are still to be loaded.

    Raises
    ------
    NmcError
        E1021, E1022 for tools; E0949 (`DoesNotFit`) where the device is too small or the routed clock too slow.
    """
    from nmc.targets.fpga.devices import USUAL, device
    from nmc.targets.fpga.synth.build import synthesize as build
    from nmc.targets.fpga.synth.flow import Design

    chip = device(str(module.attr("device") or USUAL))
    pins = Path(options.pins).read_text(encoding="utf-8") if options.pins else ""
    image = build_image(module)
    design = Design(image.shape, chip, options.shell or chip.shell, max(1, options.seed), pins)
    found = build(image, design, tell)
    rate = found.figures.megahertz * 1e6 / max(1.0, sample_cycles(module))
    asked = float(module.attr("target_rate") or 0.0)
    if rate < asked:
        speed = f"{rate:,.0f} of {asked:,.0f} samples a second"
        text = f"{found.figures.megahertz:.1f} MHz after place and route give {speed}"
        hint = "ask for a little more, so that a faster shape is taken, or try another --seed"
        raise DoesNotFit(Diagnostic("E0949", text, hint=hint))
    return {**found.to_json(), "samples_per_second": rate}, found.files()


def _lost(module: Module) -> list[str]:
    """Weights that rounding made zero, by projection."""
    lost: dict[str, int] = module.attr("lost_weights", {})
    if not lost:
        return []
    worst = ", ".join(
        f"%{name}: {count:,}" for name, count in sorted(lost.items(), key=lambda item: -item[1])[:3]
    )
    return [f"{sum(lost.values()):,} weights are so small that they are stored as 0 ({worst})"]


def _synapses(via: snn.ProjectionOp) -> int:
    """Synapses of a projection, kernels at every place."""
    if isinstance(via, snn.Conv):
        return int(np.prod(via.weight.shape[1:])) * via.result.type.size
    weight = via.weight.array()
    if isinstance(via, snn.OneToOne):
        weight = np.broadcast_to(weight, via.result.shape)
    elif isinstance(via, Sparse):
        weight = np.broadcast_to(weight, via.target.shape)
    return int(np.count_nonzero(weight))


def layers(module: Module) -> list[dict[str, Any]]:
    """One row a population: name, source, neurons, cores, worst weight error."""
    errors: dict[str, float] = module.attr("weight_error", {})
    found = []
    for op in module.of_type(dialect.Neuron):
        found.append({
            "name": op.out, "source": str(op.loc or ""), "neurons": op.result.type.size,
            "compartments": op.result.type.size,
            "cores": sorted({part.core for part in module.of_type(Neurons) if part.of.name == op.out}),
            "weight_error": max((errors.get(value.name, 0.0) for value in op.current), default=0.0),
        })  # fmt: skip
    return found


def places(module: Module) -> dict[str, Any]:
    """Where every neuron lives, for ``map.json``: core and number on its core by population."""
    layout = layout_of(module, FpgaDemands(shape_of(module).lanes))
    table = {}
    for op in module.of_type(dialect.Neuron):
        core, number = (part[op.out].reshape(-1).tolist() for part in (layout.core, layout.slot))
        table[op.out] = {
            "shape": list(op.shape), "source": str(op.loc or ""), "core": core, "compartment": number,
            "receives": number,
        }  # fmt: skip
    return table
