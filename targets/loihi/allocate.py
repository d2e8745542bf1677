"""Give every synapse list its words, every source neuron its in-axon, every format its number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops.mapped import Neurons, Synapses
from nmc.ir.target import resolve
from nmc.passes.base import Pass
from nmc.passes.map.place import check_placed
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.axons import AxonLists, axon_lists
from nmc.targets.loihi.synapses import SynFormat

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """The synapses of one projection onto one part, whichever parts they come from.

    Parameters
    ----------
    target : Neurons
        The part that receives.
    via : Op
        The projection, or the population for its own reset.
    links : tuple of Synapses
        One a source part, in program order.
    lists : AxonLists
        All in-axons and synapse lists of the group.
    positions : mapping of str to int64 array
        By name of a source part: positions of its neurons in `lists.source`.
    """

    target: Neurons
    via: Op
    links: tuple[Synapses, ...]
    lists: AxonLists
    positions: Mapping[str, Ints]


def groups(module: Module) -> Iterator[Group]:
    """All groups of a mapped module: by target part in program order, then by projection."""
    links: dict[tuple[str, str], list[Synapses]] = {}
    for link in module.of_type(Synapses):
        links.setdefault((link.target.name, link.via.name), []).append(link)
    for (target_name, via_name), found in links.items():
        target, via = module.producers[target_name], module.producers[via_name]
        assert isinstance(target, Neurons)
        population = module.producers[target.of.name]
        assert isinstance(population, loihi.Lif)
        source = via if via is population else module.producers[via.operands[0].name]
        lists = axon_lists(
            via, target.box, population.compartments, target.slots.start, isinstance(source, loihi.Input)
        )
        yield Group(target, via, tuple(found), lists, _positions(module, found, lists))


def _positions(module: Module, links: list[Synapses], lists: AxonLists) -> dict[str, Ints]:
    """Sort the axons of a group by the part that sends them."""
    parts = [module.producers[link.source.name] for link in links]
    owner: Ints = np.full(parts[0].operands[0].type.size, -1, np.int64)
    for number, part in enumerate(parts):
        assert isinstance(part, Neurons)
        owner[part.global_indices()] = number
    sender = owner[lists.source]
    order = np.argsort(sender, kind="stable")
    bounds = np.searchsorted(sender[order], np.arange(len(parts) + 1))
    return {part.out: order[bounds[n] : bounds[n + 1]] for n, part in enumerate(parts)}


@dataclass
class _Core:
    """What is taken of a core so far."""

    axons: int = 0
    words: int = 0
    formats: tuple[tuple[SynFormat, str], ...] = ()

    def format_id(self, fmt: SynFormat, owner: str) -> int:
        """Number of a format, 1..15; equal formats of equal owners share one."""
        key = (fmt, owner)
        if key not in self.formats:
            self.formats = (*self.formats, key)
        return self.formats.index(key) + 1


def _owner(via: Op) -> str:
    """Who may share a format: all, but for sums that are shifted as a whole (lava, facts 2.3 row 2)."""
    summed = isinstance(via, loihi.SynapseOp) and via.compat == "lava" and via.exp < 0
    return via.out if summed else ""


@dataclass(frozen=True)
class Allocate(Pass, name="loihi-allocate", takes="mapped"):
    """Allocate in-axons, synapse memory and formats, core by core, without gaps.

    All source parts of a projection share the lists of a part of its target, so they share `mem`.

        before: map.synapses(%x.p0, %2.p0, %2.x)
        after:  map.synapses(%x.p0, %2.p0, %2.x) {axons=0:420, mem=0:1530, formats=[1]}
    """

    def run(self, module: Module) -> Module:
        """Allocate; the partition has made sure that it fits, and this checks it."""
        check_placed(module)
        cores: dict[int, _Core] = {}
        placed: dict[int, Synapses] = {}
        for group in groups(module):
            core = cores.setdefault(group.target.core, _Core())
            number = core.format_id(group.lists.fmt, _owner(group.via))
            memory = Span(core.words, core.words + int(group.lists.words.sum()))
            core.words = memory.stop
            for link in group.links:
                count = len(group.positions[link.source.name])
                axons = Span(core.axons, core.axons + count)
                core.axons = axons.stop
                placed[id(link)] = replace(link, axons=axons, mem=memory, formats=(number,))
        _check(module, cores)
        return module.with_ops([placed.get(id(op), op) for op in module.ops])


def _check(module: Module, cores: dict[int, _Core]) -> None:
    limits = resolve(module.attr("target", "")).limits
    problems = []
    for number, core in sorted(cores.items()):
        used = {"in_axons": core.axons, "synapse_words": core.words, "synapse_formats": len(core.formats)}
        for name, amount in used.items():
            if amount > limits[name]:
                message = f"core {number} takes {amount:,} of {limits[name]:,} {name.replace('_', ' ')}"
                problems.append(Diagnostic("E0712", message, hint="partition{merge=false} keeps parts apart"))
    if problems:
        raise DoesNotFit(problems)
