"""The import itself: read, flatten, infer shapes, find dt, convert."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from nmc.frontends.nir.convention import ALIASES, CONVENTIONS, Convention, choose
from nmc.frontends.nir.flatten import Flattener
from nmc.frontends.nir.isolated import read_isolated
from nmc.frontends.nir.metadata import DECODER, ENCODER, node_record, options, record_of
from nmc.frontends.nir.neurons import neuron
from nmc.frontends.nir.paths import Path, Paths
from nmc.frontends.nir.primitives import NEURONS, SPIKING, Graph, Unfit
from nmc.frontends.nir.projections import Weaver, quantise
from nmc.frontends.nir.semantics import PRESETS, REFUSED, preset
from nmc.frontends.nir.shapes import Shapes
from nmc.frontends.onnx.names import Names, sanitise
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Value, VerifyError
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.ir.record import Record
from nmc.ir.types import Type

RESETS = ("zero", "subtract", "to-value")
#: Convention and semantics of files that nmc wrote: the record is in the metadata (see `metadata`).
NMC = "nmc"


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
        ``rockpool``, ``spyx``; ``auto`` takes the record of nmc's own metadata where there is one (as ``nmc``
        insists on) and tests all formulas otherwise.
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
    convention = ALIASES.get(convention, convention)
    _check_options(dt, convention, semantics, reset, output_delay)
    graph, shapes = _graph(path, semantics)
    try:
        verdict, record, own = _arithmetic(graph, path.name, dt, convention, semantics, reset, output_delay)
        if own is not None:
            semantics = NMC
        else:
            if reset is None and record.reset == "zero":
                _reset_to_what(graph, semantics)
            graph = _without_metadata(graph)
        return build(path.name, graph, shapes, record, verdict, semantics)
    except Unfit as error:
        raise fail(error.code, error.message, where=path.name, hint=error.hint) from None
    except VerifyError as error:
        raise fail("E0345", str(error), where=path.name) from None


def _graph(path: FilePath, semantics: str) -> tuple[Graph, Shapes]:
    """Read the flat graph and infer all shapes; every problem at once."""
    raw, version = read_isolated(path)
    flattener = Flattener(path.name)
    graph = flattener.run(raw, version)
    problems = flattener.problems
    shapes = Shapes(graph, path.name) if not problems else None
    problems += shapes.problems if shapes else []
    problems += _refused(graph, semantics, path.name)
    if problems or shapes is None:
        raise NmcError(dict.fromkeys(problems))
    return graph, shapes


def build(
    file: str, graph: Graph, shapes: Shapes, record: Record, convention: Convention, semantics: str = NMC
) -> Module:
    """Make the module of a graph in which everything fits.

    Parameters
    ----------
    file : str
        Where it comes from.
    graph, shapes : Graph, Shapes
        The network.
    record, convention : Record, Convention
        Which arithmetic, and what r means.
    semantics : str
        Name of the arithmetic, for people.

    Raises
    ------
    Unfit
        Whatever is found only now.
    """
    return _Build(file, graph, shapes, Paths(graph, shapes), record, convention, semantics).run()


def _arithmetic(
    graph: Graph,
    file: str,
    dt: float | None,
    convention: str,
    semantics: str,
    reset: str | None,
    output_delay: int | None,
) -> tuple[Convention, Record, Record | None]:
    """Find out which arithmetic: that of nmc's own metadata, unless the user wants another one."""
    own = record_of(graph.meta) if convention in ("auto", NMC) else None
    if own is None and convention == NMC:
        raise Unfit("E0346", "the file holds no metadata of nmc", "use another --convention")
    if own is not None and dt in (None, own.dt):
        evidence = ("verdict: written by nmc, the record is in the metadata",)
        verdict = Convention(NMC, own.dt, evidence)
        if (semantics, reset, output_delay) == ("nir-exact", None, None):
            return verdict, own, own
        return verdict, preset(semantics, own.dt, reset, output_delay), None
    with_r = [node for node in graph.nodes.values() if "r" in node.fields and node.kind in NEURONS]
    verdict = choose(with_r, "nir" if own is not None else convention, dt, file)
    return verdict, preset(semantics, verdict.dt, reset, output_delay), None


def _reset_to_what(graph: Graph, semantics: str) -> None:
    """Ask where a file resets to a value, semantics to 0, and the user has not said which."""
    names = [
        node.name
        for node in graph.nodes.values()
        if node.kind in SPIKING and bool(np.any(node.array("v_reset", 0.0)))
    ]
    if names:
        raise Unfit(
            "E0347",
            f"{', '.join(names[:3])}: v_reset is not 0, but {semantics} resets to 0",
            "--reset to-value takes the values of the file, --reset zero ignores them",
        )


def _without_metadata(graph: Graph) -> Graph:
    """The graph as other tools see it; of inputs and outputs the coding stays."""
    nodes = {
        name: node if node.kind in ("Input", "Output") else replace(node, meta={})
        for name, node in graph.nodes.items()
    }
    return replace(graph, nodes=nodes)


def _check_options(
    dt: float | None, convention: str, semantics: str, reset: str | None, output_delay: int | None
) -> None:
    wrong = []
    if dt is not None and not (math.isfinite(dt) and dt > 0):
        wrong.append(f"dt = {dt} is not a positive number")
    if convention not in ("auto", NMC, *CONVENTIONS):
        wrong.append(
            f"convention {convention[:40]!r} is none of auto, {', '.join((*CONVENTIONS, *ALIASES))}, {NMC}"
        )
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
                wanted = options(node).get("name", name)
                self._values[name] = Value(self._names.fresh(wanted), self._type(name))
        self._weaver = Weaver(self.file, self.record.dt, self._names)
        ops = _in_order([self._ops(name) for name in self.paths.order])
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
        own = options(node)
        if node.kind == "Input":
            constant = own.get("encoder") == "constant"
            return Type("current" if constant else "spikes", self.shapes.shape[name])
        spikes = node.kind in SPIKING and node_record(self.record, own).max_spikes == 1
        return Type("spikes" if spikes else "graded", self.shapes.shape[name])

    def _ops(self, name: str) -> list[Op]:
        node, loc = self.graph.nodes[name], Loc(self.file, name)
        if node.kind == "Input":
            value, own = self._values[name], options(node)
            entries = {key: own[key] for key in ENCODER if key in own}
            plain = snn.Input(out=value.name, loc=loc, source=value.name, shape=value.shape, encoder="raster")
            return [replace(plain, **entries)]
        if node.kind == "Output":
            return []
        return self._population(name, loc)

    def _population(self, name: str, loc: Loc) -> list[Op]:
        node, own = self.graph.nodes[name], options(self.graph.nodes[name])
        projections = self._projections(name)
        scale = 1.0
        if self.record.quantize == "int8-trunc":
            projections, scale = quantise(projections)
        constant = [self._values[path.source] for path in self.paths.into[name] if self._is_constant(path)]
        current = (*constant, *(op.result for op in projections))
        if not current:
            raise Unfit("E0344", f"no population and no input leads to {name[:80]!r}")
        out, biases = self._values[name].name, self.paths.biases(name)
        record, start = node_record(self.record, own), own.get("start", self.record.output_delay)
        population = neuron(node, out, current, record, self.convention, biases, scale, start)
        return [*projections, replace(population, loc=loc)]

    def _is_constant(self, path: Path) -> bool:
        """Whether a constant input drives a population itself; linear nodes in between take spikes only."""
        if self._values[path.source].type.kind != "current":
            return False
        if path.stages:
            raise Unfit("E0343", f"the constant input {path.source[:80]!r} leads to a linear node")
        return True

    def _projections(self, name: str) -> list[snn.ProjectionOp]:
        found: list[snn.ProjectionOp] = []
        for path in self.paths.into[name]:
            delay = self.record.recurrent_delay if path.recurrent else self.record.output_delay
            if self._is_constant(path):
                continue
            found += self._weaver.weave(path, self._values[path.source], self.shapes.shape[name], delay)
        return found

    def _output(self, name: str) -> list[Op]:
        """Spikes are counted, potentials taken at the end; linear nodes at the end get a read-out of their own."""
        loc, ops, own = Loc(self.file, name), list[Op](), options(self.graph.nodes[name])
        linear = [path for path in self.paths.into[name] if path.stages]
        for path in self.paths.into[name]:
            if not path.stages and path not in linear and self.graph.nodes[path.source].kind != "Input":
                spiking = self.graph.nodes[path.source].kind in SPIKING
                value = self._values[path.source]
                entries = {"decoder": "count" if spiking else "last", **_decoder(own)}
                ops.append(snn.Output(loc=loc, data=value, **entries))
        if linear:
            ops += self._readout(name, loc)
        return list(dict.fromkeys(ops))

    def _readout(self, name: str, loc: Loc) -> list[Op]:
        own, shape = options(self.graph.nodes[name]), self.shapes.shape[name]
        found = [op for path in self.paths.into[name] if path.stages
                 for op in self._weaver.weave(path, self._values[path.source], shape, 0)]  # fmt: skip
        out = self._names.fresh(own.get("name", name))
        forward, recurrent = self.paths.biases(name)
        bias = forward if forward is not None else recurrent
        const = None if bias is None or not np.any(bias) else Const(f"{out}.bias", bias)
        start = own.get("start", self.record.output_delay)
        sums = Neuron(out=out, loc=loc, current=tuple(op.result for op in found), bias=const, reset="none",
                      beta=Const(f"{out}.beta", np.zeros(1)), start=start)  # fmt: skip
        return [*found, sums, snn.Output(loc=loc, data=sums.result, **{"decoder": "count", **_decoder(own)})]


def _decoder(own: dict[str, Any]) -> dict[str, Any]:
    """How an output is decoded, as far as its metadata say."""
    return {name: item for name, item in own.items() if name in DECODER}


def _in_order(groups: list[list[Op]]) -> list[Op]:
    """Bring populations that act on each other within a step into that order; otherwise they stay as they are."""
    place = {group[-1].out: index for index, group in enumerate(groups) if group}
    before = [
        {place[op.spikes.name] for op in group if isinstance(op, snn.ProjectionOp) and not op.delay}
        for group in groups
    ]
    order: dict[int, None] = {}
    waiting = list(range(len(groups)))
    while waiting:
        ready = next((index for index in waiting if before[index] <= order.keys()), waiting[0])
        order[ready] = None
        waiting.remove(ready)
    return [op for index in order for op in groups[index]]
