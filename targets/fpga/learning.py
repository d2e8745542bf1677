"""The law of learning in shapes with `stdp`: pairs of nearest neighbours, done when the axon's next event passes.

Times are ticks + 1, 0 is never: `seen` of a neuron is its last spike (positive ones), the trace of an axon its last
event. An event of a learning axon in tick t adds the weights as they are, then changes those with `learn` = 1::

    depress      seen != 0 and (t + 1) - seen <= reach_minus                       (post before pre)
    potentiate   seen != 0 and trace != 0 and 0 <= seen - trace <= reach_plus      (pre before post)
    w            clip(w + cost_plus * potentiate - cost_minus * depress, -128, 127)

and the trace becomes t + 1. Register COST is plus << 8 | minus, REACH plus << 12 | minus. The windows are rectangular,
as NeuroCoreX has them (facts/fpga.md 1.1), the pairing deferred to pre events so that rows are only read along the
axon. Rows of learning axons must be theirs alone; ticks count up to 65,534 after a CLR. Within one tick the events of
one learning axon act in the order of arrival.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def change(weights: Array, enabled: Array, seen: Array, trace: int, t: int, cost: int, reach: int) -> Array:
    """New weights of one event.

    Parameters
    ----------
    weights, enabled, seen : integer arrays of one shape
    trace : int
        Last event of the axon before this one.
    t : int
        Tick.
    cost, reach : int
        The registers.
    """
    spiked = (enabled == 1) & (seen != 0)
    depress = spiked & (t + 1 - seen <= reach & 0xFFF)
    lead = seen - trace
    potentiate = spiked & (trace != 0) & (lead >= 0) & (lead <= reach >> 12)
    moved = weights + potentiate * (cost >> 8 & 0xFF) - depress * (cost & 0xFF)
    return np.asarray(np.clip(moved, -128, 127))
