"""What one PE does: a box of a population with everything that comes onto it, as the image builder takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.ops.mapped import slot_order
from nmc.targets.spinnaker2 import laws
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.build import PeProgram
from nmc.targets.spinnaker2.keys import KeyRange
from nmc.targets.spinnaker2.layout import Box, NocTarget
from nmc.targets.spinnaker2.rows import Entry
from nmc.targets.spinnaker2.wiring import Arriving, rows_onto

Array = NDArray[Any]
#: Packets on the network on chip that are allowed for before places are known: one for each QPE.
MOST_TARGETS = 38


@dataclass(frozen=True)
class Site:
    """Where a program runs and what it is told of the others.

    Parameters
    ----------
    chip, pe : int
    keys : mapping of str to sequence of KeyRange
        Keys of the boxes of each population and input.
    part : int
        Which box of its population this is.
    noc : tuple of NocTarget
    """

    chip: int = 0
    pe: int = 0
    keys: Mapping[str, Sequence[KeyRange]] = field(default_factory=dict)
    part: int = 0
    noc: tuple[NocTarget, ...] = (NocTarget(0, 0, 0),) * MOST_TARGETS


def program(
    module: Module,
    population: s2.NeuronOp,
    box: Box,
    boxes_of: dict[str, Sequence[Box]],
    site: Site | None = None,
    onto: Sequence[Arriving] | None = None,
) -> PeProgram:
    """The program for a box; without a site as large as it can be anywhere (keys are made up).

    Parameters
    ----------
    module : Module
        A legalised or mapped module.
    population : NeuronOp
    box : Box
    boxes_of : mapping of str to sequence of Box
        How populations and inputs are cut.
    site : Site or None
    onto : sequence or None
        What `rows_onto` gives, where the caller has it.
    """
    place = site or Site()
    entries = []
    for number, (source, part, rows, first, gain) in enumerate(
        rows_onto(module, population, box, boxes_of) if onto is None else onto
    ):
        keys = place.keys[source][part] if site else KeyRange(number << 12, 0xFFFFF000)
        entries.append(Entry(keys.base, keys.mask, rows, first, gain))
    record, ticks = recording(module, population)
    law, given = population.law, parameters(population, box)
    own = place.keys[population.out][place.part].base if site else 0
    return PeProgram(
        place.chip, place.pe, own, law, int(np.prod([len(span) for span in box])),
        {name: value for name, value in given.items() if name in laws.params_of(law)},
        laws.initial_v(law, given), tuple(entries), period=len(box[0]) if len(box) > 1 else 1,
        record=record, record_ticks=ticks, noc=place.noc,
    )  # fmt: skip


def parameters(population: s2.NeuronOp, box: Box) -> dict[str, Array]:
    """Constants of the population cut to a box: one value, or one a neuron in the order of keys."""
    cut = tuple(span.slice() for span in box)
    found = {}
    for name, value in population.given.items():
        if value.size == 1:
            found[name] = value.reshape(-1)
        else:
            found[name] = slot_order(np.broadcast_to(value, population.shape)[cut])
    return found


def recording(module: Module, population: s2.NeuronOp) -> tuple[tuple[str, ...], int]:
    """What of a population is recorded in SRAM, and for how many ticks."""
    if population.out not in (module.attr("sram_record") or ()):
        return (), 0
    kind = "v" if not population.law.fires else "spikes" if population.law.binary else "payload"
    return (kind,), int(module.attr("steps") or 0)
