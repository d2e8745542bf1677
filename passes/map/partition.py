"""Share the neurons out among cores: boxes of populations, under every limit of a core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from math import ceil
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit, fail
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.target import Box, Demand, Target, resolve
from nmc.passes.base import Pass
from nmc.passes.map.merging import (
    MOST,
    Boxed,
    Effort,
    Proved,
    cut_traffic,
    described,
    least_cores,
    less_traffic,
    packed,
    rechosen,
    spikes_between,
)
from nmc.passes.map.parts import Part, written
from nmc.passes.map.pins import pins, places
from nmc.passes.map.recut import least_anyhow, other_tilings
from nmc.passes.map.tiling import best_tiling, excesses, smallest_box

#: What may be done about each limit, in the order of how often it helps.
_REMEDIES = {
    "in_axons": "pool or use a stride before this layer, or insert a smaller layer (a fan-in tree)",
    "synapse_words": "prune, use fewer weight bits (loihi-legalize{bits=4}), pool, or use a stride before this layer",
    "out_axon_words": "fewer targets a neuron: pool, or make the following layer smaller",
    "words_per_axon": "fewer weight bits or fewer targets a neuron",
    "synapse_formats": "fewer projections onto one population",
    "compartments": "fewer neurons, or shorter delays",
    "cx_profiles": "fewer different time constants and refractory times among the neurons",
}


#: Rounds of cutting that a network with loops gets; what has not settled then is checked as it is.
_ROUNDS = 16

#: Resources that depend on the slots a box gets; all others only add up.
_BY_SLOT = ("synapse_words", "words_per_axon")

#: What filling all out-axon words of a core is taken to cost, in cores, one after the other.
_AXON_PRICES = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Partition(Pass, name="partition", takes="snn", gives="mapped"):
    """Cut populations into boxes that fit cores under every limit, and put boxes together where they fit.

    Targets are cut before their sources, because what a source must send depends on where its targets are. The
    tiling with the fewest boxes is taken, among those the one with the fewest in-axons; then boxes share a core
    where all limits and shared registers allow: first fit, and where that is above the bound, by search and CP-SAT
    (`nmc.passes.map.binpack`). Where any cut might do with fewer cores, other tilings are chosen together with the
    packing (`nmc.passes.map.joint`); then boxes change cores where fewer spikes leave a core so. The module's
    ``packing`` says what is proved of the number of cores and of these spikes, one a neuron. A network that cannot fit
    is refused before anything is built, with every binding limit.

        before: %2 = loihi.lif(_, %2.x, ...) : spikes<8x28x28>
        after:  %2.p0 = map.neurons(%2) {box=[0:8, 0:2, 0:28], core=0, slots=0:896} : pop<8x2x28>
                map.synapses(%x.p0, %2.p0, %2.x)
                map.route(%x.p0) {to=[0, 1]}
    """

    target: str = ""
    merge: bool = True
    effort: Effort = "normal"

    def run(self, module: Module) -> Module:
        """Partition, or refuse with every limit that is exceeded."""
        name = self.target or module.attr("target", "")
        if not name:
            raise fail("E0701", "the module names no target; legalise it for one first")
        return partition(module, resolve(name), name, merge=self.merge, effort=self.effort)


def partition(
    module: Module, target: Target, name: str, *, merge: bool = True, effort: Effort | None = None
) -> Module:
    """Partition a module for a target as it is given; `name` is what the attribute ``target`` says from here on.

    Without `effort` populations stay in the fewest equal boxes, and first fit is kept where it takes few cores.
    """
    work = _Partitioner(module, target, places(module, target))
    work.cut_populations()
    cores = work.pack(merge, effort)
    facts = {"target": name, "cores": len(cores), "packing": work.packing}
    mapped = written(module, target, work.parts).with_attrs(**facts)
    pins(mapped, target)  # refuses parts that their place has no room for
    return mapped


#: Demand and shared registers of a core.
_Core = tuple[dict[str, int], tuple[tuple[str, int], ...]]


@dataclass
class _Partitioner:
    """The state of one run of the pass."""

    module: Module
    target: Target
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tiles: dict[str, list[Box]] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    fanout: dict[str, tuple[int, Sequence[Box], Mapping[str, Any]]] = field(default_factory=dict)
    version: int = 0
    admitted: dict[str, tuple[Sequence[Box], bool]] = field(default_factory=dict)
    floor: dict[str, int] = field(default_factory=dict)
    loops: frozenset[str] = frozenset()
    packing: Mapping[str, Any] = field(default_factory=dict)
    refuted: int = 1
    proved: dict[str, int] = field(default_factory=dict)

    def cut_populations(self) -> None:
        """Find the boxes of every population, targets first."""
        populations = self.target.demands.populations(self.module)
        if not populations:
            raise fail("E0701", "the module has no populations of this target; legalise it first")
        for population in populations:
            self._check_smallest(population)
        self.loops = self._looping(populations)
        self._check_total(populations)
        if not self.problems:
            self._cut_all(populations)
        if not self.problems:
            self._check_outgoing(populations)
        if self.problems:
            raise DoesNotFit(self.problems)

    def _cut_all(self, populations: Sequence[Op]) -> None:
        """Cut for few boxes; where that makes sources run out of out-axons, also price axons, and keep the best."""
        found: list[dict[str, list[Box]]] = []
        refused: list[Diagnostic] = []
        for price in _AXON_PRICES:
            self.tiles, self.fanout, self.problems = {}, {}, []
            self._settle(populations, price / self.target.limits.get("out_axon_words", 1 << 30))
            refused = refused or self.problems
            if not self.problems:
                found.append(self.tiles)
                if all(len(self.tiles[op.out]) <= self.floor[op.out] for op in populations):
                    break  # what comes in asks for as many boxes, whatever is sent
                if len(found) > 1 and _size(found[-1]) >= min(map(_size, found[:-1])):
                    break  # a higher price helps no more
        self.fanout = {}
        self.problems = [] if found else refused
        if found:
            self.tiles = min(found, key=_size)

    def _settle(self, populations: Sequence[Op], per_axon: float) -> None:
        """Cut all populations, targets first; where loops leave no such order, again until nothing changes.

        What a population sends is first counted without the boxes that are not known yet, so the number of boxes can
        only grow from one round to the next, and the rounds come to an end.
        """
        for _ in range(_ROUNDS):
            before = dict(self.tiles)
            for population in reversed(populations):
                self._cut(population, per_axon, len(before.get(population.out, ())))
            if self.problems or not self.loops or self.tiles == before:
                return

    def _looping(self, populations: Sequence[Op]) -> frozenset[str]:
        """Populations that send to themselves or to one that is cut after them."""
        order = {op.out: index for index, op in enumerate(populations)}
        demands = self.target.demands
        found = set()
        for index, population in enumerate(populations):
            for via in demands.projections(self.module, population):
                source = demands.source_of(self.module, via).out
                if via is not population and order.get(source, -1) >= index:
                    found.add(source)
        return frozenset(found)

    def _fewest(self, population: Op) -> int:
        """Boxes that the compartments alone ask for, or the cycles of a tick where these are limited."""
        neurons = population.result.type.size * self._per_neuron(population)
        least = max(1, ceil(neurons / self.target.limits["compartments"]))
        if budget := self.target.limits.get("tick_cycles"):
            whole = tuple(Span(0, extent) for extent in population.result.shape)
            cycles = self.target.demands.incoming(self.module, population, whole).get("tick_cycles", 0)
            least = max(least, ceil(cycles / budget))
        return least

    def _demand(self, population: Op, box: Box, slot: int = 0, tiling: Sequence[Box] | None = None) -> Demand:
        """Demand of a box; `tiling` is how its own population is cut, if not as noted.

        In a tiling that does not fit for what comes in already nobody is asked what they send.
        """
        incoming = self.target.demands.incoming(self.module, population, box, slot)
        if tiling is not None and not self._admits(population, tiling, incoming):
            return incoming
        cut = tuple(span.slice() for span in box)
        own = self.tiles.get(population.out, ()) if tiling is None else tiling
        sent = {name: int(each[cut].sum()) for name, each in self._outgoing(population, own).items()}
        return {**incoming, **sent}

    def _admits(self, population: Op, tiling: Sequence[Box], first: Demand) -> bool:
        """Whether all boxes fit for what comes in; `first` is the demand of the one that is asked for first."""
        known, fits = self.admitted.get(population.out, ((), False))
        if known is not tiling:
            limits, incoming = self.target.limits, self.target.demands.incoming
            fits = not excesses(first, limits) and not any(
                excesses(incoming(self.module, population, box), limits) for box in tiling
            )
            self.admitted[population.out] = tiling, fits
            if fits:
                least = self.floor.get(population.out, len(tiling))
                self.floor[population.out] = min(least, len(tiling))
        return fits

    def _outgoing(self, population: Op, own: Sequence[Box]) -> Mapping[str, Any]:
        """What each neuron takes to reach the boxes known so far; counted again when they are others."""
        own = own if population.out in self.loops else ()
        version, last, found = self.fanout.get(population.out, (-1, own, {}))
        if version != self.version or last is not own:
            tiles = {**self.tiles, population.out: own}
            targets = [(name, other) for name, boxes in tiles.items() for other in boxes]
            found = self.target.demands.outgoing(self.module, population, targets)
            self.fanout[population.out] = self.version, own, found
        return found

    def _check_smallest(self, population: Op) -> None:
        box = smallest_box(population.result.shape)
        demands = self.target.demands
        if excesses(demands.incoming(self.module, population, box), self.target.limits):
            every = demands.incoming(self.module, population, box, structure=True)
            self._tell(population, every, "one neuron alone takes", "on any split")

    def _check_total(self, populations: Sequence[Op]) -> None:
        """Refuse at once what takes more neurons than all cores have, however it is cut."""
        limit = self.target.limits["compartments"]
        takes = {op.out: op.result.type.size * self._per_neuron(op) for op in populations}
        least = ceil(sum(takes.values()) / limit)
        if least > self.target.cores:
            per = ", ".join(f"%{name}: {-(-amount // limit)}" for name, amount in takes.items())
            self.problems.append(self._too_many(f"at least {least}", per))

    def _per_neuron(self, population: Op) -> int:
        box = smallest_box(population.result.shape)
        return self.target.demands.incoming(self.module, population, box)["compartments"]

    def _tell(self, population: Op, demand: Demand, who: str, rider: str) -> bool:
        over = excesses(demand, self.target.limits)
        for item in over:
            source = self.target.sources.get(item.resource, "")
            message = (
                f"%{population.out}: {who} {item.amount:,} of {item.limit:,} {item.resource.replace('_', ' ')} "
                f"of a core {rider} ({item.ratio:.1f} times the limit; source: {source})"
            )
            hint = _REMEDIES.get(item.resource, "make the layer smaller")
            self.problems.append(Diagnostic("E0710", message, where=str(population.loc or ""), hint=hint))
        return bool(over)

    def _cut(self, population: Op, per_axon: float, before: int) -> None:
        """Find the boxes of a population, at least as many as it had `before`."""
        shape = population.result.shape
        limits, whole = self.target.limits, tuple(Span(0, extent) for extent in shape)
        first = max(self._fewest(population), before)
        most = max(4 * self.target.cores, first)
        found = best_tiling(
            shape, lambda box, tiling: self._demand(population, box, 0, tiling), limits, most, first, per_axon
        )
        if found is None:
            rider = f"however it is cut in up to {most} boxes"
            least = self._demand(population, smallest_box(shape))
            told = self._tell(population, least, "one neuron alone takes", rider)
            if not told and not self._tell(population, self._demand(population, whole), "it takes", rider):
                message = f"%{population.out} fits no core {rider}"
                self.problems.append(Diagnostic("E0710", message, where=str(population.loc or "")))
        else:
            self.version += self.tiles.get(population.out) != found
            self.tiles[population.out] = found

    def _check_outgoing(self, populations: Any) -> None:
        """Count out-axons again with all boxes known (a loop makes a population send to one cut after it)."""
        for population in populations:
            for box in self.tiles[population.out]:
                self._tell(
                    population, self._demand(population, box), "a box of it takes", "with all targets placed"
                )

    def pack(self, merge: bool, effort: Effort | None = None) -> list[Demand]:
        """Put the boxes on as few cores as are found; sets `parts` and `packing` and gives each core's demand."""
        cores = self._first_fit(merge)
        populations = self.target.demands.populations(self.module)
        anyhow = least_anyhow(self.module, self.target, {op.out: self._shared(op) for op in populations})
        if merge and len(cores) > max(least_cores(self._boxes(), self.target).values()):
            cores = self._packed(cores)
        if merge and effort and len(cores) > max(anyhow.values()) and _size(self.tiles) <= MOST:
            cores = self._recut(cores, effort)
        if merge and effort and 1 < len(cores) < _size(self.tiles):
            cores = self._with_less_traffic(cores, effort)
        if len(cores) > self.target.cores:
            per = ", ".join(f"%{name}: {len(found)}" for name, found in reversed(self.tiles.items()))
            full = ", ".join(
                f"%{name} by {self._fullest(name, found[0])}" for name, found in reversed(self.tiles.items())
            )
            raise DoesNotFit(self._too_many(str(len(cores)), per, f"; limited: {full}"))
        known = Proved(anyhow, self.refuted, **self.proved)
        self.packing = described(self._boxes(), len(cores), self.target, merge, known)
        return [demand for demand, _ in cores]

    def _boxes(self) -> list[Boxed]:
        """All boxes in program order, each with what it takes at least and the registers it needs."""
        found = []
        for population in self.target.demands.populations(self.module):
            shared = self._shared(population)
            for box in self.tiles[population.out]:
                least = self._least(population, box, self.tiles[population.out])
                found.append(Boxed(population, box, least, shared))
        return found

    def _least(self, population: Op, box: Box, tiling: Sequence[Box]) -> Demand:
        """What a box of a tiling that fits takes at least, whatever its first slot is."""
        demand = self._demand(population, box, 0, tiling)
        return {**demand, **self.target.demands.least(self.module, population, box)}

    def _shared(self, population: Op) -> tuple[tuple[str, int], ...]:
        places = tuple(("place", number) for number in self.places.get(population.out, ()))
        return self.target.demands.shared(self.module, population) + places

    def _first_fit(self, merge: bool) -> list[_Core]:
        cores: list[_Core] = []
        for population in self.target.demands.populations(self.module):
            shared = self._shared(population)
            for box in self.tiles[population.out]:
                core = self._fitting(cores, population, box, shared) if merge else None
                self._put(cores, population, box, shared, len(cores) if core is None else core)
        return cores

    def _put(self, cores: list[_Core], population: Op, box: Box, shared: Any, core: int) -> None:
        """Add a box behind what its core holds; the next number opens a core."""
        if core == len(cores):
            cores.append(({}, shared))
        slot = cores[core][0].get("compartments", 0)
        cores[core] = (self._sum(cores[core][0], population, box), shared)
        self.parts.append(Part(population.out, box, core, slot))

    def _packed(self, first: list[_Core]) -> list[_Core]:
        """Cores of the packing that search finds, if they are fewer and hold with the slots that boxes get there."""
        chosen, self.refuted = packed(self._boxes(), len(first), self.target)
        return first if chosen is None else self._assigned(chosen) or first

    def _assigned(self, chosen: Sequence[int]) -> list[_Core]:
        """Cores with the boxes as they are chosen for them; none where that does not hold with the slots they get."""
        before, cores = self.parts, list[_Core]()
        self.parts = []
        number: dict[int, int] = {}
        for boxed, core in zip(self._boxes(), chosen, strict=True):
            place = number.setdefault(core, len(number))
            self._put(cores, boxed.population, boxed.box, boxed.shared, place)
        if any(excesses(used, self.target.limits) for used, _ in cores):
            self.parts = before
            return []
        return cores

    def _recut(self, cores: list[_Core], effort: Effort) -> list[_Core]:
        """Cores with other tilings, where these take fewer; what is proved of the others."""
        offers = {name: self._offered(name) for name in self.tiles}
        for sent in (
            False,
            True,
        ):  # at first without what depends on the tilings of others: what is refuted stays so
            bound, tiles, chosen = rechosen(self._boxes(), self._cores(), offers, self._summed(sent), effort)
            if not sent:
                self.proved["tilings"] = bound
            if len(set(chosen)) >= len(cores):
                break
            before, self.tiles = self.tiles, {name: tiles[name] for name in self.tiles}
            self.version += 1
            self.fanout = {}
            if found := self._assigned(chosen):
                self.refuted = bound
                return found
            self.tiles, self.fanout = before, {}
            self.version += 1
        return cores

    def _cores(self) -> list[int]:
        """The core of each part, in program order."""
        return [part.core for part in self.parts]

    def _summed(self, sent: bool) -> Mapping[str, int]:
        """Capacities of which demands add up; with or without what is sent."""
        population = self.target.demands.populations(self.module)[0]
        known = self.target.demands.incoming(self.module, population, smallest_box(population.result.shape))
        largest = self.target.combined_by_max
        return {
            name: most
            for name, most in self.target.limits.items()
            if name not in largest and (sent or name in known)
        }

    def _offered(self, name: str) -> list[tuple[list[Box], list[Demand]]]:
        """Tilings of a population that fit, each with the demands of its boxes."""
        population, limits = self.module.producers[name], self.target.limits

        def demands(tiling: Sequence[Box]) -> list[Demand]:
            return [self._least(population, box, tiling) for box in tiling]

        def fits(tiling: Sequence[Box]) -> bool:
            return not any(excesses(self._demand(population, box, 0, tiling), limits) for box in tiling)

        return [
            (found, demands(found))
            for found in other_tilings(population.result.shape, self.tiles[name], fits)
        ]

    def _with_less_traffic(self, cores: list[_Core], effort: Effort) -> list[_Core]:
        """Cores with fewer spikes between them, if such are found and no more; notes how many and what is proved."""
        boxes = self._boxes()
        between = spikes_between(self.module, self.target, boxes)
        chosen, bound = less_traffic(boxes, self._cores(), between, self.target, effort)
        better = (self._assigned(chosen) if chosen else []) or cores
        self.proved |= {"traffic": cut_traffic(self._cores(), between)}
        self.proved |= {"traffic_bound": bound.get(len(better), 0)}
        return better

    def _sum(self, used: Mapping[str, int], population: Op, box: Box) -> dict[str, int]:
        more = self._demand(population, box, used.get("compartments", 0))
        largest = self.target.combined_by_max
        names = dict.fromkeys([*used, *more])
        return {
            name: max(used.get(name, 0), more.get(name, 0))
            if name in largest
            else used.get(name, 0) + more.get(name, 0)
            for name in names
        }

    def _fitting(self, cores: Any, population: Op, box: Box, shared: Any) -> int | None:
        skipped = {*_BY_SLOT, *self.target.combined_by_max}
        alone = {k: v for k, v in self._demand(population, box).items() if k not in skipped}
        limits = self.target.limits
        for index, (used, registers) in enumerate(cores):
            fits = registers == shared and all(
                used.get(k, 0) + v <= limits.get(k, 1 << 62) for k, v in alone.items()
            )
            if fits and not excesses(self._sum(used, population, box), self.target.limits):
                return index
        return None

    def _fullest(self, name: str, box: Box) -> str:
        """The resource that a box takes most of, with the numbers."""
        limits = self.target.limits
        takes = self._demand(self.module.producers[name], box)
        shares = {k: v / limits[k] for k, v in takes.items() if limits.get(k, 1) > 1}
        most = max(shares, key=lambda k: shares[k], default="")
        return (
            f"{most.replace('_', ' ')} ({takes[most]:,} of {limits[most]:,} in its first box)"
            if most
            else "its boxes"
        )

    def _too_many(self, needed: str, boxes: str, more: str = "") -> Diagnostic:
        message = f"the network takes {needed} of {self.target.cores} cores ({boxes} boxes{more})"
        hint = f'make layers smaller, or allow more chips (a TOML file with base = "{self.target.name}" and chips = 2)'
        return Diagnostic("E0711", message, hint=hint)


def _size(tiles: Mapping[str, Sequence[Box]]) -> int:
    """Boxes of all populations."""
    return sum(map(len, tiles.values()))
