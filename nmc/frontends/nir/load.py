"""The import itself: read, flatten, infer shapes, find dt, convert."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import numpy as np

from nmc.frontends.nir.convention import CONVENTIONS, Convention, choose
from nmc.frontends.nir.flatten import Flattener
from nmc.frontends.nir.isolated import read_isolated
from nmc.frontends.nir.neurons import neuron
from nmc.frontends.nir.paths import Paths
from nmc.frontends.nir.primitives import NEURONS, SPIKING, Graph, Unfit
from nmc.frontends.nir.projections import Weaver, quantise
from nmc.frontends.nir.semantics import PRESETS, REFUSED, preset
from nmc.frontends.nir.shapes import Shapes
from nmc.frontends.onnx.names import Names, sanitise
from nmc.ir.const import Const
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Value, VerifyError
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.ir.record import Record
from nmc.ir.types import Type

RESETS = ("zero", "subtract", "to-value")


def load_nir(
    path: str | FilePath,
    *,
    dt: float | None = None,
    convention: str = "auto",
    semantics: str = "nir-exact",
    reset: str | None = None,
    output_delay: int | None = None,
) -> Module:
    """Import a network of the Neuromorphic Intermediate Representation.

    Parameters
    ----------
    path : str or Path
        A ``.nir`` file of any version.
    dt : float or None
        Length of a time step, in the unit of the file's time constants (seconds, mostly).
    convention : str
        How the exporter wrote r: ``nir`` (as the equations say), ``snntorch``, ``spikingjelly``, ``sinabs``,
        ``rockpool``, ``spyx``; ``auto`` tests all formulas.
    semantics : str
        Whose arithmetic: a key of `nmc.frontends.nir.semantics.PRESETS`.
    reset : {"zero", "subtract", "to-value"} or None
        Instead of the preset's; NIR files do not tell it.
    output_delay : int or None
        Instead of the preset's.

    Returns
    -------
    Module
        Of level ``snn``. Attributes: ``record`` (the discretisation), ``convention``, ``evidence``, ``nir`` (version
        of the file, neurons and synapses that it describes). Inputs take spikes (B, T, *shape).

    Raises
    ------
    NmcError
        E0341 the file cannot be read; E0342 an unknown node; E0343 wrong fields; E0344 a wrong graph; E0345 shapes
        that do not fit; E0346 dt or convention are unclear; E0347 wrong options; E0348 too large.
    """
    path = FilePath(path)
    _check_options(dt, convention, semantics, reset, output_delay)
    raw, version = read_isolated(path)
    flattener = Flattener(path.name)
    graph = flattener.run(raw, version)
    problems = flattener.problems
    shapes = Shapes(graph, path.name) if not problems else None
    problems += shapes.problems if shapes else []
    problems += _refused(graph, semantics, path.name)
    if problems or shapes is None:
        raise NmcError(dict.fromkeys(problems))
    with_r = [node for node in graph.nodes.values() if "r" in node.fields and node.kind in NEURONS]
    verdict = choose(with_r, convention, dt, path.name)
    record = preset(semantics, verdict.dt, reset, output_delay)
    try:
        return _Build(path.name, graph, shapes, Paths(graph, shapes), record, verdict, semantics).run()
    except Unfit as error:
        raise fail(error.code, error.message, where=path.name, hint=error.hint) from None
    except VerifyError as error:
        raise fail("E0345", str(error), where=path.name) from None


def _check_options(
    dt: float | None, convention: str, semantics: str, reset: str | None, output_delay: int | None
) -> None:
    wrong = []
    if dt is not None and not (math.isfinite(dt) and dt > 0):
        wrong.append(f"dt = {dt} is not a positive number")
    if convention not in ("auto", *CONVENTIONS):
        wrong.append(f"convention {convention[:40]!r} is none of auto, {', '.join(CONVENTIONS)}")
    if semantics not in PRESETS:
        wrong.append(f"semantics {semantics[:40]!r} is none of {', '.join(PRESETS)}")
    if reset is not None and reset not in RESETS:
        wrong.append(f"reset {reset[:40]!r} is none of {', '.join(RESETS)}")
    if output_delay is not None and not 0 <= output_delay <= 1000:
        wrong.append(f"output_delay = {output_delay} is not in 0..1000")
    if wrong:
        raise NmcError(Diagnostic("E0347", message) for message in wrong)


def _refused(graph: Graph, semantics: str, file: str) -> list[Diagnostic]:
    return [
        Diagnostic("E0347", f"{node.kind} under {semantics}: {why}", where=f'{file}: node "{node.name[:200]}"',
                   hint="choose other --semantics")
        for node in graph.nodes.values()
        if (why := REFUSED.get((semantics, node.kind))) is not None
    ]  # fmt: skip


@dataclass
class _Build:
    """Makes the ops of a graph in which everything fits."""

    file: str
    graph: Graph
    shapes: Shapes
    paths: Paths
    record: Record
    convention: Convention
    semantics: str

    def run(self) -> Module:
        """Give the module."""
        self._names = Names()
        self._values: dict[str, Value] = {}
        for name in self.paths.order:
            node = self.graph.nodes[name]
            if node.kind == "Input" or node.kind in NEURONS:
                self._values[name] = Value(self._names.fresh(name), self._type(name))
        self._weaver = Weaver(self.file, self.record.dt, self._names)
        ops: list[Op] = []
        for name in self.paths.order:
            ops += self._ops(name)
        outputs = [op for name in self.paths.order if self.graph.nodes[name].kind == "Output"
                   for op in self._output(name)]  # fmt: skip
        if not outputs:
            raise Unfit("E0344", "nothing leads to an output", "add an Output node")
        return Module(sanitise(FilePath(self.file).stem), "snn", (*ops, *outputs), self._attrs())

    def _attrs(self) -> tuple[tuple[str, object], ...]:
        neurons = sum(math.prod(self.shapes.shape[name]) for name, node in self.graph.nodes.items()
                      if node.kind in NEURONS)  # fmt: skip
        synapses = sum(stage.synapses for stage in self.shapes.stage.values())
        return (
            ("semantics", self.semantics),
            ("record", self.record.attrs()),
            ("convention", self.convention.name),
            ("evidence", (*self.convention.evidence, *self.graph.notes)),
            ("nir", {"version": self.graph.version, "neurons": neurons, "synapses": synapses}),
        )

    def _type(self, name: str) -> Type:
        node = self.graph.nodes[name]
        spikes = node.kind == "Input" or (node.kind in SPIKING and self.record.max_spikes == 1)
        return Type("spikes" if spikes else "graded", self.shapes.shape[name])

    def _ops(self, name: str) -> list[Op]:
        node, loc = self.graph.nodes[name], Loc(self.file, name)
        if node.kind == "Input":
            value = self._values[name]
            return [
                snn.Input(out=value.name, loc=loc, source=value.name, shape=value.shape, encoder="raster")
            ]
        if node.kind == "Output":
            return []
        projections = self._projections(name)
        scale = 1.0
        if self.record.quantize == "int8-trunc":
            projections, scale = quantise(projections)
        current = tuple(op.result for op in projections)
        out, biases = self._values[name].name, self.paths.biases(name)
        population = neuron(node, out, current, self.record, self.convention, biases, scale)
        return [*projections, replace(population, loc=loc)]

    def _projections(self, name: str) -> list[snn.ProjectionOp]:
        found: list[snn.ProjectionOp] = []
        for path in self.paths.into[name]:
            delay = self.record.recurrent_delay if path.recurrent else self.record.output_delay
            found += self._weaver.weave(path, self._values[path.source], self.shapes.shape[name], delay)
        if not found:
            raise Unfit("E0344", f"no population and no input leads to {name[:80]!r}")
        return found

    def _output(self, name: str) -> list[Op]:
        """Spikes are counted, potentials taken at the end; linear nodes at the end get a read-out of their own."""
        loc, ops = Loc(self.file, name), list[Op]()
        linear = [path for path in self.paths.into[name] if path.stages]
        for path in self.paths.into[name]:
            if not path.stages and path not in linear and self.graph.nodes[path.source].kind != "Input":
                spiking = self.graph.nodes[path.source].kind in SPIKING
                value = self._values[path.source]
                ops.append(snn.Output(loc=loc, data=value, decoder="count" if spiking else "last"))
        if linear:
            ops += self._readout(name, loc)
        return list(dict.fromkeys(ops))

    def _readout(self, name: str, loc: Loc) -> list[Op]:
        shape = self.shapes.shape[name]
        found = [op for path in self.paths.into[name] if path.stages
                 for op in self._weaver.weave(path, self._values[path.source], shape, 0)]  # fmt: skip
        out = self._names.fresh(name)
        forward, recurrent = self.paths.biases(name)
        bias = forward if forward is not None else recurrent
        const = None if bias is None or not np.any(bias) else Const(f"{out}.bias", bias)
        sums = Neuron(out=out, loc=loc, current=tuple(op.result for op in found), bias=const, reset="none",
                      beta=Const(f"{out}.beta", np.zeros(1)), start=self.record.output_delay)  # fmt: skip
        return [*found, sums, snn.Output(loc=loc, data=sums.result, decoder="count")]
