"""The syntax tree of a ``.snn`` program: named tuples, each of which begins with its place."""

from __future__ import annotations

from typing import TypeAlias

from nmc.frontends.snn.node import NamedTuple


class Pos(NamedTuple):
    """A place in a file: line and column from 1, and how many characters to underline."""

    line: int
    column: int
    length: int = 1
    file: str = ""


class Number(NamedTuple):
    """A number with its unit, as written: ``20 ms`` is ("20", "ms")."""

    pos: Pos
    digits: str
    unit: str


class Text(NamedTuple):
    """A string without its quotes."""

    pos: Pos
    value: str


class Truth(NamedTuple):
    """``true`` or ``false``."""

    pos: Pos
    value: bool


class Name(NamedTuple):
    """A name; of a template such as ``h{i}``, the text pieces and the expressions between them."""

    pos: Pos
    text: str
    pieces: tuple[str, ...] = ()
    holes: tuple[Expr, ...] = ()


class Attribute(NamedTuple):
    """``base.name``."""

    pos: Pos
    base: Expr
    name: str


class Slice(NamedTuple):
    """``start:stop`` inside brackets; None for an open end."""

    pos: Pos
    start: Expr | None
    stop: Expr | None


class Index(NamedTuple):
    """``base[items]``."""

    pos: Pos
    base: Expr
    items: tuple[Expr | Slice, ...]


class Argument(NamedTuple):
    """One argument of a call; `name` is empty for a positional one."""

    pos: Pos
    name: str
    value: Expr


class Call(NamedTuple):
    """``func(arguments)``."""

    pos: Pos
    func: Expr
    arguments: tuple[Argument, ...]


class Unary(NamedTuple):
    """``-x``, ``+x`` or ``not x``."""

    pos: Pos
    op: str
    value: Expr


class Binary(NamedTuple):
    """``left op right``; its place is that of the operator."""

    pos: Pos
    op: str
    left: Expr
    right: Expr


class Range(NamedTuple):
    """``start..stop``, without `stop`."""

    pos: Pos
    start: Expr
    stop: Expr


class ListOf(NamedTuple):
    """``[items]``."""

    pos: Pos
    items: tuple[Expr, ...]


Expr: TypeAlias = Number | Text | Truth | Name | Attribute | Index | Call | Unary | Binary | Range | ListOf


class Hint(NamedTuple):
    """``@name(arguments)``: advice to the compiler that does not change the network."""

    pos: Pos
    name: str
    arguments: tuple[Argument, ...]


class Network(NamedTuple):
    """``network name(dt = 1 ms, ...)``."""

    pos: Pos
    name: str
    arguments: tuple[Argument, ...]


class Import(NamedTuple):
    """``import "file.snn"``: its definitions."""

    pos: Pos
    path: Text


class Weights(NamedTuple):
    """``weights W = "file.npz"``."""

    pos: Pos
    name: str
    path: Text


class Let(NamedTuple):
    """``let name = value``; with `is_param`, ``param name = value``, which the caller may override."""

    pos: Pos
    name: Name
    value: Expr
    is_param: bool


class Neuron(NamedTuple):
    """``neuron name = model(...)``."""

    pos: Pos
    name: Name
    value: Expr


class Synapse(NamedTuple):
    """``synapse name = rule(...)``."""

    pos: Pos
    name: Name
    value: Expr


class Input(NamedTuple):
    """``input name[shape] : encoder(...)``."""

    pos: Pos
    name: Name
    shape: tuple[Expr, ...]
    value: Expr
    hints: tuple[Hint, ...]


class Pop(NamedTuple):
    """``pop name[shape] : model``; without a shape, an instance of a module."""

    pos: Pos
    name: Name
    shape: tuple[Expr, ...]
    value: Expr
    hints: tuple[Hint, ...]


class Project(NamedTuple):
    """``source -> target : connector(...) with synapse @hints``."""

    pos: Pos
    source: Expr
    target: Expr
    value: Expr
    synapse: Name | None
    hints: tuple[Hint, ...]


class Probe(NamedTuple):
    """``probe pop.what, ... every period``."""

    pos: Pos
    items: tuple[Expr, ...]
    every: Expr | None


class Output(NamedTuple):
    """``output pop : decoder(...)``."""

    pos: Pos
    source: Expr
    value: Expr


class Place(NamedTuple):
    """``place pop, ... on cores(...)``."""

    pos: Pos
    items: tuple[Expr, ...]
    value: Expr


class Assert(NamedTuple):
    """``assert condition, "message"``."""

    pos: Pos
    condition: Expr
    message: str


class For(NamedTuple):
    """``for name in values { body }``."""

    pos: Pos
    name: str
    values: Expr
    body: tuple[Statement, ...] = ()


class If(NamedTuple):
    """``if condition { body } else { other }``."""

    pos: Pos
    condition: Expr
    body: tuple[Statement, ...] = ()
    other: tuple[Statement, ...] = ()


class Module(NamedTuple):
    """``module name(parameters) { body }``; a parameter without a default is a bare name."""

    pos: Pos
    name: str
    parameters: tuple[Argument, ...]
    body: tuple[Statement, ...] = ()


class Entry(NamedTuple):
    """One line of a neuron model: ``word name = value`` (of an assignment, `word` is empty), or ``word value``."""

    pos: Pos
    word: str
    name: str
    value: Expr


class Part(NamedTuple):
    """``update { ... }`` or ``reset { ... }`` of a neuron model."""

    pos: Pos
    word: str
    body: tuple[Entry, ...]


class UserNeuron(NamedTuple):
    """``neuron name = model { ... }``: a model of one's own."""

    pos: Pos
    name: Name
    body: tuple[Entry | Part, ...]


class Broken(NamedTuple):
    """A statement that could not be read; `name` is what it would have defined, where that is clear."""

    pos: Pos
    name: str


Statement: TypeAlias = (
    Network | Import | Weights | Let | Neuron | Synapse | Input | Pop | Project | Probe | Output | Place | Assert
    | For | If | Module | UserNeuron | Broken
)  # fmt: skip
