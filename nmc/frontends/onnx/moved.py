"""Transposition of the batch axis: kept on paper until it comes back to the front."""

from __future__ import annotations

from nmc.frontends.onnx.call import Call, Moved
from nmc.frontends.onnx.node import Ints
from nmc.ir.op import Value
from nmc.ir.ops import ann

#: Operators that can read a tensor whose batch axis is not the first (or are refused for another reason).
READERS = frozenset({"RNN", "LSTM", "GRU", "Transpose", "Squeeze"})


def settle(call: Call, value: Value, perm: Ints) -> Value | Moved:
    """Give (batch, *value.shape) transposed by `perm`: an activation where that leaves the batch axis in front."""
    if perm[0] != 0:
        return Moved(value, perm)
    rest = tuple(axis - 1 for axis in perm[1:])
    if rest == tuple(range(len(rest))):
        return value
    return call.emit(ann.Transpose, "order", data=value, perm=rest)


def only_read_moved(call: Call) -> bool:
    """Tell whether everything that reads the node's result can have the batch axis elsewhere."""
    readers = call.net.graph.readers.get(call.node.outputs[0], ())
    return bool(readers) and all(reader.op_type in READERS for reader in readers)
