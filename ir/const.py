"""Constants: named, immutable arrays identified by a digest of their content."""

from __future__ import annotations

import hashlib
from dataclasses import field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.types import Type, kind_of_dtype

_CHUNK = 1 << 20
#: Arrays of so many bytes are compared faster than they are digested.
_SMALL = 4096


def content_digest(data: NDArray[Any]) -> str:
    """Digest of dtype, shape and content (16 hexadecimal digits of SHA-256).

    Uniform arrays are digested from their one value, so that a stride-0 broadcast of any size costs nothing.
    """
    digest = hashlib.sha256(f"{data.dtype.str}{data.shape}".encode())
    if is_uniform(data):
        digest.update(b"splat" + data.flat[0].tobytes())
    else:
        digest.update(np.ascontiguousarray(data).tobytes())
    return digest.hexdigest()[:16]


def is_uniform(data: NDArray[Any]) -> bool:
    """Tell whether all elements have the same bits (so that -0.0 and 0.0 differ, and NaN equals itself)."""
    if data.size == 0:
        return False
    if data.size == 1 or all(
        stride == 0 or extent == 1 for stride, extent in zip(data.strides, data.shape, strict=True)
    ):
        return True
    flat = np.ascontiguousarray(data).reshape(-1)
    bits = flat.view(f"u{flat.dtype.itemsize}")
    chunks = (bits[start : start + _CHUNK] for start in range(0, bits.size, _CHUNK))
    return all(bool((chunk == bits[0]).all()) for chunk in chunks)


@dataclass(frozen=True, eq=False)
class Const:
    """A named constant array.

    Two constants are equal when name and content are. `data` is None for a constant whose bytes were not
    found beside the text (a dump without its side file): it still prints, parses and compares by its digest.

    Parameters
    ----------
    name : str
        Name without the ``@``.
    data : ndarray or None
        The elements; made read-only.
    known : tuple of (Type, str) or None
        Type and digest, when `data` is absent.
    """

    name: str
    data: NDArray[Any] | None = field(repr=False)
    known: tuple[Type, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.data is None:
            if self.known is None:
                raise ValueError(f"constant @{self.name} has neither data nor a digest")
            return
        array = np.asarray(self.data)
        array = array.view() if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        kind_of_dtype(array.dtype)
        array.flags.writeable = False
        object.__setattr__(self, "data", array)

    @cached_property
    def type(self) -> Type:
        """Element kind and shape."""
        if self.data is None:
            assert self.known is not None
            return self.known[0]
        return Type(kind_of_dtype(self.data.dtype), self.data.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the array."""
        return self.type.shape

    @cached_property
    def digest(self) -> str:
        """Content digest, 16 hexadecimal digits."""
        if self.data is None:
            assert self.known is not None
            return self.known[1]
        return content_digest(self.data)

    @cached_property
    def uniform(self) -> bool:
        """Whether all elements are the same (printed as ``splat``)."""
        return self.data is not None and is_uniform(self.data)

    def array(self) -> NDArray[Any]:
        """Give the elements.

        Raises
        ------
        ValueError
            When the bytes are not there (the dump's side file is missing).
        """
        if self.data is None:
            raise ValueError(f"the data of constant @{self.name} (blob {self.digest}) are missing")
        return self.data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Const):
            return NotImplemented
        if self is other:
            return True
        if self.name != other.name or self.type != other.type:
            return False
        one, two = self.data, other.data
        if one is not None and two is not None and one.dtype == two.dtype and one.nbytes <= _SMALL:
            return one.tobytes() == two.tobytes()
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.name)  # names are as good as unique, and a digest costs a pass over the data
