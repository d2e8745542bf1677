"""Parse the text form of the IR (lark LALR; the grammar is ``grammar.lark``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import LEVELS, FieldSpec, Op, Span, Value, VerifyError, coerce_attr, op_fields
from nmc.ir.optable import find_op
from nmc.ir.text.printer import print_item
from nmc.ir.types import NUMBER_KINDS, Type

if TYPE_CHECKING:
    from lark import Lark, Tree

#: A splat constant may have at most this many elements.
MAX_SPLAT = 1 << 34


def parse(text: str, blobs: Mapping[str, NDArray[Any]] | None = None, *, file: str = "<text>") -> Module:
    """Read a module.

    Parameters
    ----------
    text : str
        What `nmc.ir.text.printer.print_module` prints.
    blobs : mapping of str to ndarray
        Data of large constants by digest; a constant not found there stays without data.
    file : str
        Name used in diagnostics.

    Raises
    ------
    NmcError
        E0101 (syntax), E0102 (constant), E0103 (op, operand, attribute or type), E0104 (location), each with
        line and column; all of them at once except after a syntax error.
    """
    tree = _syntax_tree(text, file)
    reader = _Reader(text, file, dict(blobs or {}))
    module = reader.module(tree)
    if reader.problems:
        raise NmcError(reader.problems)
    return module


@cache
def _lark() -> Lark:
    from lark import Lark

    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", maybe_placeholders=True, propagate_positions=False)


def _syntax_tree(text: str, file: str) -> Tree[Any]:
    from lark.exceptions import LarkError, UnexpectedInput

    try:
        return _lark().parse(text)
    except UnexpectedInput as error:
        line, column = max(error.line, 1), max(error.column, 1)
        shown = text.split("\n")[line - 1] if line <= text.count("\n") + 1 else ""
        cut = max(column - 100, 0)
        expected = sorted(getattr(error, "accepts", None) or getattr(error, "allowed", None) or ())
        hint = f"expected one of {', '.join(expected[:8])}" if expected else ""
        message = f"this is not nmc IR\n  {shown[cut : cut + 200]}\n  {' ' * (column - 1 - cut)}^"
        raise NmcError(Diagnostic("E0101", message, where=f"{file}:{line}:{column}", hint=hint)) from None
    except (LarkError, RecursionError) as error:
        raise NmcError(Diagnostic("E0101", f"this is not nmc IR: {error}", where=file)) from None


class _Problem(Exception):
    """A problem at a token; becomes a diagnostic."""

    def __init__(self, code: str, message: str, token: Any = None) -> None:
        super().__init__(message)
        self.code, self.token = code, token


@dataclass
class _Reader:
    """Builds the module from the syntax tree, collecting problems."""

    text: str
    file: str
    blobs: dict[str, NDArray[Any]]
    problems: list[Diagnostic] = field(default_factory=list)
    locs: dict[str, Loc] = field(default_factory=dict)
    consts: dict[str, Const] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def _note(self, problem: _Problem) -> None:
        token = problem.token
        line, column = getattr(token, "line", None), getattr(token, "column", None)
        where = f"{self.file}:{line}:{column}" if line else self.file
        self.problems.append(Diagnostic(problem.code, str(problem), where=where))

    def module(self, tree: Tree[Any]) -> Module:
        head, *locdefs = tree.children
        name, level, attrs, *body = head.children
        for entry in locdefs:
            self._try(self._locdef, entry)
        if level not in LEVELS:
            self._note(_Problem("E0103", f"level {level} is none of {', '.join(LEVELS)}", level))
        ops = [entry for entry in body if entry.data == "op"]
        for entry in body:
            if entry.data == "const":
                self._try(self._const, entry)
        for entry in ops:
            self._try(self._declare, entry)
        built = [op for entry in ops if (op := self._try(self._op, entry)) is not None]
        shown = self._try(_attr_dict, attrs) if attrs is not None else {}
        return Module(str(name)[1:], str(level), tuple(built), tuple((shown or {}).items()))

    def _try(self, build: Any, entry: Any) -> Any:
        try:
            return build(entry)
        except _Problem as problem:
            self._note(problem)
        except RecursionError:
            self._note(_Problem("E0101", "brackets are nested too deeply"))
        return None

    def _locdef(self, entry: Tree[Any]) -> None:
        number, body = entry.children
        if str(number) in self.locs:
            raise _Problem("E0104", f"location {number} is defined twice", number)
        if body.data == "leafloc":
            name, node = body.children
            loc = Loc(_string(name), _string(node) if node is not None else "")
        else:
            name, *parts = body.children
            loc = Loc(str(name), parts=tuple(self._loc(part) for part in parts if part is not None))
        self.locs[str(number)] = loc

    def _loc(self, token: Any) -> Loc:
        if str(token) not in self.locs:
            raise _Problem("E0104", f"location {token} is used before it is defined", token)
        return self.locs[str(token)]

    def _const(self, entry: Tree[Any]) -> None:
        name, declared, body = entry.children
        kind = _type(declared)
        if kind.kind not in NUMBER_KINDS:
            raise _Problem("E0102", f"a constant cannot be of type {kind}", declared)
        if str(name) in self.consts:
            raise _Problem("E0102", f"constant {name} is defined twice", name)
        self.consts[str(name)] = self._const_of(str(name)[1:], kind, body, name)

    def _const_of(self, name: str, kind: Type, body: Tree[Any], token: Any) -> Const:
        dtype = np.dtype(NUMBER_KINDS[kind.kind])
        if body.data == "blob":
            return self._blob(name, kind, _string(body.children[0]), token)
        try:
            if body.data == "splat":
                return Const(name, _splat(kind, dtype, _item(body.children[0])))
            items = _item(body.children[0])
            for item in items:
                _check_element(item, kind)
            return Const(name, np.array(items, dtype).reshape(kind.shape))
        except (ValueError, TypeError, OverflowError) as error:
            raise _Problem("E0102", f"constant @{name}: {error}", token) from None

    def _blob(self, name: str, kind: Type, digest: str, token: Any) -> Const:
        data = self.blobs.get(digest)
        if data is None:
            return Const(name, None, (kind, digest))
        try:
            const = Const(name, data)
        except ValueError as error:
            raise _Problem(
                "E0102", f"constant @{name}: the side file does not hold it: {error}", token
            ) from None
        if const.type != kind or const.digest != digest:
            raise _Problem(
                "E0102", f"constant @{name}: the side file holds {const.type} of another content", token
            )
        return const

    def _declare(self, entry: Tree[Any]) -> None:
        out, declared = entry.children[0], entry.children[-2]
        if out is None:
            return
        if str(out) in self.values:
            raise _Problem("E0103", f"{out} is defined twice", out)
        if declared is None:
            raise _Problem("E0103", f"{out} has no type", out)
        self.values[str(out)] = Value(str(out)[1:], _type(declared))

    def _op(self, entry: Tree[Any]) -> Op:
        out, name, *operands, attrs, declared, loc = entry.children
        try:
            cls = find_op(str(name))
        except KeyError as error:
            raise _Problem("E0103", str(error.args[0]), name) from None
        given = self._operands(cls, [entry.children[0] for entry in operands if entry is not None], name)
        given |= _attributes(cls, _attr_dict(attrs) if attrs is not None else {}, name)
        missing = [
            s.name
            for s in op_fields(cls)
            if s.default is MISSING and s.role != "values" and s.name not in given
        ]
        if missing:
            raise _Problem("E0103", f"{name} lacks {', '.join(missing)}", name)
        where = self._loc(loc) if loc is not None else None
        op = cls(out=str(out)[1:] if out is not None else "", loc=where, **given)
        self._check_type(op, declared, name)
        return op

    def _check_type(self, op: Op, declared: Any, token: Any) -> None:
        try:
            inferred = op.infer()
        except (VerifyError, ValueError) as error:
            raise _Problem("E0103", f"{op.name}: {error}", token) from None
        expected = _type(declared) if declared is not None else None
        if op.out and inferred != expected or not op.out and declared is not None:
            raise _Problem(
                "E0103", f"%{op.out} is declared {expected}, but {op.name} gives {inferred}", token
            )

    def _operands(self, cls: type[Op], tokens: list[Any], name: Any) -> dict[str, Any]:
        given: dict[str, Any] = {}
        queue = list(tokens)
        for spec in op_fields(cls):
            if spec.role == "values":
                taken: list[Value] = []
                while queue and str(queue[0])[0] == "%":
                    taken.append(self._value(queue.pop(0)))
                given[spec.name] = tuple(taken)
            elif spec.role in ("value", "const") and queue:
                item = self._operand(spec, queue.pop(0))
                if item is not None:
                    given[spec.name] = item
        if queue:
            raise _Problem("E0103", f"{name} takes no operand {queue[0]} here", queue[0])
        return given

    def _operand(self, spec: FieldSpec, token: Any) -> Value | Const | None:
        text = str(token)
        if text == "_":
            if not spec.optional:
                raise _Problem("E0103", f"operand {spec.name} must be given", token)
            return None
        if spec.role == "value" and text[0] == "%":
            return self._value(token)
        if spec.role == "const" and text in self.consts:
            return self.consts[text]
        if spec.role == "const" and text[0] == "@":
            raise _Problem("E0103", f"{text} is not defined", token)
        raise _Problem("E0103", f"operand {spec.name} cannot be {text}", token)

    def _value(self, token: Any) -> Value:
        if str(token) not in self.values:
            raise _Problem("E0103", f"{token} is not defined", token)
        return self.values[str(token)]


def _attributes(cls: type[Op], attrs: dict[str, Any], name: Any) -> dict[str, Any]:
    specs = {spec.name: spec for spec in op_fields(cls) if spec.role == "attr"}
    given = {}
    for key, item in attrs.items():
        if key not in specs:
            raise _Problem(
                "E0103", f"{name} has no attribute {key}; it has {', '.join(specs) or 'none'}", name
            )
        try:
            given[key] = coerce_attr(item, specs[key].hint)
        except ValueError as error:
            raise _Problem("E0103", f"{name}: attribute {key}: {error}", name) from None
    return given


def _attr_dict(tree: Any) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for entry in tree.children:
        if entry is not None:
            token, item = entry.children
            key = _string(token) if token.type == "STRING" else str(token)
            if key in pairs:
                raise _Problem("E0103", f"attribute {key} is given twice", token)
            pairs[key] = _item(item)
    return pairs


def _item(tree: Any) -> Any:
    if tree.data == "scalar":
        return _scalar(tree.children[0])
    if tree.data == "attrs":
        return _attr_dict(tree)
    return tuple(_item(part) for part in tree.children if part is not None)


def _scalar(token: Any) -> Any:
    text = str(token)
    if token.type == "STRING":
        return _string(token)
    if token.type == "SPAN":
        start, stop = text.split(":")
        if len(text) > 40:
            raise _Problem("E0103", f"{text[:40]}... is too large", token)
        try:
            return Span(int(start), int(stop))
        except ValueError as error:
            raise _Problem("E0103", str(error), token) from None
    if token.type == "NAME":
        return {"true": True, "false": False, "none": None}.get(text, text)
    if len(text) > 400:
        raise _Problem("E0103", f"number {text[:20]}... has too many digits", token)
    if text.startswith("0x"):
        return int(text, 16)
    return float(text) if any(char in text for char in ".eEin") else int(text)


def _string(token: Any) -> str:
    try:
        return str(json.loads(str(token)))
    except ValueError:
        raise _Problem("E0101", f"not a string: {token}", token) from None


def _type(token: Any) -> Type:
    try:
        return Type.parse(str(token))
    except ValueError as error:
        raise _Problem("E0103", str(error), token) from None


def _check_element(item: Any, kind: Type) -> None:
    """Refuse what numpy would silently make fit: 1.5 in an integer, none in a float, text in either."""
    wanted = {"b": bool, "f": float | int}.get(kind.kind[0], int)
    if not isinstance(item, wanted) or isinstance(item, bool) and wanted is not bool:
        raise ValueError(f"{print_item(item)[:40]} is no element of {kind}")


def _splat(kind: Type, dtype: np.dtype[Any], item: Any) -> NDArray[Any]:
    if kind.size > MAX_SPLAT:
        raise ValueError(f"{kind.size:,} elements are too many")
    _check_element(item, kind)
    return np.broadcast_to(np.array(item, dtype), kind.shape)
