"""Remove what nobody uses."""

from __future__ import annotations

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.passes.base import Pass
from nmc.passes.graph import dead_code


@dataclass(frozen=True)
class DeadCode(Pass, name="dead-code", takes="any", optional=True):
    """Remove ops whose results reach no output; inputs stay, because they are the network's interface.

    Before::

        %x = ann.input() {shape=[4]} : f32<4>
        %used = ann.relu(%x) : f32<4>
        %unused = ann.relu(%x) {limit=6.0} : f32<4>
        ann.output(%used)

    After::

        %x = ann.input() {shape=[4]} : f32<4>
        %used = ann.relu(%x) : f32<4>
        ann.output(%used)
    """

    def run(self, module: Module) -> Module:
        """Keep what is reached from ops without a result."""
        return dead_code(module)
