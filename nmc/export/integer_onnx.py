"""Write an exact network as an ONNX model of integer ops: the reference that others can run.

Only ops whose result is one integer are used: ``ConvInteger``/``MatMulInteger`` (int32 sums of 8-bit products),
``Add``, ``Div`` (truncating, of numbers that are not negative), ``Max``, ``Min``, ``MaxPool`` of uint8. A runtime
cannot round them in its own way, so that onnxruntime gives the counts and read-outs of ``snn.graded`` at every
optimisation level, where a QDQ model of the same network differs from one level to the next (facts/conversion.md 0,
headline 4).

Weights are written as uint8 with zero point 128: products of uint8 and int8 may saturate at 16 bits on processors
without VNNI (onnxruntime documentation, "Quantize ONNX models": "reduce_range"), products of uint8 with uint8 do not.

Tensors and constants of this file's own have a colon in their names, which names of a module never have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.ir.ops.neurons import Sparse
from nmc.passes.convert.linear import SparseMap

Array = NDArray[Any]

#: Opset 13 has all that is used; IR version 8 is read by onnxruntime 1.11 and later.
OPSET, IR_VERSION = 13, 8
#: A count or an input that is one uint8 factor of a product.
_LARGEST = 255
#: Sums are int32.
_ACCUMULATOR = (1 << 31) - 1


def save_integer_onnx(module: Module, path: str | Path, *, counts: bool = False) -> None:
    """Write the model of `integer_onnx` to a file.

    Raises
    ------
    NmcError
        As `integer_onnx`; E0805 when the file cannot be written.
    """
    data = integer_onnx(module, counts=counts)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise fail("E0805", f"cannot write the model: {error.strerror}", where=str(path)) from None


def integer_onnx(module: Module, *, counts: bool = False) -> bytes:
    """Give an exact network as a serialised ONNX model.

    Parameters
    ----------
    module : Module
        Level ``snn``, of ``snn.graded`` populations, as ``quantize`` leaves it.
    counts : bool
        Give the counts of all populations as outputs too (uint8, by name).

    Returns
    -------
    bytes
        A model from data (N, *shape) to int32 read-outs (N, ...), by the names in the module; the metadata
        ``scale:NAME`` turn a read-out into the trained network's range. Data are uint8 where those were that the
        network was quantised with (its certificate tells), else float32 in the range that the trained network takes.

    Raises
    ------
    NmcError
        E0609 for every op or number that integer ONNX ops cannot hold.
    """
    _check(module)
    work = _Writer(module)
    for op in module.ops:
        work.write(op)
    if counts:
        work.outputs += [(op.out, "UINT8", op.result.shape) for op in module.ops if _is_population(op)]
    return work.serialised()


def _is_population(op: Op) -> bool:
    return isinstance(op, exact.Graded | exact.MaxPool)


def _check(module: Module) -> None:
    """Refuse what does not fit, all at once."""
    problems = []
    for op in module.ops:
        told = _objection(op, module)
        if told:
            where = str(op.loc or f"%{op.out or op.operands[0].name}")
            hint = "export the network that quantize leaves, before spike-code"
            problems.append(Diagnostic("E0609", f"{op.name}: {told}", where=where, hint=hint))
    if problems:
        raise NmcError(problems)


def _objection(op: Op, module: Module) -> str:
    """Why an op cannot be written, empty when it can."""
    if isinstance(op, snn.Input):
        most = max(op.high, -op.low)
        if op.encoder != "burst" or op.stream:
            return f"encoder {op.encoder} works in time"
        return f"inputs up to {most} are more than {_LARGEST}" if most > _LARGEST else ""
    if isinstance(op, snn.Conv | snn.Dense | snn.OneToOne | Sparse):
        kind = op.weight.type.kind
        late = op.delay or (isinstance(op, Sparse) and op.late is not None)
        return f"delay {op.delay}" if late else "" if kind == "i8" else f"weights are {kind}, not 8 bits"
    if isinstance(op, exact.Graded):
        if op.levels > _LARGEST:
            return f"counts up to {op.levels} are more than {_LARGEST}"
        return _unproved(op.bound)
    if isinstance(op, exact.Readout):
        return "it takes digits" if op.doubling_until else _unproved(op.bound)
    if isinstance(op, exact.MaxPool | snn.Output):
        return ""
    return "it has no counterpart of integer ops"


def _unproved(bound: int) -> str:
    return "" if 0 < bound <= _ACCUMULATOR else f"sums are not proved to fit 32 bits (bound {bound:,})"


@dataclass
class _Writer:
    """The graph while it is written."""

    module: Module
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    inputs: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    outputs: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)
    #: uint8 parts of each population: name and sign; a signed input has two.
    parts: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def write(self, op: Op) -> None:
        """Write the nodes of one op."""
        table: dict[type[Op], Callable[[Any], None]] = {
            snn.Input: self._input, snn.Conv: self._conv, snn.Dense: self._dense, snn.OneToOne: self._one_to_one,
            Sparse: self._sparse, exact.Graded: self._graded, exact.MaxPool: self._max_pool,
            exact.Readout: self._readout, snn.Output: self._output,
        }  # fmt: skip
        table[type(op)](op)

    def serialised(self) -> bytes:
        """The model's bytes, the same for the same module."""
        from onnx import TensorProto, helper

        kind = TensorProto.UINT8 if self.bytes else TensorProto.FLOAT
        sources = [helper.make_tensor_value_info(n, kind, ["N", *s]) for n, s in self.inputs]
        results = [
            helper.make_tensor_value_info(name, getattr(TensorProto, kind), ["N", *shape])
            for name, kind, shape in self.outputs
        ]
        graph = helper.make_graph(
            self.nodes, self.module.name, sources, results, list(self.constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="nmc", ir_version=IR_VERSION)
        for name, scale in self.scales.items():
            model.metadata_props.add(key=f"scale:{name}", value=repr(scale))
        return bytes(model.SerializeToString(deterministic=True))

    def _node(self, kind: str, inputs: list[str], out: str, **attrs: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [out], **attrs))
        return out

    def _const(self, name: str, data: Array) -> str:
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(data), name)
        return name

    def _byte(self, number: int) -> str:
        """A scalar uint8 constant."""
        return self._const(f"u8:{number}", np.array(number, np.uint8))

    def _scalar(self, name: str, number: int) -> str:
        """A scalar int32 constant."""
        return self._const(name, np.array(number, np.int32))

    def _cast(self, name: str, out: str, kind: str) -> str:
        from onnx import TensorProto

        return self._node("Cast", [name], out, to=int(getattr(TensorProto, kind)))

    @property
    def bytes(self) -> int:
        """By what data of bytes are divided before they enter the trained network; 0 for data that are no bytes."""
        return int((self.module.attr("certificate") or {}).get("bytes", 0))

    def _table(self, op: snn.Input) -> None:
        """What each byte counts, looked up."""
        numbers = op.integers(np.arange(256, dtype=np.float32) / np.float32(self.bytes))
        table = self._const(f"{op.out}:table", np.maximum(numbers, 0).astype(np.uint8))
        index = self._cast(op.source, f"{op.out}:i32", "INT32")
        self.parts[op.out] = [(self._node("Gather", [table, index], f"{op.out}:u8"), 1)]

    def _input(self, op: snn.Input) -> None:
        """clip(rint(gain * data), low, high) in double precision, split by sign; of bytes a table."""
        name = op.out
        source = op.source
        if source not in dict(self.inputs):
            self.inputs.append((source, op.shape))
        if self.bytes:
            self._table(op)
            return
        wide = self._cast(source, f"{name}:f64", "DOUBLE")
        scaled = self._node(
            "Mul", [wide, self._const(f"{name}:gain", np.array(op.gain, np.float64))], f"{name}:scaled"
        )
        whole = self._node("Round", [scaled], f"{name}:round")
        self.parts[name] = []
        for sign, most in ((1, op.high), (-1, -op.low)):
            if most <= 0 and not (sign == 1 and op.low == 0):
                continue
            tag = f"{name}:{'pos' if sign > 0 else 'neg'}"
            part = whole if sign > 0 else self._node("Neg", [whole], f"{tag}:signed")
            zero, top = (
                self._const("f64:zero", np.array(0.0)),
                self._const(f"{tag}:high", np.array(float(most))),
            )
            cut = self._node("Clip", [part, zero, top], f"{tag}:cut")
            self.parts[name].append((self._cast(cut, f"{tag}:u8", "UINT8"), sign))

    def _bytes(self, value: Value) -> list[tuple[str, int]]:
        return self.parts.get(value.name, [(value.name, 1)])

    def _project(self, op: snn.ProjectionOp, one: Callable[[str, str], str]) -> None:
        """Write a projection of each signed part, and their difference."""
        made = [(one(part, f"{op.out}:{sign}"), sign) for part, sign in self._bytes(op.spikes)]
        total = ""
        for name, sign in made:
            if not total:
                total = name if sign > 0 else self._node("Neg", [name], f"{name}:negated")
            else:
                total = self._node("Add" if sign > 0 else "Sub", [total, name], f"{op.out}:joined")
        self._node("Identity", [total], op.out)

    def _conv(self, op: snn.Conv) -> None:
        weight = self._const(f"{op.out}:w", _shifted(op.weight.array()))
        crop, pad = [min(item, 0) for item in op.pad], [max(item, 0) for item in op.pad]

        def one(part: str, out: str) -> str:
            return self._node(
                "ConvInteger", [self._cropped(part, crop, out), weight, self._byte(0), self._byte(128)], out,
                strides=list(op.stride), pads=pad, dilations=list(op.dilation), group=op.groups,
            )  # fmt: skip

        self._project(op, one)

    def _cropped(self, part: str, crop: list[int], out: str) -> str:
        """What negative padding leaves of a value."""
        if not any(crop):
            return part
        half = len(crop) // 2
        starts = self._const(f"{out}:starts", np.array([-item for item in crop[:half]], np.int64))
        ends = self._const(f"{out}:ends", np.array([item or 2**31 - 1 for item in crop[half:]], np.int64))
        axes = self._const(f"{out}:axes", np.arange(2, 2 + half))
        return self._node("Slice", [part, starts, ends, axes], f"{out}:cropped")

    def _dense(self, op: snn.Dense) -> None:
        weight = self._const(f"{op.out}:w", _shifted(op.weight.array().T))

        def one(part: str, out: str) -> str:
            flat = self._node("Flatten", [part], f"{out}:flat", axis=1)
            product = "product" if op.shape else ""
            made = self._node(
                "MatMulInteger",
                [flat, weight, self._byte(0), self._byte(128)],
                f"{out}:{product}" if product else out,
            )
            if not op.shape:
                return made
            shape = self._const(f"{out}:shape", np.array([-1, *op.shape], np.int64))
            return self._node("Reshape", [made, shape], out)

        self._project(op, one)

    def _one_to_one(self, op: snn.OneToOne) -> None:
        weight = self._const(f"{op.out}:w", op.weight.array().astype(np.int32))

        def one(part: str, out: str) -> str:
            return self._node("Mul", [self._cast(part, f"{out}:i32", "INT32"), weight], out)

        self._project(op, one)

    def _sparse(self, op: Sparse) -> None:
        """Synapses by target, as many of each as the most have: gathered, multiplied and added."""
        order = np.argsort(op.target.array(), kind="stable")
        source, weight = op.source.array()[order], op.weight.array()[order].astype(np.int32)
        listed = SparseMap(weight, source, op.target.array()[order], op.shape)
        index = self._const(f"{op.out}:source", listed.padded(source).reshape(-1).astype(np.int64))
        factor = self._const(f"{op.out}:w", listed.padded(weight))
        apart = self._const(f"{op.out}:apart", np.array([-1, *listed.padded(weight).shape], np.int64))
        shape = self._const(f"{op.out}:shape", np.array([-1, *op.shape], np.int64))
        last = self._const("i64:last", np.array([2], np.int64))

        def one(part: str, out: str) -> str:
            flat = self._node("Flatten", [part], f"{out}:flat", axis=1)
            heard = self._node("Gather", [flat, index], f"{out}:heard", axis=1)
            rows = self._node("Reshape", [self._cast(heard, f"{out}:i32", "INT32"), apart], f"{out}:rows")
            products = self._node("Mul", [rows, factor], f"{out}:products")
            sums = self._node("ReduceSum", [products, last], f"{out}:sums", keepdims=0)
            return self._node("Reshape", [sums, shape], out)

        self._project(op, one)

    def _sum(self, op: exact.Graded | exact.Readout, out: str) -> str:
        """The offset plus all currents, int32."""
        total = self._const(f"{op.out}:offset", op.offset.array().astype(np.int32))
        for index, value in enumerate(op.current):
            last = index == len(op.current) - 1
            total = self._node("Add", [value.name, total], out if last else f"{op.out}:sum{index}")
        return total

    def _graded(self, op: exact.Graded) -> None:
        """min(max(offset + S, 0) / theta, L): Div truncates, which is the floor of what is not negative."""
        total = self._sum(op, f"{op.out}:v")
        zero, top = self._scalar("i32:zero", 0), self._scalar(f"{op.out}:levels", op.levels)
        cut = self._node("Max", [total, zero], f"{op.out}:cut")
        theta = self._const(f"{op.out}:theta", op.theta.array().astype(np.int32))
        whole = self._node("Div", [cut, theta], f"{op.out}:quotient")
        self._cast(self._node("Min", [whole, top], f"{op.out}:i32"), op.out, "UINT8")

    def _max_pool(self, op: exact.MaxPool) -> None:
        ((part, _),) = self._bytes(op.events)
        self._node(
            "MaxPool", [part], op.out, kernel_shape=list(op.kernel), strides=list(op.stride), pads=list(op.pad),
            dilations=list(op.dilation),
        )  # fmt: skip

    def _readout(self, op: exact.Readout) -> None:
        self._sum(op, op.out)

    def _output(self, op: snn.Output) -> None:
        self.outputs.append((op.data.name, "INT32", op.data.shape))
        self.scales[op.data.name] = op.scale


def _shifted(weight: Array) -> Array:
    """Weights of 8 bits as uint8 around 128."""
    return (weight.astype(np.int16) + 128).astype(np.uint8)
