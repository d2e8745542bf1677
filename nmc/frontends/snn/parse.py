"""From text to the syntax tree; every statement is parsed on its own, so that all mistakes are found in one run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.lexing import KEYWORDS, MAX_DEPTH, STARTERS, Line, Splitter, pos_of, tokens_of
from nmc.frontends.snn.problems import Fault, Problems, did_you_mean
from nmc.frontends.snn.values import UNIT_ALIASES, UNITS

if TYPE_CHECKING:
    from lark import Lark, Token

_START = ["statement", "expr", "separator"]
_BLOCKS = (ast.For, ast.If, ast.Module)
_NAMED = frozenset({"weights", "param", "let", "neuron", "synapse", "input", "pop", "module"})
#: Words for tokens in messages.
_WORDS = {
    "NAME": "a name", "TEMPLATE": "a name", "PRIMED": "a name", "NUMBER": "a number", "STRING": "a string",
    "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "COMMA": ",", "COLON": ":", "EQUAL": "=", "DOT": ".", "AT": "@",
    "RANGE": "..",
    "$END": "the end of the line", "__ANON_0": "->", "ADDOP": "+", "MULOP": "*", "CMP": "a comparison", "POW": "**",
}  # fmt: skip


@cache
def lark() -> Lark:
    """The parser of one statement, from the user's cache where there is one."""
    from lark import Lark

    from nmc.frontends.snn.tree import Builder

    grammar = files("nmc.frontends.snn").joinpath("grammar.lark").read_text(encoding="utf-8")
    options: dict[str, Any] = {
        "parser": "lalr", "lexer": "basic", "start": _START, "maybe_placeholders": True,
        "propagate_positions": False, "transformer": Builder(),
    }  # fmt: skip
    where = _cache_file(grammar)
    if where is not None:
        try:
            return Lark(grammar, cache=str(where), **options)
        except Exception:  # a cache that cannot be read or written is no reason to fail
            pass
    return Lark(grammar, **options)


def _cache_file(grammar: str) -> Path | None:
    import hashlib

    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "nmc"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError):
        return None
    return folder / f"snn-{hashlib.sha256(grammar.encode()).hexdigest()[:16]}.lark"


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
    lines = Splitter(file, problems).split(tokens_of(lark(), text))
    return Reader(file, problems).block(lines)


class Reader:
    """Turns lines into statements."""

    def __init__(self, file: str, problems: Problems) -> None:
        self.file, self.problems = file, problems

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
            self.problems.add(Fault("E0363", pos_of(token, self.file), "else needs a block", "else { ... }"))
        if done and isinstance(done[-1], ast.If) and (joined := _joined(done[-1], inner)) is not None:
            done[-1] = joined
        elif not (done and isinstance(done[-1], ast.Broken)):
            hint = (
                f"put it on the line of the }} that closes the if; a chain has {MAX_DEPTH} branches at most"
            )
            self.problems.add(Fault("E0363", pos_of(token, self.file), "else without an if", hint))

    def _statement(
        self, line: Line, tokens: Sequence[Token], body: tuple[ast.Statement, ...]
    ) -> ast.Statement:
        pos = pos_of(tokens[0], self.file)
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
        node = replace(node, pos=pos)
        if isinstance(node, _BLOCKS):
            node = replace(node, body=body)
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
        from lark.exceptions import UnexpectedInput

        bad = next((token for token in tokens if token.type in ("BAD", "LBRACE", "RBRACE", "SEMI")), None)
        if bad is not None:
            raise self._bad(bad)
        prime = next((token for token in tokens if token.type == "PRIMED"), None)
        if prime is not None and not primes:
            hint = "a prime marks the next value of a state, in neuron models of one's own"
            raise Fault("E0362", pos_of(prime, self.file), f"{prime} means nothing here", hint)
        parser = lark().parse_interactive(start=start)
        state = parser.parser_state
        token = before = tokens[0]
        try:
            for item in tokens:
                before, token = token, item
                if token.type in (
                    "NAME",
                    "TEMPLATE",
                    "PRIMED",
                    "NUMBER",
                    "STRING",
                    "ADDOP",
                    "NOT",
                    "TRUE",
                    "FALSE",
                    "LSQB",
                ):
                    token.end_line = self.file  # type: ignore[assignment]
                if token.type == "TEMPLATE":
                    state.feed_token(self._template(token))
                else:
                    state.feed_token(token)
            before, token = token, _end_token(tokens[-1])
            return state.feed_token(token, True)
        except UnexpectedInput:
            if before.type == "NUMBER" and token.type == "NAME" and before.line == token.line:
                near = did_you_mean(str(token), UNITS, UNIT_ALIASES)
                raise Fault("E0368", pos_of(token, self.file), f"{token} is no unit", near) from None
            raise self._unexpected(token, tokens if start == "statement" else (), parser) from None

    def _template(self, token: Token) -> Token:
        """Replace the text of ``h{i}`` by its pieces and parsed expressions."""
        from lark import Token

        parts = re.split(r"\{([^{}]*)\}", str(token))
        holes = []
        for inside in parts[1::2]:
            inner = [Token.new_borrow_pos(item.type, item.value, token) for item in lark().lex(inside)]
            if not inner:
                hint = "write an expression such as {i} between the braces"
                raise Fault("E0363", pos_of(token, self.file), f"nothing inside the braces of {token}", hint)
            holes.append(self.parse(inner, "expr"))
        pos = pos_of(token, self.file)
        made = Token.new_borrow_pos("TEMPLATE", str(token), token)
        made.value = ast.Name(pos, str(token), tuple(parts[::2]), tuple(holes))
        return made

    def _bad(self, token: Token) -> Fault:
        if token == '"':
            return Fault("E0362", pos_of(token, self.file), "this string is not closed", 'end it with "')
        shown = str(token) if token.isprintable() else f"U+{ord(token[0]):04X}"
        return Fault(
            "E0362", pos_of(token, self.file), f"{shown} means nothing here", "comments start with #"
        )

    def _unexpected(self, token: Token, tokens: Sequence[Token], parser: Any) -> Fault:
        accepted = parser.accepts()
        pos = pos_of(token, self.file)
        if tokens and token is tokens[0] and token.type == "NAME":
            near = did_you_mean(str(token), STARTERS)
            return Fault("E0363", pos, f"{token} begins no statement", near)
        if len(tokens) > 1 and token is tokens[1] and tokens[0].type == "NAME":
            word = tokens[0]
            near = did_you_mean(str(word), STARTERS)
            message = f"{word} begins no statement"
            return Fault("E0363", pos_of(word, self.file), message, near)
        found = "the line ends here" if token.type == "$END" else f"unexpected {token}"
        names = sorted(
            {_WORDS.get(name, name.lower()) for name in accepted if name not in ("BAD", "NEWLINE")}
        )
        if "NAME" in accepted and str(token) in KEYWORDS:
            return Fault(
                "E0363", pos, f"{token} is a word of the language and names nothing", "use another name"
            )
        return Fault("E0363", pos, found, f"expected {', '.join(names[:8])}" if names else "")


def _joined(node: ast.If, other: tuple[ast.Statement, ...], depth: int = 0) -> ast.If | None:
    """Hang an else-block to the last if of a chain; None where that has one, or the chain is too long."""
    if not node.other:
        return replace(node, other=other)
    last = node.other[-1]
    if len(node.other) == 1 and isinstance(last, ast.If) and depth < MAX_DEPTH:
        inner = _joined(last, other, depth + 1)
        return None if inner is None else replace(node, other=(inner,))
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
    return str(tokens[1]) if named else ""


def _end_token(last: Token) -> Token:
    from lark import Token

    column = (last.column or 0) + len(last) - 1
    return Token("$END", "", last.start_pos, last.line, column)


def parse_value(text: str, file: str) -> ast.Expr:
    """Read one expression, as ``--param NAME=VALUE`` gives it.

    Raises
    ------
    Fault
        E0362 or E0363.
    """
    tokens = list(tokens_of(lark(), text))
    if not tokens or len(tokens) > 100:
        raise Fault("E0363", ast.Pos(0, 0, 1, file), "a value is needed here")
    found: ast.Expr = Reader(file, Problems()).parse(tokens, "expr")
    return found
