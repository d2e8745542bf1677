"""What a handler sees of the conversion: one node, its operands, and a place to put ops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from math import prod
from typing import Any

import numpy as np

from nmc.frontends.onnx.fold import Array, Known, repeats
from nmc.frontends.onnx.graph import Graph
from nmc.frontends.onnx.names import Consts, Names
from nmc.frontends.onnx.node import Ints, Node, Unsupported
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import Loc, fuse
from nmc.ir.op import Op, Value, VerifyError

#: Elements of one sample of a value: more is refused before anything allocates it.
MAX_VALUE = 1 << 31


@dataclass(frozen=True)
class Quantised:
    """An integer tensor that stands for an activation: (integers - zero_point) * scale.

    Parameters
    ----------
    value : Value
        The activation, already rounded to the grid.
    scale, zero_point : ndarray
        Of the QuantizeLinear that made it.
    """

    value: Value
    scale: Array
    zero_point: Array


@dataclass(frozen=True)
class Moved:
    """An activation whose batch axis is not the first: the tensor is (batch, *value.shape) transposed by `perm`."""

    value: Value
    perm: Ints


Operand = Value | Known | Quantised | Moved | None
Result = Value | Known | Quantised | Moved | tuple[Value | Moved | None, ...]


@dataclass
class Net:
    """The module under construction.

    Parameters
    ----------
    graph : Graph
        What is converted.
    batch : int or None
        Static batch size of the model, None where it is free.
    ops : dict of str to Op
        The ops so far by result name, in program order.
    pending : dict of str to (Unsupported, str)
        Ops that only stand until they are fused with others: what to say, and where, if they are not.
    """

    graph: Graph
    batch: int | None = None
    ops: dict[str, Op] = field(default_factory=dict)
    pending: dict[str, tuple[Unsupported, str]] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    consts: Consts = field(default_factory=Consts)

    def add(self, op: Op) -> Value:
        """Append an op after checking it.

        Raises
        ------
        Unsupported
            When its operands do not fit it, or its result is too large.
        """
        try:
            op.verify()
            result = op.result
        except VerifyError as error:
            raise Unsupported(str(error), "check the shapes with onnx.checker or Netron") from None
        if prod(result.shape) > MAX_VALUE or 0 in result.shape:
            raise Unsupported(f"its result has the shape {result.shape}", "use a model with sensible extents")
        if not result.shape:
            raise Unsupported(
                "its result is one number a sample, without an axis", "keep an axis (keepdims=1)"
            )
        self.ops[op.out] = op
        return result


@dataclass(frozen=True)
class Call:
    """One node to convert.

    Parameters
    ----------
    net : Net
        Where ops go.
    node : Node
        The node.
    args : tuple of Value, Known or None
        Its operands; None for an omitted one.
    """

    net: Net
    node: Node
    args: tuple[Operand, ...]

    @property
    def loc(self) -> Loc:
        """Where the node is."""
        return Loc(self.net.graph.file, self.node.name)

    def arg(self, index: int) -> Operand:
        """Give an operand, None when it is omitted."""
        return self.args[index] if index < len(self.args) else None

    def value(self, index: int = 0) -> Value:
        """Give an operand that must be an activation."""
        found = self.arg(index)
        if isinstance(found, Quantised):
            raise Unsupported(
                f"input {index} is a tensor of integers, which only DequantizeLinear can read",
                "export the model in QDQ format, not with integer operators",
            )
        if isinstance(found, Moved):
            raise Unsupported(f"the batch axis of input {index} is axis {found.perm.index(0)}, not the first")
        if not isinstance(found, Value):
            what = "missing" if found is None else "a constant"
            raise Unsupported(f"input {index} is {what}, it must depend on the network's input")
        return found

    def known(self, index: int, what: str) -> Known:
        """Give an operand that must be constant, though it may depend on the batch size."""
        found = self.arg(index)
        if not isinstance(found, Known):
            state = "missing" if found is None else "computed from the network's input"
            raise Unsupported(
                f"its {what} (input {index}) is {state}; only constants are supported", "make it a constant"
            )
        return found

    def array(self, index: int, what: str) -> Array:
        """Give an operand that must be constant."""
        found = self.known(index, what)
        if found.other is not None:
            raise Unsupported(
                f"its {what} (input {index}) depends on the batch size", "export with a fixed batch size"
            )
        return found.array

    def optional(self, index: int, what: str) -> Array | None:
        """Give a constant operand, None when it is omitted."""
        return None if self.arg(index) is None else self.array(index, what)

    def weight(self, index: int, what: str) -> Array:
        """Give a constant operand whose elements are finite numbers."""
        found = self.array(index, what)
        self.finite(found, what)
        return found

    def finite(self, array: Array, what: str) -> None:
        """Refuse NaN and infinity."""
        sample = array[(0,) * array.ndim] if repeats(array) else array
        bad = int(np.count_nonzero(~np.isfinite(sample)))
        if bad:
            raise Unsupported(
                f"its {what} has {bad:,} NaN or infinite elements", "train or export the model again"
            )

    def const(self, index: int | str, array: Array) -> Const:
        """Make a constant, named after input `index` or after the node's first output plus a suffix."""
        name = self.node.inputs[index] if isinstance(index, int) else f"{self.node.outputs[0]}.{index}"
        return self.net.consts.get(name, array)

    def emit(self, make: Callable[..., Op], suffix: str = "", *, output: int = 0, **fields: Any) -> Value:
        """Append an op; its result is named after an output of the node, plus a suffix for inner ones."""
        base = self.node.outputs[output] or f"{self.node.name}.{output}"
        name = self.net.names.fresh(f"{base}.{suffix}" if suffix else base)
        return self.net.add(make(out=name, loc=self.loc, **fields))

    def emit_pending(self, make: Callable[..., Op], error: Unsupported, **fields: Any) -> Value:
        """Append an op that must be fused with others later, or `error` is what the user reads."""
        value = self.emit(make, **fields)
        self.net.pending[value.name] = (error, self.net.graph.where(self.node))
        return value

    def index(self, array: Array, suffix: str) -> Const:
        """Make a constant vector of integers (int64), named after the node's first output."""
        return self.net.consts.get(f"{self.node.outputs[0]}.{suffix}", array, np.int64)

    def used(self, output: int) -> bool:
        """Tell whether anything reads an output of the node."""
        outputs = self.node.outputs
        return output < len(outputs) and bool(outputs[output]) and self.net.graph.uses(outputs[output]) > 0

    def sole_producer(self, index: int, op_type: str) -> Op | None:
        """Give the op of the `op_type` node that defines operand `index`, if nothing else uses the tensor."""
        name = self.node.inputs[index]
        producer = self.net.graph.producer.get(name)
        alone = producer is not None and producer.op_type == op_type and self.net.graph.uses(name) == 1
        return self.net.ops.get(self.value(index).name) if alone else None

    def take_over(self, op: Op, **changes: Any) -> Value:
        """Move an op here, changed; its old result must have no other users."""
        del self.net.ops[op.out]
        name = self.net.names.fresh(self.node.outputs[0])
        return self.net.add(replace(op, out=name, loc=fuse("onnx", (op.loc, self.loc)), **changes))


def spatial(value: Value) -> Ints:
    """Give the extents behind the channels."""
    if len(value.shape) < 2:
        raise Unsupported(
            f"its operand has the shape {value.shape} per sample; channels and space are needed"
        )
    return value.shape[1:]
