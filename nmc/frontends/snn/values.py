"""What expressions give: numbers with units, names of things, and how to say what they are."""

from __future__ import annotations

from dataclasses import field
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.syntax import Pos
from nmc.ir.dataclass import dataclass

Dim = tuple[int, int, int]
Ints = tuple[int, ...]
Array = NDArray[Any]

PLAIN: Dim = (0, 0, 0)
TIME: Dim = (1, 0, 0)
RATE: Dim = (-1, 0, 0)
VOLT: Dim = (0, 1, 0)
STEP: Dim = (0, 0, 1)
#: Unit -> dimension and power of ten; the number is read together with its power, so that 0.1 ms is exactly 1e-4.
UNITS: dict[str, tuple[Dim, int]] = {
    "s": (TIME, 0), "ms": (TIME, -3), "us": (TIME, -6), "ns": (TIME, -9),
    "Hz": (RATE, 0), "kHz": (RATE, 3), "MHz": (RATE, 6),
    "V": (VOLT, 0), "mV": (VOLT, -3), "uV": (VOLT, -6),
    "step": (STEP, 0), "steps": (STEP, 0), "%": (PLAIN, -2),
}  # fmt: skip
#: What people write for them.
UNIT_ALIASES = {
    "sec": "s", "second": "s", "seconds": "s", "msec": "ms", "millisecond": "ms", "milliseconds": "ms", "usec": "us",
    "nsec": "ns", "hz": "Hz", "hertz": "Hz", "khz": "kHz", "mhz": "MHz", "volt": "V", "volts": "V", "v": "V",
    "mv": "mV", "millivolt": "mV", "millivolts": "mV", "uv": "uV", "percent": "%", "dt": "steps", "ticks": "steps",
    "timesteps": "steps",
}  # fmt: skip
_DIM_NAMES = {PLAIN: "a plain number", TIME: "a time", RATE: "a rate", VOLT: "a voltage", STEP: "steps"}


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number or an array of numbers, in SI units, with its dimension (time, voltage, steps)."""

    value: Any
    dim: Dim = PLAIN

    @property
    def is_array(self) -> bool:
        """Whether it holds many numbers."""
        return isinstance(self.value, np.ndarray)


@dataclass(frozen=True)
class Random:
    """A distribution: ``normal(mean, std)`` or ``uniform(low, high)``."""

    kind: str
    first: float
    second: float
    dim: Dim


@dataclass(frozen=True)
class Poison:
    """The value of a name whose definition is wrong: what uses it is skipped without a word."""


@dataclass(frozen=True)
class WeightsFile:
    """``weights W = "file"``: its arrays by name."""

    path: str
    arrays: dict[str, Array] = field(compare=False)


@dataclass(frozen=True)
class UserModel:
    """``neuron name = model { ... }``, the scope in which it was written, and what may be changed in it.

    Parameters
    ----------
    name : str
        Its name.
    node : UserNeuron
        Its lines.
    scope : Scope
        Names that its lines may use.
    params : tuple of Param
        Arguments that a use may give.
    defaults : mapping of str to (value, Pos)
        Values of the arguments that are not given.
    dims : mapping of str to Dim
        Units of the states; the first one is the membrane.
    """

    name: str
    node: ast.UserNeuron
    scope: Scope = field(compare=False)
    params: tuple[Any, ...]
    defaults: dict[str, tuple[Any, Pos]] = field(compare=False)
    dims: dict[str, Dim] = field(compare=False)


@dataclass(frozen=True)
class Model:
    """A neuron model with the arguments given so far; `user` is what a model of one's own says."""

    kind: str
    arguments: dict[str, tuple[Any, Pos]] = field(compare=False)
    user: UserModel | None = None


@dataclass(frozen=True)
class SynapseRule:
    """``synapse name = rule(...)``: how synapses learn, with its arguments."""

    kind: str
    pos: Pos
    arguments: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Symbol:
    """A name in a neuron model that stands for a number, or truth value, of each neuron and step."""

    operand: str
    dim: Dim
    truth: bool = False


@dataclass(frozen=True)
class ModuleDef:
    """A module and the scope in which it was written."""

    node: ast.Module
    scope: Scope = field(compare=False)


@dataclass(eq=False)
class Scope:
    """Names and what they stand for; `prefix` is put before names of populations."""

    names: dict[str, Any] = field(default_factory=dict)
    parent: Scope | None = None
    prefix: str = ""
    depth: int = 0

    def find(self, name: str) -> Any:
        """Give the value of a name, None when it has none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None

    def known(self) -> list[str]:
        """All names that can be seen from here."""
        inner = list(self.names)
        return inner + (self.parent.known() if self.parent is not None else [])


@dataclass(eq=False)
class Population:
    """An input or a population while the network is being put together."""

    name: str
    shape: Ints
    pos: Pos
    number: int
    is_input: bool
    kind: str
    level: Dim | None = PLAIN
    out: Any = None
    fields: dict[str, Any] = field(default_factory=dict)
    currents: list[Any] = field(default_factory=list)
    biases: list[Array] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    user: bool = False

    @property
    def sends(self) -> str:
        """Kind of what the population sends: spikes, or graded events or potentials."""
        one = "threshold" in self.fields and self.fields.get("max_spikes", 1) == 1
        return "spikes" if one or (self.user and "shows" not in self.fields) else "graded"

    @property
    def fires(self) -> bool:
        """Whether it sends spikes, one or several a step."""
        return "threshold" in self.fields or (self.user and "shows" not in self.fields)

    @property
    def states(self) -> tuple[str, ...]:
        """What can be recorded of it."""
        if self.is_input:
            return ("spikes",)
        return ("spikes", *self.fields["states"]) if self.user else ("spikes", "v", "i")

    @property
    def size(self) -> int:
        """Number of neurons."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class View:
    """A population or a box of it."""

    pop: Population
    box: tuple[tuple[int, int], ...]

    @staticmethod
    def of(pop: Population) -> View:
        """Give the view of a whole population."""
        return View(pop, tuple((0, extent) for extent in pop.shape))

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self.shape == self.pop.shape

    @property
    def shape(self) -> Ints:
        """Extents of the box."""
        return tuple(stop - start for start, stop in self.box)

    @property
    def size(self) -> int:
        """Number of neurons in the box."""
        return prod(self.shape)

    def flat(self) -> Array:
        """Flat indices of the box in its population, row-major."""
        if self.whole:
            return np.arange(self.size, dtype=np.int64)
        total = np.zeros(self.shape, np.int64)
        for axis, (start, stop) in enumerate(self.box):
            stride = prod(self.pop.shape[axis + 1 :])
            line = np.arange(start, stop, dtype=np.int64) * stride
            total = total + line.reshape(-1, *(1,) * (len(self.box) - axis - 1))
        return total.reshape(-1)


@dataclass(frozen=True, eq=False)
class Instance:
    """A module put into the network: what it defined."""

    name: str
    scope: Scope


Value: TypeAlias = (
    Quantity | Random | bool | str | list[Any] | range | Poison | WeightsFile | Model | SynapseRule | ModuleDef
    | View | Instance | Symbol
)  # fmt: skip


def dim_name(dim: Dim) -> str:
    """Say what a dimension is."""
    if dim in _DIM_NAMES:
        return _DIM_NAMES[dim]
    parts = [f"{unit}^{power}" for unit, power in zip(("s", "V", "step"), dim, strict=True) if power]
    return f"a quantity in {' '.join(parts)}"


def kind_name(value: Any) -> str:
    """Say what kind of value it is."""
    if isinstance(value, Quantity):
        return f"an array of shape {shape_text(value.value.shape)}" if value.is_array else dim_name(value.dim)
    names: dict[type, str] = {
        bool: "a truth value", str: "a string", list: "a list", range: "a range", Random: "a distribution",
        WeightsFile: "a weights file", Model: "a neuron model", SynapseRule: "a synapse", View: "a population",
        ModuleDef: "a module", Instance: "an instance of a module", Symbol: "a state or input of a neuron model",
    }  # fmt: skip
    return names.get(type(value), "nothing")


def shape_text(shape: Ints) -> str:
    """``2 x 34 x 34``."""
    return " x ".join(map(str, shape)) or "one number"
