"""From expressions over states and inputs to the instructions of ``snn.user``, with checked units."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.evaluate import MAX_EXPRESSION, Evaluator
from nmc.frontends.snn.problems import Fault, did_you_mean
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import PLAIN, Dim, Quantity, Scope, Symbol, dim_name, kind_name
from nmc.ir.dataclass import dataclass
from nmc.ir.ops.expressions import MAX_CODE, Code, Instruction

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_FUNCTIONS = ("abs", "floor", "max", "min", "select")
_MAX_POWER = 16


@dataclass(frozen=True)
class Term:
    """An operand of an instruction: a number, or the name of one or of a truth value."""

    operand: str | float
    dim: Dim = PLAIN
    truth: bool = False


@dataclass
class Writer:
    """Writes the instructions of one part of a model.

    What names no state, input or parameter with an array is computed beforehand, in the language's own arithmetic.
    """

    evaluator: Evaluator
    scope: Scope
    lines: list[Instruction] = field(default_factory=list)
    _depth: int = 0
    _varying: set[int] = field(default_factory=set)

    @property
    def code(self) -> Code:
        """What has been written."""
        return tuple(self.lines)

    def assign(self, name: str, value: ast.Expr) -> Symbol:
        """Write the instructions of ``name = value``; the symbol is what `name` then stands for.

        Raises
        ------
        Fault
            For whatever is wrong with the expression.
        """
        self._varying |= _varying(value, self.scope)
        made = self._term(value)
        last = self.lines[-1] if self.lines else ()
        fresh = isinstance(made.operand, str) and made.operand.startswith("t.")
        if fresh and last and last[0] == made.operand:
            self.lines[-1] = (name, *last[1:])
        else:
            truth = ("and", made.operand, made.operand) if made.truth else ("copy", made.operand)
            self._add((name, *truth), value.pos)
        return Symbol(name, made.dim, made.truth)

    def _add(self, line: Instruction, pos: Pos) -> None:
        if len(self.lines) >= MAX_CODE:
            raise Fault("E0379", pos, f"a model of more than {MAX_CODE:,} operations")
        self.lines.append(line)

    def _emit(self, operation: str, terms: list[Term], dim: Dim, pos: Pos, truth: bool = False) -> Term:
        name = f"t.{len(self.lines)}"
        self._add((name, operation, *(term.operand for term in terms)), pos)
        return Term(name, dim, truth)

    def _term(self, node: ast.Expr) -> Term:
        self._depth += 1
        try:
            if self._depth > MAX_EXPRESSION:
                hint = "give parts of it a name: x = ..."
                raise Fault("E0379", node.pos, f"an expression of more than {MAX_EXPRESSION} levels", hint)
            if id(node) not in self._varying:
                return self._constant(node)
            makers: dict[type, Any] = {
                ast.Name: self._name, ast.Unary: self._unary, ast.Binary: self._binary, ast.Call: self._call,
            }  # fmt: skip
            if type(node) not in makers:
                raise Fault("E0381", node.pos, "states have no parts: only arithmetic applies to them")
            term: Term = makers[type(node)](node)
            return term
        finally:
            self._depth -= 1

    def _constant(self, node: ast.Expr) -> Term:
        found = self.evaluator.value(node, self.scope)
        if not isinstance(found, Quantity) or found.is_array:
            raise Fault("E0369", node.pos, f"a number is needed here, not {kind_name(found)}")
        return Term(float(found.value), found.dim)

    def _name(self, node: ast.Name) -> Term:
        symbol = self.scope.find(node.text)
        assert isinstance(symbol, Symbol), "only symbols vary"
        return Term(symbol.operand, symbol.dim, symbol.truth)

    def _number(self, node: ast.Expr) -> Term:
        term = self._term(node)
        if term.truth:
            raise Fault(
                "E0369", node.pos, "a number is needed here, not a truth value", "use select(c, 1, 0)"
            )
        return term

    def _truth(self, node: ast.Expr) -> Term:
        term = self._term(node)
        if not term.truth:
            raise Fault("E0369", node.pos, "true or false is needed here, not a number", "compare it: x > 0")
        return term

    def _unary(self, node: ast.Unary) -> Term:
        if node.op == "not":
            return self._emit("not", [self._truth(node.value)], PLAIN, node.pos, True)
        term = self._number(node.value)
        return term if node.op == "+" else self._emit("neg", [term], term.dim, node.pos)

    def _binary(self, node: ast.Binary) -> Term:
        if node.op in ("and", "or"):
            both = [self._truth(node.left), self._truth(node.right)]
            return self._emit(node.op, both, PLAIN, node.pos, True)
        if node.op == "**":
            return self._power(node)
        terms = [self._number(node.left), self._number(node.right)]
        dims = [term.dim for term in terms]
        if node.op in ("*", "/"):
            sign = 1 if node.op == "*" else -1
            x, y, z = (a + sign * b for a, b in zip(*dims, strict=True))
            if max(abs(x), abs(y), abs(z)) > 9:
                raise Fault("E0368", node.pos, f"a product of too many units: {dim_name((x, y, z))}")
            return self._emit(_ARITHMETIC[node.op], terms, (x, y, z), node.pos)
        self._same(node.op, terms, node.pos)
        if node.op in _COMPARISONS:
            return self._emit(_COMPARISONS[node.op], terms, PLAIN, node.pos, True)
        if node.op not in _ARITHMETIC:
            raise Fault("E0381", node.pos, f"{node.op} does not apply to states", "use floor(x / y)")
        return self._emit(_ARITHMETIC[node.op], terms, dims[0], node.pos)

    def _same(self, what: str, terms: list[Term], pos: Pos) -> None:
        first = terms[0].dim
        for term in terms[1:]:
            if term.dim != first:
                message = f"{what} between {dim_name(first)} and {dim_name(term.dim)}"
                raise Fault("E0368", pos, message, "give both the same unit")

    def _power(self, node: ast.Binary) -> Term:
        constant = id(node.right) not in self._varying
        times = self._constant(node.right).operand if constant else 0.0
        if times not in range(1, _MAX_POWER + 1):
            hint = "write a product"
            raise Fault("E0381", node.right.pos, f"a state to a power other than 1 to {_MAX_POWER}", hint)
        base = term = self._number(node.left)
        for _ in range(int(times) - 1):
            x, y, z = (a + b for a, b in zip(term.dim, base.dim, strict=True))
            if max(abs(x), abs(y), abs(z)) > 9:
                raise Fault("E0368", node.pos, f"a product of too many units: {dim_name((x, y, z))}")
            term = self._emit("mul", [term, base], (x, y, z), node.pos)
        return term

    def _call(self, node: ast.Call) -> Term:
        name = node.func.text if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS:
            aliases = {"where": "select", "ifelse": "select", "clip": "min", "heaviside": "select"}
            near = did_you_mean(name, _FUNCTIONS, aliases)
            raise Fault("E0371", node.pos, f"{name or 'this'} is no function of states", near)
        items = [argument.value for argument in node.arguments]
        wanted = {"abs": 1, "floor": 1, "select": 3}.get(name, max(len(items), 2))
        if len(items) != wanted or any(argument.name for argument in node.arguments):
            raise Fault("E0372", node.pos, f"{name} takes {wanted} values", "such as select(v > 0, v, 0)")
        if name == "select":
            condition, terms = self._truth(items[0]), [self._number(item) for item in items[1:]]
            self._same(name, terms, node.pos)
            return self._emit(name, [condition, *terms], terms[0].dim, node.pos)
        terms = [self._number(item) for item in items]
        self._same(name, terms, node.pos)
        if len(terms) == 1:
            if name == "floor" and terms[0].dim != PLAIN:
                hint = "divide by a unit first, such as x / 1 mV"
                raise Fault(
                    "E0368", node.pos, f"floor takes a plain number, not {dim_name(terms[0].dim)}", hint
                )
            return self._emit(name, terms, terms[0].dim, node.pos)
        best = terms[0]
        for term in terms[1:]:
            best = self._emit(name, [best, term], best.dim, node.pos)
        return best


def _children(node: Any) -> list[Any]:
    if isinstance(node, ast.Binary):
        return [node.left, node.right]
    if isinstance(node, ast.Unary):
        return [node.value]
    if isinstance(node, ast.Call):
        return [argument.value for argument in node.arguments]
    if isinstance(node, ast.Attribute):
        return [node.base]
    if isinstance(node, ast.Index):
        return [node.base, *node.items]
    if isinstance(node, ast.ListOf):
        return list(node.items)
    return [node.start, node.stop] if isinstance(node, ast.Range | ast.Slice) else []


def _varying(expression: ast.Expr, scope: Scope) -> set[int]:
    """The parts of an expression (by id) that name a symbol; no recursion, expressions may be deep."""
    order: list[tuple[Any, int]] = [(expression, -1)]
    for place, (node, _) in enumerate(order):
        order += [(child, place) for child in _children(node) if child is not None]
    found = [isinstance(node, ast.Name) and isinstance(scope.find(node.text), Symbol) for node, _ in order]
    for place in range(len(order) - 1, 0, -1):
        parent = order[place][1]
        found[parent] = found[parent] or found[place]
    return {id(node) for (node, _), varies in zip(order, found, strict=True) if varies}
