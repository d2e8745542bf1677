"""Lists of instructions that a population runs in every step, in float64 or in fixed point.

An instruction is ``[name, operation, operand, ...]``: it gives the result of the operation a new name. Operands are
names or numbers. There are no jumps and no memory, so every list ends, and a target can turn it into C or RTL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, VerifyError, require

Instruction = tuple[str | float, ...]
Code = tuple[Instruction, ...]

#: Instructions of one population, at most.
MAX_CODE = 4096
_NUMBERS = {
    "add": 2,
    "sub": 2,
    "mul": 2,
    "div": 2,
    "min": 2,
    "max": 2,
    "neg": 1,
    "abs": 1,
    "floor": 1,
    "copy": 1,
}
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_LOGIC = {"and": 2, "or": 2, "not": 1}
#: Operation -> kinds of its operands ("n" a number, "b" a truth value) and of its result.
OPERATIONS: dict[str, tuple[str, str]] = {
    **{name: ("n" * count, "n") for name, count in _NUMBERS.items()},
    **dict.fromkeys(_COMPARISONS, ("nn", "b")),
    **{name: ("b" * count, "b") for name, count in _LOGIC.items()},
    "select": ("bnn", "n"),
}


def check(code: Code, known: Mapping[str, str]) -> dict[str, str]:
    """Check a list of instructions.

    Parameters
    ----------
    code : Code
        The instructions.
    known : mapping of str to {"n", "b"}
        Names that may be used from the start, with their kinds.

    Returns
    -------
    dict of str to {"n", "b"}
        All names after the last instruction.

    Raises
    ------
    VerifyError
        For unknown operations or names, wrong numbers or kinds of operands, a name that is given twice.
    """
    require(len(code) <= MAX_CODE, f"{len(code):,} instructions of at most {MAX_CODE:,}")
    kinds = dict(known)
    for line in code:
        shown = " ".join(map(str, line))[:80]
        require(len(line) >= 3, f"[{shown}] is no instruction")
        name, operation, *operands = line
        if not isinstance(name, str) or not isinstance(operation, str) or operation not in OPERATIONS:
            raise VerifyError(f"[{shown}] has no known operation; there is {', '.join(OPERATIONS)}")
        wanted, made = OPERATIONS[operation]
        require(len(operands) == len(wanted), f"[{shown}]: {operation} takes {len(wanted)} operands")
        for operand, kind in zip(operands, wanted, strict=True):
            require(_kind(operand, kinds) == kind, f"[{shown}]: {operand} is not {_SAID[kind]} here")
        require(name not in kinds, f"[{shown}] gives the name {name} a second time")
        kinds[name] = made
    return kinds


_SAID = {"n": "a known number", "b": "a known truth value"}


def _kind(operand: str | float, kinds: Mapping[str, str]) -> str:
    if isinstance(operand, str):
        return kinds.get(operand, "")
    return "n" if np.isfinite(operand) else ""


class Arithmetic(Protocol):
    """How numbers are held and combined."""

    def hold(self, numbers: Array) -> Array:
        """Numbers (float64) as this arithmetic holds them, rounded to nearest."""

    def receive(self, numbers: Array) -> Array:
        """What comes in from outside in a step, rounded down."""

    def show(self, held: Array) -> Array:
        """The float64 numbers that are held."""

    def apply(self, operation: str, operands: list[Array]) -> Array:
        """The result of an operation."""


def run(code: Code, values: dict[str, Array], arithmetic: Arithmetic) -> None:
    """Run instructions; the results are added to `values`.

    Parameters
    ----------
    code : Code
        Instructions that `check` has accepted.
    values : dict of str to array
        Held numbers and truth values by name.
    arithmetic : Arithmetic
        Of the numbers.
    """
    for line in code:
        name, operation, *operands = line
        taken = [
            values[item] if isinstance(item, str) else arithmetic.hold(np.asarray(float(item)))
            for item in operands
        ]
        values[str(name)] = arithmetic.apply(str(operation), taken)


def _common(operation: str, operands: list[Array]) -> Array | None:
    """Operations that are the same in every arithmetic."""
    first, *rest = operands
    if operation == "select":
        return np.where(first, rest[0], rest[1])
    if operation == "copy":
        return first
    if operation == "not":
        return np.logical_not(first)
    functions = {
        "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
        "ne": np.not_equal, "and": np.logical_and, "or": np.logical_or, "min": np.minimum, "max": np.maximum,
    }  # fmt: skip
    return np.asarray(functions[operation](first, rest[0])) if operation in functions else None


class Float64:
    """IEEE 754 double precision, each operation rounded once; a division by zero gives an infinity or NaN."""

    def hold(self, numbers: Array) -> Array:
        """As they are."""
        return np.asarray(numbers, np.float64)

    def receive(self, numbers: Array) -> Array:
        """As they are."""
        return np.asarray(numbers, np.float64)

    def show(self, held: Array) -> Array:
        """As they are."""
        return held

    def apply(self, operation: str, operands: list[Array]) -> Array:
        """One operation of numpy."""
        found = _common(operation, operands)
        if found is not None:
            return found
        functions = {
            "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
            "abs": np.abs, "floor": np.floor,
        }  # fmt: skip
        with np.errstate(all="ignore"):
            return np.asarray(functions[operation](*operands))


@dataclass(frozen=True)
class Fixed:
    """Signed fixed point in a word of 1 + `whole` + `part` bits (32 at most), held as whole multiples of 2^-part.

    Sums, differences, products, quotients and absolute values that leave the word saturate. A product is computed in
    full and shifted right by `part` (rounded towards minus infinity); a quotient is that of the numerator shifted left,
    rounded towards minus infinity too; what is divided by zero becomes the largest number of its sign, 0 stays 0.
    Constants and parameters are rounded to the nearest multiple (ties to even), currents towards minus infinity.

    Parameters
    ----------
    whole, part : int
        Bits before and behind the point, without the sign.
    """

    whole: int
    part: int

    @property
    def most(self) -> int:
        """The largest number, in multiples of 2^-part; the smallest is ``-most - 1``."""
        return (1 << (self.whole + self.part)) - 1

    def _cut(self, raw: Array) -> Array:
        return np.clip(raw, -self.most - 1, self.most)

    def _enter(self, scaled: Array) -> Array:
        known = np.where(np.isnan(scaled), 0.0, scaled)
        return np.clip(known, -self.most - 1, self.most).astype(np.int64)

    def hold(self, numbers: Array) -> Array:
        """To the nearest multiple, int64."""
        return self._enter(np.rint(np.asarray(numbers, np.float64) * 2.0**self.part))

    def receive(self, numbers: Array) -> Array:
        """To the multiple below, int64."""
        return self._enter(np.floor(np.asarray(numbers, np.float64) * 2.0**self.part))

    def show(self, held: Array) -> Array:
        """Exactly, float64."""
        return held.astype(np.float64) * 2.0**-self.part

    def apply(self, operation: str, operands: list[Array]) -> Array:
        """One operation in int64, saturated."""
        found = _common(operation, operands)
        if found is not None:
            return found
        a = operands[0]
        if operation == "floor":
            return np.asarray(a >> self.part << self.part)
        if operation in ("neg", "abs"):
            return self._cut(-a if operation == "neg" else np.abs(a))
        b = operands[1]
        if operation == "div":
            return self._divide(*np.broadcast_arrays(a, b))
        if operation == "mul":
            return self._cut(a * b >> self.part)
        return self._cut(a + b if operation == "add" else a - b)

    def _divide(self, a: Array, b: Array) -> Array:
        zero = b == 0
        quotient = (a << self.part) // np.where(zero, 1, b)
        limit = np.where(a > 0, self.most, np.where(a < 0, -self.most - 1, 0))
        return self._cut(np.where(zero, limit, quotient))
