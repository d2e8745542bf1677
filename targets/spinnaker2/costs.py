"""Energy and time of event counts, with the costs of ``target.toml`` (assumed: nothing is published for this chip)."""

from __future__ import annotations

from nmc.targets.spinnaker2.cycles import CPI, EVENT, NEURON, SPIKE, TICK
from nmc.targets.spinnaker2.engines.chip import EventCounts
from nmc.targets.spinnaker2.target import chip_data

#: Instructions of events whose PE is not looked at one by one: the middle of what models and formats take.
_UPDATE = sum(sum(pair) for pair in NEURON.values()) / (2 * len(NEURON))
_RECEIVE = sum(SPIKE.values()) / len(SPIKE)
_EVENT = sum(EVENT.values()) / len(EVENT)


def summary(events: EventCounts, samples: int) -> dict[str, float]:
    """Spikes, synaptic events, neuron updates, energy (J), time (s) and late ticks of PEs a sample.

    Energy counts the cycles of all PEs (instructions of ticks, updates, packets and synaptic events) and packets on the
    network on chip; time is steps times the tick, because the chip runs in real time.
    """
    costs, tick = chip_data()["costs"], float(chip_data()["chip"]["tick"]["value"])
    sent = sum(count for (_, pe), count in events.sent.items() if pe >= 0)
    received, synaptic = sum(events.received.values()), sum(events.events.values())
    updates, packets = sum(events.updates.values()), sum(events.packets.values())
    ticks = len(events.updates) * events.steps * events.samples
    instructions = TICK * ticks + _UPDATE * updates + _RECEIVE * received + _EVENT * synaptic
    joules = instructions * CPI * float(costs["cycle"]["energy_j"]) + packets * float(
        costs["packet"]["energy_j"]
    )
    return {
        "spikes_per_sample": sent / samples,
        "synaptic_operations_per_sample": synaptic / samples,
        "neuron_updates_per_sample": updates / samples,
        "energy_per_sample_j": joules / samples,
        "time_per_sample_s": events.steps * tick,
        **{f"late_ticks_{c // 1_000_000}_mhz_per_sample": n / samples for c, n in events.late.items()},
    }
