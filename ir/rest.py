"""When a run may end: at rest, or as soon as an answer is clear.

A network is at rest when its inputs are over, nothing is under way and no neuron would fire by itself. A step without
spikes is not enough: an event may still be on a connection with a delay, and a neuron may wait for its window (that
mistake gave wrong answers on up to 5 of 60 images: facts/conversion.md 3.7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op, State, StatefulOp
from nmc.ir.ops import exact, snn

Array = NDArray[Any]


def latest_delays(module: Module) -> dict[str, int]:
    """The longest delay with which each value is used, by its name; only values that somebody but an output uses."""
    found: dict[str, int] = {}
    for op in module.ops:
        if not isinstance(op, snn.Output):
            longest = max(getattr(tap, "delay", 0) for tap in op.taps)
            for value in op.operands:
                found[value.name] = max(found.get(value.name, 0), longest)
    return found


def restless(module: Module) -> tuple[Diagnostic, ...]:
    """Populations and inputs that are never known to be at rest, as diagnostics."""
    return tuple(
        Diagnostic(
            "E0406",
            f"{op.name} is never known to be at rest, so a run until then has no end",
            where=str(op.loc or f"%{op.out}"),
            hint="only exact networks come to rest: quantize, then spike-code",
        )
        for op in module.of_type(StatefulOp)
        if not op.rests
    )


class Rest:
    """Follows what is under way in a batch of samples.

    Parameters
    ----------
    module : Module
        The network that runs.
    batch : int
        Samples.
    begin : int
        First step of the run, or of the frame of a stream.

    Raises
    ------
    NmcError
        E0406 for every population that cannot come to rest.
    """

    def __init__(self, module: Module, batch: int, begin: int = 0) -> None:
        problems = restless(module)
        if problems:
            raise NmcError(problems)
        self._populations = module.of_type(StatefulOp)
        self._delays = latest_delays(module)
        inputs = [begin + op.active_until for op in self._populations if isinstance(op, snn.InputOp)]
        others = [op.active_until for op in self._populations if not isinstance(op, snn.InputOp)]
        self._begin = begin
        self._until = np.full(batch, max([begin + 1, *inputs, *others]), np.int64)

    def note(self, op: Op, item: Array, t: int) -> None:
        """Take notice of what `op` sends in step `t`."""
        if isinstance(op, StatefulOp) and op.out in self._delays and item.any():
            active = item.reshape(len(item), -1).any(axis=1)
            self._until[active] = np.maximum(self._until[active], t + 1 + self._delays[op.out])

    def reached(self, states: Mapping[str, State], t: int) -> bool:
        """Whether all samples are at rest after step `t`."""
        if (self._until > t + 1).any():
            return False
        neurons = (op for op in self._populations if not isinstance(op, snn.InputOp))
        return not any(op.eligible(states[op.out], t).any() for op in neurons)

    @property
    def settled(self) -> Array:
        """Steps after which each sample was at rest, (B,) int64; right once all are."""
        return self._until - self._begin


class Exit:
    """Follows which samples have a clear answer, and keeps it.

    Parameters
    ----------
    outputs : iterable of Output
        Outputs of the network; those with a margin decide, together.
    batch : int
        Samples.
    """

    def __init__(self, outputs: Iterable[snn.Output], batch: int) -> None:
        self._outputs = tuple(outputs)
        self.done = np.zeros(batch, bool)
        self.steps = np.zeros(batch, np.int64)
        self.values: dict[str, Array] = {}

    def look(self, values: Mapping[str, Array], t: int) -> None:
        """Look at the outputs of step `t`, counted from the start of the sample (or frame)."""
        deciding = [op for op in self._outputs if op.margin]
        clear = np.ones(len(self.done), bool) if deciding else np.zeros(len(self.done), bool)
        for op in deciding:
            clear &= op.decided(values[op.data.name], t)
        for op in self._outputs:
            now = values[op.data.name]
            kept = self.values.setdefault(op.data.name, now.copy())
            kept[~self.done] = now[~self.done]
        self.steps[~self.done] = t + 1
        self.done |= clear


def settle_bound(module: Module) -> int | None:
    """Steps after which a feed-forward exact network is at rest whatever the data; None where there is no bound.

    Once the last event has reached an ``snn.stbif`` neuron, its count is at most `levels` from where it will stay and
    each step takes it one nearer (design 04-conversion). The other populations have fixed times.

    Returns
    -------
    int or None
        None for loops and for populations that never come to rest.
    """
    last = last_events(module)
    return None if last is None else 1 + max(last.values(), default=0)


def last_events(module: Module) -> dict[str, int] | None:
    """Last step in which each value of a network may hold an event or still change, by name; None without a bound."""
    last: dict[str, int] = {}
    for op in module.ops:
        if isinstance(op, snn.Output):
            continue
        if any(value.name not in last for value in op.operands):
            return None
        delay = max(getattr(tap, "delay", 0) for tap in op.taps)
        arrival = max((last[value.name] + delay for value in op.operands), default=0)
        found = _last_event(op, arrival)
        if found is None:
            return None
        last[op.out] = found
    return last


def mistimed(module: Module) -> tuple[Diagnostic, ...]:
    """Populations of an exact network that events reach at another time than their code needs, as diagnostics E0655.

    An ``snn.phased`` population needs everything before or in the first step of its window, a doubling accumulator the
    lowest digits of all its sources in its last step. ``spike-code`` and ``retime`` see to that; a target that moves
    events in time must keep it. Signed spikes and graded events may come at any time.
    """
    last = last_events(module)
    if last is None:
        return ()
    problems = []
    for op in module.ops:
        if isinstance(op, exact.Phased):
            due, wrong = (
                op.start + op.open,
                [value.name for value in op.current if last[value.name] > op.start + op.open],
            )
            told = f"the window opens in step {due}, and events come in until step"
        elif isinstance(op, exact.BitSerial | exact.Readout) and op.active_until:
            due = op.active_until - 1
            wrong = [value.name for value in op.current if last[value.name] != due]
            told = f"the lowest digits are due in step {due} and come in step"
        else:
            continue
        problems += [
            Diagnostic("E0655", f"{told} {last[name]} (%{name})", where=str(op.loc or f"%{op.out}"),
                       hint="retime the network, or choose the spike code again")
            for name in wrong
        ]  # fmt: skip
    return tuple(problems)


def _last_event(op: Op, arrival: int) -> int | None:
    """Last step in which an op sends or changes something when the last event reaches it in step `arrival`."""
    if not isinstance(op, StatefulOp):
        return arrival
    if not op.rests:
        return None
    if isinstance(op, exact.StBif):
        return max(arrival, op.start, op.active_until - 1) + op.levels - 1
    if isinstance(op, exact.Phased):
        return max(arrival, op.start + op.open + op.levels - 1)
    if isinstance(op, exact.BitSerial):
        return max(arrival, op.start + op.open + op.bits - 1)
    if isinstance(op, exact.Graded):
        return max(arrival, op.start)
    return max(arrival, op.active_until - 1)
