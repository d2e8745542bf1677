"""Models that the network's user wrote, as the firmware interprets them: instructions on rows of 32-bit words.

Operands are numbers: 0 is the current, then come the states, the parameters, the constants and the registers, each word
one neuron's. An instruction is ``(operation, to, a, b, c)``; its result goes to a register or a state, what it does not
take is 0 (``select`` gives a where c holds, else b). There are no jumps. ``firmware/user.h`` says the same in C.

Fixed point is that of `nmc.ir.ops.expressions.Fixed`. Floats are IEEE single, every operation rounded once; what is no
number is always the bits 0x7FC00000; ``min`` and ``max`` give the second of two equal numbers (0 and -0 are equal).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.ops.expressions import OPERATIONS as KINDS
from nmc.ir.ops.expressions import Fixed

Array = NDArray[Any]
Words = NDArray[np.uint32]
Instruction = tuple[str, int, int, int, int]

#: An operation's code is its place here (the header's ``enum op``).
OPERATIONS = (
    "add", "sub", "mul", "div", "min", "max", "neg", "abs", "floor", "lt", "le", "gt", "ge", "eq", "ne", "copy", "and",
    "or", "not", "select",
)  # fmt: skip
#: Neurons that the firmware works on together: the words of a row.
LANES = 16
#: Words of the header, in order: those of ``struct user``.
HEADER = ("states", "params", "constants", "registers", "length", "fire", "arithmetic", "shift")
#: Operands have 12 bits.
MAX_VALUES = 1 << 12
#: Largest shift of a fixed-point current.
MAX_SHIFT = 62
_NAN = np.float32(np.nan)


@dataclass(frozen=True)
class Machine:
    """A model of the user's.

    Parameters
    ----------
    states, params, registers : int
        How many.
    constants : tuple of int
        Their words, unsigned.
    code : tuple of Instruction
    fire : int
        Register that tells whether a neuron fires; 0 for a model that never does.
    fixed : tuple of int
        Bits before and behind the point; none for floats.
    shift : int
        A fixed-point current is (sum * scale >> shift) + bias.
    """

    states: int
    params: int = 0
    constants: tuple[int, ...] = ()
    registers: int = 0
    code: tuple[Instruction, ...] = ()
    fire: int = 0
    fixed: tuple[int, ...] = ()
    shift: int = 0

    @property
    def values(self) -> int:
        """Operands there are."""
        return 1 + self.states + self.params + len(self.constants) + self.registers

    @property
    def first_constant(self) -> int:
        """Number of the first constant."""
        return 1 + self.states + self.params

    @property
    def first_register(self) -> int:
        """Number of the first register."""
        return self.first_constant + len(self.constants)

    @property
    def dtype(self) -> type[np.int32] | type[np.float32]:
        """Of states, parameters and constants."""
        return np.int32 if self.fixed else np.float32

    @property
    def state_names(self) -> tuple[str, ...]:
        """``v``, then ``s1``, ``s2``..."""
        return ("v", *(f"s{k}" for k in range(1, self.states)))

    @property
    def param_names(self) -> tuple[str, ...]:
        """``p0``, ``p1``..., then scale and bias of the current."""
        return (*(f"p{k}" for k in range(self.params)), "scale", "bias")


def scratch_words(machine: Machine) -> int:
    """Words behind the mailbox of what is sent: the table of rows, and the rows (as if all parameters were shared)."""
    return machine.values + LANES * (machine.values - machine.states)


def code_words(machine: Machine) -> int:
    """Words of header, instructions and constants, without the fields."""
    return len(HEADER) + 2 * len(machine.code) + len(machine.constants)


def encode(machine: Machine) -> Words:
    """Header, instructions and constants."""
    arithmetic = 1 | machine.fixed[0] << 8 | machine.fixed[1] << 16 if machine.fixed else 0
    words = [machine.states, machine.params, len(machine.constants), machine.registers, len(machine.code),
             machine.fire, arithmetic, machine.shift]  # fmt: skip
    for instruction in machine.code:
        words += words_of(instruction)
    return np.array([*words, *machine.constants], np.int64).astype(np.uint32)


def words_of(instruction: Instruction) -> list[int]:
    """The two words of an instruction."""
    name, to, a, b, c = instruction
    return [OPERATIONS.index(name) | (to & 4095) << 8 | (c & 4095) << 20, a & 0xFFFF | (b & 0xFFFF) << 16]


def decode(words: Words) -> Machine:
    """Read a machine back; the words may go on.

    Raises
    ------
    ValueError
        Where they are none, or use what has not been computed: what is read can be run by anyone.
    """
    if len(words) < len(HEADER):
        raise ValueError("a model without a header")
    head = dict(zip(HEADER, words[: len(HEADER)].tolist(), strict=True))
    sizes = [head[name] for name in ("states", "params", "constants", "registers")]
    if not head["states"] or max(sizes) >= MAX_VALUES or 1 + sum(sizes) > MAX_VALUES:
        raise ValueError(f"a model of {head['states']} states and {1 + sum(sizes)} values")
    end = len(HEADER) + 2 * head["length"]
    if end + head["constants"] > len(words):
        raise ValueError(f"{head['length']} instructions do not fit their region")
    code = tuple(_instruction(*pair) for pair in words[len(HEADER) : end].reshape(-1, 2).tolist())
    machine = Machine(
        head["states"], head["params"], tuple(words[end : end + head["constants"]].tolist()), head["registers"],
        code, head["fire"], _fixed(head["arithmetic"]), head["shift"],
    )  # fmt: skip
    if head["shift"] > (MAX_SHIFT if machine.fixed else 0):
        raise ValueError(f"a shift by {head['shift']} bits")
    check(machine)
    return machine


def _instruction(head: int, operands: int) -> Instruction:
    if head & 255 >= len(OPERATIONS):
        raise ValueError(f"there is no operation {head & 255}")
    return OPERATIONS[head & 255], head >> 8 & 4095, operands & 0xFFFF, operands >> 16, head >> 20


def _fixed(word: int) -> tuple[int, ...]:
    whole, part = word >> 8 & 255, word >> 16
    if word and (word & 255 != 1 or whole + part > 31):
        raise ValueError(f"there is no arithmetic {word:#x}")
    return (whole, part) if word else ()


def check(machine: Machine) -> None:
    """Check that instructions only read what has been written in the same tick, and as what it is.

    Raises
    ------
    ValueError
        Where they do not.
    """
    kinds = ["n"] * machine.first_register + [""] * machine.registers
    for number, (name, to, *operands) in enumerate(machine.code):
        wanted, made = KINDS[name]
        wanted = "nnb" if name == "select" else wanted
        taken, rest = operands[: len(wanted)], operands[len(wanted) :]
        known = max(taken) < machine.values and [kinds[x] for x in taken] == list(wanted)
        if not known or any(rest):
            raise ValueError(f"instruction {number} ({name}) takes {operands}, not all of it known")
        state = 1 <= to <= machine.states and made == "n"
        if not state and not machine.first_register <= to < machine.values:
            raise ValueError(f"instruction {number} ({name}) writes to {to}, which is no register")
        kinds[to] = made
    if machine.fire and (machine.fire >= machine.values or kinds[machine.fire] != "b"):
        raise ValueError(f"{machine.fire} does not tell whether a neuron fires")


def current(machine: Machine, sums: Array, scale: Array, bias: Array) -> Array:
    """What comes in, from the sums of weights."""
    if not machine.fixed:
        return sums.astype(np.float32) * scale + bias
    raw = (sums.astype(np.int64) * scale.astype(np.int64) >> machine.shift) + bias
    return _cut(machine, raw)


def run(machine: Machine, values: list[Array | None]) -> Array | None:
    """Run the instructions.

    Parameters
    ----------
    machine : Machine
    values : list of array
        Current, states, parameters, in the machine's type; states are replaced.

    Returns
    -------
    bool array or None
        Which neurons fire; None for a model that never does.
    """
    constants = np.array(machine.constants, np.uint32).view(machine.dtype)
    have: list[Any] = [*values, *constants, *[None] * machine.registers]
    numbers = Fixed(*machine.fixed) if machine.fixed else None
    for name, to, a, b, c in machine.code:
        if name in _PLAIN:
            have[to] = _PLAIN[name](have[a], have[b], have[c])
        elif numbers is None:
            have[to] = _FLOATS[name](have[a], have[b])
        else:
            operands = [have[a].astype(np.int64), have[b].astype(np.int64)][: len(KINDS[name][0])]
            found = numbers.apply(name, operands)
            have[to] = found if KINDS[name][1] == "b" else found.astype(np.int32)
    values[1 : 1 + machine.states] = have[1 : 1 + machine.states]
    return have[machine.fire] if machine.fire else None


def _cut(machine: Machine, raw: Array) -> Array:
    most = (1 << sum(machine.fixed)) - 1
    found: Array = np.clip(raw, -most - 1, most).astype(np.int32)
    return found


def _known(value: Array) -> Array:
    """The same bits for all that is no number."""
    found: Array = np.where(np.isnan(value), _NAN, value)
    return found


def _first(a: Array, b: Array, first: Array) -> Array:
    return _known(np.where(first | np.isnan(a), a, b))


def _floor(a: Array, b: Array) -> Array:
    return _known(np.floor(a))


_PLAIN: dict[str, Callable[[Any, Any, Any], Array]] = {
    "copy": lambda a, b, c: a, "and": lambda a, b, c: a & b, "or": lambda a, b, c: a | b,
    "not": lambda a, b, c: ~a, "select": lambda a, b, c: np.where(c, a, b),
}  # fmt: skip
_FLOATS: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda a, b: _known(a + b), "sub": lambda a, b: _known(a - b), "mul": lambda a, b: _known(a * b),
    "div": lambda a, b: _known(a / b), "min": lambda a, b: _first(a, b, a < b), "max": lambda a, b: _first(a, b, a > b),
    "neg": lambda a, b: _known(-a), "abs": lambda a, b: _known(np.abs(a)), "floor": _floor,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
}  # fmt: skip
