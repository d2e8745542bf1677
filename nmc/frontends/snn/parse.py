"""From text to the syntax tree; every statement is parsed on its own, so that all mistakes are found in one run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.automaton import END, Refused, Token, table
from nmc.frontends.snn.lexing import KEYWORDS, MAX_DEPTH, STARTERS, Line, Splitter, tokens_of
from nmc.frontends.snn.problems import Fault, Problems, did_you_mean
from nmc.frontends.snn.tree import Builder
from nmc.frontends.snn.values import UNIT_ALIASES, UNITS

_BUILDER = Builder()
#: Tokens that stand between statements or mean nothing.
_NOWHERE = frozenset({"BAD", "LBRACE", "RBRACE", "SEMI"})
_BLOCKS = (ast.For, ast.If, ast.Module)
_NAMED = frozenset({"weights", "param", "let", "neuron", "synapse", "input", "pop", "module"})
#: Words for tokens in messages.
_WORDS = {
    "NAME": "a name", "TEMPLATE": "a name", "PRIMED": "a name", "NUMBER": "a number", "STRING": "a string",
    "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "COMMA": ",", "COLON": ":", "EQUAL": "=", "DOT": ".", "AT": "@",
    "RANGE": "..",
    "$END": "the end of the line", "__ANON_0": "->", "ADDOP": "+", "MULOP": "*", "CMP": "a comparison", "POW": "**",
}  # fmt: skip


def parse(text: str, file: str, problems: Problems) -> tuple[ast.Statement, ...]:
    """Read a program.

    Parameters
    ----------
    text : str
        The program.
    file : str
        Its name in diagnostics.
    problems : Problems
        Collects E0362 (character), E0363 (syntax) and E0364 (brackets and blocks).

    Returns
    -------
    tuple of Statement
        What could be read; `Broken` in place of the rest.
    """
    problems.sources[file] = text.split("\n")
    lines = Splitter(problems).split(tokens_of(text, file))
    return Reader(problems).block(lines)


class Reader:
    """Turns lines into statements."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def block(self, lines: Sequence[Line], depth: int = 0) -> tuple[ast.Statement, ...]:
        """Read the lines of one block."""
        done: list[ast.Statement] = []
        for line in lines:
            read = line.block is not None and depth < 60 and line.tokens[0].type != "NEURON"
            body = self.block(line.block or [], depth + 1) if read else ()
            if line.tokens[:1] and line.tokens[0].type == "ELSE":
                self._else(done, line, body)
            else:
                done.append(self._statement(line, line.tokens, body))
        return tuple(done)

    def _else(self, done: list[ast.Statement], line: Line, body: tuple[ast.Statement, ...]) -> None:
        token = line.tokens[0]
        inner: tuple[ast.Statement, ...] = body
        if len(line.tokens) > 1:
            inner = (self._statement(line, line.tokens[1:], body),)
        elif line.block is None:
            self.problems.add(Fault("E0363", token.pos, "else needs a block", "else { ... }"))
        if done and isinstance(done[-1], ast.If) and (joined := _joined(done[-1], inner)) is not None:
            done[-1] = joined
        elif not (done and isinstance(done[-1], ast.Broken)):
            hint = (
                f"put it on the line of the }} that closes the if; a chain has {MAX_DEPTH} branches at most"
            )
            self.problems.add(Fault("E0363", token.pos, "else without an if", hint))

    def _statement(
        self, line: Line, tokens: Sequence[Token], body: tuple[ast.Statement, ...]
    ) -> ast.Statement:
        pos = tokens[0].pos
        broken = ast.Broken(pos, _defined(tokens))
        if line.faulty:
            return broken
        if tokens[0].type == "NEURON" and line.block is not None:
            return self._model(tokens, line.block) or broken
        try:
            node = self.parse(tokens, "statement")
            if isinstance(node, _BLOCKS) != (line.block is not None):
                raise _block_fault(node, pos)
        except Fault as fault:
            self.problems.add(fault)
            return broken
        node = node._replace(pos=pos)
        if isinstance(node, _BLOCKS):
            node = node._replace(body=body)
        statement: ast.Statement = node
        return statement

    def _model(self, tokens: Sequence[Token], lines: Sequence[Line]) -> ast.UserNeuron | None:
        from nmc.frontends.snn.model_lines import read_model

        return read_model(self, tokens, lines)

    def parse(self, tokens: Sequence[Token], start: str, primes: bool = False) -> Any:
        """Parse a statement or expression; names with a prime only where `primes`.

        Raises
        ------
        Fault
            E0362 or E0363.
        """
        types = tuple([token.type for token in tokens])
        self._readable(tokens, types, primes)
        plan = table().plan(start, types)
        reach = len(tokens) if not isinstance(plan, Refused) else plan.at + 1
        values: Sequence[Any] = tokens
        if "TEMPLATE" in types:
            values = [self._template(item) if item.type == "TEMPLATE" else item for item in tokens[:reach]]
        if isinstance(plan, Refused):
            raise self._refused(plan, tokens, start)
        return table().build(plan, values, _BUILDER)

    def _readable(self, tokens: Sequence[Token], types: tuple[str, ...], primes: bool) -> None:
        """Refuse what no statement holds."""
        if not _NOWHERE.isdisjoint(types):
            raise self._bad(next(token for token in tokens if token.type in _NOWHERE))
        if not primes and "PRIMED" in types:
            prime = tokens[types.index("PRIMED")]
            hint = "a prime marks the next value of a state, in neuron models of one's own"
            raise Fault("E0362", prime.pos, f"{prime.value} means nothing here", hint)

    def _template(self, token: Token) -> ast.Name:
        """The text pieces and parsed expressions of ``h{i}``."""
        parts = re.split(r"\{([^{}]*)\}", token.value)
        holes = []
        for inside in parts[1::2]:
            inner = [
                Token(item.type, item.value, token.line, token.column, token.file)
                for item in table().lex(inside, token.file)
            ]
            if not inner:
                hint = "write an expression such as {i} between the braces"
                raise Fault("E0363", token.pos, f"nothing inside the braces of {token.value}", hint)
            holes.append(self.parse(inner, "expr"))
        return ast.Name(token.pos, token.value, tuple(parts[::2]), tuple(holes))

    def _bad(self, token: Token) -> Fault:
        if token.value == '"':
            return Fault("E0362", token.pos, "this string is not closed", 'end it with "')
        shown = token.value if token.value.isprintable() else f"U+{ord(token.value[0]):04X}"
        return Fault("E0362", token.pos, f"{shown} means nothing here", "comments start with #")

    def _refused(self, refused: Refused, tokens: Sequence[Token], start: str) -> Fault:
        """Say what is wrong with the token at which the automaton stopped."""
        at, accepted = refused
        token = tokens[at] if at < len(tokens) else _end_token(tokens[-1])
        before = tokens[max(at - 1, 0)]
        if before.type == "NUMBER" and token.type == "NAME" and before.line == token.line:
            near = did_you_mean(token.value, UNITS, UNIT_ALIASES)
            return Fault("E0368", token.pos, f"{token.value} is no unit", near)
        if start == "statement" and at < min(2, len(tokens)) and tokens[0].type == "NAME":
            word = tokens[0].value
            return Fault("E0363", tokens[0].pos, f"{word} begins no statement", did_you_mean(word, STARTERS))
        if "NAME" in accepted and token.value in KEYWORDS:
            message = f"{token.value} is a word of the language and names nothing"
            return Fault("E0363", token.pos, message, "use another name")
        found = "the line ends here" if token.type == END else f"unexpected {token.value}"
        names = sorted({_WORDS.get(name, name.lower()) for name in accepted - {"BAD", "NEWLINE"}})
        return Fault("E0363", token.pos, found, f"expected {', '.join(names[:8])}" if names else "")


def _joined(node: ast.If, other: tuple[ast.Statement, ...], depth: int = 0) -> ast.If | None:
    """Hang an else-block to the last if of a chain; None where that has one, or the chain is too long."""
    if not node.other:
        return node._replace(other=other)
    last = node.other[-1]
    if len(node.other) == 1 and isinstance(last, ast.If) and depth < MAX_DEPTH:
        inner = _joined(last, other, depth + 1)
        return None if inner is None else node._replace(other=(inner,))
    return None


def _block_fault(node: Any, pos: ast.Pos) -> Fault:
    if isinstance(node, _BLOCKS):
        return Fault(
            "E0363", pos, "a block { ... } must follow on the same line", "add { at the end of the line"
        )
    return Fault("E0363", pos, "this statement takes no block", "blocks belong to for, if, else and module")


def _defined(tokens: Sequence[Token]) -> str:
    """The name that a broken statement would have defined."""
    named = len(tokens) > 1 and tokens[0].value in _NAMED and tokens[1].type == "NAME"
    return tokens[1].value if named else ""


def _end_token(last: Token) -> Token:
    return Token(END, "", last.line, last.column + len(last.value) - 1, last.file)


def parse_value(text: str, file: str) -> ast.Expr:
    """Read one expression, as ``--param NAME=VALUE`` gives it.

    Raises
    ------
    Fault
        E0362 or E0363.
    """
    tokens = list(tokens_of(text, file))
    if not tokens or len(tokens) > 100:
        raise Fault("E0363", ast.Pos(0, 0, 1, file), "a value is needed here")
    found: ast.Expr = Reader(Problems()).parse(tokens, "expr")
    return found
