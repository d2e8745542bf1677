"""From grammar rules to the syntax tree; called by the automaton as it reduces."""

# The names of the methods are those of the grammar's rules.

from __future__ import annotations

from typing import Any

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.automaton import Token
from nmc.frontends.snn.lexing import UNIT_LETTERS
from nmc.frontends.snn.syntax import Pos


def _some(items: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item for item in items if item is not None)


class Builder:
    """One method a rule; statements get their place from the reader."""

    def statement(self, node: Any) -> Any:  # noqa: D102
        return node

    def network(self, name: Token, arguments: Any) -> ast.Network:  # noqa: D102
        return ast.Network(name.pos, name.value, arguments or ())

    def import_(self, path: Token) -> ast.Import:  # noqa: D102
        return ast.Import(path.pos, self.text(path))

    def weights(self, name: Token, path: Token) -> ast.Weights:  # noqa: D102
        return ast.Weights(name.pos, name.value, self.text(path))

    def param(self, name: Token, value: ast.Expr) -> ast.Let:  # noqa: D102
        return ast.Let(name.pos, self.name(name), value, True)

    def let(self, name: ast.Name, value: ast.Expr) -> ast.Let:  # noqa: D102
        return ast.Let(name.pos, name, value, False)

    def neuron(self, name: ast.Name, value: ast.Expr) -> ast.Neuron:  # noqa: D102
        return ast.Neuron(name.pos, name, value)

    def synapse(self, name: ast.Name, value: ast.Expr) -> ast.Synapse:  # noqa: D102
        return ast.Synapse(name.pos, name, value)

    def input(self, name: ast.Name, shape: Any, value: ast.Expr, *hints: ast.Hint) -> ast.Input:  # noqa: D102
        return ast.Input(name.pos, name, shape or (), value, hints)

    def pop(self, name: ast.Name, shape: Any, value: ast.Expr, *hints: ast.Hint) -> ast.Pop:  # noqa: D102
        return ast.Pop(name.pos, name, shape or (), value, hints)

    def project(  # noqa: D102
        self, source: ast.Expr, target: ast.Expr, value: ast.Expr, synapse: Any, *hints: ast.Hint
    ) -> ast.Project:
        return ast.Project(source.pos, source, target, value, synapse, hints)

    def probe(self, *items: Any) -> ast.Probe:  # noqa: D102
        return ast.Probe(items[0].pos, items[:-1], items[-1])

    def output(self, source: ast.Expr, value: ast.Expr) -> ast.Output:  # noqa: D102
        return ast.Output(source.pos, source, value)

    def place(self, *items: Any) -> ast.Place:  # noqa: D102
        return ast.Place(items[0].pos, items[:-1], items[-1])

    def assert_(self, condition: ast.Expr, message: Token | None) -> ast.Assert:  # noqa: D102
        return ast.Assert(condition.pos, condition, message.value[1:-1] if message else "")

    def for_head(self, name: Token, values: ast.Expr) -> ast.For:  # noqa: D102
        return ast.For(name.pos, name.value, values)

    def if_head(self, condition: ast.Expr) -> ast.If:  # noqa: D102
        return ast.If(condition.pos, condition)

    def module_head(self, name: Token, arguments: Any) -> ast.Module:  # noqa: D102
        return ast.Module(name.pos, name.value, arguments or ())

    def shape(self, *items: ast.Expr) -> tuple[ast.Expr, ...]:  # noqa: D102
        return items

    def hint(self, name: Token, arguments: Any) -> ast.Hint:  # noqa: D102
        return ast.Hint(name.pos, name.value, arguments or ())

    def arguments(self, *items: ast.Argument) -> tuple[ast.Argument, ...]:  # noqa: D102
        return _some(items)

    def keyword(self, name: Token, value: ast.Expr) -> ast.Argument:  # noqa: D102
        return ast.Argument(name.pos, name.value, value)

    def positional(self, value: ast.Expr) -> ast.Argument:  # noqa: D102
        return ast.Argument(value.pos, "", value)

    def binary(self, left: ast.Expr, op: Token, right: ast.Expr) -> ast.Binary:  # noqa: D102
        return ast.Binary(left.pos, op.value, left, right)

    def unary(self, op: Token, value: ast.Expr) -> ast.Unary:  # noqa: D102
        return ast.Unary(op.pos, op.value, value)

    def span(self, start: ast.Expr, _: Token, stop: ast.Expr) -> ast.Range:  # noqa: D102
        return ast.Range(start.pos, start, stop)

    def attribute(self, base: ast.Expr, name: Token) -> ast.Attribute:  # noqa: D102
        return ast.Attribute(base.pos, base, name.value)

    def index(self, base: ast.Expr, *items: Any) -> ast.Index:  # noqa: D102
        return ast.Index(base.pos, base, items)

    def whole(self, value: ast.Expr) -> ast.Expr:  # noqa: D102
        return value

    def slice(self, start: Any, stop: Any) -> ast.Slice:  # noqa: D102
        return ast.Slice(Pos(0, 0), start, stop)

    def call(self, func: ast.Expr, arguments: Any) -> ast.Call:  # noqa: D102
        return ast.Call(func.pos, func, arguments or ())

    def number(self, token: Token) -> ast.Number:  # noqa: D102
        text = token.value
        digits = text.rstrip(UNIT_LETTERS)
        if len(digits) == len(text):
            return ast.Number(token.pos, text, "")
        return ast.Number(token.pos, digits.rstrip(), text[len(digits) :])

    def text(self, token: Token) -> ast.Text:  # noqa: D102
        return ast.Text(token.pos, token.value[1:-1])

    def truth(self, token: Token) -> ast.Truth:  # noqa: D102
        return ast.Truth(token.pos, token.value == "true")

    def list(self, bracket: Token, *items: Any) -> ast.ListOf:  # noqa: D102
        return ast.ListOf(bracket.pos, _some(items))

    def name(self, token: Token | ast.Name) -> ast.Name:  # noqa: D102
        return token if isinstance(token, ast.Name) else ast.Name(token.pos, token.value)
