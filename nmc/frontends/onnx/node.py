"""An ONNX node as plain Python data, with attribute access that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto

    from nmc.frontends.onnx.tensors import TensorReader

Ints = tuple[int, ...]

#: Attribute, kernel and extent sizes beyond this are refused: nothing real needs them.
MAX_INT = 1 << 31


class Unsupported(Exception):
    """A node cannot be converted.

    Parameters
    ----------
    message : str
        The reason.
    hint : str
        What to do about it.
    """

    code = "E0302"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Parameters
    ----------
    index : int
        Position in the file.
    name : str
        Its name, ``op_type#index`` where it has none.
    op_type, domain : str
        What it is; `domain` is empty for the operators of ONNX itself.
    inputs, outputs : tuple of str
        Tensor names; empty for an omitted one.
    attrs : dict of str to Any
        Attribute values as int, float, str, ndarray, tuples of those, or `Opaque`.
    opset : int
        Version of the default operator set that the model uses.
    """

    index: int
    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]
    opset: int

    @property
    def kind(self) -> str:
        """The operator as people write it, with its domain when that is not ONNX's own."""
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type

    def _attr(self, key: str, types: type | tuple[type, ...], default: Any) -> Any:
        if key not in self.attrs:
            if default is None:
                raise Unsupported(f"attribute {key!r} is missing", "export the model again")
            return default
        found = self.attrs[key]
        if isinstance(found, Opaque):
            raise found.error
        if not isinstance(found, types):
            raise Unsupported(f"attribute {key!r} has a value of the wrong kind", "export the model again")
        return found

    def integer(self, key: str, default: int | None = None) -> int:
        """Give an integer attribute; no default: obligatory."""
        found: int = self._attr(key, int, default)
        return _bounded(key, found)

    def number(self, key: str, default: float | None = None) -> float:
        """Give a finite or infinite float attribute; no default: obligatory."""
        found = float(self._attr(key, (float, int), default))
        if found != found:
            raise Unsupported(f"attribute {key!r} is NaN")
        return found

    def tensor(self, key: str) -> NDArray[Any]:
        """Give an obligatory tensor attribute."""
        found: NDArray[Any] = self._attr(key, np.ndarray, None)
        return found

    def text(self, key: str, default: str | None = None) -> str:
        """Give a string attribute; no default: obligatory."""
        found: str = self._attr(key, str, default)
        return found

    def integers(
        self, key: str, default: Ints | None = None, *, count: int | None = None, bounded: bool = True
    ) -> Ints:
        """Give a list-of-integers attribute of `count` entries; no default: obligatory."""
        found: Ints = self._attr(key, tuple, default)
        if not all(isinstance(item, int) for item in found):
            raise Unsupported(f"attribute {key!r} has a value of the wrong kind", "export the model again")
        if count is not None and len(found) != count:
            raise Unsupported(f"attribute {key!r} has {len(found)} entries instead of {count}")
        return tuple(_bounded(key, item) for item in found) if bounded else found

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Give a list-of-strings attribute."""
        return self._list(key, str, default)

    def numbers(self, key: str) -> tuple[float, ...]:
        """Give an obligatory list-of-floats attribute."""
        return tuple(map(float, self._list(key, (float, int), None)))

    def _list(self, key: str, types: type | tuple[type, ...], default: Any) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._attr(key, tuple, default)
        if not all(isinstance(item, types) for item in found):
            raise Unsupported(f"attribute {key!r} has a value of the wrong kind", "export the model again")
        return found


@dataclass(frozen=True)
class Opaque:
    """An attribute value that cannot be had (a subgraph, a sparse or broken tensor); `error` says why."""

    error: Unsupported


def _bounded(key: str, number: int) -> int:
    if abs(number) >= MAX_INT:
        raise Unsupported(f"attribute {key!r} is {number}, beyond any sensible size")
    return number


def read_node(index: int, proto: NodeProto, opset: int, reader: TensorReader) -> Node:
    """Convert one node; broken attributes become `Opaque`."""
    op_type, domain = utf8(proto.op_type), utf8(proto.domain)
    name = utf8(proto.name) or f"{op_type}#{index}"
    domain = "" if domain == "ai.onnx" else domain
    attrs = {utf8(entry.name): _read_attr(entry, reader) for entry in proto.attribute}
    inputs, outputs = tuple(map(utf8, proto.input)), tuple(map(utf8, proto.output))
    return Node(index, name, op_type, domain, inputs, outputs, attrs, opset)


def utf8(field: str | bytes) -> str:
    """Give a string of a message; protobuf gives bytes where it is not UTF-8.

    Raises
    ------
    UnicodeDecodeError
        For those.
    """
    return field.decode() if isinstance(field, bytes) else field


def _read_attr(entry: AttributeProto, reader: TensorReader) -> Any:
    kind = entry.type
    if kind == entry.INT:
        return int(entry.i)
    if kind == entry.FLOAT:
        return float(entry.f)
    if kind == entry.STRING:
        return _text(entry.s)
    if kind == entry.INTS:
        return tuple(int(item) for item in entry.ints)
    if kind == entry.FLOATS:
        return tuple(float(item) for item in entry.floats)
    if kind == entry.STRINGS:
        return tuple(_text(item) for item in entry.strings)
    if kind == entry.TENSOR:
        try:
            return reader.read(entry.t)
        except Unsupported as error:
            return Opaque(error)
    return Opaque(Unsupported(f"attribute {entry.name!r} is a graph, a sparse tensor or of no known kind"))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def normal_axis(axis: int, rank: int) -> int:
    """Count a negative axis from the end.

    Raises
    ------
    Unsupported
        When there is no such axis.
    """
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def normal_axes(axes: Sequence[int], rank: int) -> Ints:
    """Count negative axes from the end and sort them; see `normal_axis`."""
    found = tuple(sorted(normal_axis(int(axis), rank) for axis in axes))
    if len(set(found)) != len(found):
        raise Unsupported(f"axes {list(axes)} name one twice")
    return found
