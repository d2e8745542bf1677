"""How much of a core a part of a network takes, counted by those who write its memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.target import Box, Demand
from nmc.targets.fpga import dialect
from nmc.targets.fpga.rows import Rows, place, rows, walked

Array = NDArray[Any]


def vias_of(module: Module, population: Op) -> list[snn.ProjectionOp]:
    """The projections onto a population, each once."""
    found = (module.producers[value.name] for value in getattr(population, "current", ()))
    return list(dict.fromkeys(via for via in found if isinstance(via, snn.ProjectionOp)))


def aligned(module: Module, population: Op) -> bool:
    """Whether each place of a population begins a group: what walks kernels asks for it."""
    return len(population.result.shape) > 1 and any(map(walked, vias_of(module, population)))


class FpgaDemands:
    """Demand functions of one compilation; remembers rows.

    Parameters
    ----------
    lanes : int
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._rows: dict[tuple[int, Box, bool], tuple[Op, Rows]] = {}

    def rows(self, module: Module, via: Op, population: Op, box: Box) -> Rows:
        """Rows of a projection onto a box of a population."""
        key = (id(via), box, aligned(module, population))
        if key not in self._rows:
            self._rows[key] = (
                via,
                rows(via, box, self.lanes, key[2]),
            )  # keeps `via`, so that its id stays its own
        return self._rows[key][1]

    def populations(self, module: Module) -> Sequence[dialect.Neuron]:
        """All populations that live on cores.

        Raises
        ------
        NmcError
            E0945 for currents that no core can give.
        """
        found = module.of_type(dialect.Neuron)
        problems = [
            Diagnostic("E0945", f"%{value.name} is a current of %{op.out}, no projection", where=f"%{op.out}")
            for op in found for value in op.current
            if not isinstance(module.producers[value.name], snn.ProjectionOp)
        ]  # fmt: skip
        if problems:
            raise NmcError(problems)
        return found

    def projections(self, module: Module, population: Op) -> list[Op]:
        """The projections onto a population."""
        return list(vias_of(module, population))

    def source_of(self, module: Module, via: Op) -> Op:
        """The population or input whose spikes a projection carries."""
        return module.producers[via.operands[0].name]

    def sources(self, module: Module, via: Op, box: Box) -> NDArray[np.bool_]:
        """Which source neurons have synapses onto a box of the target: (source size,) bool."""
        mask = np.zeros(via.operands[0].type.size, bool)
        for user in module.users.get(via.out, ()):
            mask[self.rows(module, via, user, box).source] = True
        return mask

    def incoming(
        self, module: Module, population: Op, box: Box, slot_base: int = 0, structure: bool = False
    ) -> Demand:
        """Neurons, their groups, axons, weight rows, geometries and classes of a box."""
        shape = tuple(len(span) for span in box)
        found = [self.rows(module, via, population, box) for via in vias_of(module, population)]
        return {
            "compartments": int(np.prod(shape)),
            "groups": place(shape, self.lanes, aligned(module, population)).groups,
            "in_axons": sum(len(item.source) for item in found),
            "weight_rows": sum(len(item.weight) for item in found),
            "geometries": sum(len(item.geometries) for item in found),
            "classes": 1,
        }

    def least(self, module: Module, population: Op, box: Box) -> Demand:
        """The same: slots do not matter."""
        return self.incoming(module, population, box)

    def outgoing(
        self, module: Module, population: Op, targets: Sequence[tuple[str, Box]]
    ) -> Mapping[str, NDArray[np.int64]]:
        """Nothing: the table of destinations is the router's, one for all cores."""
        return {}

    def shared(self, module: Module, population: Op) -> tuple[tuple[str, int], ...]:
        """Nothing that parts of a core would have to agree on."""
        return ()
