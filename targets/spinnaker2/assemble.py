"""From the lists of instructions of a model of the user's to the machine that the firmware interprets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field, replace

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.op import require
from nmc.ir.ops.expressions import OPERATIONS, Code, Fixed
from nmc.ir.ops.user import AFTER, CURRENT, FIRE, NEXT
from nmc.targets.spinnaker2.machine import MAX_VALUES, Machine

#: The rooms of operands, in the order of their numbers.
_ROOMS = ("current", "state", "param", "constant", "register")
Place = tuple[str, int]


@dataclass(frozen=True)
class Line:
    """An instruction whose operands are not numbered yet; every register is written once."""

    operation: str
    to: Place
    operands: tuple[Place, ...]


def assemble(
    states: Sequence[str],
    params: Sequence[str],
    update: Code,
    fire: Code,
    spike: Code,
    fixed: tuple[int, ...] = (),
    shift: int = 0,
) -> Machine:
    """Make the machine of a model: what `nmc.ir.ops.user.User` does in a step, as one list of instructions.

    Results that nobody uses are left out, and registers are used again when their last reader has been.

    Raises
    ------
    VerifyError
        For numbers beyond single precision, and models with more than 4,096 values.
    """
    work = _Assembly(states, params, fixed)
    after = work.lines_of(update)
    work.lines += [Line("copy", ("state", k), (after[name + NEXT],)) for k, name in enumerate(states)
                   if name + NEXT in after]  # fmt: skip
    fired = work.lines_of(fire).get(FIRE)
    after = work.lines_of(spike)
    for k, name in enumerate(states):
        if fired and name + AFTER in after:
            state = ("state", k)
            work.lines.append(Line("select", state, (after[name + AFTER], state, fired)))
    lines = _straight(_live(work.lines, fired), len(states))
    lines, fired, registers = _placed(lines, fired)
    first = {"current": 0, "state": 1, "param": 1 + len(states), "constant": 1 + len(states) + len(params)}
    first["register"] = first["constant"] + len(work.constants)
    require(first["register"] + registers <= MAX_VALUES, f"more than {MAX_VALUES:,} values")

    def number(place: Place) -> int:
        return first[place[0]] + place[1]

    code = []
    for line in lines:
        a, b, c = (*map(number, line.operands), 0, 0, 0)[:3]
        code.append((line.operation, number(line.to), a, b, c))
    return Machine(len(states), len(params), tuple(work.constants), registers, tuple(code),
                   number(fired) if fired else 0, fixed, shift)  # fmt: skip


def word(number: float, fixed: tuple[int, ...]) -> int:
    """A constant as the machine holds it, an unsigned word."""
    if fixed:
        return int(Fixed(*fixed).hold(np.array(number))) & 0xFFFFFFFF
    with np.errstate(over="ignore"):
        held = np.float32(number)
    require(np.isfinite(held), f"{number} is beyond single precision")
    return int(held.view(np.uint32))


@dataclass
class _Assembly:
    """Instructions made so far, and the constants."""

    states: Sequence[str]
    params: Sequence[str]
    fixed: tuple[int, ...]
    lines: list[Line] = field(default_factory=list)
    constants: dict[int, int] = field(default_factory=dict)
    registers: int = 0

    def lines_of(self, code: Code) -> dict[str, Place]:
        """Add a list of instructions; gives where each name is. Copies of what never changes are the same place."""
        known: dict[str, Place] = {CURRENT: ("current", 0)}
        known |= {name: ("state", k) for k, name in enumerate(self.states)}
        known |= {name: ("param", k) for k, name in enumerate(self.params)}
        for name, operation, *operands in code:
            places = [known[item] if isinstance(item, str) else self._constant(item) for item in operands]
            if operation == "copy" and places[0][0] in ("param", "constant"):
                known[str(name)] = places[0]
                continue
            if operation == "select":
                places = [*places[1:], places[0]]
            known[str(name)] = ("register", self.registers)
            self.lines.append(Line(str(operation), known[str(name)], tuple(places)))
            self.registers += 1
        return known

    def _constant(self, number: float) -> Place:
        held = word(float(number), self.fixed)
        return "constant", self.constants.setdefault(held, len(self.constants))


def _live(lines: Iterable[Line], fired: Place | None) -> list[Line]:
    """Without what nobody uses."""
    needed, kept = {fired}, []
    for line in reversed([*lines]):
        if line.to[0] == "state" or line.to in needed:
            needed |= {*line.operands}
            kept.append(line)
    return kept[::-1]


def _straight(lines: list[Line], states: int) -> list[Line]:
    """Write the next value of a state to it at once, where nobody reads the old one between that and its copy."""
    for number in range(states):
        state: Place = ("state", number)
        end = next((k for k, line in enumerate(lines) if line.to == state and line.operation == "copy"), -1)
        if end < 0 or lines[end].operands[0][0] != "register":
            continue
        source = lines[end].operands[0]
        start = next(k for k, line in enumerate(lines) if line.to == source)
        between = lines[start + 1 : end]
        if any(state in line.operands for line in between) or OPERATIONS[lines[start].operation][1] != "n":
            continue
        renamed = [
            replace(line, operands=tuple(state if place == source else place for place in line.operands))
            for line in (*between, *lines[end + 1 :])
        ]
        lines = [*lines[:start], replace(lines[start], to=state), *renamed]
    return lines


def _placed(lines: list[Line], fired: Place | None) -> tuple[list[Line], Place | None, int]:
    """Give registers numbers that are used again; how many there are."""
    last = {place: k for k, line in enumerate(lines) for place in line.operands if place[0] == "register"}
    if fired:
        last[fired] = len(lines)
    numbers: dict[Place, Place] = {}
    free: list[int] = []
    most, made = 0, []
    for k, line in enumerate(lines):
        operands = tuple(numbers.get(place, place) for place in line.operands)
        free += sorted({numbers[place][1] for place in line.operands if last.get(place) == k})
        to = line.to
        if to[0] == "register":
            free.sort()
            most += not free
            numbers[to] = to = ("register", free.pop(0) if free else most - 1)
        made.append(Line(line.operation, to, operands))
    return made, numbers[fired] if fired else None, most
