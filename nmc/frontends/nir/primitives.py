"""The primitives of NIR 1.0.8 (facts/nir.md 1.1): which fields each has."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass

Array = NDArray[Any]
Field = Array | str
Ints = tuple[int, ...]

_CONV = "weight stride padding dilation groups"
_POOL = "kernel_size stride padding"
_CUBA = "tau_syn tau_mem r v_leak"

#: Type -> fields that it must have, fields that it may have.
FIELDS = MappingProxyType({
    "Input": ("", "shape input_type"), "Output": ("", "shape output_type"),
    "Affine": ("weight bias", ""), "Linear": ("weight", ""), "Scale": ("scale", ""),
    "Conv1d": (_CONV, "bias input_shape"), "Conv2d": (_CONV, "bias input_shape"),
    "SumPool2d": (_POOL, ""), "AvgPool2d": (_POOL, ""), "Flatten": ("", "start_dim end_dim input_type"),
    "Delay": ("delay", ""), "Threshold": ("threshold", ""), "I": ("r", ""),
    "IF": ("r v_threshold", "v_reset"), "LI": ("tau r v_leak", ""), "LIF": ("tau r v_leak v_threshold", "v_reset"),
    "CubaLI": (_CUBA, "w_in"), "CubaLIF": (f"{_CUBA} v_threshold", "v_reset w_in"),
})  # fmt: skip

NEURONS = frozenset({"Threshold", "I", "IF", "LI", "LIF", "CubaLI", "CubaLIF"})
SPIKING = frozenset({"Threshold", "IF", "LIF", "CubaLIF"})


class Unfit(Exception):
    """Something in a file is wrong; the caller knows where.

    Parameters
    ----------
    code, message, hint : str
        Of the diagnostic.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True)
class Node:
    """A primitive: `name` is its path in the file, joined by dots; `meta` is what nmc wrote beside its fields."""

    name: str
    kind: str
    fields: dict[str, Field]
    meta: dict[str, Field] = field(default_factory=dict)

    def array(self, key: str, absent: float | None = None) -> Array:
        """A field with numbers, float64 unless it is float32."""
        if key not in self.fields and absent is not None:
            return np.asarray(absent, np.float64)
        value = np.asarray(self.fields[key])
        return value if value.dtype in (np.float32, np.float64) else value.astype(np.float64)

    def ints(self, key: str, count: int, absent: int | None = None) -> Ints:
        """A field with one whole number, or one an axis.

        Raises
        ------
        Unfit
            E0343 when it is something else.
        """
        value = self.fields.get(key, np.asarray(absent) if absent is not None else None)
        if not isinstance(value, np.ndarray) or value.size not in (1, count):
            raise Unfit("E0343", f"{key} is not one whole number or {count}")
        flat = value.reshape(-1)
        if value.dtype.kind not in "iu" and not bool((flat == np.trunc(flat)).all()):
            raise Unfit("E0343", f"{key} is {flat.tolist()}, not whole numbers")
        numbers = tuple(int(item) for item in flat)
        if max(map(abs, numbers)) > 1 << 31:
            raise Unfit("E0343", f"{key} {numbers} is out of range")
        return numbers * count if len(numbers) == 1 else numbers


@dataclass(frozen=True)
class Graph:
    """A flat network: edges may repeat, which adds twice."""

    nodes: dict[str, Node]
    edges: tuple[tuple[str, str], ...]
    version: str = ""
    notes: tuple[str, ...] = field(default=())
    meta: dict[str, Field] = field(default_factory=dict)


def check(node: Node) -> tuple[str, ...]:
    """Check the fields of a node; gives the unknown ones, which are ignored.

    Raises
    ------
    Unfit
        E0342 for an unknown type, E0343 for fields that are missing or hold what they may not.
    """
    if node.kind not in FIELDS:
        raise Unfit("E0342", f"node type {node.kind[:80]!r} is not known", f"known: {', '.join(FIELDS)}")
    must, may = (part.split() for part in FIELDS[node.kind])
    missing = [key for key in must if key not in node.fields]
    if missing:
        raise Unfit("E0343", f"{node.kind} lacks {', '.join(missing)}")
    known = {*must, *may}
    for key in sorted(known & set(node.fields)):
        _check_field(key, node.fields[key])
    return tuple(key for key in node.fields if key not in known)


def _check_field(key: str, value: Field) -> None:
    if isinstance(value, str):
        if key != "padding" or value not in ("same", "valid"):
            raise Unfit("E0343", f"{key} is {value[:40]!r}, not numbers")
        return
    if value.dtype.kind not in "fiub" or value.size == 0:
        raise Unfit("E0343", f"{key} holds {value.size} elements of type {value.dtype}, not numbers")
    if value.dtype.kind == "f" and not bool(np.isfinite(value).all()):
        raise Unfit("E0343", f"{key} holds {int((~np.isfinite(value)).sum())} elements that are not finite")
    if key.startswith("tau") and not bool((value > 0).all()):
        raise Unfit("E0343", f"{key} is {value.min()} somewhere; time constants are positive")
    if key in ("stride", "dilation", "groups", "kernel_size", "shape") and not bool((value > 0).all()):
        raise Unfit("E0343", f"{key} is {value.min()} somewhere; it must be positive")
    if key == "delay" and not bool((value >= 0).all()):
        raise Unfit("E0343", f"delay is {value.min()} somewhere; it cannot be negative")
