"""Data to packets: what the host sends for the inputs of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.op import VerifyError
from nmc.ir.ops import snn
from nmc.targets.spinnaker2.host import Input, Poisson
from nmc.targets.spinnaker2.layout import InputMap

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
        E0913 for an encoder that is none.
    """
    given = dict(entry.encoder)
    kind = given.pop("kind", "")
    wrong = [name for name, value in given.items() if not isinstance(value, _TYPES.get(name, ()))]
    wrong += [name for name, value in given.items() if isinstance(value, bool)]
    cls = {"data": Input, "poisson": Poisson}.get(str(kind))
    if cls is None or wrong:
        raise fail("E0913", f"the encoder of {entry.name} is none: {', '.join(wrong) or kind!r}")
    try:
        op: Input | Poisson = cls(out=entry.name, shape=entry.shape, **given)
        op.infer()
        op.verify()
    except (VerifyError, ValueError, TypeError, OverflowError) as error:
        raise fail("E0913", f"the encoder of {entry.name} is none: {error}") from None
    if isinstance(op, Input) and (
        not np.isfinite(op.gain) or op.encoder not in (*snn.EXACT_ENCODERS, "rate", "raster")
    ):
        raise fail("E0913", f"the encoder of {entry.name} is none: {op.encoder}, gain {op.gain}")
    return op


def packets(op: Input | Poisson, data: Mapping[str, Array], size: int, steps: int, first: int) -> Array:
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
        numbers = op.integers(item)
        return np.stack([op.schedule(numbers, t) for t in range(last)], axis=1)
    return np.stack([op.encode(item, first, t) for t in range(last)], axis=1)
