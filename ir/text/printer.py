"""Print modules as text; any module prints, well-formed or not."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Span, op_fields
from nmc.ir.types import Type

#: Constants of at most this many elements are printed inline.
INLINE_LIMIT = 16
_WORDS = frozenset({"true", "false", "none", "inf", "nan"})


def print_module(module: Module) -> str:
    """Print a module in the form that `nmc.ir.text.parser.parse` reads back.

    Parameters
    ----------
    module : Module
        Any module; one that does not verify prints too.

    Returns
    -------
    str
        Text that ends with a newline. Large constants appear by digest only (see `sidefile`).
    """
    locs = _LocTable()
    attrs = f" attributes {print_attrs(module.attrs)}" if module.attrs else ""
    lines = [f"module @{module.name} {module.level}{attrs} {{"]
    lines += [f"  {_print_const(const)}" for const in module.consts]
    lines += [f"  {print_op(op)}{locs.reference(op.loc)}" for op in module.ops]
    return "\n".join([*lines, "}", *locs.lines, ""])


def print_op(op: Op) -> str:
    """Print one op without its location."""
    result = f"%{op.out} = " if op.out else ""
    attrs = [
        (spec.name, item)
        for spec in op_fields(type(op))
        if spec.role == "attr" and _differs(item := getattr(op, spec.name), spec.default)
    ]
    shown = f" {print_attrs(attrs)}" if attrs else ""
    return f"{result}{op.name}({', '.join(_print_operands(op))}){shown}{_print_type(op)}"


def _differs(item: Any, default: Any) -> bool:
    if default is MISSING or item != default:
        return True
    return isinstance(item, float) and math.copysign(1, item) != math.copysign(1, default)


def _print_type(op: Op) -> str:
    if not op.out:
        return ""
    try:
        inferred = op.infer()
    except Exception:  # the printer must accept what the verifier refuses
        inferred = None
    return f" : {inferred}" if isinstance(inferred, Type) else ""


def _print_operands(op: Op) -> list[str]:
    shown: list[str] = []
    for spec in op_fields(type(op)):
        item = getattr(op, spec.name)
        if spec.role == "values":
            shown += [f"%{value.name}" for value in item]
        elif spec.role == "value":
            shown.append("_" if item is None else f"%{item.name}")
        elif spec.role == "const":
            shown.append("_" if item is None else f"@{item.name}")
    while shown and shown[-1] == "_":
        shown.pop()
    return shown


def print_attrs(attrs: Any) -> str:
    """Print attribute pairs as ``{key=item, ...}``."""
    return "{" + ", ".join(f"{_print_key(str(key))}={print_item(item)}" for key, item in attrs) + "}"


def _print_key(key: str) -> str:
    return key if _plain(key) else json.dumps(key)


def _plain(text: str) -> bool:
    starts = text[:1].isalpha() and text.isascii()
    return starts and all(char.isalnum() or char in "_.-" for char in text)


def print_item(item: Any) -> str:
    """Print one attribute value."""
    if item is None:
        return "none"
    if isinstance(item, bool | np.bool_):
        return "true" if item else "false"
    if isinstance(item, int | Span | np.integer):
        return str(item)
    if isinstance(item, float | np.floating):
        return _print_float(float(item))
    if isinstance(item, str):
        return item if item not in _WORDS and _plain(item) else json.dumps(item)
    if isinstance(item, dict):
        return print_attrs(item.items())
    return "[" + ", ".join(print_item(part) for part in item) + "]"


def _print_float(number: float) -> str:
    if math.isfinite(number):
        return repr(number)
    return "nan" if math.isnan(number) else ("inf" if number > 0 else "-inf")


def _print_const(const: Const) -> str:
    head = f"const @{const.name} : {const.type} ="
    data = const.data
    if data is None or not _readable(data):
        return f'{head} blob "{const.digest}"'
    if const.uniform:
        return f"{head} splat {print_item(data.flat[0].item())}"
    if data.size <= INLINE_LIMIT:
        numbers = [_number(data.dtype, item) for item in data.reshape(-1)]
        return f"{head} [{', '.join(numbers)}]"
    return f'{head} blob "{const.digest}"'


def _readable(data: Any) -> bool:
    """Tell whether decimal digits carry the first elements (NaN has many bit patterns)."""
    return data.dtype.kind != "f" or not bool(np.isnan(data.flat[:INLINE_LIMIT]).any())


def _number(dtype: Any, item: Any) -> str:
    return _print_float(float(item)) if dtype.kind == "f" else print_item(item.item())


def inline_const(const: Const) -> bool:
    """Tell whether the text alone holds the constant's data."""
    data = const.data
    return data is not None and _readable(data) and (const.uniform or data.size <= INLINE_LIMIT)


class _LocTable:
    """Numbers locations in order of first use, parts before the whole."""

    def __init__(self) -> None:
        self._numbers: dict[Loc, int] = {}
        self.lines: list[str] = []

    def reference(self, loc: Loc | None) -> str:
        return "" if loc is None else f"  #{self._number(loc)}"

    def _number(self, loc: Loc) -> int:
        stack = [loc]  # no recursion: a chain of passes may nest locations deeply
        while stack:
            here = stack[-1]
            missing = [part for part in here.parts if part not in self._numbers]
            stack.extend(reversed(missing))
            if not missing:
                self._add(stack.pop())
        return self._numbers[loc]

    def _add(self, loc: Loc) -> None:
        if loc in self._numbers:
            return
        if loc.parts:
            shown = f"{loc.name}[{', '.join(f'#{self._numbers[part]}' for part in loc.parts)}]"
        else:
            shown = json.dumps(loc.name) + (f" {json.dumps(loc.node)}" if loc.node else "")
        self._numbers[loc] = len(self._numbers)
        self.lines.append(f"#{self._numbers[loc]} = {shown}")
