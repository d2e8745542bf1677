"""How many integers stand for a threshold of a population: the largest choice that provably cannot overflow.

Accumulator (21 bits) and filter (23 bits) wrap, so no sum of any spikes may leave them. The membrane saturates: a
read-out is kept away from that, and so is a leaky population wherever its weights do not lose by it; where they would,
the membrane's room is told instead. What saturates above the threshold spikes as it would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.ops import snn
from nmc.targets.loihi.laws import Law, Refusal
from nmc.targets.loihi.quantize import (
    Q_LIMIT,
    V_LIMIT,
    Unit,
    choose_unit,
    coarseness,
    exact_unit,
    reach,
    register_weights,
    reset_registers,
    row_sums,
)
from nmc.targets.loihi.starts import start_values

Array = NDArray[Any]
#: Share by which weights may get coarser for a proof that the membrane never saturates.
_WORTH = 1.05
#: A leak must take at least so many integers from a membrane at its threshold, or rounding decides how it leaks.
_LEAST_LEAK = 32
_PRUNE = "fewer or smaller weights a neuron: prune, pool, or regularise"


@dataclass(frozen=True)
class Scaling:
    """A population and what bounds it.

    Parameters
    ----------
    law : Law
    projections : sequence of ProjectionOp
        What comes in, weights in thresholds.
    counts : mapping of str to int
        Spikes that an element of a source sends in a step at most, where that is more than one.
    steps : int
        Steps of a run.
    bits : int
        Weight bits, the fewest of any projection.
    own_bits : mapping of str to int
        Weight bits of projections that have more.
    moves : float
        How much a read-out is known to move in a step, 0 where that is not known.
    drive : float
        Largest current of the host in a step, in thresholds, 0 without one.
    """

    law: Law
    projections: Sequence[snn.ProjectionOp]
    counts: Mapping[str, int]
    steps: int
    bits: int
    moves: float = 0.0
    drive: float = 0.0
    own_bits: Mapping[str, int] = field(default_factory=dict)

    def unit(self) -> tuple[Unit, float] | Refusal:
        """Choose; also gives the room of the membrane in thresholds where it may saturate, else 0."""
        extra, limit, membrane = self._bounds()
        found = self._exact(extra, limit) if self.law.at_threshold else self._best(extra, limit)
        if isinstance(found, Refusal):
            return found
        room, tight = 0.0, limit
        if self.law.leaky and self.law.reset != "none" and not self.law.at_threshold:
            proven = self._best(extra, min(limit, membrane))
            if isinstance(proven, Unit) and self._as_good(proven, found):
                found, tight = proven, min(limit, membrane)
            else:
                room = V_LIMIT / found.size
        found = self._refined(found, extra, tight)
        if self._vanish(found):
            message = (
                f"at {found.size:,} a threshold, the most that cannot overflow, all its weights round to zero"
            )
            return Refusal(
                "E0613", message, "fewer weights a neuron: prune, pool, or calibrate with sample data"
            )
        return found, room

    def _bounds(self) -> tuple[float, float, float]:
        """Current besides the projections, in thresholds; largest integer of a step's current; that for the membrane.

        With gains of filter and membrane (how much a steady current adds up to), all limits are told as limits of the
        current of one step.
        """
        law = self.law
        through = 4096 / max(int(law.du.min()), 1)
        bias = 0.0 if law.bias is None else float(np.abs(law.bias).max())
        fading = float(np.abs(law.transient).max()) / through
        lasts = 4096 / max(int(law.dv.min()), 1)
        limit = min(float(Q_LIMIT), V_LIMIT / through)
        if law.reset == "none":
            lasts = float(self.steps) if not law.dv.all() else min(float(self.steps), lasts)
            extra = fading + (bias + float(np.abs(law.v_start).max()) / lasts) / through
            most = reach(self.projections, self.counts) + extra
            return extra, min(limit, V_LIMIT / (through * lasts) * self._headroom(most)), limit
        extra = 1.0 + fading + self._gate_bound()  # a soft reset and a gate
        around = bias + self.drive + float(np.abs(law.v_start).max()) / lasts
        return extra, limit, V_LIMIT / (through * lasts) / (1 + around / through)

    def _headroom(self, most: float) -> float:
        """How much more than the static bound allows a read-out may be scaled up, because sample data reach less.

        Four times what the samples gave still fits the membrane, which saturates beyond.
        """
        return most / min(most, 4 * self.moves) if self.moves > 0 else 1.0

    def _gate_bound(self) -> float:
        """Weight of the gate, in thresholds, at most (its mantissa has 8 bits, rounded up)."""
        if self.law.start == 0 or self.law.bias is None:
            return 0.0
        fine = 1 << 14
        bias = np.rint(self.law.bias * fine).astype(np.int64)
        gate = start_values(self.law, fine, bias).gate
        return 0.0 if gate is None else ((gate[0] << gate[1]) << 6) / fine + 0.02

    def _ceiling(self, limit: float) -> float:
        """Largest current of a step that also keeps the bias registers of the host in their range."""
        if not self.drive:
            return limit
        most = reach(self.projections, self.counts) + 1.0
        return min(limit, (4096 << 7) / max(1.0, self.drive) * most)

    def _best(self, extra: float, limit: float) -> Unit | Refusal:
        ceiling = self._ceiling(limit)
        for _ in range(20):
            unit = choose_unit(
                self.projections, self.law.bias, extra, ceiling, self.bits, self.counts, self.law.leaky
            )
            if unit is None:
                break
            if self._fits(unit, extra, limit):
                return unit
            ceiling *= 0.95
        return self._too_much()

    def _too_much(self) -> Refusal:
        amount = reach(self.projections, self.counts)
        gain = 4096 / max(int(self.law.du.min()), 1)
        behind = f", {gain:,.0f} times that behind its synaptic filter" if gain > 1 else ""
        message = (
            f"one step can bring {amount:,.0f} thresholds{behind}, over the 21-bit accumulator at any scale"
        )
        return Refusal("E0613", message, _PRUNE)

    def _exact(self, extra: float, limit: float) -> Unit | Refusal:
        """The largest unit that rounds nothing: only then is reaching the threshold the same in integers."""
        most = reach(self.projections, self.counts) + extra
        others = [self.law.v_start] if self.law.bias is None else [self.law.v_start, self.law.bias]
        unit = exact_unit(self.projections, others, limit / most, self.bits)
        if unit is not None:
            return unit
        hint = "compare=gt, or weights and biases that divide the threshold (multiples of a sixteenth, say)"
        return Refusal(
            "E0611", "a threshold that fires when it is just reached, with weights that are rounded", hint
        )

    def _fits(self, unit: Unit, extra: float, limit: float) -> bool:
        """Check the bound on the rounded weights themselves."""
        total = np.zeros(2)
        for item in self.projections:
            bits = self.own_bits.get(item.out, self.bits)
            found = register_weights(item.weight.array(), unit.size, bits)
            if found is None:
                return False
            up, down = row_sums(item, found.mantissa.astype(np.int64) << (found.exp + 6), self.counts)
            total += [up.max(initial=0), down.max(initial=0)]
        return bool(total.max() + extra * unit.size <= min(limit, Q_LIMIT))

    def _as_good(self, proven: Unit, free: Unit) -> bool:
        """Whether a unit rounds about as little as another one, and leaks are still more than their rounding."""
        dv = self.law.dv[self.law.dv > 0]
        sure = proven.size * int(dv.min()) >= _LEAST_LEAK * 4096 or proven.size >= free.size
        worse = coarseness(self.projections, proven.size, self.bits)
        return sure and worse <= _WORTH * coarseness(self.projections, free.size, self.bits)

    def _refined(self, unit: Unit, extra: float, limit: float) -> Unit:
        """A slightly smaller unit whose reset the 8 bits of its synapse say better, where weights do not suffer."""
        law = self.law
        if law.reset not in ("soft", "split") or law.at_threshold or (law.back == 1).all():
            return unit
        most = _WORTH * coarseness(self.projections, unit.size, self.bits)
        best, least = unit, reset_registers(law.back, unit)[2]
        for mant in range(unit.mant - 1, max(unit.mant * 15 // 16, 1), -1):
            other = Unit(mant, unit.exp)
            error = reset_registers(law.back, other)[2]
            as_good = error < least / 2 and coarseness(self.projections, other.size, self.bits) <= most
            if as_good and self._fits(other, extra, limit):
                best, least = other, error
        return best

    def _vanish(self, unit: Unit) -> bool:
        """Whether a unit leaves nothing of any projection."""
        some = [item.weight.array() for item in self.projections if item.weight.array().any()]
        found = [register_weights(weight, unit.size, self.bits) for weight in some]
        return bool(some) and not any(item is None or item.mantissa.any() for item in found)
