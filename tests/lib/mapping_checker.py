"""An independent checker of mappings: it recounts with plain loops and shares no code with the compiler's passes."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np

from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons, Route, Synapses
from nmc.ir.target import resolve


def complaints(module: Module) -> list[str]:
    """What is wrong with a placed (and maybe allocated) module, in words; empty for a lawful mapping."""
    parts = {part.out: part for part in module.of_type(Neurons)}
    return [
        *_covered(parts),
        *_slots(module, parts),
        *_routes(module, parts),
        *_memories(module, parts),
        *_told(module),
    ]


def _covered(parts: dict[str, Neurons]) -> list[str]:
    """Every neuron lies in exactly one box of its population."""
    times: dict[str, Any] = {}
    for part in parts.values():
        seen = times.setdefault(part.of.name, np.zeros(part.of.shape, int))
        seen[tuple(slice(span.start, span.stop) for span in part.box)] += 1
    return [
        f"%{name}: neurons in {set(seen.flat)} boxes" for name, seen in times.items() if (seen != 1).any()
    ]


def _slots(module: Module, parts: dict[str, Neurons]) -> list[str]:
    """Cores exist, and no compartment belongs to two neurons."""
    target, used, found = resolve(module.attr("target", "")), defaultdict(list), []
    for part in parts.values():
        if part.core == HOST:
            continue
        used[part.core].append((part.slots.start, part.slots.stop, part.out))
        if not 0 <= part.core < target.cores:
            found.append(f"%{part.out} on core {part.core} of {target.cores}")
    for core, spans in used.items():
        spans.sort()
        found += [
            f"core {core}: %{b} over %{a}" for (_, end, a), (begin, _, b) in pairwise(spans) if begin < end
        ]  # fmt: skip
        if spans[-1][1] > target.limits.get("compartments", 1 << 62):
            found.append(f"core {core} has {spans[-1][1]} compartments")
    return found


def _routes(module: Module, parts: dict[str, Neurons]) -> list[str]:
    """Spikes of a part go to the cores that have synapses for them, and only there."""
    goals: dict[str, set[int]] = defaultdict(set)
    for link in module.of_type(Synapses):
        goals[link.source.name].add(parts[link.target.name].core)
    found = []
    for route in module.of_type(Route):
        if set(route.to) != goals.pop(route.source.name, set()) or len(set(route.to)) != len(route.to):
            found.append(f"route of %{route.source.name} goes to {route.to}")
    if module.of_type(Route):
        found += [f"no route of %{name} to {sorted(cores)}" for name, cores in goals.items() if cores]
    return found


def _memories(module: Module, parts: dict[str, Neurons]) -> list[str]:
    """Axons of one core never overlap; synapse memory is one projection's alone, whose sources may share it."""
    axons, words, found = defaultdict(list), defaultdict(set), []
    for link in module.of_type(Synapses):
        core = parts[link.target.name].core
        axons[core].append((link.axons.start, link.axons.stop))
        words[core].add((link.mem.start, link.mem.stop, link.target.name, link.via.name))
    for what, spans in (("axons", axons), ("memory", {core: list(kept) for core, kept in words.items()})):
        for core, listed in spans.items():
            real = sorted(span for span in listed if span[0] < span[1])
            if any(after[0] < before[1] for before, after in pairwise(real)):
                found.append(f"core {core}: {what} overlap")
    return found


def _told(module: Module) -> list[str]:
    """The notes on the placement agree with one another."""
    note = module.attr("placement")
    if "objective" not in (note or {}):  # not placed, or by lot
        return []
    proved = note["bound"] >= note["objective"]
    wrong = note["bound"] > note["objective"] or (note["status"] == "optimal") != proved
    return [f"placement notes {note}"] if wrong else []
