"""The syntax tree of a ``.snn`` program: frozen dataclasses that know where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Pos(NamedTuple):
    """A place in a file: line and column from 1, and how many characters to underline."""

    line: int
    column: int
    length: int = 1
    file: str = ""


@dataclass(frozen=True)
class Node:
    """Anything with a place."""

    pos: Pos


@dataclass(frozen=True)
class Number(Node):
    """A number with its unit, as written: ``20 ms`` is ("20", "ms")."""

    digits: str
    unit: str


@dataclass(frozen=True)
class Text(Node):
    """A string without its quotes."""

    value: str


@dataclass(frozen=True)
class Truth(Node):
    """``true`` or ``false``."""

    value: bool


@dataclass(frozen=True)
class Name(Node):
    """A name; of a template such as ``h{i}``, the text pieces and the expressions between them."""

    text: str
    pieces: tuple[str, ...] = ()
    holes: tuple[Expr, ...] = ()


@dataclass(frozen=True)
class Attribute(Node):
    """``base.name``."""

    base: Expr
    name: str


@dataclass(frozen=True)
class Slice(Node):
    """``start:stop`` inside brackets; None for an open end."""

    start: Expr | None
    stop: Expr | None


@dataclass(frozen=True)
class Index(Node):
    """``base[items]``."""

    base: Expr
    items: tuple[Expr | Slice, ...]


@dataclass(frozen=True)
class Argument(Node):
    """One argument of a call; `name` is empty for a positional one."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Call(Node):
    """``func(arguments)``."""

    func: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Unary(Node):
    """``-x``, ``+x`` or ``not x``."""

    op: str
    value: Expr


@dataclass(frozen=True)
class Binary(Node):
    """``left op right``; its place is that of the operator."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Range(Node):
    """``start..stop``, without `stop`."""

    start: Expr
    stop: Expr


@dataclass(frozen=True)
class ListOf(Node):
    """``[items]``."""

    items: tuple[Expr, ...]


Expr: TypeAlias = Number | Text | Truth | Name | Attribute | Index | Call | Unary | Binary | Range | ListOf


@dataclass(frozen=True)
class Hint(Node):
    """``@name(arguments)``: advice to the compiler that does not change the network."""

    name: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Network(Node):
    """``network name(dt = 1 ms, ...)``."""

    name: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Import(Node):
    """``import "file.snn"``: its definitions."""

    path: Text


@dataclass(frozen=True)
class Weights(Node):
    """``weights W = "file.npz"``."""

    name: str
    path: Text


@dataclass(frozen=True)
class Let(Node):
    """``let name = value``; with `is_param`, ``param name = value``, which the caller may override."""

    name: Name
    value: Expr
    is_param: bool


@dataclass(frozen=True)
class Neuron(Node):
    """``neuron name = model(...)``."""

    name: Name
    value: Expr


@dataclass(frozen=True)
class Synapse(Node):
    """``synapse name = rule(...)``."""

    name: Name
    value: Expr


@dataclass(frozen=True)
class Input(Node):
    """``input name[shape] : encoder(...)``."""

    name: Name
    shape: tuple[Expr, ...]
    value: Expr
    hints: tuple[Hint, ...]


@dataclass(frozen=True)
class Pop(Node):
    """``pop name[shape] : model``; without a shape, an instance of a module."""

    name: Name
    shape: tuple[Expr, ...]
    value: Expr
    hints: tuple[Hint, ...]


@dataclass(frozen=True)
class Project(Node):
    """``source -> target : connector(...) with synapse @hints``."""

    source: Expr
    target: Expr
    value: Expr
    synapse: Name | None
    hints: tuple[Hint, ...]


@dataclass(frozen=True)
class Probe(Node):
    """``probe pop.what, ... every period``."""

    items: tuple[Expr, ...]
    every: Expr | None


@dataclass(frozen=True)
class Output(Node):
    """``output pop : decoder(...)``."""

    source: Expr
    value: Expr


@dataclass(frozen=True)
class Place(Node):
    """``place pop, ... on cores(...)``."""

    items: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True)
class Assert(Node):
    """``assert condition, "message"``."""

    condition: Expr
    message: str


@dataclass(frozen=True)
class For(Node):
    """``for name in values { body }``."""

    name: str
    values: Expr
    body: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class If(Node):
    """``if condition { body } else { other }``."""

    condition: Expr
    body: tuple[Statement, ...] = ()
    other: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Module(Node):
    """``module name(parameters) { body }``; a parameter without a default is a bare name."""

    name: str
    parameters: tuple[Argument, ...]
    body: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Entry(Node):
    """One line of a neuron model: ``word name = value`` (of an assignment, `word` is empty), or ``word value``."""

    word: str
    name: str
    value: Expr


@dataclass(frozen=True)
class Part(Node):
    """``update { ... }`` or ``reset { ... }`` of a neuron model."""

    word: str
    body: tuple[Entry, ...]


@dataclass(frozen=True)
class UserNeuron(Node):
    """``neuron name = model { ... }``: a model of one's own."""

    name: Name
    body: tuple[Entry | Part, ...]


@dataclass(frozen=True)
class Broken(Node):
    """A statement that could not be read; `name` is what it would have defined, where that is clear."""

    name: str


Statement: TypeAlias = (
    Network | Import | Weights | Let | Neuron | Synapse | Input | Pop | Project | Probe | Output | Place | Assert
    | For | If | Module | UserNeuron | Broken
)  # fmt: skip
