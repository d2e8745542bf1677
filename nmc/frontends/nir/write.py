"""NIR files from spiking modules: what NIR's primitives say goes into nodes, the rest of a step into the metadata.

A population becomes a neuron, a projection a linear node (Linear, Affine, Conv1d, Conv2d or Scale, with Flatten where a
matrix follows several axes), a delay that the record does not tell a Delay node. Biases ride on a linear node; where
there is none, on one from an input of zeros. See `metadata` for what nmc reads back, bit for bit.
"""

from __future__ import annotations

from dataclasses import field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nmc.frontends.nir.hdf5 import Raw
from nmc.frontends.nir.metadata import DECODER, FORMAT, KEY, dumps
from nmc.frontends.nir.paths import Path as Way
from nmc.frontends.nir.paths import walk
from nmc.frontends.nir.primitives import Array, Field, Graph, Ints, Node
from nmc.frontends.nir.write_neurons import Cell, Refused, cell_of, common_record, nir_bias
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.module import Module
from nmc.ir.op import Op, StatefulOp
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.record import Record
from nmc.ir.verify import describe

#: Version of the format, as the package nir writes it.
VERSION = "1.0.8"
#: Elements of a matrix that a sparse projection may become.
MAX_MATRIX = 1 << 22


def write_nir(module: Module, path: str | Path) -> None:
    """Write a spiking network as a ``.nir`` file; the same module gives the same bytes.

    Parameters
    ----------
    module : Module
        Of level ``snn``, before the target's own arithmetic.
    path : str or Path
        What to write.

    Raises
    ------
    NmcError
        E0349, once for every op that NIR has no form for; E0341 without h5py; E0002 when it cannot be written.
    """
    write_tree(nir_tree(module), path)


def write_tree(tree: Raw, path: str | Path) -> None:
    """Store a graph; see `write_nir`."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        raise fail("E0341", "NIR files are HDF5: h5py is missing", hint="pip install 'nmc[nir]'") from None
    try:
        with h5py.File(path, "w") as file:
            file.create_dataset("version", data=VERSION, dtype=h5py.string_dtype(), track_times=False)
            _store(h5py, file.create_group("node"), tree)
    except OSError as error:
        raise fail("E0002", f"cannot be written: {error}", where=str(path)) from None


def _store(h5py: Any, group: Any, raw: Raw) -> None:
    def put(where: Any, items: dict[str, Field]) -> None:
        for key, item in sorted(items.items()):
            text = isinstance(item, str)
            more = {} if text or np.size(item) < 64 else {"compression": "gzip", "shuffle": True}
            kind = h5py.string_dtype() if text else None
            where.create_dataset(key, data=item, dtype=kind, track_times=False, **more)

    put(group, {"type": raw.kind, **raw.fields})
    if raw.meta:
        put(group.create_group("metadata"), raw.meta)
    if raw.kind == "NIRGraph":
        inside = group.create_group("nodes")
        for name, node in sorted(raw.nodes.items()):
            _store(h5py, inside.create_group(name), node)
        pairs = np.array(raw.edges, dtype=object).reshape(-1, 2)
        group.create_dataset("edges", data=pairs, dtype=h5py.string_dtype(), track_times=False)


def nir_tree(module: Module) -> Raw:
    """Give the graph that `write_nir` stores.

    Raises
    ------
    NmcError
        E0349, once for every op that NIR has no form for.
    """
    if module.level != "snn":
        raise fail("E0349", f"module {module.name} is of level {module.level}, not snn", hint=_LEVEL_HINT)
    return _Writer(module).run()


_LEVEL_HINT = "convert trained networks first: nmc opt -p @default:loihi, up to ann-to-snn"


@dataclass(frozen=True)
class _Link:
    """A projection (None: a constant current) from a node to a node."""

    source: str
    target: str
    op: snn.ProjectionOp | None
    readout: bool = False


@dataclass
class _Writer:
    """Collects nodes, edges and everything that stands in the way."""

    module: Module
    nodes: dict[str, Raw] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    carriers: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def run(self) -> Raw:
        """Give the graph."""
        self._sort_ops()
        self.links = [link for op in self.populations for link in self._links(op)]
        self.links += [link for op in self.readouts for link in self._links(op)]
        self.record = self._record()
        self.cells = {op.out: cell for op in self.populations if (cell := self._cell(op)) is not None}
        if not self.problems:
            self._classify()
            self._build()
        if self.problems:
            raise NmcError(dict.fromkeys(self.problems))
        meta = {"format": FORMAT, "record": self.record.attrs()}
        return Raw("NIRGraph", {}, self.nodes, self.edges, {KEY: dumps(meta)})

    def _refuse(self, op: Op, why: str, hint: str = "") -> None:
        self.problems.append(Diagnostic("E0349", why, where=describe(op), hint=hint))

    def name(self, wanted: str) -> str:
        """A node name of its own; HDF5 gives ``/`` another meaning."""
        clean = wanted.replace("/", "_")
        name, number = clean, 1
        while name in self.used:
            number += 1
            name = f"{clean}.{number}"
        self.used.add(name)
        return name

    def _sort_ops(self) -> None:
        """Tell inputs, populations and read-outs apart, name them, and refuse the rest."""
        self.inputs: list[snn.Input] = []
        self.populations: list[StatefulOp] = []
        self.readouts: list[StatefulOp] = []
        for op in self.module.ops:
            if isinstance(op, snn.Input):
                if op.source or self.module.users.get(op.out):
                    self.inputs.append(op)
            elif isinstance(op, Neuron) and self._is_readout(op):
                self.readouts.append(op)
            elif isinstance(op, snn.If | snn.Integrator | Neuron):
                self.populations.append(op)
            elif not isinstance(op, snn.Conv | snn.Dense | snn.OneToOne | Sparse | snn.Output):
                hint = "export before the target's own arithmetic" if not op.name.startswith("snn.") else ""
                self._refuse(op, f"{op.name} has no counterpart in NIR", hint)
        for stateful in (*self.inputs, *self.populations, *self.readouts):
            self.names[stateful.out] = self.name(stateful.out)

    def _is_readout(self, op: Neuron) -> bool:
        """Linear nodes that lead to an output: a potential that only sums the currents of its step."""
        plain = (
            op.threshold is None
            and op.beta is not None
            and not op.beta.array().any()
            and op.late_bias is None
        )
        others = (op.alpha, op.gain, op.leak, op.w_in, op.feed, op.v_init)
        users = self.module.users.get(op.out, ())
        return (
            plain and not any(others) and bool(users) and all(isinstance(user, snn.Output) for user in users)
        )

    def _links(self, op: Any) -> list[_Link]:
        found = []
        for value in op.current:
            producer = self.module.producers[value.name]
            readout = op in self.readouts
            if isinstance(producer, snn.ProjectionOp) and producer.spikes.name in self.names:
                found.append(_Link(producer.spikes.name, op.out, producer, readout))
            elif isinstance(producer, snn.Input):
                found.append(_Link(producer.out, op.out, None, readout))
        return found

    def _record(self) -> Record:
        """The record of the file; delays of the module that it leaves open become Delay nodes."""
        entries = self.module.attr("record")
        base = Record.read(entries) if entries is not None else Record(float(self.module.attr("dt") or 1.0))
        late = any(isinstance(op, Neuron) and op.late_bias is not None for op in self.populations)
        shared = common_record(base, tuple(self.populations))
        return replace(shared, quantize="none", recurrent_bias="late" if late else "kept")

    def _cell(self, op: StatefulOp) -> Cell | None:
        shape = self._shape(op)
        try:
            return cell_of(op, shape, self.record, self.names[op.out])
        except Refused as error:
            self._refuse(op, str(error))
            return None

    def _shape(self, op: StatefulOp) -> Ints:
        """NIR matrices give vectors: the population behind one is flat."""
        shape = op.result.shape or (1,)
        flat = [
            link for link in self.links if link.target == op.out and isinstance(link.op, snn.Dense | Sparse)
        ]
        return (prod(shape),) if flat else shape

    # Delays and biases

    def _classify(self) -> None:
        """Tell which hops close loops, and lower the record's delays to those that all projections have."""
        while True:
            self.back = self._back()
            everything = (*self.populations, *self.readouts)
            missing = {op.out for op in everything if self._lacks_carrier(op)} | self._unreached()
            if missing <= self.carriers:
                break
            self.carriers |= missing
        delays: dict[bool, list[int]] = {False: [], True: []}
        for link in self.links:
            if link.op is not None and not link.readout:
                delays[self._recurrent(link)].append(link.op.delay)
        self.record = replace(
            self.record,
            output_delay=min([self.record.output_delay, *delays[False]]),
            recurrent_delay=min([self.record.recurrent_delay, *delays[True]]),
        )
        self.cells = {op.out: cell for op in self.populations if (cell := self._cell(op)) is not None}

    def _lacks_carrier(self, op: Any) -> bool:
        return self._forward_bias(op) is not None and self._carrier(op, False) is None

    def _unreached(self) -> set[str]:
        """Populations that no input leads to, but loops or a bias alone drive: a reader looks for an input."""
        reached = [op.out for op in self.inputs]
        for name in reached:
            reached += [
                link.target for link in self.links if link.source == name and link.target not in reached
            ]
        return {op.out for op in self.populations} - set(reached)

    def _links_of(self, target: str) -> list[_Link]:
        return [link for link in self.links if link.target == target]

    def _recurrent(self, link: _Link) -> bool:
        return (self.names[link.source], self.names[link.target]) in self.back

    def _back(self) -> set[tuple[str, str]]:
        """Hops that the reader takes for recurrent ones: its own depth-first search, over the same names."""
        nodes = {self.names[op.out]: Node(self.names[op.out], "Input", {}) for op in self.inputs}
        nodes |= {f"{self.names[name]}.zero": Node("", "Input", {}) for name in self.carriers}
        nodes |= {self.names[op.out]: Node("", "Output", {}) for op in (*self.populations, *self.readouts)}
        ways: dict[str, list[Way]] = {name: [] for name in sorted(nodes) if nodes[name].kind == "Output"}
        for link in self.links:
            ways[self.names[link.target]].append(Way(self.names[link.source], self.names[link.target], ()))
        for name in self.carriers:
            ways[self.names[name]].append(Way(f"{self.names[name]}.zero", self.names[name], ()))
        return walk(Graph(dict(sorted(nodes.items())), ()), ways)[1]

    def _forward_bias(self, op: Any) -> Array | None:
        if op in self.readouts:
            return None if op.bias is None else np.broadcast_to(op.bias.array(), op.result.shape).reshape(-1)
        return nir_bias("bias", op, self.cells[op.out], self._own_record(op))

    def _own_record(self, op: StatefulOp) -> Record:
        from nmc.frontends.nir.metadata import node_record, options

        return node_record(self.record, options(Node(op.out, "", {}, self.cells[op.out].meta)))

    def _carrier(self, op: Any, recurrent: bool) -> _Link | None:
        """The link whose linear node can hold the bias of a population."""
        bias = self._bias(op, recurrent)
        for link in self._links_of(op.out):
            if link.op is None or self._recurrent(link) != recurrent:
                continue
            if isinstance(link.op, snn.Dense | Sparse):
                return link
            if isinstance(link.op, snn.Conv) and bias is not None:
                channels = bias.reshape(op.result.shape[0], -1)
                if bool((channels == channels[:, :1]).all()):
                    return link
        return None

    def _bias(self, op: Any, recurrent: bool) -> Array | None:
        if not recurrent:
            return self._forward_bias(op)
        return (
            None
            if op in self.readouts
            else nir_bias("late_bias", op, self.cells[op.out], self._own_record(op))
        )

    # Nodes and edges

    def _build(self) -> None:
        for op in self.inputs:
            self._input(op)
        for population in self.populations:
            cell = self.cells[population.out]
            self._node(self.names[population.out], Raw(cell.kind, cell.fields, meta=cell.meta))
            self._incoming(population, self._shape(population))
        for output in self.module.of_type(snn.Output):
            self._output(output)

    def _node(self, name: str, raw: Raw) -> str:
        self.nodes[name] = raw
        return name

    def _input(self, op: snn.Input) -> None:
        plain = snn.Input(source=op.source, shape=op.shape, encoder=op.encoder, gain=op.gain, seed=op.seed)
        if replace(op, out="", loc=None) != plain:
            self._refuse(op, "this coding of data has no counterpart in NIR", "give the spikes as a raster")
        own: dict[str, Any] = {} if op.encoder == "raster" else {"encoder": op.encoder, "gain": op.gain}
        if own and op.seed:
            own["seed"] = op.seed
        if self.names[op.out] != op.out:
            own["name"] = op.out
        if op.source != op.out:
            own["source"] = op.source
        meta: dict[str, Field] = {KEY: dumps(own)} if own else {}
        self._node(self.names[op.out], Raw("Input", {"shape": np.array(op.shape or (1,))}, meta=meta))

    def _incoming(self, op: Any, shape: Ints) -> None:
        """Chains of nodes of all that leads into a population or a read-out, in the order of its currents."""
        biases = {recurrent: self._bias(op, recurrent) for recurrent in (False, True)}
        carried = {
            recurrent: self._carrier(op, recurrent) for recurrent in biases if biases[recurrent] is not None
        }
        if carried.get(True, _PRESENT) is None:
            self._refuse(
                op, "a bias that acts from the second step on, and no matrix in a loop that brings it"
            )
        for link in self._links_of(op.out):
            bias = next((biases[key] for key, item in carried.items() if item is link), None)
            self._chain(link, shape, bias)
        if op.out in self.carriers:
            self._zero(op, shape, biases[False])

    def _zero(self, op: StatefulOp, shape: Ints, bias: Array | None) -> None:
        """A bias that no projection brings comes with an input of zeros."""
        name = self.name(f"{self.names[op.out]}.zero")
        own = {"encoder": "rate", "gain": 0.0, "source": ""}
        self._node(name, Raw("Input", {"shape": np.array((*shape[:-1], 1))}, meta={KEY: dumps(own)}))
        full = np.zeros(shape) if bias is None else bias.reshape(shape)
        weight = np.zeros((*shape, 1))
        affine = self._node(self.name(f"{name}.bias"), Raw("Affine", {"weight": weight, "bias": full}))
        self.edges += [(name, affine), (affine, self.names[op.out])]

    def _chain(self, link: _Link, shape: Ints, bias: Array | None) -> None:
        target, here = self.names[link.target], self.names[link.source]
        if link.op is None:
            self.edges.append((here, target))
            return
        have = self._source_shape(link.source)
        base = (
            0
            if link.readout
            else self.record.recurrent_delay
            if self._recurrent(link)
            else self.record.output_delay
        )
        steps = link.op.delay - base
        linear = self._linear(link, have, shape, bias)
        nodes = [("delay", Raw("Delay", {"delay": np.full(have, steps * self.record.dt)}))] if steps else []
        flat = isinstance(link.op, snn.Dense | Sparse) and len(have) > 1
        if flat:
            fields: dict[str, Field] = {
                "start_dim": np.array(0),
                "end_dim": np.array(-1),
                "input_type": np.array(have),
            }
            nodes.append(("flat", Raw("Flatten", fields)))
        for what, raw in nodes:
            following = self._node(self.name(f"{self._plain(link.op.out)}.{what}"), raw)
            self.edges.append((here, following))
            here = following
        if linear is not None:
            following = self._node(self.name(link.op.out), linear)
            self.edges.append((here, following))
            here = following
        self.edges.append((here, target))

    def _plain(self, name: str) -> str:
        return name.replace("/", "_")

    def _source_shape(self, name: str) -> Ints:
        op = self.module.producers[name]
        assert isinstance(op, StatefulOp)
        return op.shape or (1,) if isinstance(op, snn.Input) else self._shape(op)

    def _linear(self, link: _Link, have: Ints, shape: Ints, bias: Array | None) -> Raw | None:
        """The linear node of a projection; None where spikes count once each."""
        op = link.op
        if isinstance(op, snn.Conv):
            return self._conv(op, have, shape, bias)
        if isinstance(op, snn.OneToOne):
            return self._scale(link, op, have, shape)
        assert isinstance(op, snn.Dense | Sparse)
        weight = op.weight.array() if isinstance(op, snn.Dense) else self._matrix(op)
        if bias is None:
            return Raw("Linear", {"weight": weight})
        return Raw("Affine", {"weight": weight, "bias": bias.copy()})

    def _matrix(self, op: Sparse) -> Array:
        rows, columns = prod(op.shape), op.spikes.type.size
        if rows * columns > MAX_MATRIX:
            why = f"NIR has no sparse weights, and a matrix of {rows:,} x {columns:,} is more than {MAX_MATRIX:,}"
            self._refuse(op, why)
            return np.zeros((1, 1))
        matrix = np.zeros((rows, columns))
        np.add.at(matrix, (op.target.array(), op.source.array()), op.weight.array())
        return matrix

    def _scale(self, link: _Link, op: snn.OneToOne, have: Ints, shape: Ints) -> Raw | None:
        if have != shape:
            self._refuse(op, f"NIR cannot reshape {have} to {shape} between these populations")
            return None
        weight = op.weight.array()
        twice = [other for other in self._links_of(link.target) if other.source == link.source]
        if bool((weight == 1).all()) and len(twice) == 1 and not link.readout:
            return None
        full = np.broadcast_to(weight, op.spikes.shape or (1,)).reshape(have)
        return Raw("Scale", {"scale": full.copy()})

    def _conv(self, op: snn.Conv, have: Ints, shape: Ints, bias: Array | None) -> Raw | None:
        space = len(op.stride)
        if have != op.spikes.shape or shape != op.result.shape:
            self._refuse(op, "NIR cannot bring the vector of a matrix into the shape of a convolution")
        if space not in (1, 2):
            self._refuse(op, f"NIR has no convolution over {space} axes")
        if op.pad[:space] != op.pad[space:]:
            self._refuse(op, f"NIR pads both sides alike, not {list(op.pad)}")
        if self.problems:
            return None
        weight = op.weight.array()
        full = (
            np.zeros(weight.shape[0], weight.dtype)
            if bias is None
            else bias.reshape(shape[0], -1)[:, 0].copy()
        )
        fields: dict[str, Field] = {
            "weight": weight, "bias": full, "stride": np.array(op.stride), "padding": np.array(op.pad[:space]),
            "dilation": np.array(op.dilation), "groups": np.array(op.groups), "input_shape": np.array(have[1:]),
        }  # fmt: skip
        if space == 1:  # nir types a Conv1d by single numbers
            fields |= {key: np.array(int(np.asarray(fields[key]).reshape(-1)[0])) for key in _SINGLE}
        return Raw(f"Conv{space}d", fields)

    def _output(self, op: snn.Output) -> None:
        producer = self.module.producers[op.data.name]
        assert isinstance(producer, StatefulOp)
        if isinstance(producer, snn.Input):
            self._refuse(op, "an input that is an output has no counterpart in NIR")
            return
        readout = producer in self.readouts
        spiking = not readout and "v_threshold" in self.cells[producer.out].fields
        spiking = spiking or (not readout and self.cells[producer.out].kind == "Threshold")
        plain = snn.Output(data=op.data, decoder="count" if spiking or readout else "last")
        own = {name: getattr(op, name) for name in DECODER if getattr(op, name) != getattr(plain, name)}
        if readout and getattr(producer, "start", 0) != self.record.output_delay:
            own["start"] = getattr(producer, "start", 0)
        if readout and self.names[producer.out] != producer.out:
            own["name"] = producer.out
        shape = (prod(producer.result.shape),) if readout else self._shape(producer)
        meta: dict[str, Field] = {KEY: dumps(own)} if own else {}
        raw = Raw("Output", {"shape": np.array(shape)}, meta=meta)
        if not readout:
            name = self._node(self.name(f"{self.names[producer.out]}.out"), raw)
            self.edges.append((self.names[producer.out], name))
        elif self.names[producer.out] in self.nodes:
            self._refuse(op, "two decoders of one sum of currents have no counterpart in NIR")
        else:
            self._node(self.names[producer.out], raw)
            self._incoming(producer, self._shape(producer))


#: Stands for "there is a carrier" where the question does not arise.
_PRESENT = _Link("", "", None)
#: Fields of a Conv1d with one number.
_SINGLE = ("stride", "padding", "dilation", "input_shape")
