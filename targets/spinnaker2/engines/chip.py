"""What all engines share: the loaded PEs, the way of every key through the routers, and the results of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.ops.mapped import slot_order
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2.layout import ChipImage, InputMap, OutputMap, Part, PopMap, Route
from nmc.targets.spinnaker2.load import MAX_UNFOLDED, LoadedPe, load

if TYPE_CHECKING:
    from nmc.targets.spinnaker2.engines.ticks import Ticks

Array = NDArray[Any]
Place = tuple[int, int]
_KEYS = 1 << 32
#: Keys of all sources together; a chip has 152 PEs of at most 4,096 neurons, and inputs.
MAX_KEYS = 1 << 24
#: Synapses a PE, on average, that shared kernels may stand for, on top of what one PE may have.
UNFOLDED_PE = 1 << 18


@dataclass(frozen=True, eq=False)
class Source:
    """A part of an input or population that sends: neuron i is element ``index[i]`` of the (row-major) population."""

    name: str
    part: Part
    index: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Neurons."""
        return int(self.index.size)

    @cached_property
    def where(self) -> slice | NDArray[np.int64]:
        """`index`, as a slice where its elements are neighbours."""
        first = int(self.index[0])
        whole = np.array_equal(self.index, np.arange(first, first + self.size))
        return slice(first, first + self.size) if whole else self.index

    @property
    def place(self) -> Place:
        """(chip, PE); the PE of an input is -1."""
        return self.part.chip, self.part.pe

    @property
    def keys(self) -> NDArray[np.uint32]:
        """Key of each neuron."""
        return (self.part.key_base + np.arange(self.size)).astype(np.uint32)


@dataclass(frozen=True, eq=False)
class Leg:
    """Neurons `neurons` of a source (all of them where it is None) and the PEs that their spikes reach."""

    neurons: NDArray[np.int64] | None
    targets: tuple[Place, ...]


@dataclass(frozen=True, eq=False)
class LoadedChip:
    """An image ready to run.

    Parameters
    ----------
    image : ChipImage
    pes : mapping of (chip, pe) to LoadedPe
    sources : tuple of Source
        Inputs first, then populations.
    legs : mapping of int to tuple of Leg
        Where the spikes of each source go, by its number.
    """

    image: ChipImage
    pes: Mapping[Place, LoadedPe]
    sources: tuple[Source, ...]
    legs: Mapping[int, tuple[Leg, ...]]


@dataclass(frozen=True, eq=False)
class EventCounts:
    """What happened in a run, over all samples.

    Parameters
    ----------
    samples, steps : int
    sent, received, events, updates, packets : mapping of (chip, pe) to int
        Spikes sent, spikes received (packets from the mailbox), synaptic events (row elements), neuron updates, and
        packets on the network on chip. Inputs count as PE -1.
    fullest : mapping of (chip, pe) to int
        Instructions of the fullest tick, by the counted costs.
    late : mapping of int to int
        By clock (Hz), ticks of PEs that take longer than 1 ms.
    """

    samples: int
    steps: int
    sent: Mapping[Place, int]
    received: Mapping[Place, int]
    events: Mapping[Place, int]
    updates: Mapping[Place, int]
    packets: Mapping[Place, int]
    fullest: Mapping[Place, int]
    late: Mapping[int, int]

    def __add__(self, other: EventCounts) -> EventCounts:
        """Counts of two runs together."""
        return EventCounts(
            self.samples + other.samples, max(self.steps, other.steps), _sum(self.sent, other.sent),
            _sum(self.received, other.received), _sum(self.events, other.events), _sum(self.updates, other.updates),
            _sum(self.packets, other.packets),
            {place: max(self.fullest.get(place, 0), n) for place, n in other.fullest.items()},
            {clock: self.late.get(clock, 0) + n for clock, n in other.late.items()},
        )  # fmt: skip


def _sum(a: Mapping[Place, int], b: Mapping[Place, int]) -> dict[Place, int]:
    return {place: a.get(place, 0) + b.get(place, 0) for place in sorted({*a, *b})}


@dataclass(frozen=True, eq=False)
class RunResult:
    """Results of a run.

    Parameters
    ----------
    outputs : mapping of str to array
        By output: (B, *shape) float64, or (B, T, *shape) for outputs of kind ``spikes``; scaled.
    probes : mapping of str to (B, T, *shape) array
        ``population.spikes`` are payloads (int32), ``population.v`` potentials (int32 or float32); models of the
        user's have their other states by name.
    events : EventCounts
    """

    outputs: Mapping[str, Array]
    probes: Mapping[str, Array]
    events: EventCounts


def load_chip(image: ChipImage) -> LoadedChip:
    """Check an image and find the way of every key.

    Raises
    ------
    NmcError
        E0912 for PE images, E0913 for router files and maps that do not fit them.
    """
    pes: dict[Place, LoadedPe] = {}
    left = MAX_UNFOLDED + UNFOLDED_PE * len(image.pes)
    for pe in image.pes:
        pes[pe.chip, pe.pe] = load(pe)
        left -= sum(entry.target.size for entry in pes[pe.chip, pe.pe].entries)
        if left < 0:
            raise fail("E0913", "the shared kernels stand for more synapses than memory can hold")
    chips = image.grid[0] * image.grid[1]
    if len(pes) != len(image.pes) or any(not _on_chip(place, chips) for place in pes):
        raise fail("E0913", f"PEs are there twice or not on the {chips} chips")
    sources = _sources(image, pes)
    legs = _legs(image, sources, pes)
    return LoadedChip(image, pes, sources, legs)


def _on_chip(place: Place, chips: int) -> bool:
    return 0 <= place[0] < chips and 0 <= place[1] < layout.PES_PER_CHIP


def _sources(image: ChipImage, pes: Mapping[Place, LoadedPe]) -> tuple[Source, ...]:
    found: list[Source] = []
    hosts: set[Place] = set()
    maps: list[InputMap | PopMap] = [*image.inputs, *image.pops]
    for entry in maps:
        size = int(np.prod(entry.shape, dtype=np.int64))
        if not 0 < size <= MAX_KEYS:
            raise fail("E0913", f"{entry.name} has the shape {entry.shape}")
        grid = np.arange(size).reshape(entry.shape)
        for part in entry.parts:
            _check_part(part, entry, pes, image.grid[0] * image.grid[1], hosts)
            index = slot_order(grid[tuple(span.slice() for span in part.box)])
            found.append(Source(entry.name, part, index))
            if isinstance(entry, PopMap) and pes[part.chip, part.pe].neurons != index.size:
                raise fail(
                    "E0913",
                    f"PE {part.chip}:{part.pe} does not hold the {index.size} neurons of {entry.name}",
                )
    names = [entry.name for entry in maps]
    if len(set(names)) != len(names) or hosts != set(pes):
        raise fail("E0913", "PEs without a population, or two populations of one name")
    return tuple(found)


def _check_part(part: Part, entry: Any, pes: Mapping[Place, LoadedPe], chips: int, hosts: set[Place]) -> None:
    where = f"{entry.name} on PE {part.chip}:{part.pe}"
    inside = len(part.box) == len(entry.shape) and all(
        0 <= span.start < span.stop <= extent for span, extent in zip(part.box, entry.shape, strict=True)
    )
    size = int(np.prod([len(span) for span in part.box], dtype=np.int64))
    if not inside or not 0 <= part.key_base <= _KEYS - size:
        raise fail("E0913", f"{where}: the box or its keys are out of range")
    if isinstance(entry, PopMap):
        place = (part.chip, part.pe)
        if place not in pes or place in hosts or pes[place].key_base != part.key_base:
            raise fail(
                "E0913", f"{where}: no such PE, two populations on it, or another key base than in its image"
            )
        hosts.add(place)
    elif part.pe != -1 or not 0 <= part.chip < chips:
        raise fail("E0913", f"{where}: an input enters at a chip, not at a PE")


def matches(keys: Array, table: Sequence[Route]) -> NDArray[np.int64]:
    """Number of the first entry that matches each key (ascending, distinct), -1 for none."""
    found = np.full(keys.size, -1, np.int64)
    for number in range(len(table) - 1, -1, -1):
        key, mask = table[number].key, table[number].mask
        free = ~mask & 0xFFFFFFFF
        if free & (free + 1) == 0:  # the mask is a prefix: matching keys are neighbours
            low, high = np.searchsorted(keys, [key, key + free + 1])
            found[low:high] = number
        else:
            found[(keys & mask) == key] = number
    return found


def _legs(
    image: ChipImage, sources: Sequence[Source], pes: Mapping[Place, LoadedPe]
) -> dict[int, tuple[Leg, ...]]:
    """Follow all keys from the chips of their sources over the routers."""
    _check_routers(image)
    keys = [source.keys.astype(np.int64) for source in sources]
    if sum(item.size for item in keys) > MAX_KEYS:
        raise fail("E0913", f"{sum(item.size for item in keys):,} keys")
    every = np.sort(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    if (np.diff(every) == 0).any():
        raise fail("E0913", "two neurons have the same key")
    found = {chip: matches(every, table) for chip, table in image.routers.items()}
    legs = {}
    for number, source in enumerate(sources):
        at = np.searchsorted(every, keys[number])
        groups: dict[frozenset[Place], list[int]] = {}
        rows = (
            np.stack([found[chip][at] for chip in image.routers]) if image.routers else np.zeros((0, at.size))
        )
        unique, inverse = np.unique(rows, axis=1, return_inverse=True)
        columns = [dict(zip(image.routers, column.tolist(), strict=True)) for column in unique.T]
        ends = [_follow(image, source.part.chip, column) for column in columns]
        for i, column in enumerate(np.asarray(inverse).reshape(-1).tolist()):
            groups.setdefault(ends[column], []).append(i)
        legs[number] = tuple(
            _leg(source, places, neurons, pes) for places, neurons in groups.items() if places
        )
    return legs


def _check_routers(image: ChipImage) -> None:
    chips = image.grid[0] * image.grid[1]
    for chip, table in image.routers.items():
        bits = 1 << (layout.LINKS + layout.PES_PER_CHIP)
        wrong = [r for r in table if not (0 <= r.key < _KEYS and 0 <= r.mask < _KEYS and 0 < r.route < bits)]
        if (
            not 0 <= chip < chips
            or len(table) > layout.ROUTER_ENTRIES
            or wrong
            or any(r.key & ~r.mask for r in table)
        ):
            raise fail(
                "E0913", f"the router of chip {chip} has {len(table)} entries; {len(wrong)} are out of range"
            )


def _leg(source: Source, places: frozenset[Place], neurons: list[int], pes: Mapping[Place, LoadedPe]) -> Leg:
    gone = [place for place in places if place not in pes]
    if gone:
        raise fail(
            "E0913",
            f"spikes of {source.name} are routed to PE {gone[0][0]}:{gone[0][1]}, which has no program",
        )
    whole = len(neurons) == source.size
    return Leg(None if whole else np.array(neurons, np.int64), tuple(sorted(places)))


def _follow(image: ChipImage, chip: int, entry: Mapping[int, int]) -> frozenset[Place]:
    """All PEs that a packet reaches; `entry` is the matching router entry of each chip."""
    width, height = image.grid
    reached: set[Place] = set()
    seen: set[int] = set()
    waiting = [chip]
    while waiting:
        here = waiting.pop()
        if here in seen:
            raise fail("E0913", f"the routers send packets of chip {chip} round in circles")
        seen.add(here)
        number = entry.get(here, -1)
        if number < 0:
            continue
        route = image.routers[here][number].route
        reached.update((here, pe) for pe in range(layout.PES_PER_CHIP) if route >> (layout.LINKS + pe) & 1)
        for link, (dx, dy) in enumerate(layout.LINK_STEPS):
            if route >> link & 1:
                x, y = here % width + dx, here // width + dy
                if not (0 <= x < width and 0 <= y < height):
                    raise fail("E0913", f"link {link} of chip {here} leads to no chip")
                waiting.append(y * width + x)
    return frozenset(reached)


def batch_of(chip: LoadedChip, inputs: Mapping[str, Array]) -> int:
    """Samples in the data of a run.

    Raises
    ------
    NmcError
        E0401 for inputs that are missing, of another shape than (B, T, *shape) or no integers.
    """
    for entry in chip.image.inputs:
        if entry.name not in inputs:
            raise fail("E0401", f"no data for input {entry.name}; there is {', '.join(inputs) or 'nothing'}")
        have = inputs[entry.name]
        if have.shape[2:] != entry.shape or have.ndim < 2 or have.dtype.kind not in "iub":
            raise fail(
                "E0401",
                f"input {entry.name} needs integers (samples, steps, {entry.shape}), not {have.shape}",
            )
    sizes = {len(inputs[entry.name]) for entry in chip.image.inputs}
    if len(sizes) > 1:
        raise fail("E0401", f"inputs have different numbers of samples: {sorted(sizes)}")
    return sizes.pop() if sizes else 1


class Recorder:
    """Collects payloads and potentials of a batch for outputs and probes."""

    def __init__(self, chip: LoadedChip, batch: int, steps: int, probes: Sequence[str]) -> None:
        self._chip, self._batch, self._steps = chip, batch, steps
        self._pops = {pop.name: pop for pop in chip.image.pops}
        self._arrays: dict[str, Array] = {}
        self.spikes: dict[str, Array] = {}
        self.v: dict[tuple[str, int], Array] = {}  # by population and number of the state
        self.last: dict[str, Array] = {}
        self.totals: dict[tuple[str, int], Array] = {}  # by population and first step that counts
        for probe in probes:
            name, _, what = probe.rpartition(".")
            if name not in self._pops or what not in ("spikes", *self._states(name)):
                known = ", ".join(f"{n}.{w}" for n in self._pops for w in ("spikes", *self._states(n)))
                raise fail("E0540", f"there is no probe {probe!r}", hint=f"probes: {known}")
            self._want(name, what)
        for output in chip.image.outputs:
            if output.population not in self._pops:
                raise fail(
                    "E0913", f"output {output.name} reads {output.population!r}, which is no population"
                )
            self._want(output.population, {"v": "last", "count": "totals", "spikes": "spikes"}[output.kind],
                       output.first_step)  # fmt: skip
        self.probes = tuple(probes)

    def _states(self, name: str) -> dict[str, int]:
        """What the states of a population are called, with their numbers."""
        part = self._pops[name].parts[0]
        count = len(self._chip.pes[part.chip, part.pe].state) if self._pops[name].states else 1
        own = {item: k for k, item in enumerate(self._pops[name].states[:count]) if item}
        return {"v": 0, **{item: k for item, k in own.items() if item not in ("v", "spikes")}}

    def _want(self, name: str, what: str, first: int = 0) -> None:
        shape, dtype = self._pops[name].shape, self._v_dtype(name)
        size = int(np.prod(shape))
        if what == "spikes":
            self.spikes[name] = np.zeros((self._batch, self._steps, size), np.int32)
        elif what == "last":
            self.last[name] = np.zeros((self._batch, size), dtype)
        elif what != "totals":
            self.v[name, self._states(name)[what]] = np.zeros((self._batch, self._steps, size), dtype)
        else:
            self.totals[name, first] = np.zeros((self._batch, size), np.int64)

    def _v_dtype(self, name: str) -> Any:
        part = self._pops[name].parts[0]
        return self._chip.pes[part.chip, part.pe].state["v"].dtype

    def wanted(self, name: str, t: int) -> list[int]:
        """Numbers of the states of a population (0 is the potential) that are asked for after step `t`."""
        found = [number for population, number in self.v if population == name]
        return [0, *found] if 0 not in found and name in self.last and t == self._steps - 1 else found

    def needs_spikes(self, name: str) -> bool:
        """Whether the payloads of a population are asked for."""
        return name in self.spikes or any(name == counted for counted, _ in self.totals)

    def add_spikes(self, source: Source, t: int, samples: slice | int, payloads: Array) -> None:
        """Note what the neurons of a source send in step `t`."""
        name = source.name
        if name in self.spikes:
            self.spikes[name][samples, t, source.where] = payloads
        for (counted, first), total in self.totals.items():
            if counted == name and t >= first:
                total[samples, source.where] += payloads

    def add_sample(self, source: Source, sample: int, payloads: Array) -> None:
        """Note what the neurons of a source send in all steps (T, neurons) of a sample."""
        if source.name in self.spikes:
            self.spikes[source.name][sample][:, source.where] = payloads
        for (counted, first), total in self.totals.items():
            if counted == source.name:
                total[sample, source.where] += payloads[first:].sum(axis=0)

    def add_state(self, source: Source, t: int, samples: slice | int, number: int, v: Array) -> None:
        """Note a state after step `t`."""
        if (source.name, number) in self.v:
            self.v[source.name, number][samples, t, source.where] = v
        if source.name in self.last and number == 0 and t == self._steps - 1:
            self.last[source.name][samples, source.where] = v

    def result(self, events: EventCounts) -> RunResult:
        """Put everything together."""
        outputs = {output.name: self._output(output) for output in self._chip.image.outputs}
        probes = {}
        for probe in self.probes:
            name, _, what = probe.rpartition(".")
            data = self.spikes[name] if what == "spikes" else self.v[name, self._states(name)[what]]
            probes[probe] = data.reshape(self._batch, self._steps, *self._pops[name].shape)
        return RunResult(outputs, probes, events)

    def _output(self, output: OutputMap) -> Array:
        shape = self._pops[output.population].shape
        name = output.population
        if output.kind == "count":
            data = self.totals[name, output.first_step]
        else:
            data = self.last[name] if output.kind == "v" else self.spikes[name]
        lead = data.shape[:-1]
        scaled: Array = data.astype(np.float64).reshape(*lead, *shape) * output.scale
        return scaled


def count_events(
    chip: LoadedChip, totals: Mapping[int, Sequence[Array]], samples: int, steps: int, ticks: Ticks
) -> EventCounts:
    """Count events from the number of spikes of each neuron of each source, over all samples and steps.

    Spikes of the last step are sent, and not received any more; `totals` holds (sent, received) pairs of arrays.
    """
    sent: dict[Place, int] = {}
    received, events = dict.fromkeys(chip.pes, 0), dict.fromkeys(chip.pes, 0)
    packets: dict[Place, int] = {}
    for number, source in enumerate(chip.sources):
        out, arrived = totals[number]
        sent[source.place] = sent.get(source.place, 0) + int(out.sum())
        noc = len(chip.pes[source.place].image.regions["routing"]) - 1 if source.place in chip.pes else 0
        packets[source.place] = packets.get(source.place, 0) + int(out.sum()) * noc
        for leg in chip.legs[number]:
            neurons = np.arange(source.size) if leg.neurons is None else leg.neurons
            for place in leg.targets:
                received[place] += int(arrived[neurons].sum())
                for row, entry, match in links(chip.pes[place], source.keys[neurons]):
                    events[place] += int((arrived[neurons[match]] * entry.row_lengths()[row]).sum())
    updates = {place: pe.neurons * steps * samples for place, pe in chip.pes.items()}
    return EventCounts(
        samples, steps, sent, received, events, updates, packets, dict(ticks.fullest), dict(ticks.late)
    )


def links(pe: LoadedPe, keys: NDArray[np.uint32]) -> list[tuple[Array, Any, Array]]:
    """For each entry of a PE that some keys match: row of each matching key, the entry, and which keys match."""
    found = []
    wide = keys.astype(np.int64)
    low, high = pe.key_ranges
    near = np.flatnonzero((low <= wide.max(initial=0)) & (high >= wide.min(initial=_KEYS)))
    for entry in (pe.entries[k] for k in near.tolist()):
        row = ((wide & ~entry.mask) - entry.first) & 0xFFFFFFFF
        match = np.flatnonzero(((wide & entry.mask) == entry.key) & (row < entry.count))
        if match.size:
            found.append((row[match], entry, match))
    return found
