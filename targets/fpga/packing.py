"""Fields of memory rows to 32-bit words and back, all rows at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.targets.fpga.shape import Field, Memory

Array = NDArray[Any]
Words = NDArray[np.uint32]


def span(item: Field) -> tuple[int, int]:
    """Least and greatest value of a field."""
    return (-(1 << (item.bits - 1)), (1 << (item.bits - 1)) - 1) if item.signed else (0, (1 << item.bits) - 1)


def pack(memory: Memory, values: Mapping[str, Array]) -> Words:
    """Pack rows.

    Parameters
    ----------
    memory : Memory
    values : mapping of str to integer array (rows,) or (rows, count)
        One for every field of the memory.

    Returns
    -------
    Words
        (rows, memory.words), lowest bits first.

    Raises
    ------
    NmcError
        E1002 for values that their field cannot hold.
    """
    rows = len(values[memory.fields[0].name])
    bits = np.zeros((rows, memory.words * 32), np.uint8)
    at = 0
    for item in memory.fields:
        given = np.asarray(values[item.name]).astype(np.int64).reshape(rows, item.count)
        _check(memory, item, given)
        shifts = np.arange(item.bits)
        part = (given[:, :, None] >> shifts) & 1
        bits[:, at : at + item.bits * item.count] = part.reshape(rows, item.bits * item.count)
        at += item.bits * item.count
    return np.packbits(bits, axis=1, bitorder="little").view("<u4").astype(np.uint32)


def unpack(memory: Memory, words: Words) -> dict[str, Array]:
    """Fields of rows (rows, memory.words): int64 arrays (rows,), or (rows, count) where there are several."""
    rows = len(words)
    octets = np.ascontiguousarray(words, "<u4").view(np.uint8).reshape(rows, -1)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    found, at = {}, 0
    for item in memory.fields:
        part = bits[:, at : at + item.bits * item.count].reshape(rows, item.count, item.bits).astype(np.int64)
        scale = np.int64(1) << np.arange(item.bits)
        if item.signed:
            scale[-1] = -scale[-1]
        whole = part @ scale
        found[item.name] = whole if item.count > 1 else whole[:, 0]
        at += item.bits * item.count
    return found


def _check(memory: Memory, item: Field, given: Array) -> None:
    if not given.size:
        return
    low, high = span(item)
    least, most = int(given.min()), int(given.max())
    if least < low or most > high:
        text = f"{memory.name}.{item.name} has values {least:,}..{most:,}, {item.bits} bits hold {low:,}..{high:,}"
        raise NmcError(Diagnostic("E1002", text))
