"""Data to events: what the host sends for the inputs of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.op import VerifyError
from nmc.ir.ops import snn, sources

Array = NDArray[Any]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "source": (str,), "encoder": (str,), "gain": (int, float), "seed": (int,), "low": (int,), "high": (int,),
    "over": (int,), "mean": (int, float),
}  # fmt: skip
DataOp = TypeVar("DataOp", bound=snn.Input)
PoissonOp = TypeVar("PoissonOp", bound=sources.Poisson)


class InputEntry(Protocol):
    """An input in the table of an image."""

    @property
    def name(self) -> str:
        """The op's name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample."""

    @property
    def encoder(self) -> Mapping[str, Any]:
        """Attributes of the op that encodes, and which of the two it is as ``kind``."""


def input_op(
    entry: InputEntry, data: type[DataOp], poisson: type[PoissonOp], code: str
) -> DataOp | PoissonOp:
    """The op that encodes for an input of an image, which may come from anywhere.

    Parameters
    ----------
    entry : InputEntry
    data, poisson : type
        The target's op for data and for random processes.
    code : str
        The target's code for damaged images.

    Raises
    ------
    NmcError
        `code` for an encoder that is none.
    """
    given = dict(entry.encoder)
    kind = given.pop("kind", "")
    wrong = [
        name for name, value in given.items()
        if isinstance(value, bool) or not isinstance(value, _TYPES.get(name, ()))
    ]  # fmt: skip
    cls: Any = {"data": data, "poisson": poisson}.get(str(kind))
    if cls is None or wrong:
        raise fail(code, f"the encoder of {entry.name} is none: {', '.join(wrong) or kind!r}")
    try:
        op: DataOp | PoissonOp = cls(out=entry.name, shape=entry.shape, **given)
        op.infer()
        op.verify()
    except (VerifyError, ValueError, TypeError, OverflowError) as error:
        raise fail(code, f"the encoder of {entry.name} is none: {error}") from None
    known = (*snn.EXACT_ENCODERS, "rate", "raster")
    if isinstance(op, snn.Input) and not (np.isfinite(op.gain) and op.encoder in known):
        raise fail(code, f"the encoder of {entry.name} is none: {op.encoder}, gain {op.gain}")
    return op


def numbers(
    op: snn.Input | sources.Poisson, data: Mapping[str, Array], size: int, steps: int, first: int
) -> Array:
    """Payloads of an input for a batch of samples: integers (size, T, *shape), T <= `steps`; nothing comes after.

    Data of one axis more, (size, F, *shape), are frames that share the steps: of each the difference to the one before
    is sent.

    Raises
    ------
    NmcError
        E0401 for data that are missing or of another shape.
    """
    if isinstance(op, sources.Poisson) or not op.source:
        silent = np.zeros((size, *op.shape), np.uint8)
        last = max(1, min(steps, op.active_until)) if isinstance(op, snn.Input) and op.rests else steps
        return np.stack([op.encode(silent, first, t) for t in range(last)], axis=1)
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
