"""Events of the host, tick by tick."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.targets.fpga.image import InputMap
from nmc.targets.fpga.model import Spikes
from nmc.targets.fpga.tables import ranges

Array = NDArray[Any]


class Sender:
    """Events of a batch of samples, tick by tick.

    Parameters
    ----------
    maps : sequence of (InputMap, array)
        Inputs with what they send, (size, T, *shape).
    steps, payload_bits : int
        Payloads that do not fit are sent in several events.
    """

    def __init__(self, maps: list[tuple[InputMap, Array]], steps: int, payload_bits: int) -> None:
        self._most = (1 << (payload_bits - 1)) - 1
        self._ticks: dict[int, list[Spikes]] = {}
        for entry, sent in maps:
            self._add(entry, sent, steps)

    def _add(self, entry: InputMap, sent: Array, steps: int) -> None:
        """Sort the events of an input into ticks."""
        order = np.argsort(entry.index, kind="stable")
        counts = np.bincount(entry.index, minlength=int(np.prod(entry.shape)))
        begin = np.cumsum(counts) - counts
        flat = sent.reshape(*sent.shape[:2], -1)
        for t in range(sent.shape[1]):
            sample, element = np.nonzero(flat[:, t])
            at, owner = ranges(begin[element], counts[element])
            link = order[at]
            payload = flat[sample, t, element].astype(np.int64)[owner]
            for delay in np.unique(entry.delay[link]):
                if t + delay < steps:
                    some = entry.delay[link] == delay
                    events = Spikes(
                        sample[owner[some]], entry.core[link[some]], entry.axon[link[some]], payload[some]
                    )
                    self._ticks.setdefault(t + int(delay), []).append(events)

    def at(self, t: int) -> Spikes:
        """All events of a tick, payloads as they are."""
        none = np.zeros(0, np.int64)
        found = [Spikes(none, none, none, none), *self._ticks.get(t, ())]
        return Spikes(*(np.concatenate([getattr(item, name) for item in found]) for name in vars(found[0])))

    def split(self, t: int) -> Spikes:
        """All events of a tick, cut to payloads that one word holds."""
        whole = self.at(t)
        pieces = np.maximum(-(-np.abs(whole.sign) // self._most), 1)
        number, owner = ranges(np.zeros(len(pieces), np.int64), pieces)
        rest = np.abs(whole.sign)[owner] - number * self._most
        payload = np.sign(whole.sign)[owner] * np.minimum(rest, self._most)
        return Spikes(whole.sample[owner], whole.core[owner], whole.index[owner], payload)
