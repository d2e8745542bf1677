"""Put each core of a partitioned network on a core of the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons, Route, Synapses
from nmc.ir.target import Target, resolve
from nmc.passes.base import Pass
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.map.pins import pins
from nmc.passes.map.warm import Homes, around, kept_sites

if TYPE_CHECKING:
    from nmc.passes.map.result import Placement

Array = NDArray[Any]
#: Sites up to which matrices of all pairs are built: bounds and windows need them.
_DENSE = 2048
#: Spike counts are scaled so that the largest total stays this small: exact integers for the solver.
_SCALE = 1 << 20


@dataclass(frozen=True)
class Place(Pass, name="place", takes="mapped"):
    """Choose the physical core of each logical core so that spikes travel few hops.

    Minimises the sum over core pairs of spikes a sample times hops, with spikes counted on sample data (or one
    a neuron where there is none, which the report says). Populations that a ``place`` statement puts on certain
    cores get those. Notes objective, proven bound and gap in the module.

        before: %2.p0 = map.neurons(%2) {..., core=0, ...}
        after:  %2.p0 = map.neurons(%2) {..., core=17, ...}
    """

    data: str = ""
    limit: int = 16
    raw: bool = False
    effort: Literal["fast", "normal", "best"] = "normal"
    seed: int = 0
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})
    hint: Homes | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})

    def run(self, module: Module) -> Module:
        """Place and note how good it is."""
        target = resolve(module.attr("target", ""))
        spikes, counted = self._spikes(module)
        demands = traffic(module, target, spikes)
        at, pinned = coordinates(target), pins(module, target)
        found = self._found(demands, at, pinned)
        warm: dict[str, Any] = {}
        if self.hint is not None:
            kept = kept_sites(module, self.hint, len(at), pinned)
            found, warm = around(found, self._found(demands, at, {**pinned, **kept})), {"kept": len(kept)}
            warm = {"hint": {**warm, "moved": demands.cores - len(kept)}}
        ops = [_placed(op, found.site, demands.sent) for op in module.ops]
        quality = {
            "objective": round(found.objective / demands.scale, 3), "bound": round(found.bound / demands.scale, 3),
            "bound_name": found.bound_name, "gap": round(found.gap, 6), "status": found.status,
            "method": found.method, "spikes": "measured" if counted else "guessed", **warm,
            "bounds": {name: round(bound / demands.scale, 3) for name, bound in found.bounds},
        }  # fmt: skip
        return module.with_ops(ops).with_attrs(placement=quality)

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
            op.source: fit_shape(samples[: self.limit], op.shape)
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
    """

    cores: int
    source: NDArray[np.int64]
    goal: NDArray[np.int64]
    count: NDArray[np.int64]
    scale: float
    sent: Mapping[str, Mapping[int, int]]


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
    return Traffic(cores, ends[:, 0], ends[:, 1], whole, float(factor), rounded)


def coordinates(target: Target) -> NDArray[np.int64]:
    """Tile (x, y) of every core (S, 2); chips lie side by side in a row."""
    wide, high = target.tiles
    if target.positions:
        each = np.array(target.positions, np.int64)
        return np.concatenate([each + (chip * wide, 0) for chip in range(target.chips)])
    tile = (
        np.arange(wide * target.chips * high * target.cores_per_tile, dtype=np.int64) // target.cores_per_tile
    )
    return np.stack(np.divmod(tile, high), axis=1)


def _placed(op: Op, site: tuple[int, ...], sent: Mapping[str, Mapping[int, int]]) -> Op:
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
