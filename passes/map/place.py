"""Put each core of a partitioned network on a core of the chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons, Route, Synapses
from nmc.ir.target import Target, resolve
from nmc.passes.base import Pass
from nmc.passes.data import fit_input, load_samples
from nmc.passes.map.pins import pins
from nmc.passes.map.routing import Cast, Flow, Tile, loads, relieved, summary
from nmc.passes.map.warm import Homes, around, kept_sites

if TYPE_CHECKING:
    from nmc.passes.map.result import Placement

Array = NDArray[Any]
#: Sites up to which matrices of all pairs are built: bounds and windows need them.
_DENSE = 2048
#: Spike counts are scaled so that the largest total stays this small: exact integers for the solver.
_SCALE = 1 << 20
#: Cores up to which the busiest link is relieved.
_RELIEF = 512


@dataclass(frozen=True)
class Place(Pass, name="place", takes="mapped"):
    """Choose the physical core of each logical core so that spikes travel few hops.

    Minimises the sum over core pairs of spikes a sample times hops, with spikes counted on sample data (or one
    a neuron where there is none, which the report says); a crossing between chips counts as several hops. Then parts
    around the busiest link of the mesh change places while that relieves it and costs no hops, or at most `congestion`
    spike hops for each spike less on that link. Populations that a ``place`` statement puts on certain cores get those.
    Notes objective, proven bound, gap and what links carry in the module.

        before: %2.p0 = map.neurons(%2) {..., core=0, ...}
        after:  %2.p0 = map.neurons(%2) {..., core=17, ...}
    """

    data: str = ""
    limit: int = 16
    raw: bool = False
    effort: Literal["fast", "normal", "best"] = "normal"
    seed: int = 0
    congestion: float = 0.0
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})
    hint: Homes | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})

    def run(self, module: Module) -> Module:
        """Place and note how good it is."""
        target = resolve(module.attr("target", ""))
        spikes, counted = self._spikes(module)
        demands = traffic(module, target, spikes)
        at, fixed = coordinates(target), pins(module, target)
        found, warm = self._found(demands, at, fixed), dict[str, Any]()
        if self.hint is not None:
            kept = kept_sites(module, self.hint, len(at), fixed)
            fixed = {**fixed, **kept}
            found = around(found, self._found(demands, at, fixed))
            warm = {"hint": {"kept": len(kept), "moved": demands.cores - len(kept)}}
        site = self._relieved(demands, target, np.array(found.site, np.int64), fixed)
        ops = [_placed(op, site.tolist(), demands.sent) for op in module.ops]
        placed = module.with_ops(ops)
        objective = demands.objective(site, at)
        quality = {
            "objective": round(objective / demands.scale, 3), "bound": round(found.bound / demands.scale, 3),
            "bound_name": found.bound_name,
            "gap": round((objective - found.bound) / objective, 6) if objective else 0.0,
            "status": "optimal" if objective == found.bound else "feasible",
            "method": found.method + ("+relief" if tuple(site.tolist()) != found.site else ""),
            "spikes": "measured" if counted else "guessed", **warm,
            "bounds": {name: round(bound / demands.scale, 3) for name, bound in found.bounds},
        }  # fmt: skip
        return placed.with_attrs(placement={**quality, "links": links(placed, target)})

    def _relieved(
        self, demands: Traffic, target: Target, site: NDArray[np.int64], fixed: Mapping[int, int]
    ) -> NDArray[np.int64]:
        """Sites at which the busiest link carries less, as long as few cores make that quick."""
        if not 1 < demands.cores <= _RELIEF:
            return site
        where = coordinates(target)
        locked = np.zeros(demands.cores, bool)
        locked[list(fixed)] = True

        def change(old: NDArray[np.int64], new: NDArray[np.int64]) -> float:
            return (demands.objective(new, where) - demands.objective(old, where)) / demands.scale

        return relieved(site, demands.flows, tiles(target), cast(target), change, locked, self.congestion)

    def _found(self, demands: Traffic, at: NDArray[np.int64], fixed: Mapping[int, int]) -> Placement:
        """The placement of the cores on sites at coordinates `at`."""
        from nmc.passes.map.large import place_large
        from nmc.passes.map.placement import place
        from nmc.passes.map.sparse import Graph

        if len(at) > _DENSE:
            graph = Graph.from_pairs(demands.cores, demands.source, demands.goal, demands.count)
            return place_large(graph, at, fixed=fixed, seed=self.seed, effort=self.effort)
        between = np.zeros((demands.cores, demands.cores), np.int64)
        between[demands.source, demands.goal] = demands.count
        hops = np.abs(at[:, None] - at[None]).sum(axis=2)
        return place(between, hops, at=at, fixed=fixed, seed=self.seed, effort=self.effort)

    def _spikes(self, module: Module) -> tuple[Mapping[str, Array], bool]:
        """Spikes of each neuron, a sample; whether they were measured."""
        samples = self.samples
        if samples is None and self.data:
            samples, _ = load_samples(self.data, limit=self.limit, raw=self.raw)
        if samples is None:
            return {op.out: np.ones(op.result.shape) for op in module.ops if _spiking(op)}, False
        network = module.with_ops([op for op in module.ops if "snn" in op.belongs], level="snn")
        inputs = {
            op.source: fit_input(samples[: self.limit], op.shape, in_time=op.in_time)
            for op in network.ops
            if isinstance(op, snn.InputOp) and op.source
        }
        result = run_snn(network, inputs, module.attr("steps", 32))
        count = len(next(iter(inputs.values()), np.zeros(1)))
        return {name: total / count for name, total in result.spikes.items()}, True


@dataclass(frozen=True)
class Traffic:
    """Spikes a sample between logical cores, and those of each part to each logical core.

    Attributes
    ----------
    cores : int
        Number of logical cores.
    source, goal, count : NDArray[np.int64]
        (E,) pairs of different cores, in ascending order, and the spikes between them times `scale`, rounded.
    scale : float
        Makes the counts integers that the solvers can add up.
    sent : mapping
        Spikes of each part to each logical core, rounded.
    flows : tuple of Flow
        The same of parts on cores, to cores other than their own.
    """

    cores: int
    source: NDArray[np.int64]
    goal: NDArray[np.int64]
    count: NDArray[np.int64]
    scale: float
    sent: Mapping[str, Mapping[int, int]]
    flows: tuple[Flow, ...] = ()

    def objective(self, site: NDArray[np.int64], at: NDArray[np.int64]) -> int:
        """Sum of counts times hops of cores at sites (cores,) with coordinates (S, 2)."""
        hops = np.abs(at[site[self.source]] - at[site[self.goal]]).sum(axis=1)
        return int((self.count * hops).sum())


def _spiking(op: Op) -> bool:
    return bool(op.out) and not isinstance(op, Neurons) and op.result.type.kind == "spikes"


def traffic(module: Module, target: Target, spikes: Mapping[str, Array]) -> Traffic:
    """Count the spikes that each part sends to each core.

    Parameters
    ----------
    module : Module
        A mapped module with logical cores 0..n-1.
    target : Target
        Gives which source neurons have synapses onto a part.
    spikes : mapping of population to array
        Spikes of each neuron, a sample.
    """
    parts = {part.out: part for part in module.of_type(Neurons)}
    cores = 1 + max((part.core for part in parts.values()), default=0)
    between: dict[tuple[int, int], float] = {}
    sent: dict[str, dict[int, float]] = {}
    for link in module.of_type(Synapses):
        source, goal = parts[link.source.name], parts[link.target.name]
        via = module.producers[link.via.name]
        mask = target.demands.sources(module, via, goal.box).reshape(source.of.shape)[source.slices]
        sent_by = spikes.get(
            source.of.name
        )  # counts of a generator are not recorded: one an element is taken
        count = float((np.ones(source.of.shape) if sent_by is None else sent_by)[source.slices][mask].sum())
        row = sent.setdefault(source.out, {})
        row[goal.core] = row.get(goal.core, 0.0) + count
        if source.core not in (HOST, goal.core):
            pair = source.core, goal.core
            between[pair] = between.get(pair, 0.0) + count
    factor = min(_SCALE / max(1.0, *between.values(), 1.0), 1000.0)
    ends = np.array(sorted(between), np.int64).reshape(-1, 2)
    whole = np.rint(np.array([between[pair] for pair in sorted(between)], np.float64) * factor).astype(
        np.int64
    )
    rounded = {part: {core: round(count) for core, count in row.items()} for part, row in sent.items()}
    flows = tuple(flow for name, row in rounded.items() if (flow := _flow(parts[name].core, row)).goals)
    return Traffic(cores, ends[:, 0], ends[:, 1], whole, float(factor), rounded, flows)


def _flow(core: int, goals: Mapping[int, int]) -> Flow:
    """What a part on a core sends over links; the host sends nothing, as where it enters is not modelled."""
    left = {goal: spikes for goal, spikes in goals.items() if goal != core and spikes}
    return Flow(core, {} if core == HOST else left)


def cast(target: Target) -> Cast:
    """How often a chip sends a spike: once a goal core, once a goal tile, or along a tree."""
    found: Cast = target.data.get("routing", {}).get("cast", {}).get("value", "core")
    return found


def tiles(target: Target) -> list[Tile]:
    """Tile (x, y) of every core; chips lie side by side without anything between."""
    at = _coordinates(target, 0)
    return [(int(x), int(y)) for x, y in at.tolist()]


def routed(module: Module) -> list[Flow]:
    """What the parts of a placed module send, from their routes."""
    core = {part.out: part.core for part in module.of_type(Neurons)}
    return [
        _flow(core[route.source.name], dict(zip(route.to, route.spikes, strict=True)))
        for route in module.of_type(Route)
        if route.spikes
    ]


def links(module: Module, target: Target) -> dict[str, object]:
    """What the links of the mesh carry, from the routes of a placed module: number, busiest, mean, crossings."""
    found = loads(routed(module), tiles(target), cast(target))
    return {"cast": cast(target), **summary(found, target.tiles[0])}


def hops(module: Module, target: Target) -> int:
    """Spikes times hops of a placed module, from its routes."""
    at = coordinates(target)
    return sum(
        spikes * int(np.abs(at[flow.source] - at[goal]).sum())
        for flow in routed(module)
        for goal, spikes in flow.goals.items()
    )


def coordinates(target: Target, gap: int | None = None) -> NDArray[np.int64]:
    """Tile (x, y) of every core (S, 2) as hops count; chips lie side by side in a row, a crossing counts more.

    With `gap`, so many columns lie between chips instead.
    """
    more = int(target.data.get("routing", {}).get("crossing", {}).get("value", 1)) - 1
    return _coordinates(target, more if gap is None else gap)


def _coordinates(target: Target, gap: int) -> NDArray[np.int64]:
    """Tile (x, y) of every core (S, 2), with so many columns between chips."""
    wide, high = target.tiles
    if target.positions:
        each = np.array(target.positions, np.int64)
    else:
        tile = np.arange(wide * high * target.cores_per_tile, dtype=np.int64) // target.cores_per_tile
        each = np.stack(np.divmod(tile, high), axis=1)
    return np.concatenate([each + (chip * (wide + gap), 0) for chip in range(target.chips)])


def _placed(op: Op, site: Sequence[int], sent: Mapping[str, Mapping[int, int]]) -> Op:
    if isinstance(op, Neurons):
        return op if op.core == HOST else replace(op, core=site[op.core])
    if isinstance(op, Route):
        goals = sorted((site[core], sent[op.source.name].get(core, 0)) for core in op.to)
        return replace(op, to=tuple(core for core, _ in goals), spikes=tuple(count for _, count in goals))
    return op


def check_placed(module: Module) -> None:
    """Raise when a module has not been placed.

    Raises
    ------
    NmcError
        E0702.
    """
    if module.attr("placement") is None:
        raise fail("E0702", "the module is not placed; run place first")
