"""The walk over the graph that makes the module, and collects every problem on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmc.frontends.onnx.call import MAX_VALUE, Call, Moved, Net, Operand, Quantised
from nmc.frontends.onnx.fold import FOLDABLE, Folder, Known
from nmc.frontends.onnx.fuse import fuse
from nmc.frontends.onnx.graph import Graph
from nmc.frontends.onnx.load import MAX_BYTES, opset_of, read_model
from nmc.frontends.onnx.names import sanitise
from nmc.frontends.onnx.node import Node, Unsupported, read_node, utf8
from nmc.frontends.onnx.reasons import why_unsupported
from nmc.frontends.onnx.table import Handler, handlers
from nmc.frontends.onnx.tensors import FLOAT_CODES, TensorReader
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Value
from nmc.ir.ops import ann

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

#: Element type uint8 of ONNX (onnx.proto, TensorProto.DataType).
_UINT8 = 2


def load_onnx(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Module:
    """Import a trained network.

    Parameters
    ----------
    path : str or Path
        An ``.onnx`` file; external data are found beside it. Axis 0 of its inputs and outputs is the batch
        axis and is dropped.
    max_bytes : int
        Largest file to read.

    Returns
    -------
    Module
        Of level ``ann``, named after the file. Its values have the names of the tensors.

    Raises
    ------
    NmcError
        With every problem of the file: E0301 an operator that is not supported; E0302 an attribute, shape or
        operand that is not; E0303 the file is missing, too large, corrupted or not ONNX; E0304 external data
        missing, truncated, or outside the model's folder; E0305 the graph itself is at fault.
    """
    path = Path(path)
    try:
        model = read_model(path, max_bytes)
        return _Conversion.start(model, path).run()
    except UnicodeDecodeError:
        raise fail(
            "E0303", "a name in it is not UTF-8", where=path.name, hint="export the model again"
        ) from None


@dataclass
class _Conversion:
    """The state of one import; `env` maps tensors to what is known of them, None for what failed before.

    `dynamic` holds the tensors that depend on the network's input.
    """

    net: Net
    reader: TensorReader
    inputs: dict[str, ValueInfoProto]
    initializers: dict[str, TensorProto]
    functions: frozenset[tuple[str, str]]
    name: str
    env: dict[str, Operand] = field(default_factory=dict)
    folder: Folder = field(default_factory=Folder)
    dynamic: set[str] = field(default_factory=set)
    problems: list[Diagnostic] = field(default_factory=list)

    @staticmethod
    def start(model: ModelProto, path: Path) -> _Conversion:
        """Take the model apart."""
        opset = opset_of(model, path.name)
        reader = TensorReader(path.parent)
        graph = model.graph
        nodes = tuple(read_node(index, proto, opset, reader) for index, proto in enumerate(graph.node))
        initializers = {utf8(tensor.name): tensor for tensor in graph.initializer}
        sparse = tuple(utf8(tensor.values.name) for tensor in graph.sparse_initializer)
        inputs = {utf8(info.name): info for info in graph.input if info.name not in initializers}
        given = (*(tensor.name for tensor in graph.initializer), *sparse, *inputs)
        net = Net(Graph(path.name, nodes, given, tuple(utf8(info.name) for info in graph.output)))
        functions = frozenset((function.domain, function.name) for function in model.functions)
        made = _Conversion(net, reader, inputs, initializers, functions, sanitise(path.stem))
        made._refuse_sparse(sparse)
        return made

    def run(self) -> Module:
        """Convert everything, then give the module or raise all problems."""
        graph = self.net.graph
        self.problems.extend(graph.problems())
        self._add_inputs()
        for node in graph.order:
            self._convert(node)
        outputs = self._outputs()
        fuse(self.net, [op.data.name for op in outputs])
        for name in self.net.ops:
            if name in self.net.pending:
                self._problem(*self.net.pending[name])
        if self.problems:
            raise NmcError(dict.fromkeys(self.problems))
        return Module(self.name, "ann", (*self.net.ops.values(), *outputs))

    def _problem(self, error: Unsupported, where: str) -> None:
        self.problems.append(Diagnostic(error.code, error.message, where=where, hint=error.hint))

    def _refuse_sparse(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.env[name] = None
            error = Unsupported("sparse weights are not imported", "store them as a dense tensor")
            self._problem(error, f'{self.net.graph.file}: tensor "{name}"')

    def _add_inputs(self) -> None:
        graph = self.net.graph
        used = [info for name, info in self.inputs.items() if graph.uses(name)]
        batches: dict[str, int | None] = {}
        for info in used:
            self.dynamic.add(info.name)
            self.env[info.name] = None
            try:
                batches[info.name], shape = _input_shape(info)
                out = self.net.names.fresh(info.name)
                loc = Loc(graph.file, info.name)
                made = self.net.add(ann.Input(out=out, loc=loc, shape=shape))
                self.env[info.name] = self._of_bytes(made, loc) if _takes_bytes(info) else made
            except Unsupported as error:
                self._graph_problem(error, f'{graph.file}: input "{info.name}"')
        self._choose_batch(batches)

    def _of_bytes(self, data: Value, loc: Loc) -> Value:
        """The bytes that an input of uint8 holds: data of bytes are divided by 255 everywhere in nmc."""
        scale = self.net.consts.get("bytes", np.asarray(255, np.float32))
        zero = self.net.consts.get("zero", np.asarray(0, np.float32))
        name = self.net.names.fresh(f"{data.name}.bytes")
        return self.net.add(ann.Affine(out=name, data=data, scale=scale, offset=zero, loc=loc))

    def _choose_batch(self, batches: dict[str, int | None]) -> None:
        sizes = {size for size in batches.values() if size is not None}
        if len(sizes) > 1:
            error = Unsupported(
                f"its inputs have different batch sizes: {batches}", "axis 0 must be the batch axis"
            )
            self._graph_problem(error, self.net.graph.file)
        if len(sizes) == 1 and None not in batches.values():
            self.net.batch = sizes.pop()

    def _graph_problem(self, error: Unsupported, where: str) -> None:
        self.problems.append(Diagnostic("E0305", error.message, where=where, hint=error.hint))

    def _operand(self, name: str) -> Operand:
        """Look a tensor up; an initializer is read when it is first used."""
        if name not in self.env:
            self.env[name] = None
            if (tensor := self.initializers.get(name)) is not None:
                try:
                    self.env[name] = Known(self.reader.read(tensor))
                except Unsupported as error:
                    self._problem(error, f'{self.net.graph.file}: tensor "{name}"')
        return self.env[name]

    def _convert(self, node: Node) -> None:
        handler = None if node.domain else handlers().get(node.op_type)
        foldable = not node.domain and node.op_type in FOLDABLE
        depends = node.op_type != "Shape" and not self.dynamic.isdisjoint(node.inputs)
        if depends:
            self.dynamic.update(filter(None, node.outputs))
        results: tuple[Operand, ...] = ()
        try:
            if handler is None and (depends or not foldable):
                self._refuse(node)
            else:
                results = self._results(node, handler)
        except Unsupported as error:
            self._problem(error, self.net.graph.where(node))
        for index, name in enumerate(node.outputs):
            if name:
                self.env.setdefault(name, results[index] if index < len(results) else None)

    def _refuse(self, node: Node) -> None:
        is_function = (node.domain, node.op_type) in self.functions
        reason, hint = why_unsupported(node.op_type, node.domain, is_function)
        message = f"operator {node.kind} is not supported: {reason}"
        self.problems.append(Diagnostic("E0301", message, where=self.net.graph.where(node), hint=hint))

    def _results(self, node: Node, handler: Handler | None) -> tuple[Operand, ...]:
        """Fold or convert a node; nothing when an operand failed before."""
        args = tuple(self._operand(name) if name else None for name in node.inputs)
        if any(name and arg is None for name, arg in zip(node.inputs, args, strict=True)):
            return ()
        constants = [arg for arg in args if arg is None or isinstance(arg, Known)]
        if node.op_type in FOLDABLE and len(constants) == len(args):
            return self.folder.fold(node, constants)
        assert handler is not None, "an operator that is only folded got an activation"
        _check_form(node, handler)
        call = Call(self.net, node, args)
        result = handler.convert(call)
        results = result if isinstance(result, tuple) else (result,)
        extra = [
            name for index, name in enumerate(node.outputs) if index >= len(results) and call.used(index)
        ]
        if extra:
            raise Unsupported(
                f"its further output {extra[0]!r} is used", "only the first output is supported"
            )
        return results

    def _outputs(self) -> tuple[ann.Output, ...]:
        graph, made = self.net.graph, dict[str, ann.Output]()
        for name in graph.outputs:
            found = self._operand(name) if graph.defines(name) else None
            if isinstance(found, Known):
                error = Unsupported(
                    f"the output {name!r} is a constant", "export the network that computes it"
                )
                self._graph_problem(error, graph.file)
            elif isinstance(found, Quantised | Moved):
                what = "holds integers" if isinstance(found, Quantised) else "has its batch axis elsewhere"
                error = Unsupported(f"the output {name!r} {what}", "end the network with a batch of floats")
                self._graph_problem(error, graph.file)
            elif found is not None:
                made.setdefault(found.name, ann.Output(data=found, loc=Loc(graph.file, name)))
        return tuple(made.values())


def _check_form(node: Node, handler: Handler) -> None:
    """Refuse a wrong number of inputs and attributes that the handler does not know."""
    fewest, most = handler.inputs
    if not fewest <= len(node.inputs) <= most or not node.outputs:
        raise Unsupported(
            f"it has {len(node.inputs)} inputs and {len(node.outputs)} outputs",
            "check the model with onnx.checker",
        )
    strange = sorted(set(node.attrs) - set(handler.attrs.split()))
    if strange:
        raise Unsupported(f"attribute {strange[0]!r} is not known", "export with ONNX's own operators only")


def _input_shape(info: ValueInfoProto) -> tuple[int | None, tuple[int, ...]]:
    """Batch size (None: free) and shape of a sample.

    Raises
    ------
    Unsupported
        When the input is no batch of float tensors of known extents.
    """
    hint = "export the model with a fixed input shape (N, ...), only the batch axis N may be free"
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise Unsupported("it is no tensor of a known shape", hint)
    if tensor.elem_type not in FLOAT_CODES and not _takes_bytes(info):
        raise Unsupported(
            "its elements are neither floating-point numbers nor uint8", "export with float32 inputs"
        )
    if len(tensor.shape.dim) < 2:
        raise Unsupported(
            f"it has {len(tensor.shape.dim)} axes; a batch axis and at least one other are needed", hint
        )
    extents = list(_extents(info))
    free = [axis for axis, extent in enumerate(extents) if axis and extent is None]
    if free:
        raise Unsupported(f"its extent on axis {', '.join(map(str, free))} is not known", hint)
    shape = tuple(extent for extent in extents[1:] if extent is not None)
    if min(shape) < 1 or max(shape) > MAX_VALUE:
        raise Unsupported(f"its shape per sample is {shape}", hint)
    return extents[0], shape


def _takes_bytes(info: ValueInfoProto) -> bool:
    return int(info.type.tensor_type.elem_type) == _UINT8


def _extents(info: ValueInfoProto) -> Iterator[int | None]:
    for dim in info.type.tensor_type.shape.dim:
        yield int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None
