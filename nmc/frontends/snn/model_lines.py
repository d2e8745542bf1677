"""Reading ``neuron name = model { ... }``: the lines of a neuron model of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.automaton import Token
from nmc.frontends.snn.lexing import Line
from nmc.frontends.snn.problems import Fault, did_you_mean

if TYPE_CHECKING:
    from nmc.frontends.snn.parse import Reader

#: Words that begin a line of a model, with a name and a value or with a value only.
DEFINING, PLAIN = ("state", "param"), ("threshold", "output", "arithmetic")
PARTS = ("update", "reset")
MAX_LINES = 1000
_HEAD = "write neuron NAME = model { ... }"


def read_model(reader: Reader, tokens: Sequence[Token], lines: Sequence[Line]) -> ast.UserNeuron | None:
    """Read a model; None when something is wrong with it, which the reader's problems then tell.

    Parameters
    ----------
    reader : Reader
        Parses expressions and collects problems.
    tokens : sequence of Token
        The head: ``neuron name = model``.
    lines : sequence of Line
        What stands between the braces.
    """
    try:
        name = _head(reader, tokens)
        _bounded(lines, name.pos)
    except Fault as fault:
        reader.problems.add(fault)
        return None
    body: list[ast.Entry | ast.Part] = []
    for line in lines:
        try:
            entry = _entry(reader, line)
        except Fault as fault:
            reader.problems.add(fault)
            continue
        body += [] if entry is None else [entry]
    return ast.UserNeuron(name.pos, name, tuple(body)) if len(body) == len(lines) else None


def _bounded(lines: Sequence[Line], pos: ast.Pos) -> None:
    if len(lines) > MAX_LINES:
        raise Fault(
            "E0379", pos, f"{len(lines):,} lines in a model or a part of one, of at most {MAX_LINES:,}"
        )


def _head(reader: Reader, tokens: Sequence[Token]) -> ast.Name:
    pos = tokens[0].pos
    if len(tokens) != 4 or tokens[2].type != "EQUAL" or tokens[3].value != "model":
        raise Fault("E0381", pos, "this is not how a neuron model begins", _HEAD)
    name: ast.Name = reader.parse(tokens[1:2], "expr")
    if not isinstance(name, ast.Name):
        raise Fault("E0381", pos, "a model needs a name", _HEAD)
    return name


def _entry(reader: Reader, line: Line) -> ast.Entry | ast.Part | None:
    """One line of a model; None where its fault is told already."""
    if line.faulty:
        return None
    first = line.tokens[0]
    pos, word = first.pos, first.value
    if line.block is not None:
        if len(line.tokens) != 1 or word not in PARTS:
            raise Fault("E0381", pos, f"{word} has no block in a model", did_you_mean(word, PARTS))
        _bounded(line.block, pos)
        return _part(reader, line.block, pos, word)
    if word in PLAIN:
        if len(line.tokens) < 2:
            raise Fault("E0363", pos, "the line ends here", f"{word} needs a value")
        return ast.Entry(pos, word, "", reader.parse(line.tokens[1:], "expr"))
    if word not in DEFINING:
        near = did_you_mean(word, (*DEFINING, *PLAIN, *PARTS), {"equations": "update", "when": "threshold"})
        raise Fault("E0381", pos, f"{word} begins no line of a model", near)
    name, value = _named(reader, line.tokens[1:], pos)
    return ast.Entry(line.tokens[1].pos, word, name, value)


def _part(reader: Reader, lines: Sequence[Line], pos: ast.Pos, word: str) -> ast.Part | None:
    """The assignments of a block; every wrong one is told."""
    body = []
    for line in lines:
        try:
            body.append(_assignment(reader, line))
        except Fault as fault:
            reader.problems.add(fault)
            body.append(None)
    known = tuple(item for item in body if item is not None)
    return ast.Part(pos, word, known) if len(known) == len(body) else None


def _assignment(reader: Reader, line: Line) -> ast.Entry | None:
    if line.faulty:
        return None
    pos = line.tokens[0].pos
    if line.block is not None:
        raise Fault(
            "E0381", pos, "there are no blocks inside update and reset", "use select(condition, a, b)"
        )
    name, value = _named(reader, line.tokens, pos)
    return ast.Entry(pos, "", name, value)


def _named(reader: Reader, tokens: Sequence[Token], pos: ast.Pos) -> tuple[str, ast.Expr]:
    """``name = value``; the name may have a prime."""
    if len(tokens) < 3 or tokens[0].type not in ("NAME", "PRIMED") or tokens[1].type != "EQUAL":
        raise Fault("E0363", pos, "an assignment is needed here", "such as v' = 0.9 * v + I")
    value: ast.Expr = reader.parse(tokens[2:], "expr", primes=True)
    return tokens[0].value, value
