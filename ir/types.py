"""Value types: an element kind and a shape, printed as ``spikes<8x14x14>``."""

from __future__ import annotations

import re
from functools import cache
from math import prod

from nmc.ir.dataclass import dataclass

#: Element kinds that hold numbers, by their printed name: the numpy type that stores them.
NUMBER_KINDS = {
    "f32": "float32", "f64": "float64", "bool": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip

#: Kinds that carry the traffic of a spiking network: all-or-none events, events with a payload, the sum of
#: weighted events, and the part of a population that one core holds.
EVENT_KINDS = ("spikes", "graded", "current", "pop")

#: More axes than numpy arrays have, or longer ones, no array can hold.
MAX_RANK = 64
MAX_EXTENT = (1 << 63) - 1

_PATTERN = re.compile(r"([a-z][a-z0-9]*)<((?:\d+(?:x\d+)*)?)>")


@dataclass(frozen=True)
class Type:
    """Element kind and shape of a value (the batch axis and time are never part of it).

    Parameters
    ----------
    kind : str
        One of `NUMBER_KINDS` or `EVENT_KINDS`.
    shape : tuple of int
        Extents; ``()`` is a scalar.
    """

    kind: str
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in NUMBER_KINDS and self.kind not in EVENT_KINDS:
            raise ValueError(f"unknown element kind {self.kind!r}")
        if not self.shape:
            return
        if min(self.shape) < 0:
            raise ValueError(f"negative extent in {self.shape}")
        if len(self.shape) > MAX_RANK or max(self.shape) > MAX_EXTENT:
            raise ValueError(f"more than {MAX_RANK} axes, or an extent above {MAX_EXTENT:,}")

    def __str__(self) -> str:
        return f"{self.kind}<{'x'.join(map(str, self.shape))}>"

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @staticmethod
    def parse(text: str) -> Type:
        """Read the printed form.

        Raises
        ------
        ValueError
            When `text` is not a type.
        """
        found = _PATTERN.fullmatch(text)
        if not found:
            raise ValueError(f"not a type: {text!r}")
        extents = found[2].split("x") if found[2] else []
        return Type(found[1], tuple(int(extent) for extent in extents))


def kind_of_dtype(dtype: object) -> str:
    """Name the element kind of a numpy dtype (``float32`` -> ``f32``).

    Raises
    ------
    ValueError
        When no kind stores that dtype.
    """
    return _kind_of(dtype)


@cache
def _kind_of(dtype: object) -> str:
    """Look the kind up; numpy takes long to name a dtype, and every constant asks."""
    name = str(dtype)
    for kind, stored in NUMBER_KINDS.items():
        if name == stored:
            return kind
    raise ValueError(f"no element kind stores numpy {dtype}")
