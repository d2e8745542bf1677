"""Places on the chip: few hops first, then few quad elements that the spikes of a part go to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops.mapped import HOST, Neurons, Route
from nmc.ir.target import Target, resolve
from nmc.passes.map.pins import places
from nmc.passes.map.place import Place, hops, links
from nmc.targets.spinnaker2.target import place_of, qpe_of, usable

Array = NDArray[Any]
#: From so many parts on the search for short ways is the quick one: all ways are about alike then.
_MANY = 48
_SWEEPS = 4


@dataclass(frozen=True)
class QuadPlace(Place, name="spinnaker2-place", takes="mapped"):
    """``place``, and then exchange PEs while that saves packets: a spike takes one packet for each QPE that it goes to.

    A packet reaches the four PEs of a quad element by its mask, so targets of the same sources belong together. Counted
    is the number of distinct QPEs of each part's targets, times its spikes a sample. Notes packets before and after in
    the module's attribute ``placement``.

        before: %2.p0 = map.neurons(%2) {..., core=0, ...}
        after:  %2.p0 = map.neurons(%2) {..., core=17, ...}
    """

    def run(self, module: Module) -> Module:
        """Place, then gather targets."""
        many = sum(part.core != HOST for part in module.of_type(Neurons)) > _MANY
        effort = "fast" if many and self.effort == "normal" else self.effort
        names = ("data", "limit", "raw", "seed", "congestion", "samples", "hint")
        placed = Place(effort=effort, **{name: getattr(self, name) for name in names}).run(module)
        target = resolve(placed.attr("target", ""))
        held = {part.of.name for part in placed.of_type(Neurons)} if self.hint else places(placed, target)
        moved = gathered(placed, frozenset(held))
        return moved.with_attrs(placement=_recounted(placed, moved, target))


def _recounted(before: Module, after: Module, target: Target) -> dict[str, Any]:
    """The notes of `before`, with hops and links as they are after exchanges."""
    old, new = (hops(module, target) for module in (before, after))
    notes: dict[str, Any] = dict(after.attr("placement"))
    if old != new:
        objective = round(notes["objective"] + new - old, 3)
        notes["objective"] = objective
        notes["gap"] = round((objective - notes["bound"]) / objective, 6) if objective else 0.0
        notes["status"] = "optimal" if objective <= notes["bound"] else "feasible"
    return {**notes, "links": links(after, target)}


def gathered(module: Module, fixed: frozenset[str] = frozenset()) -> Module:
    """Exchange PEs of a chip while that saves packets; parts of the populations `fixed` stay."""
    work = _Gather(module, fixed)
    before = work.packets()
    work.improve()
    site = work.sites()

    def moved(op: Op) -> Op:
        if isinstance(op, Neurons):
            return replace(op, core=site.get(op.core, op.core))
        if isinstance(op, Route):
            spikes = op.spikes or (0,) * len(op.to)
            goals = sorted((site.get(core, core), count) for core, count in zip(op.to, spikes, strict=True))
            return replace(op, to=tuple(core for core, _ in goals),
                           spikes=tuple(count for _, count in goals) if op.spikes else ())  # fmt: skip
        return op

    told = {
        **(module.attr("placement") or {}),
        "packets_before": round(before),
        "packets": round(work.packets()),
    }
    return module.map_ops(moved).with_attrs(placement=told)


class _Gather:
    """Sources by PEs: who sends to which, and how much."""

    def __init__(self, module: Module, fixed: frozenset[str]) -> None:
        parts = [part for part in module.of_type(Neurons) if part.core != HOST]
        self._core = [part.core for part in parts]  # of each slot; free PEs come behind
        self._free = [part.of.name not in fixed for part in parts]
        used, chips = set(self._core), {place_of(core)[0] for core in self._core}
        spare = [core for chip in sorted(chips) for core in range(chip * usable(), (chip + 1) * usable())]
        self._core += [core for core in spare if core not in used]
        self._free += [True] * (len(self._core) - len(parts))
        self._now = list(self._core)
        number = {core: k for k, core in enumerate(self._core)}
        routes = module.of_type(Route)
        self._reach = np.zeros((len(routes), len(self._core)), bool)
        self._weight = np.zeros(len(routes))
        for row, route in enumerate(routes):
            self._reach[row, [number[core] for core in route.to]] = True
            self._weight[row] = max(route.spikes, default=1) or 1
        quads = [(place_of(core)[0], *qpe_of(place_of(core)[1])) for core in self._core]
        names = {quad: k for k, quad in enumerate(dict.fromkeys(quads))}
        self._quad = np.array([names[quad] for quad in quads])
        self._chip = np.array([place_of(core)[0] for core in self._core])
        self._counts = np.zeros((len(routes), len(names)), np.int64)
        np.add.at(self._counts.T, self._quad, self._reach.T)

    def packets(self) -> float:
        """Packets a sample: for each source its distinct QPEs, times its spikes."""
        return float(((self._counts > 0).sum(axis=1) * self._weight).sum())

    def sites(self) -> dict[int, int]:
        """New core of each core that held a part."""
        return dict(zip(self._core, self._now, strict=True))

    def improve(self) -> None:
        """Exchange pairs while that saves packets; in the order of their numbers, so that the result is one."""
        busy = [k for k in range(len(self._core)) if self._free[k] and self._reach[:, k].any()]
        for _ in range(_SWEEPS):
            changed = False
            for a in busy:
                changed |= self._best_exchange(a)
            if not changed:
                return

    def _best_exchange(self, a: int) -> bool:
        """Exchange slot `a` with the one that saves most."""
        gains = [(self._saving(a, b), -b) for b in range(len(self._core)) if self._may(a, b)]
        saved, negative = max(gains, default=(0.0, 0))
        if saved <= 1e-9:
            return False
        self._exchange(a, -negative)
        return True

    def _may(self, a: int, b: int) -> bool:
        return bool(self._free[b] and self._chip[a] == self._chip[b] and self._quad[a] != self._quad[b])

    def _saving(self, a: int, b: int) -> float:
        here, there = self._counts[:, self._quad[a]], self._counts[:, self._quad[b]]
        only_a, only_b = self._reach[:, a] & ~self._reach[:, b], self._reach[:, b] & ~self._reach[:, a]
        less = (only_a & (here == 1)).astype(float) - (only_a & (there == 0))
        less += (only_b & (there == 1)).astype(float) - (only_b & (here == 0))
        return float(less @ self._weight)

    def _exchange(self, a: int, b: int) -> None:
        change = self._reach[:, b].astype(np.int64) - self._reach[:, a]
        self._counts[:, self._quad[a]] += change
        self._counts[:, self._quad[b]] -= change
        self._quad[[a, b]] = self._quad[[b, a]]
        self._now[a], self._now[b] = self._now[b], self._now[a]
