"""A user's own pass: nmc opt --load-pass examples/passes/prune.py --passes 'prune{below=0.02}' net.nmc."""

from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.passes.base import Pass
from nmc.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class Prune(Pass, name="prune", takes="snn", optional=True):
    """Set weights smaller than a share of the layer's largest to zero."""

    below: float = 0.01
    exact = False

    def run(self, module: Module) -> Module:
        """Prune every convolution and dense projection."""

        def prune(layer: snn.Conv | snn.Dense, match: Match) -> snn.Conv | snn.Dense:
            weight = match.data(layer.weight)
            small = np.abs(weight) < self.below * np.abs(weight).max()
            return replace(layer, weight=Const(layer.weight.name, np.where(small, 0, weight)))

        return rewrite(module, self.name, prune)
