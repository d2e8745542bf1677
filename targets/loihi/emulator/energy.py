"""Event counts of a run, and what they cost by the figures of `target.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.loihi.emulator.load import CoreProgram, Program
from nmc.targets.loihi.layout import CORES_PER_CHIP, Ints

SYNAPSE_CLASSES = ("synapse_dense", "synapse_sparse", "synapse_conv")


@dataclass(frozen=True, eq=False)
class EventCounts:
    """Events of all samples and steps of a run; arrays are int64 over the cores of the image.

    Attributes
    ----------
    samples, steps : int
    cores : core numbers
    spikes : spikes that compartments fired
    synaptic_events : (cores, 3): synapses read, in dense entries, sparse entries, shared (population)
    in-axons axon_in : spike messages that in-axons received
    messages : spike messages sent
    host_messages : spikes that the host injected, by receiving core
    neuron_updates : compartment updates
    hops_east_west, hops_north_south : router hops of messages between cores of one chip
    chip_messages : messages to another chip
    """

    samples: int
    steps: int
    cores: Ints
    spikes: Ints
    synaptic_events: Ints
    axon_in: Ints
    messages: Ints
    host_messages: Ints
    neuron_updates: Ints
    hops_east_west: int
    hops_north_south: int
    chip_messages: int


def add_events(one: EventCounts, other: EventCounts) -> EventCounts:
    """Sum the events of two runs of one image over the same number of steps."""
    kept = ("cores", "steps")
    sums = {f.name: getattr(one, f.name) + getattr(other, f.name) for f in fields(one) if f.name not in kept}
    return replace(one, **sums)


class Tally:
    """Collects the events of a run."""

    def __init__(self, program: Program) -> None:
        self._cores = program.cores
        self._spikes = [np.zeros(c.cx.cx.size, np.int64) for c in program.cores]
        self._arrivals = [np.zeros(c.axons.axon.size, np.int64) for c in program.cores]
        self._host = np.zeros(len(program.cores), np.int64)

    def count(self, core: int, arrivals: Ints | None, spikes: NDArray[np.bool_] | None) -> None:
        """Add one step of one core: spikes per in-axon row, fired spikes (compartments, samples)."""
        if arrivals is not None:
            self._arrivals[core] += arrivals
        if spikes is not None:
            self._spikes[core] += np.count_nonzero(spikes, axis=1)

    def host(self, core: int, sent: int) -> None:
        """Add spikes that the host injected into a core."""
        self._host[core] += sent

    def events(self, samples: int, steps: int) -> EventCounts:
        """Sum up."""
        traffic = [_traffic(c, s) for c, s in zip(self._cores, self._spikes, strict=True)]
        columns = np.array(traffic, np.int64).reshape(-1, 4)
        updates = [c.cx.cx.size * samples * steps for c in self._cores]
        synapses = [a @ c.synapse_kinds for a, c in zip(self._arrivals, self._cores, strict=True)]
        return EventCounts(
            samples=samples,
            steps=steps,
            cores=np.array([c.core for c in self._cores], np.int64),
            spikes=np.array([s.sum() for s in self._spikes], np.int64),
            synaptic_events=np.array(synapses, np.int64).reshape(-1, 3),
            axon_in=np.array([a.sum() for a in self._arrivals], np.int64),
            messages=columns[:, 0],
            host_messages=self._host.copy(),
            neuron_updates=np.array(updates, np.int64),
            hops_east_west=int(columns[:, 1].sum()),
            hops_north_south=int(columns[:, 2].sum()),
            chip_messages=int(columns[:, 3].sum()),
        )


def _traffic(core: CoreProgram, spikes: Ints) -> tuple[int, int, int, int]:
    """Count messages, east-west hops, north-south hops and chip crossings that these spikes caused.

    Tile of core id: x = id // 16, y = (id % 16) // 4 (facts 1). Hops are counted within a chip only.
    """
    m = core.messages
    times = spikes[m.source]
    here, there = core.core % CORES_PER_CHIP, m.core % CORES_PER_CHIP
    away = m.core // CORES_PER_CHIP != core.core // CORES_PER_CHIP
    east_west = np.where(away, 0, np.abs(there // 16 - here // 16))
    north_south = np.where(away, 0, np.abs(there % 16 // 4 - here % 16 // 4))
    return int(times.sum()), int(times @ east_west), int(times @ north_south), int(times @ away)


@dataclass(frozen=True)
class Cost:
    """Energy in joules and latency in seconds of one event."""

    energy_j: float
    latency_s: float


@cache
def load_costs() -> Mapping[str, Cost]:
    """Read the event costs of `target.toml`."""
    text = Path(__file__).parents[1].joinpath("target.toml").read_text(encoding="utf-8")
    return {name: Cost(c["energy_j"], c["latency_s"]) for name, c in tomllib.loads(text)["costs"].items()}


@dataclass(frozen=True)
class EnergyReport:
    """Dynamic energy of all samples of a run in joules, and a lower bound of its time.

    Attributes
    ----------
    synapse, soma, network : float
        Parts as SANA-FE names them: synapses read; accesses, updates and spikes of neurons; messages and
        hops.
    time_s : float
        Busy time of the busiest core plus one barrier per step, all samples one after the other. It is a
        lower bound: the busiest core may change from step to step, and traffic jams are not modelled.
    """

    synapse: float
    soma: float
    network: float
    time_s: float

    @property
    def total(self) -> float:
        """Sum of the parts in joules."""
        return self.synapse + self.soma + self.network


def energy(events: EventCounts, costs: Mapping[str, Cost] | None = None) -> EnergyReport:
    """Price the events of a run.

    Parameters
    ----------
    events : EventCounts
    costs : mapping of str to Cost, optional
        Default: `load_costs()`.
    """
    cost = load_costs() if costs is None else costs
    per_class = events.synaptic_events.sum(axis=0)
    synapse = sum(int(n) * cost[name].energy_j for n, name in zip(per_class, SYNAPSE_CLASSES, strict=True))
    updates, spikes = int(events.neuron_updates.sum()), int(events.spikes.sum())
    soma = updates * (cost["neuron_access"].energy_j + cost["neuron_update"].energy_j)
    soma += spikes * cost["spike_out"].energy_j
    network = int(events.messages.sum() + events.host_messages.sum()) * cost["message_out"].energy_j
    network += events.hops_east_west * cost["hop_east_west"].energy_j
    network += events.hops_north_south * cost["hop_north_south"].energy_j
    return EnergyReport(synapse, soma, network, _time(events, cost))


def _time(events: EventCounts, cost: Mapping[str, Cost]) -> float:
    busy = sum(
        events.synaptic_events[:, k] * cost[name].latency_s for k, name in enumerate(SYNAPSE_CLASSES)
    ) + events.neuron_updates * (cost["neuron_access"].latency_s + cost["neuron_update"].latency_s)
    busy = (
        busy + events.spikes * cost["spike_out"].latency_s + events.messages * cost["message_out"].latency_s
    )
    busy = busy + events.axon_in * cost["axon_in"].latency_s
    tiles = np.unique(events.cores // 4).size
    one, many = cost["barrier_one_tile"].latency_s, cost["barrier_29_tiles"].latency_s
    barrier = one + (many - one) * min(max(tiles - 1, 0), 28) / 28
    return float(np.max(busy, initial=0.0)) + events.samples * events.steps * barrier
