"""How much of a PE a part of a network takes: to the byte, because the image builder itself counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.target import Box, Demand
from nmc.passes.map.tiling import smallest_box
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.activity import Activity, shapes_of, tick_loads
from nmc.targets.spinnaker2.build import used_bytes
from nmc.targets.spinnaker2.cycles import CPI, tick_instructions
from nmc.targets.spinnaker2.layout import MAX_DELAY, MAX_TARGETS
from nmc.targets.spinnaker2.programs import program
from nmc.targets.spinnaker2.wiring import Arriving, rows_onto, source_mask, vias_of

Array = NDArray[Any]
#: Where even one neuron takes longer than a budget, boxes may take so many times what it takes.
_ABOVE = 1.5


@dataclass(frozen=True, eq=False)
class Budget:
    """Cycles that a box may take in its fullest tick, and the spikes that come.

    A box is never too large for it where a single neuron is: such populations get a budget of their own.
    """

    activity: Activity
    cycles: int


class SpinnakerDemands:
    """Demand functions of one compilation; remembers which source neurons reach which box.

    What a box takes depends on how its sources are cut: an entry of the population table for each of their boxes. The
    module's attribute ``source_boxes`` says how; `nmc.targets.spinnaker2.fit` sets it from the attempt before.

    Parameters
    ----------
    budget : Budget or None
        Adds the demand ``tick_cycles``.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget
        self._least: dict[str, float] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._masks: dict[tuple[str, Box], NDArray[np.bool_]] = {}
        self._incoming: dict[tuple[str, Box], Demand] = {}
        self._boxes: tuple[object, dict[str, Sequence[Box]]] = (None, {})

    def populations(self, module: Module) -> Sequence[s2.NeuronOp]:
        """All populations that live on PEs.

        Raises
        ------
        NmcError
            E0922 for currents and delays that no PE can give.
        """
        found = module.of_type(s2.NeuronOp)
        problems = [problem for population in found for problem in _unlawful(module, population)]
        if problems:
            raise NmcError(problems)
        return found

    def projections(self, module: Module, population: Op) -> list[Op]:
        """The projections onto a population."""
        return list(dict.fromkeys(via for via, _ in vias_of(module, population)))

    def source_of(self, module: Module, via: Op) -> Op:
        """The population or input whose spikes a projection carries."""
        return module.producers[via.operands[0].name]

    def sources(self, module: Module, via: Op, box: Box) -> NDArray[np.bool_]:
        """Which source neurons have synapses onto a box of the target: (source size,) bool."""
        key = (via.out, box)
        if key not in self._masks:
            assert isinstance(via, s2.SynapseOp)
            self._masks[key] = source_mask(via, box)
        return self._masks[key]

    def incoming(
        self, module: Module, population: Op, box: Box, slot_base: int = 0, structure: bool = False
    ) -> Demand:
        """Neurons, SRAM bytes, short targets and cycles of the neuron updates of a box."""
        key = (population.out, box)
        if key not in self._incoming:
            self._incoming[key] = self._count(module, population, box)
        return self._incoming[key]

    def _count(self, module: Module, population: Op, box: Box) -> Demand:
        assert isinstance(population, s2.NeuronOp)
        size = int(np.prod([len(span) for span in box]))
        short = any(via.format == "sparse16" for via, _ in vias_of(module, population))
        if short and size > MAX_TARGETS["sparse16"]:  # no rows can be made; too large is all there is to say
            return {"compartments": size, "populations": 1, "short_targets": size}
        onto = list(rows_onto(module, population, box, self._cut(module)))
        made = program(module, population, box, self._cut(module), onto=onto)
        most = int(module.attr("most_neurons") or size)  # a larger box counts as two
        slack = dict(module.attr("slack") or {}).get(population.out, 0)
        uniform = all(value.size == 1 for value in population.given.values())
        instructions = tick_instructions(population.law, size, uniform=uniform)
        return {
            "compartments": size, "populations": 1 + (size > most), "sram_bytes": used_bytes(made) + slack,
            "short_targets": size if short else 0, "update_cycles": int(instructions * CPI),
            "in_axons": sum(entry.rows.sources for entry in made.entries),
            **({"tick_cycles": self._tick(module, population, box, onto)} if self._budget else {}),
        }  # fmt: skip

    def _tick(self, module: Module, population: s2.NeuronOp, box: Box, onto: Sequence[Arriving]) -> int:
        """Cycles of the fullest tick, in proportion to the budget of the population."""
        assert self._budget is not None
        cycles = self._cycles(module, population, box, onto)
        if population.out not in self._least:
            least = smallest_box(population.shape)
            rows = list(rows_onto(module, population, least, self._cut(module)))
            self._least[population.out] = self._cycles(module, population, least, rows)
        own = self._least[population.out]
        return ceil(cycles if own <= self._budget.cycles else cycles * self._budget.cycles / (_ABOVE * own))

    def _cycles(self, module: Module, population: s2.NeuronOp, box: Box, onto: Sequence[Arriving]) -> float:
        assert self._budget is not None
        self._shapes = self._shapes or shapes_of(module)
        loads = tick_loads(self._budget.activity, population, box, onto, self._shapes, self._cut(module))
        return CPI * float(loads.max())

    def _cut(self, module: Module) -> dict[str, Sequence[Box]]:
        given = module.attr("source_boxes")
        if self._boxes[0] is not given:
            table = {
                name: [tuple(Span(*span) for span in box) for box in boxes]
                for name, boxes in (given or {}).items()
            }
            self._boxes = (given, dict(table))
        return self._boxes[1]

    def least(self, module: Module, population: Op, box: Box) -> Demand:
        """The same: slots do not matter."""
        return self.incoming(module, population, box)

    def outgoing(
        self, module: Module, population: Op, targets: Sequence[tuple[str, Box]]
    ) -> Mapping[str, NDArray[np.int64]]:
        """Nothing: packets go by the router, whose entries are for whole boxes."""
        return {}

    def shared(self, module: Module, population: Op) -> tuple[tuple[str, int], ...]:
        """Nothing: a PE holds one box."""
        return ()


def _unlawful(module: Module, population: s2.NeuronOp) -> list[Diagnostic]:
    """What a hand-written module may hold and a PE cannot do."""
    where = str(population.loc or f"%{population.out}")
    found = []
    for value in (*population.current, *population.second):
        via = module.producers[value.name]
        if not isinstance(via, s2.SynapseOp):
            text = f"%{value.name} is a current of %{population.out}, no projection"
            found.append(Diagnostic("E0922", text, where=where))
            continue
        source = module.producers[via.spikes.name]
        if not isinstance(source, s2.NeuronOp | s2.Input | s2.Poisson):
            text = f"%{via.out} takes spikes of {source.name}, not on the chip"
            found.append(Diagnostic("E0922", text, where=where))
        elif isinstance(source, s2.NeuronOp) and not source.law.fires:
            found.append(
                Diagnostic(
                    "E0922", f"%{via.out} takes spikes of %{source.out}, which never fires", where=where
                )
            )
        if not 1 <= via.delay <= MAX_DELAY:
            text = f"%{via.out} has a delay of {via.delay}, SpiNNaker2 1..{MAX_DELAY}"
            found.append(
                Diagnostic("E0922", text, where=where, hint="retime gives every projection a lawful delay")
            )
    return found
