"""How much of a Loihi core a part of a network takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.target import Box, Demand
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.axons import source_mask
from nmc.targets.loihi.counts import axon_counts, list_counts

Array = NDArray[Any]


#: From this share of zero weights on, lists are made to be counted; below it, the structure is counted.
_THIN = 0.05


class LoihiDemands:
    """Demand functions of one compilation; remembers which source neurons reach which box."""

    def __init__(self, words_per_out_axon: int) -> None:
        self._entry_words = words_per_out_axon
        self._masks: dict[tuple[str, Box], NDArray[np.uint8]] = {}
        self._incoming: dict[tuple[str, Box, int, bool], Demand] = {}
        self._zeros: dict[str, float] = {}

    def populations(self, module: Module) -> Sequence[loihi.Lif]:
        """All populations that live on cores.

        Raises
        ------
        NmcError
            E0616 for currents and delays that no core can give.
        """
        found = module.of_type(loihi.Lif)
        problems = [problem for population in found for problem in _unlawful(module, population)]
        if problems:
            raise NmcError(problems)
        return found

    def projections(self, module: Module, population: Op) -> list[Op]:
        """What brings synapses onto a population: its projections, and itself where a soft reset does."""
        assert isinstance(population, loihi.Lif)
        found: list[Op] = [module.producers[value.name] for value in population.current]
        return [*found, population] if population.resets_itself else found

    def source_of(self, module: Module, via: Op) -> Op:
        """The population or input whose spikes a projection carries."""
        return via if isinstance(via, loihi.Lif) else module.producers[via.operands[0].name]

    def sources(self, module: Module, via: Op, box: Box) -> NDArray[np.bool_]:
        """Which source neurons have synapses onto a box of the target: (source size,) bool."""
        key = (via.out, box)
        size = self.source_of(module, via).result.type.size
        if key not in self._masks:
            self._masks[key] = np.packbits(source_mask(via, box, size))  # there may be many of them
        return np.unpackbits(self._masks[key], count=size).view(bool)

    def incoming(
        self, module: Module, population: Op, box: Box, slot_base: int = 0, structure: bool = False
    ) -> Demand:
        """Compartments, in-axons, synapse words, formats and profiles of a box."""
        key = (population.out, box, slot_base, structure)
        if key not in self._incoming:
            self._incoming[key] = self._count(module, population, box, slot_base, structure)
        return self._incoming[key]

    def least(self, module: Module, population: Op, box: Box) -> Demand:
        """What a box takes at least, from whatever slot on: shared lists may be cut less often than from slot 0."""
        key = (population.out, box, -1, False)
        if key not in self._incoming:
            self._incoming[key] = self._count(module, population, box, 0, structure=False, anywhere=True)
        return self._incoming[key]

    def _count(
        self,
        module: Module,
        population: Op,
        box: Box,
        slot_base: int,
        structure: bool,
        anywhere: bool = False,
    ) -> Demand:
        assert isinstance(population, loihi.Lif)
        size = int(np.prod([len(span) for span in box]))
        total: Counter[str] = Counter(
            compartments=size * population.compartments,
            cx_profiles=population.compartments * _classes(population, box),
            vth_profiles=1,
            dendritic_accumulators=size * population.compartments << delay_bits(module, population),
        )
        longest = 0
        for via in self.projections(module, population):
            injected = isinstance(self.source_of(module, via), loihi.Input)
            count = list_counts if not structure and self._thin(via) else axon_counts
            found = count(via, box, population.compartments, slot_base, injected, anywhere)
            total.update(in_axons=found.axons, synapse_words=found.words, synapse_formats=1)
            longest = max(longest, found.longest)
        return {**total, "words_per_axon": longest}

    def _thin(self, via: Op) -> bool:
        """Whether enough weights are zero that counting by structure would be far off."""
        if via.out not in self._zeros:
            zeros = float((via.mantissas == 0).mean()) if isinstance(via, loihi.SynapseOp) else 0.0
            self._zeros[via.out] = zeros
        return self._zeros[via.out] > _THIN

    def outgoing(
        self, module: Module, population: Op, targets: Sequence[tuple[str, Box]]
    ) -> Mapping[str, NDArray[np.int64]]:
        """Out-axon words of each neuron towards the given boxes (its own reset included)."""
        assert isinstance(population, loihi.Lif)
        entries = np.full(population.shape, int(population.resets_itself), np.int64)
        for via, target_box in self._paths(module, population, targets):
            entries += self.sources(module, via, target_box).reshape(population.shape)
        return {"out_axon_words": entries * self._entry_words}

    def _paths(
        self, module: Module, population: Op, targets: Sequence[tuple[str, Box]]
    ) -> list[tuple[Op, Box]]:
        boxes: dict[str, list[Box]] = {}
        for name, box in targets:
            boxes.setdefault(name, []).append(box)
        vias = [op for op in module.users.get(population.out, ()) if isinstance(op, loihi.SynapseOp)]
        return [
            (via, box)
            for via in vias
            for user in module.users.get(via.out, ())
            for box in boxes.get(user.out, ())
        ]

    def shared(self, module: Module, population: Op) -> tuple[tuple[str, int], ...]:
        """Registers that the whole core shares; an offset of one is needed for a decay of 4096, none for 0."""
        assert isinstance(population, loihi.Lif)
        return (
            ("neg_vm_limit", population.neg_limit),
            ("pos_vm_limit", population.pos_limit),
            *offsets(population).items(),
            ("delay_bits", delay_bits(module, population)),
        )


def _unlawful(module: Module, population: loihi.Lif) -> Iterator[Diagnostic]:
    """What a hand-written module may hold and a core cannot do."""
    where = str(population.loc or f"%{population.out}")
    for name in ("du", "dv"):
        if np.isin((0, 4096), population.each(name)).all():
            message = f"%{population.out} has a {name} of 0 and one of 4096, which cannot share a core"
            yield Diagnostic("E0616", message, where=where, hint="make two populations of it")
    drive = population.drive and module.producers[population.drive.name]
    if drive and not (isinstance(drive, loihi.Input) and drive.kind == "bias"):
        yield Diagnostic(
            "E0616", f"%{population.out} is driven by %{drive.out}, no bias of the host", where=where
        )
    for value in population.current:
        via = module.producers[value.name]
        if not isinstance(via, loihi.SynapseOp):
            yield Diagnostic(
                "E0616", f"%{value.name} is a current of %{population.out}, no projection", where=where
            )
            continue
        source = module.producers[via.spikes.name]
        least, most = (0, loihi.MAX_DELAY) if isinstance(source, loihi.Input) else (1, loihi.MAX_DELAY + 1)
        if not isinstance(source, loihi.Input | loihi.Lif):
            yield Diagnostic(
                "E0616", f"%{via.out} takes spikes of {source.name}, not on the chip", where=where
            )
        elif via.delay < least or via.longest > most:
            delays = f"{via.delay}" if via.longest == via.delay else f"{via.delay}..{via.longest}"
            message = f"%{via.out} has a delay of {delays}, Loihi {least}..{most} from %{source.out}"
            yield Diagnostic(
                "E0616", message, where=where, hint="retime gives every projection a lawful delay"
            )


def _classes(population: loihi.Lif, box: Box) -> int:
    """Different decays and refractory times in a box."""
    rows, index = population.classes
    return 1 if len(rows) == 1 else len(np.unique(index[tuple(span.slice() for span in box)]))


def offsets(population: loihi.Lif) -> dict[str, int]:
    """Offset registers of the decays; the compartments of a split neuron need decays of 4096 beside its own."""
    split = population.reset == "split"
    return {
        "ds_offset": 1 if split else offset_for(population.each("du"), 1),
        "dm_offset": 1 if split else offset_for(population.each("dv"), 0),
    }


def offset_for(decays: Array, usual: int) -> int:
    """Offset register with which decays of 0..4096 are 12-bit fields plus the offset."""
    if (decays == 4096).any():
        return 1
    return 0 if (decays == 0).any() else usual


def delay_bits(module: Module, population: Op) -> int:
    """Delay bits of the core that a population needs: 3, or more for synaptic delays over 6 (facts 1)."""
    longest = 0
    for value in population.operands:
        via = module.producers[value.name]
        if isinstance(via, loihi.SynapseOp):
            injected = isinstance(module.producers[via.spikes.name], loihi.Input)
            longest = max(longest, via.longest - (0 if injected else 1))
    return next(bits for bits in (3, 4, 5, 6) if longest <= (1 << bits) - 2)


def whole(shape: tuple[int, ...]) -> tuple[Span, ...]:
    """The box that is all of a shape."""
    return tuple(Span(0, extent) for extent in shape)
