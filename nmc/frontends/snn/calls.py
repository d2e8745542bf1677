"""Arguments of encoders, models, connectors and decoders: bound to parameters and checked in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.evaluate import Evaluator
from nmc.frontends.snn.problems import Fault, did_you_mean
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import PLAIN, Dim, Quantity, Random, Scope, dim_name, kind_name
from nmc.ir.dataclass import dataclass


@dataclass(frozen=True)
class Param:
    """One parameter of something that is called.

    Parameters
    ----------
    name : str
        Its name.
    dims : tuple of Dim
        Dimensions that a number may have; empty when it is no number.
    required : bool
        Whether it must be given.
    whole : bool
        Whether only whole numbers will do.
    array, random, listing : bool
        Whether an array, a distribution or a list of whole numbers will do too.
    choices : tuple of str
        Words that it may be.
    kind : {"number", "word", "truth", "text", "span", "pool", "any"}
        What it is.
    least, most : float
        Bounds of a number, included.
    positive : bool
        Whether 0 is excluded.
    """

    name: str
    dims: tuple[Dim, ...] = (PLAIN,)
    required: bool = False
    whole: bool = False
    array: bool = False
    random: bool = False
    listing: bool = False
    choices: tuple[str, ...] = ()
    kind: str = "number"
    least: float = -float("inf")
    most: float = float("inf")
    positive: bool = False


@dataclass(frozen=True)
class Bound:
    """An argument's value and place."""

    value: Any
    pos: Pos


Arguments = dict[str, Bound]


def bind(
    evaluator: Evaluator,
    scope: Scope,
    arguments: Sequence[ast.Argument],
    params: Sequence[Param],
    what: str,
    aliases: Mapping[str, str] | None = None,
) -> Arguments:
    """Bind arguments to parameters; required ones are checked by `require_all`.

    Raises
    ------
    Fault
        E0372 for unknown, repeated or surplus arguments, E0368, E0369, E0373 for wrong values.
    """
    table = {param.name: param for param in params}
    bound: Arguments = {}
    for position, argument in enumerate(arguments):
        name = argument.name or (params[position].name if position < len(params) else "")
        if not name:
            raise Fault("E0372", argument.pos, f"{what} takes {len(params)} arguments at most")
        if name not in table:
            near = did_you_mean(name, table, aliases)
            raise Fault("E0372", argument.pos, f"{what} has no argument {name}", near)
        if name in bound:
            raise Fault("E0372", argument.pos, f"{name} is given twice")
        bound[name] = Bound(_checked(evaluator, scope, argument.value, table[name]), argument.value.pos)
    return bound


def require_all(bound: Arguments, params: Sequence[Param], pos: Pos, what: str) -> None:
    """Check that every required argument is there."""
    missing = [param.name for param in params if param.required and param.name not in bound]
    if missing:
        hint = f"write {what}({missing[0]} = ...)"
        raise Fault("E0372", pos, f"{what} lacks {', '.join(missing)}", hint)


def _checked(evaluator: Evaluator, scope: Scope, node: ast.Expr, param: Param) -> Any:
    if param.kind == "word":
        return _word(node, param)
    if param.kind == "pool":
        return _pool(evaluator, scope, node)
    value = evaluator.value(node, scope)
    kinds = {"truth": bool, "text": str, "span": range}
    if param.kind in kinds and not isinstance(value, kinds[param.kind]):
        wanted = {"truth": "true or false", "text": "a string", "span": "a range such as 0..10"}[param.kind]
        raise Fault("E0369", node.pos, f"{param.name} is {wanted}, not {kind_name(value)}")
    return _number(value, param, node.pos) if param.kind == "number" else value


def _word(node: ast.Expr, param: Param) -> str:
    text = node.text if isinstance(node, ast.Name) else node.value if isinstance(node, ast.Text) else ""
    if text not in param.choices:
        near = did_you_mean(text, param.choices)
        shown = text or "this"
        raise Fault(
            "E0372", node.pos, f"{param.name} is one of {', '.join(param.choices)}, not {shown}", near
        )
    return text


def _pool(evaluator: Evaluator, scope: Scope, node: ast.Expr) -> tuple[str, int]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.text in ("sum", "avg"):
        size = Param("size", required=True, whole=True, least=1, most=4096)
        bound = bind(evaluator, scope, node.arguments, (size,), node.func.text)
        require_all(bound, (size,), node.pos, node.func.text)
        return node.func.text, int(bound["size"].value.value)
    raise Fault("E0369", node.pos, "pool is sum(n) or avg(n)")


def _number(value: Any, param: Param, pos: Pos) -> Any:
    if isinstance(value, list) and param.listing:
        return [_number(item, param, pos) for item in value]
    if isinstance(value, list) and param.array:
        value = _stacked(value, param, pos)
    if isinstance(value, Random):
        if not param.random:
            raise Fault("E0369", pos, f"{param.name} cannot be drawn from a distribution")
        _check_dim(value.dim, param, pos)
        return value
    if not isinstance(value, Quantity) or (value.is_array and not param.array):
        raise Fault("E0369", pos, f"{param.name} is a number, not {kind_name(value)}")
    _check_dim(value.dim, param, pos)
    if param.whole and not value.is_array and not isinstance(value.value, int):
        raise Fault("E0369", pos, f"{param.name} is a whole number, not {value.value}", "use round(...)")
    _check_bounds(value, param, pos)
    return value


def _stacked(items: list[Any], param: Param, pos: Pos) -> Quantity:
    """An array in place of a list of numbers, or of lists of equal length: ``tau = [5 ms, 10 ms]``."""
    parts = [_stacked(item, param, pos) if isinstance(item, list) else item for item in items]
    numbers = [part for part in parts if isinstance(part, Quantity)]
    if not parts or len(numbers) < len(parts):
        odd = next((part for part in parts if not isinstance(part, Quantity)), None)
        shown = "an empty list" if odd is None else f"a list with {kind_name(odd)} in it"
        raise Fault("E0369", pos, f"{param.name} is a number or a list of numbers, not {shown}")
    for part in numbers:
        if part.dim != numbers[0].dim:
            message = f"{param.name} holds {dim_name(numbers[0].dim)} and {dim_name(part.dim)}"
            raise Fault("E0368", pos, message, "give all the same unit")
    shapes = {np.shape(part.value) for part in numbers}
    if len(shapes) > 1:
        raise Fault("E0376", pos, f"{param.name} is a list of lists of different lengths")
    return Quantity(np.array([part.value for part in numbers], np.float64), numbers[0].dim)


def _check_dim(dim: Dim, param: Param, pos: Pos) -> None:
    if param.dims and dim not in param.dims:
        wanted = " or ".join(dim_name(item) for item in param.dims)
        raise Fault("E0368", pos, f"{param.name} is {wanted}, not {dim_name(dim)}", _unit_hint(param.dims[0]))


def _unit_hint(dim: Dim) -> str:
    units = {(1, 0, 0): "10 ms", (-1, 0, 0): "10 Hz", (0, 1, 0): "10 mV", (0, 0, 1): "1 step"}
    return f"write it with its unit, such as {units[dim]}" if dim in units else ""


def _check_bounds(value: Quantity, param: Param, pos: Pos) -> None:
    if isinstance(value.value, int | float):
        low: Any = value.value
        high, fine = low, isinstance(low, int) or math.isfinite(low)
    else:
        numbers = np.asarray(value.value)
        fine = numbers.size > 0 and bool(np.isfinite(numbers).all())
        low, high = (numbers.min(), numbers.max()) if fine else (0, 0)
    if not fine:
        raise Fault("E0373", pos, f"{param.name} is empty or not finite")
    if low < param.least or high > param.most or (param.positive and low <= 0):
        worst = high if high > param.most else low
        wanted = "above 0" if param.positive else f"from {param.least:g} on"
        if param.most != float("inf"):
            wanted += f" up to {param.most:g}" if param.positive else f" to {param.most:g}"
        raise Fault("E0373", pos, f"{param.name} is {worst:g}, it must be {wanted}")
