"""What an op is: a frozen dataclass whose fields are its operands and attributes.

Fields annotated `Value` or `Const` (optional, or a tuple of `Value`) are operands, in order; all other fields
are attributes, printed only when they differ from their default. Printer, parser, reference documentation and
the property tests read nothing but these fields.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, cached_property
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.loc import Loc
from nmc.ir.types import Type

Array = NDArray[Any]
LEVELS = ("ann", "snn", "mapped", "image")


class VerifyError(Exception):
    """An op is not well-formed; the message says how, without naming the op (the verifier does)."""


@dataclass(frozen=True)
class Value:
    """The use of an SSA value: its name (without ``%``) and type."""

    name: str
    type: Type

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the value."""
        return self.type.shape


@dataclass(frozen=True, order=True)
class Span:
    """A half-open range of integers, printed ``start:stop``."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.stop < self.start:
            raise ValueError(f"{self.start}:{self.stop} runs backwards")
        if self.stop - self.start > sys.maxsize:
            raise ValueError(f"{self.start}:{self.stop} is too long")

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.start}:{self.stop}"

    def slice(self) -> slice:
        """Give it as a Python slice."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class FieldSpec:
    """How one dataclass field of an op is printed and parsed.

    Parameters
    ----------
    name : str
        Field name.
    role : {"value", "values", "const", "attr"}
        Operand or attribute.
    optional : bool
        Whether the operand may be absent.
    hint : Any
        The resolved annotation.
    default : Any
        Default of an attribute, `dataclasses.MISSING` when there is none.
    """

    name: str
    role: Literal["value", "values", "const", "attr"]
    optional: bool
    hint: Any
    default: Any


@dataclass(frozen=True, kw_only=True)
class Op:
    """Base class of all ops.

    Parameters
    ----------
    out : str
        Name of the result, without ``%``; empty for an op without result.
    loc : Loc or None
        Where it comes from; not part of equality.
    """

    name: ClassVar[str] = ""
    belongs: ClassVar[tuple[str, ...]] = ()

    out: str = ""
    loc: Loc | None = field(default=None, compare=False, repr=False)

    def __init_subclass__(cls, *, name: str = "", levels: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name:
            cls.name = name
            cls.belongs = levels or (name.split(".")[0],)

    def infer(self) -> Type | None:
        """Type of the result, None for an op without one.

        Raises
        ------
        VerifyError
            When the operands do not allow one.
        """
        return None

    def verify(self) -> None:
        """Check what `infer` does not.

        Raises
        ------
        VerifyError
            With a sentence that says what is wrong.
        """

    @cached_property
    def result(self) -> Value:
        """The op's result as an operand for others."""
        inferred = self.infer()
        if inferred is None or not self.out:
            raise VerifyError(f"{self.name} has no result")
        return Value(self.out, inferred)

    @cached_property
    def operands(self) -> tuple[Value, ...]:
        """All values that the op uses, in field order."""
        return tuple(self._operands())

    def _operands(self) -> Iterator[Value]:
        for spec in op_fields(type(self)):
            item = getattr(self, spec.name)
            if spec.role == "values":
                yield from item
            elif spec.role == "value" and item is not None:
                yield item

    @cached_property
    def consts(self) -> tuple[Const, ...]:
        """All constants that the op uses, in field order."""
        specs = (spec for spec in op_fields(type(self)) if spec.role == "const")
        return tuple(const for spec in specs if (const := getattr(self, spec.name)) is not None)

    @property
    def taps(self) -> tuple[Op, ...]:
        """Ops of one delay each whose results add up to this one's: itself, unless it has several delays."""
        return (self,)

    @property
    def lags(self) -> tuple[int, ...]:
        """How many steps ago each operand is taken: a projection's delay, else none."""
        return (getattr(self, "delay", 0),) * len(self.operands)

    def run(self, *args: Any) -> Array:
        """Execute the op on arrays with a leading batch axis, one argument an operand value (the law).

        Ops with state have `begin` and `step` instead.
        """
        raise VerifyError(f"{self.name} computes nothing")


State = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class StatefulOp(Op):
    """An op that lives in time: neurons, inputs."""

    def begin(self, batch: int) -> State:
        """State before the first step, arrays with a leading batch axis."""
        return {}

    def part(self, box: tuple[Span, ...]) -> StatefulOp:
        """The same op on a box of its neurons (populations that can be mapped)."""
        raise VerifyError(f"{self.name} cannot be cut into parts")

    def step(self, state: State, t: int, *args: Any) -> Array:
        """One time step: update `state` in place and give the op's output of step `t`."""
        raise VerifyError(f"{self.name} computes nothing")

    @property
    def rests(self) -> bool:
        """Whether the op falls silent some time after the last event has reached it (`eligible` says when)."""
        return False

    @property
    def active_until(self) -> int:
        """First step from which nothing happens in the op but by events, where it `rests`."""
        return 0

    def eligible(self, state: State, t: int) -> Array:
        """Samples (B,) bool in which, after step `t`, a neuron would still send something by itself."""
        raise VerifyError(f"{self.name} is never known to be at rest")


def op_fields(cls: type[Op]) -> tuple[FieldSpec, ...]:
    """Describe the fields of an op class, operands and attributes in declaration order."""
    key: Any = cls  # mypy takes the class of a dataclass for unhashable
    return _op_fields(key)


@cache
def _op_fields(cls: type[Op]) -> tuple[FieldSpec, ...]:
    hints = typing.get_type_hints(cls)
    specs = []
    for entry in fields(cls):
        if entry.name in ("out", "loc"):
            continue
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        specs.append(_field_spec(entry.name, hints[entry.name], default))
    return tuple(specs)


def _field_spec(name: str, hint: Any, default: Any) -> FieldSpec:
    bare, optional = _strip_optional(hint)
    if bare is Value:
        return FieldSpec(name, "value", optional, hint, default)
    if bare is Const:
        return FieldSpec(name, "const", optional, hint, default)
    if get_origin(bare) is tuple and get_args(bare)[0] is Value:
        return FieldSpec(name, "values", True, hint, default)
    return FieldSpec(name, "attr", default is not MISSING, hint, default)


def _strip_optional(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        if len(rest) == 1 and len(get_args(hint)) == 2:
            return rest[0], True
    return hint, False


def coerce_attr(value: Any, hint: Any) -> Any:
    """Make a parsed attribute fit its annotation (an integer literal for a float field, say).

    Raises
    ------
    ValueError
        When `value` is not of the annotated type.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _coerce_union(value, args)
    if origin is Literal:
        if value in args:
            return value
        raise ValueError(f"{value!r} is none of {', '.join(map(str, args))}")
    if origin is tuple and isinstance(value, tuple):
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(coerce_attr(item, args[0]) for item in value)
        if len(args) == len(value):
            return tuple(coerce_attr(item, arg) for item, arg in zip(value, args, strict=True))
    if origin is dict and isinstance(value, dict):
        return {coerce_attr(key, args[0]): coerce_attr(item, args[1]) for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value)
    if hint is type(None) and value is None:
        return None
    if hint is object:
        return value
    plain = hint if isinstance(hint, type) and origin is None else ()
    if isinstance(value, plain) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise ValueError(f"{value!r} is not of type {getattr(hint, '__name__', hint)}")


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"an integer of {value.bit_length()} bits is too large for a float") from None


def _coerce_union(value: Any, args: tuple[Any, ...]) -> Any:
    for arg in args:
        try:
            return coerce_attr(value, arg)
        except ValueError:
            continue
    raise ValueError(f"{value!r} fits none of {args}")


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Tell whether a parameter of `shape` broadcasts to a value of shape `to` without making it larger."""
    pairs = zip(shape[::-1], to[::-1], strict=False)
    return len(shape) <= len(to) and all(extent in (1, whole) for extent, whole in pairs)


def require(condition: bool | np.bool_, message: str) -> None:
    """Raise `VerifyError` with `message` unless `condition` holds."""
    if not condition:
        raise VerifyError(message)
