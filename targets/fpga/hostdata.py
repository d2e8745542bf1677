"""Data to events: what the host sends for the inputs of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.op import VerifyError
from nmc.ir.ops import snn
from nmc.targets.fpga.dialect import Input, Poisson
from nmc.targets.fpga.image import InputMap
from nmc.targets.fpga.model import Spikes
from nmc.targets.fpga.tables import ranges

Array = NDArray[Any]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "source": (str,), "encoder": (str,), "gain": (int, float), "seed": (int,), "low": (int,), "high": (int,),
    "over": (int,), "mean": (int, float),
}  # fmt: skip


def input_op(entry: InputMap) -> Input | Poisson:
    """The op that encodes for an input of an image, which may come from anywhere.

    Raises
    ------
    NmcError
        E0947 for an encoder that is none.
    """
    given = dict(entry.encoder)
    kind = given.pop("kind", "")
    wrong = [
        name for name, value in given.items()
        if isinstance(value, bool) or not isinstance(value, _TYPES.get(name, ()))
    ]  # fmt: skip
    cls = {"data": Input, "poisson": Poisson}.get(str(kind))
    if cls is None or wrong:
        raise fail("E0947", f"the encoder of {entry.name} is none: {', '.join(wrong) or kind!r}")
    try:
        op: Input | Poisson = cls(out=entry.name, shape=entry.shape, **given)
        op.infer()
        op.verify()
    except (VerifyError, ValueError, TypeError, OverflowError) as error:
        raise fail("E0947", f"the encoder of {entry.name} is none: {error}") from None
    known = (*snn.EXACT_ENCODERS, "rate", "raster")
    if isinstance(op, Input) and not (np.isfinite(op.gain) and op.encoder in known):
        raise fail("E0947", f"the encoder of {entry.name} is none: {op.encoder}, gain {op.gain}")
    return op


def numbers(op: Input | Poisson, data: Mapping[str, Array], size: int, steps: int, first: int) -> Array:
    """Payloads of an input for a batch of samples: integers (size, T, *shape), T <= `steps`; nothing comes after.

    Data of one axis more, (size, F, *shape), are frames that share the steps: of each the difference to the one before
    is sent.

    Raises
    ------
    NmcError
        E0401 for data that are missing or of another shape.
    """
    if isinstance(op, Poisson) or not op.source:
        silent = np.zeros((size, *op.shape), np.uint8)
        return np.stack([op.encode(silent, first, t) for t in range(steps)], axis=1)
    if op.source not in data:
        raise fail("E0401", f"no data for input {op.source}; there is {', '.join(data) or 'nothing'}")
    item = np.asarray(data[op.source])
    framed = op.rests and item.ndim == len(op.shape) + 2
    lead = 2 if op.in_time or framed else 1
    if item.ndim < lead or item.shape[lead:] != op.shape:
        text = f"data for input {op.source} have shape {item.shape[lead:]} a sample, the network takes {op.shape}"
        raise fail("E0401", text)
    if op.in_time:
        return item[:, :steps].astype(np.uint8)
    if framed:
        return op.framed(item, steps // item.shape[1])
    last = max(1, min(steps, op.active_until)) if op.rests else steps
    if op.rests:
        whole = op.integers(item)
        return np.stack([op.schedule(whole, t) for t in range(last)], axis=1)
    return np.stack([op.encode(item, first, t) for t in range(last)], axis=1)


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
