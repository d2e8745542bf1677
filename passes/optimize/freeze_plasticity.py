"""Synapses that learn, with their weights fixed."""

from __future__ import annotations

from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops.neurons import Sparse
from nmc.ir.ops.plastic import Plastic
from nmc.passes.base import Pass


@dataclass(frozen=True)
class FreezePlasticity(Pass, name="freeze-plasticity", takes="snn"):
    """Replace each ``snn.plastic`` by an ``snn.sparse`` with the initial weights: nothing learns any more.

    No target does this by itself, because the network computes something else afterwards.

        before: %e.e = snn.plastic(%e, %e, @w, @src, @dst) {shape=[80], decay_plus=0.99, ..., delay=1} : current<80>
        after:  %e.e = snn.sparse(%e, @w, @src, @dst) {delay=1, shape=[80]} : current<80>
    """

    exact = False

    def run(self, module: Module) -> Module:
        """Replace the synapses that learn."""
        return module.map_ops(self._frozen)

    def _frozen(self, op: Op) -> Op:
        if not isinstance(op, Plastic):
            return op
        return Sparse(
            out=op.out, loc=fuse(self.name, [op.loc]), spikes=op.spikes, weight=op.weight, source=op.source,
            target=op.target, late=op.late, shape=op.shape, delay=op.delay,
        )  # fmt: skip
