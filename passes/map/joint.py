"""How populations are cut and which boxes share a core, chosen together: fewest cores, then fewest in-axons.

Each population has some candidate tilings, all of which fit cores by themselves. A model for CP-SAT takes one of each
and counts, for every core, how many boxes of each demand it gets (`solve`). Whole networks of few boxes are one model;
of larger ones, some cores at a time are filled anew (`fewer`). Demands may leave out what depends on other choices:
what a model then finds has to be counted again, and what it refutes stays refuted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.passes.map.solver import solver as cp_solver

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

IntArray = NDArray[np.int64]

#: Deterministic time of a model of everything, rounds of windows, and the time of each.
_BUDGETS = {"fast": (0.3, 6, 0.05), "normal": (1.0, 20, 0.1), "best": (20.0, 200, 0.5)}
#: Boxes times cores up to which everything is one model, and cores of a window.
_CELLS, _WINDOW = 800, 10


@dataclass(frozen=True, eq=False)
class Tiling:
    """A way to cut a population.

    Attributes
    ----------
    sizes : IntArray
        (N, R) what each box takes of each resource; amounts on a core add up.
    axons : int
        What is made small among equal numbers of cores.
    """

    sizes: IntArray
    axons: int = 0

    @classmethod
    def of(cls, demands: Sequence[Mapping[str, int]], limits: Mapping[str, int], small: str) -> Tiling:
        """A tiling from the demands of its boxes; what is made small is the amount of one resource."""
        sizes = np.stack([vector(demand, limits) for demand in demands])
        return cls(sizes, sum(demand.get(small, 0) for demand in demands))


@dataclass(frozen=True)
class Choice:
    """A tiling of each population, by number, and the core of each of its boxes."""

    tilings: tuple[int, ...]
    cores: tuple[tuple[int, ...], ...]

    @property
    def used(self) -> int:
        """Number of cores."""
        return len({core for boxes in self.cores for core in boxes})


def vector(amounts: Mapping[str, int], names: Iterable[str]) -> IntArray:
    """Amounts of some resources, (R,)."""
    return np.array([amounts.get(name, 0) for name in names], np.int64)


def resource_bound(populations: Sequence[Sequence[Tiling]], capacity: IntArray) -> int:
    """Cores that some resource asks for, whichever tilings are taken: each population's least of it, added up."""
    least = sum((np.min([t.sizes.sum(axis=0) for t in each], axis=0) for each in populations), 0 * capacity)
    return max(1, int((-(-least // np.maximum(capacity, 1))).max(initial=1)))


def fewer(
    populations: Sequence[Sequence[Tiling]],
    capacity: IntArray,
    start: Choice,
    effort: Literal["fast", "normal", "best"] = "normal",
    seed: int = 0,
) -> tuple[Choice, int]:
    """Find tilings and cores with fewer cores than `start`, and a bound over all of these tilings.

    Parameters
    ----------
    populations : sequence of sequence of Tiling
        The candidates of each population.
    capacity : IntArray
        (R,) what a core has.
    start : Choice
        A lawful choice; it is given back where nothing with fewer cores is found.
    effort : {"fast", "normal", "best"}
        Fixed amounts of deterministic time and rounds.
    seed : int
        Of the choice of windows.
    """
    limit, rounds, each = _BUDGETS[effort]
    bound = resource_bound(populations, capacity)
    most = sum(max(len(t.sizes) for t in tilings) for tilings in populations)
    if most * start.used <= _CELLS:
        while start.used > bound:
            room = np.tile(capacity, (start.used - 1, 1))
            found, refuted = solve(populations, room, start.used - 1, limit)
            if refuted:
                return start, start.used
            if found is None:
                break
            start = numbered(found.tilings, found.cores)
        return start, bound
    random = Random(seed)
    for number in range(rounds):
        if start.used <= bound:
            break
        start = _window(populations, capacity, start, random if number else None, each)
    return start, bound


def _loads(populations: Sequence[Sequence[Tiling]], capacity: IntArray, choice: Choice) -> IntArray:
    """What each core of a choice holds, (cores, R)."""
    held = np.zeros((1 + max(max(boxes) for boxes in choice.cores), len(capacity)), np.int64)
    for tilings, number, cores in zip(populations, choice.tilings, choice.cores, strict=True):
        np.add.at(held, list(cores), tilings[number].sizes)
    return held


def _window(
    populations: Sequence[Sequence[Tiling]],
    capacity: IntArray,
    start: Choice,
    random: Random | None,
    limit: float,
) -> Choice:
    """Fill some cores anew with one core fewer: those with most room, or any; who also has boxes elsewhere stays."""
    held = _loads(populations, capacity, start)
    fill = (held / np.maximum(capacity, 1)).max(axis=1)
    order = np.argsort(fill, kind="stable").tolist()
    if random is not None:
        order = sorted(order, key=lambda core: (fill[core] * random.random(), core))
    window = set(order[:_WINDOW])
    free = [p for p, cores in enumerate(start.cores) if window.issuperset(cores)]
    for p in free:
        np.subtract.at(held, list(start.cores[p]), populations[p][start.tilings[p]].sizes)
    kept = [core for core in sorted(window) if held[core].any()]
    empty = [core for core in sorted(window) if not held[core].any()][1:]
    if not free or len(kept) + len(empty) == len(window):
        return start
    room = np.concatenate([capacity - held[kept], np.tile(capacity, (len(empty), 1))])
    found, _ = solve([populations[p] for p in free], room, len(empty), limit)
    if found is None:
        return start
    names, tilings, cores = [*kept, *empty], list(start.tilings), list(start.cores)
    for p, number, boxes in zip(free, found.tilings, found.cores, strict=True):
        tilings[p], cores[p] = number, tuple(names[core] for core in boxes)
    return numbered(tilings, cores)


def numbered(tilings: Sequence[int], cores: Sequence[Sequence[int]]) -> Choice:
    """The choice with cores numbered in the order in which boxes first use them."""
    name: dict[int, int] = {}
    for boxes in cores:
        for core in boxes:
            name.setdefault(core, len(name))
    return Choice(tuple(tilings), tuple(tuple(name[core] for core in boxes) for boxes in cores))


def solve(
    populations: Sequence[Sequence[Tiling]], room: IntArray, equal: int, limit: float
) -> tuple[Choice | None, bool]:
    """Put all populations on cores with these rooms.

    Parameters
    ----------
    populations : sequence of sequence of Tiling
        The candidates of each population.
    room : IntArray
        (K, R) what each core has left; the last `equal` rows are the same.
    equal : int
        Number of cores at the end that may be exchanged.
    limit : float
        Deterministic time.

    Returns
    -------
    Choice or None, bool
        A choice, if one was found; whether there is proved to be none.
    """
    from ortools.sat.python import cp_model

    if not len(room):
        return None, True
    model = cp_model.CpModel()
    taken: list[list[cp_model.IntVar]] = []
    counts: list[list[tuple[IntArray, list[cp_model.IntVar]]]] = []
    for p, tilings in enumerate(populations):
        row = [model.new_bool_var(f"p{p}t{t}") for t in range(len(tilings))]
        model.add_exactly_one(row)
        taken.append(row)
        counts.append(
            [
                group
                for t, one in enumerate(tilings)
                for group in _boxes(model, one, row[t], f"p{p}t{t}", len(room))
            ]
        )
    every = [(sizes, row) for found in counts for sizes, row in found]
    for k in range(len(room)):
        for resource, most in enumerate(room[k]):
            model.add(sum(int(sizes[resource]) * row[k] for sizes, row in every) <= int(most))
    for k in range(len(room) - equal + 1, len(room)):
        model.add(sum(row[k - 1] for _, row in every) >= sum(row[k] for _, row in every))
    model.minimize(
        sum(
            t.axons * x
            for tilings, row in zip(populations, taken, strict=True)
            for t, x in zip(tilings, row, strict=True)
        )
    )
    run = cp_solver(limit, f"tilings of {len(populations):,} populations on {len(room):,} cores")
    status = run.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, status == cp_model.INFEASIBLE
    return _read(run, populations, taken, counts), False


def _read(
    run: cp_model.CpSolver,
    populations: Sequence[Sequence[Tiling]],
    taken: Sequence[Sequence[cp_model.IntVar]],
    counts: Sequence[Sequence[tuple[IntArray, list[cp_model.IntVar]]]],
) -> Choice:
    """The choice that a solver has found."""
    numbers = [next(t for t, x in enumerate(row) if run.value(x)) for row in taken]
    cores = []
    for tilings, number, found in zip(populations, numbers, counts, strict=True):
        own = [
            (sizes.tobytes(), k)
            for sizes, row in found
            for k, x in enumerate(row)
            for _ in range(run.value(x))
        ]
        free = {key: [k for other, k in own if other == key] for key, _ in own}
        cores.append([free[sizes.tobytes()].pop(0) for sizes in tilings[number].sizes])
    return Choice(tuple(numbers), tuple(map(tuple, cores)))


def _boxes(
    model: cp_model.CpModel, tiling: Tiling, taken: cp_model.IntVar, name: str, cores: int
) -> list[tuple[IntArray, list[cp_model.IntVar]]]:
    """How many boxes of each demand every core gets, if the tiling is taken."""
    demands, count = np.unique(tiling.sizes, axis=0, return_counts=True)
    found = []
    for d, (sizes, number) in enumerate(zip(demands, count.tolist(), strict=True)):
        row = [model.new_int_var(0, number, f"{name}d{d}c{k}") for k in range(cores)]
        model.add(sum(row) == number * taken)
        found.append((np.ascontiguousarray(sizes, np.int64), row))
    return found
