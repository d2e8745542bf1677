"""The network while statements are executed, and the module that it becomes."""

from __future__ import annotations

from dataclasses import field
from functools import reduce
from heapq import heappop, heappush
from typing import Any

import numpy as np

from nmc.frontends.snn.models import Header
from nmc.frontends.snn.problems import Fault
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import Population
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.ir.ops.plastic import Plastic
from nmc.ir.ops.user import User
from nmc.ir.record import Record
from nmc.ir.types import Type


@dataclass
class Network:
    """Everything that statements have added so far."""

    header: Header
    pops: dict[str, Population] = field(default_factory=dict)
    sources: list[tuple[Population, list[Op]]] = field(default_factory=list)
    outputs: list[snn.Output] = field(default_factory=list)
    projections: int = 0
    neurons: int = 0
    hints: dict[str, str] = field(default_factory=dict)
    probes: dict[str, dict[str, Any]] = field(default_factory=dict)
    decoders: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def loc_of(pos: Pos) -> Loc:
    """Place of a statement as ops keep it."""
    return Loc(pos.file, f"{pos.line}:{pos.column}")


def result_of(pop: Population) -> Value:
    """What a population sends out, known before its op is."""
    if pop.is_input:
        value: Value = pop.out
        return value
    return Value(pop.name, Type(pop.sends, pop.shape))


def build(network: Network, problems: Any) -> Module:
    """Order the populations and make the module.

    Parameters
    ----------
    network : Network
        What the statements made.
    problems : Problems
        Collects E0383: loops without a delay.
    """
    ops: list[Op] = [op for _, made in network.sources for op in made]
    for pop in _ordered(network, problems):
        ops += _population(pop)
    ops += network.outputs
    header = network.header
    # Every projection says its delay itself, so that the record's own two are the plain ones.
    exact = header.integrator == "exact"
    record = Record(header.dt, "exact" if exact else "euler", drive="delta", reset="zero")
    module = Module(header.name, "snn", tuple(ops))
    return module.with_attrs(
        dt=header.dt,
        steps=header.steps or None,
        seed=header.seed,
        record=record.of(ops),
        probes=network.probes or None,
        decoders=network.decoders or None,
        data=network.data or None,
        hints=network.hints or None,
        places=network.places or None,
    )


def _population(pop: Population) -> list[Op]:
    loc = loc_of(pop.pos)
    ops: list[Op] = []
    currents = []
    for item in pop.currents:
        if isinstance(item, Op):
            ops.append(item)
            currents.append(item.result)
        else:
            currents.append(item)
    if not currents:
        silence = snn.Input(out=f"{pop.name}/none", loc=loc, source="", shape=pop.shape)
        ops.append(silence)
        currents.append(silence.result)
    bias = None
    if pop.biases:
        total = reduce(np.add, pop.biases)
        bias = Const(f"{pop.name}.bias", total if total.dtype == np.float32 else total.astype(np.float64))
    make = User if pop.user else Neuron
    ops.append(make(out=pop.name, loc=loc, current=tuple(currents), bias=bias, **pop.fields))
    return ops


def _ordered(network: Network, problems: Any) -> list[Population]:
    """Populations so that what acts within a step comes first; else in the order of the program."""
    pops = [pop for pop in network.pops.values() if not pop.is_input]
    place = {pop.name: index for index, pop in enumerate(pops)}
    before: dict[int, set[int]] = {index: set() for index in range(len(pops))}
    after: dict[int, list[int]] = {index: [] for index in range(len(pops))}
    for index, pop in enumerate(pops):
        for item in pop.currents:
            here = isinstance(item, snn.ProjectionOp | Plastic) and item.delay == 0
            if here and item.spikes.name in place:
                source = place[item.spikes.name]
                if source not in before[index]:
                    before[index].add(source)
                    after[source].append(index)
    waiting = {index: len(found) for index, found in before.items()}
    ready = [index for index, count in waiting.items() if not count]
    order: list[int] = []
    while ready:
        index = heappop(ready)
        order.append(index)
        for other in after[index]:
            waiting[other] -= 1
            if not waiting[other]:
                heappush(ready, other)
    stuck = {pops[index].name for index, count in waiting.items() if count}
    if stuck:
        problems.add(_loop(pops, stuck, {index for index, count in waiting.items() if count}, before))
        return []
    return [pops[index] for index in order]


def _loop(pops: list[Population], stuck: set[str], left: set[int], before: dict[int, set[int]]) -> Fault:
    """Follow the waiting backwards until a population comes again."""
    here, trail = min(left), []
    while here not in trail:
        trail.append(here)
        here = min(before[here] & left)
    loop = [pops[index].name for index in [*trail[trail.index(here) :], here]][::-1]
    shown = " -> ".join(loop[:8]) + (" -> ..." if len(loop) > 8 else "")
    target = pops[here]
    op = next(item for item in target.currents if isinstance(item, Op) and item.operands[0].name == loop[-2])
    line, _, column = (op.loc.node if op.loc else "0:0").partition(":")
    pos = target.pos._replace(line=int(line), column=int(column), length=1)
    hint = "give one of its projections delay = 1 step or more"
    return Fault("E0383", pos, f"spikes go round within a step: {shown}", hint)


def relay(pop: Population, network: Network) -> Value:
    """Make the current of a constant input a value that every connector takes."""
    for owner, made in network.sources:
        if owner is pop:
            if len(made) == 1:
                beta = Const(f"{pop.name}/relay.beta", np.zeros(1))
                op = Neuron(
                    out=f"{pop.name}/relay", loc=loc_of(pop.pos), current=(pop.out,), beta=beta, reset="none"
                )
                made.append(op)
            return made[-1].result
    raise KeyError(pop.name)
