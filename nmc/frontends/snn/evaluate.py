"""The value of an expression, with checked units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.problems import Fault, Silent, did_you_mean
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import (
    PLAIN,
    UNITS,
    Instance,
    Poison,
    Quantity,
    Random,
    Scope,
    View,
    WeightsFile,
    dim_name,
    kind_name,
    shape_text,
)  # fmt: skip

MAX_EXPRESSION = 150
MAX_INTEGER = 10**15
_FUNCTIONS = ("abs", "ceil", "floor", "len", "max", "min", "normal", "round", "sqrt", "uniform")
_MAX_LIST = 100_000


class Evaluator:
    """Evaluates expressions in a scope."""

    def __init__(self) -> None:
        self._depth = 0

    def value(self, node: Any, scope: Scope) -> Any:
        """Give the value of an expression.

        Raises
        ------
        Fault
            E0366 to E0373.
        Silent
            When it depends on a definition that is wrong itself.
        """
        self._depth += 1
        try:
            if self._depth > MAX_EXPRESSION:
                hint = "give parts of it a name with let"
                raise Fault("E0379", node.pos, f"an expression of more than {MAX_EXPRESSION} levels", hint)
            found = getattr(self, f"_{type(node).__name__.lower()}")(node, scope)
            if isinstance(found, Poison):
                raise Silent
            return found
        finally:
            self._depth -= 1

    def name(self, node: ast.Name, scope: Scope) -> str:
        """Give a name with its template filled in."""
        if not node.holes:
            return node.text
        parts = [node.pieces[0]]
        for hole, piece in zip(node.holes, node.pieces[1:], strict=True):
            inner = self.value(hole, scope)
            if isinstance(inner, str) and inner.isidentifier():
                parts += [inner, piece]
            elif isinstance(inner, Quantity) and not inner.is_array and isinstance(inner.value, int):
                if inner.value < 0:
                    raise Fault("E0373", node.pos, f"{inner.value} in a name is negative")
                parts += [str(inner.value), piece]
            else:
                raise Fault("E0369", node.pos, f"a name is made of whole numbers, not of {kind_name(inner)}")
        return "".join(parts)

    def _number(self, node: ast.Number, scope: Scope) -> Quantity:
        if len(node.digits) > 40:
            raise Fault("E0370", node.pos, "a number of more than 40 characters")
        dim, power = UNITS[node.unit] if node.unit else (PLAIN, 0)
        if node.digits.isdecimal() and node.digits.isascii() and not power:
            return Quantity(_bounded(int(node.digits), node.pos), dim)
        digits, _, exponent = node.digits.lower().partition("e")
        number = float(f"{digits}e{int(exponent or 0) + power}")
        if not math.isfinite(number):
            raise Fault("E0370", node.pos, f"{node.digits} is too large")
        return Quantity(number, dim)

    def _text(self, node: ast.Text, scope: Scope) -> str:
        return node.value

    def _truth(self, node: ast.Truth, scope: Scope) -> bool:
        return node.value

    def _name(self, node: ast.Name, scope: Scope) -> Any:
        text = self.name(node, scope)
        found = scope.find(text)
        if found is None:
            raise Fault("E0366", node.pos, f"nothing is named {text}", did_you_mean(text, scope.known()))
        return found

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        base = self.value(node.base, scope)
        if isinstance(base, WeightsFile):
            if node.name not in base.arrays:
                near = did_you_mean(node.name, base.arrays)
                raise Fault("E0375", node.pos, f"{base.path} has no array {node.name}", near)
            return Quantity(base.arrays[node.name])
        if isinstance(base, Instance):
            found = base.scope.names.get(node.name)
            if found is None:
                near = did_you_mean(node.name, base.scope.names)
                raise Fault("E0366", node.pos, f"{base.name} has no {node.name}", near)
            return found
        if isinstance(base, View) and node.name == "size":
            return Quantity(base.size)
        hint = "populations have .size" if isinstance(base, View) else ""
        raise Fault("E0369", node.pos, f"{kind_name(base)} has no .{node.name}", hint)

    def _index(self, node: ast.Index, scope: Scope) -> Any:
        base = self.value(node.base, scope)
        if isinstance(base, View):
            return self.boxed(base, node, scope)
        items = [self.value(item, scope) for item in node.items if not isinstance(item, ast.Slice)]
        if isinstance(base, list | range) and len(items) == 1 == len(node.items):
            at = whole(items[0], node.pos, "an index", 0)
            if at >= len(base):
                raise Fault("E0377", node.pos, f"index {at} of {len(base)} items")
            picked = base[at]
            return Quantity(picked) if isinstance(base, range) else picked
        if isinstance(base, Quantity) and base.is_array and len(items) == len(node.items):
            picks = tuple(whole(item, node.pos, "an index", 0) for item in items)
            shape = base.value.shape
            if len(picks) > len(shape) or any(a >= b for a, b in zip(picks, shape, strict=False)):
                raise Fault(
                    "E0377", node.pos, f"index {list(picks)} of an array of shape {shape_text(shape)}"
                )
            inner = base.value[picks]
            return Quantity(inner if isinstance(inner, np.ndarray) else inner.item(), base.dim)
        raise Fault("E0369", node.pos, f"{kind_name(base)} takes no such index")

    def boxed(self, base: View, node: ast.Index, scope: Scope) -> View:
        """Give the part of a population that an index names.

        Raises
        ------
        Fault
            E0377 when it leaves the population.
        """
        if len(node.items) > len(base.box):
            message = f"{len(node.items)} indices for {base.pop.name}, which has {len(base.box)} axes"
            raise Fault("E0377", node.pos, message)
        box = list(base.box)
        for axis, item in enumerate(node.items):
            box[axis] = self.bounds(item, scope, base.box[axis], node.pos)
        return View(base.pop, tuple(box))

    def bounds(self, item: Any, scope: Scope, span: tuple[int, int], pos: Pos) -> tuple[int, int]:
        """Give the part of `span` that an index or slice names."""
        extent = span[1] - span[0]
        if isinstance(item, ast.Slice):
            start = whole(self.value(item.start, scope), pos, "a slice", 0) if item.start else 0
            stop = whole(self.value(item.stop, scope), pos, "a slice", 0) if item.stop else extent
        else:
            found = self.value(item, scope)
            if isinstance(found, range):
                start, stop = found.start, found.stop
            else:
                start = whole(found, pos, "an index", 0)
                stop = start + 1
        if not 0 <= start < stop <= extent:
            raise Fault("E0377", pos, f"{start}..{stop} is no part of 0..{extent}", "the end is not included")
        return span[0] + start, span[0] + stop

    def _range(self, node: ast.Range, scope: Scope) -> range:
        ends = [whole(self.value(end, scope), end.pos, "a range", None) for end in (node.start, node.stop)]
        return range(*ends)

    def _listof(self, node: ast.ListOf, scope: Scope) -> list[Any]:
        if len(node.items) > _MAX_LIST:
            raise Fault("E0379", node.pos, f"a list of {len(node.items):,} items", "put the data into a file")
        return [self.value(item, scope) for item in node.items]

    def _unary(self, node: ast.Unary, scope: Scope) -> Any:
        inner = self.value(node.value, scope)
        if node.op == "not":
            return not truth(inner, node.pos)
        if not isinstance(inner, Quantity):
            raise Fault("E0369", node.pos, f"{node.op} needs a number, not {kind_name(inner)}")
        return inner if node.op == "+" else Quantity(-inner.value, inner.dim)

    def _binary(self, node: ast.Binary, scope: Scope) -> Any:
        left = self.value(node.left, scope)
        if node.op in ("and", "or"):
            known = truth(left, node.left.pos)
            if known == (node.op == "or"):
                return known
            return truth(self.value(node.right, scope), node.right.pos)
        right = self.value(node.right, scope)
        if node.op in ("==", "!=") and isinstance(left, str | bool) and isinstance(right, str | bool):
            return (left == right) == (node.op == "==")
        if not isinstance(left, Quantity) or not isinstance(right, Quantity):
            wrong = left if not isinstance(left, Quantity) else right
            raise Fault("E0369", node.pos, f"{node.op} needs numbers, not {kind_name(wrong)}")
        return arithmetic(node.op, left, right, node.pos)

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        name = self.name(node.func, scope) if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS:
            shown = name or "this"
            raise Fault("E0371", node.pos, f"{shown} is no function", did_you_mean(name, _FUNCTIONS))
        named = next((item for item in node.arguments if item.name), None)
        if named is not None:
            raise Fault("E0372", named.pos, f"{name} takes no arguments by name")
        values = [self.value(item.value, scope) for item in node.arguments]
        if name == "len":
            if len(values) != 1 or not isinstance(values[0], list | range):
                raise Fault("E0372", node.pos, "len takes one list")
            return Quantity(len(values[0]))
        numbers = [item for item in values if isinstance(item, Quantity) and not item.is_array]
        if len(numbers) != len(values):
            raise Fault("E0369", node.pos, f"{name} takes numbers")
        return _apply(name, numbers, node.pos)


def _apply(name: str, numbers: list[Quantity], pos: Pos) -> Quantity | Random:
    count = 2 if name in ("normal", "uniform") else 1
    if name in ("min", "max"):
        count = max(len(numbers), 1)
    if len(numbers) != count:
        raise Fault("E0372", pos, f"{name} takes {count} number{'s' * (count > 1)}, not {len(numbers)}")
    dim = numbers[0].dim
    for other in numbers[1:]:
        if other.dim != dim:
            raise Fault("E0368", pos, f"{name} of {dim_name(dim)} and {dim_name(other.dim)}")
    plain = [item.value for item in numbers]
    if name in ("normal", "uniform"):
        if name == "normal" and plain[1] < 0 or name == "uniform" and plain[1] < plain[0]:
            raise Fault("E0373", pos, f"{name}({plain[0]}, {plain[1]}) is no distribution")
        return Random(name, float(plain[0]), float(plain[1]), dim)
    if name in ("min", "max", "abs"):
        best = abs(plain[0]) if name == "abs" else min(plain) if name == "min" else max(plain)
        return Quantity(best, dim)
    if dim != PLAIN:
        hint = "divide by a unit first, such as x / 1 ms"
        raise Fault("E0368", pos, f"{name} takes a plain number, not {dim_name(dim)}", hint)
    if name == "sqrt":
        if plain[0] < 0:
            raise Fault("E0370", pos, "the square root of a negative number")
        return Quantity(math.sqrt(plain[0]))
    rounders: dict[str, Any] = {"ceil": math.ceil, "floor": math.floor, "round": round}
    return Quantity(_bounded(rounders[name](plain[0]), pos))


def arithmetic(op: str, left: Quantity, right: Quantity, pos: Pos) -> Quantity | bool:
    """Apply an operator to two numbers.

    Raises
    ------
    Fault
        E0368 for units that do not fit, E0370 for what has no result.
    """
    if op in ("+", "-", "%", "//", "<", ">", "<=", ">=", "==", "!=") and left.dim != right.dim:
        message = f"{op} between {dim_name(left.dim)} and {dim_name(right.dim)}"
        raise Fault("E0368", pos, message, "give both the same unit")
    if (left.is_array or right.is_array) and op not in ("+", "-", "*", "/"):
        raise Fault("E0369", pos, f"{op} does not apply to arrays")
    try:
        with np.errstate(all="ignore"):
            return _compute(op, left, right, pos)
    except OverflowError:
        raise Fault("E0370", pos, "the result is too large") from None
    except (ZeroDivisionError, ValueError) as error:
        raise Fault("E0370", pos, f"this has no result: {error}") from None


def _compute(op: str, left: Quantity, right: Quantity, pos: Pos) -> Quantity | bool:
    a, b = left.value, right.value
    if op in ("<", ">", "<=", ">=", "==", "!="):
        tests = {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b, "==": a == b, "!=": a != b}
        return bool(tests[op])
    if op == "**":
        return Quantity(_power(a, b, left, right, pos), PLAIN)
    if op in ("/", "//", "%") and not right.is_array and b == 0:
        raise ZeroDivisionError("division by zero")
    if op in ("+", "-"):
        return Quantity(_bounded(a + b if op == "+" else a - b, pos), left.dim)
    if op == "*":
        x, y, z = (i + j for i, j in zip(left.dim, right.dim, strict=True))
        return Quantity(_bounded(a * b, pos), _held((x, y, z), pos))
    if op == "/":
        x, y, z = (i - j for i, j in zip(left.dim, right.dim, strict=True))
        return Quantity(_bounded(a / b, pos), _held((x, y, z), pos))
    return Quantity(_bounded(a // b, pos)) if op == "//" else Quantity(_bounded(a % b, pos), left.dim)


def _held(dim: tuple[int, int, int], pos: Pos) -> tuple[int, int, int]:
    if max(map(abs, dim)) > 9:
        raise Fault("E0368", pos, f"a product of too many units: {dim_name(dim)}")
    return dim


def _power(a: Any, b: Any, left: Quantity, right: Quantity, pos: Pos) -> Any:
    if left.dim != PLAIN or right.dim != PLAIN:
        raise Fault("E0368", pos, "** takes plain numbers")
    size = float(a) ** float(b)
    if isinstance(size, complex):
        raise ValueError("the root of a negative number")
    exact = isinstance(a, int) and isinstance(b, int) and b >= 0 and abs(size) <= MAX_INTEGER
    return _bounded(a**b if exact else size, pos)


def _bounded(value: Any, pos: Pos) -> Any:
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise Fault("E0370", pos, f"a whole number above {MAX_INTEGER:,}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Fault("E0370", pos, "the result is too large")
    return value


def truth(value: Any, pos: Pos) -> bool:
    """Give a truth value as such."""
    if not isinstance(value, bool):
        raise Fault("E0369", pos, f"true or false is needed here, not {kind_name(value)}")
    return value


def whole(value: Any, pos: Pos, what: str, least: int | None) -> int:
    """Give a plain whole number, at least `least`."""
    if isinstance(value, Poison):
        raise Silent
    if not isinstance(value, Quantity) or value.is_array or not isinstance(value.value, int):
        shown = "a broken number" if isinstance(value, Quantity) and value.dim == PLAIN else kind_name(value)
        hint = "round(...) makes a number whole" if isinstance(value, Quantity) else ""
        raise Fault("E0369", pos, f"{what} is a whole number, not {shown}", hint)
    if value.dim != PLAIN:
        raise Fault("E0368", pos, f"{what} is a plain number, not {dim_name(value.dim)}")
    if least is not None and value.value < least:
        raise Fault("E0373", pos, f"{what} is {value.value}, it must be at least {least}")
    return int(value.value)
