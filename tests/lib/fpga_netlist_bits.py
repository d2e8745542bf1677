"""Bits and values of a netlist as Yosys writes them, in Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cell = Mapping[str, Any]


def bit_of(bits: list[int | str] | None, absent: str = "1'b0") -> str:
    """One bit; what is not connected, or of no matter, is what the fabric ties it to."""
    if not bits:
        return absent
    return f"n{bits[0]}" if isinstance(bits[0], int) else "1'b1" if bits[0] == "1" else "1'b0"


def vector_of(bits: list[int | str]) -> str:
    """Several bits, the lowest first."""
    return "{" + ", ".join(bit_of([bit]) for bit in reversed(bits)) + "}"


def value_of(text: str) -> str:
    """A parameter."""
    return f"{len(text)}'b{text.replace('x', '0')}" if set(text) <= set("01xz") else f'"{text}"'
