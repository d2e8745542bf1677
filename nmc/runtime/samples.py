"""Sample data for networks of any kind: ``.npz`` and ``.npy`` files brought to the shapes that inputs take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.npz import MAX_BYTES, read_npz
from nmc.ir.ops import ann, snn
from nmc.passes.data import fit_shape, scale_samples

Array = NDArray[Any]


def read_samples(path: Path, raw: bool, limit: int) -> dict[str, Array]:
    """Read the arrays of a data file.

    Parameters
    ----------
    path : Path
        ``.npz`` (arrays by name), or ``.npy`` (one array, called x).
    raw : bool
        Leave uint8 samples as they are instead of dividing by 255 (spikes are never divided).
    limit : int
        Keep this many samples of each array, at most. A single sample without a batch axis stays one.

    Returns
    -------
    dict of str to array
        As `samples_of` takes it.

    Raises
    ------
    NmcError
        E0120 for a damaged file, E0403 for one without numbers.
    """
    arrays = _npy(path) if path.suffix == ".npy" else read_npz(path)
    numbers = {
        name: item for name, item in arrays.items() if item.dtype.kind in "uifb" and item.ndim and item.size
    }
    if not numbers:
        raise fail("E0403", "no array of numbers in the file", where=str(path))
    return {"": np.array([raw, limit]), **numbers}


def _npy(path: Path) -> dict[str, Array]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        return {"x": np.asarray(np.load(path, allow_pickle=False))}
    except (OSError, ValueError, EOFError) as error:
        raise fail("E0120", f"not a readable .npy file: {error}", where=str(path)) from None


def samples_of(module: Module, given: Mapping[str, Array], where: str = "") -> dict[str, Array]:
    """Give each data source of a module its samples.

    Parameters
    ----------
    module : Module
        Of level ann, snn or mapped.
    given : mapping of str to array
        Of `read_samples`. A source takes the array of its name; one alone takes ``x`` or the only one.

    Returns
    -------
    dict of str to array
        (B, *shape), or (B, T, *shape) for spikes.

    Raises
    ------
    NmcError
        E0401 when a source has no data, or of another shape.
    """
    sources: dict[str, tuple[tuple[int, ...], bool]] = {
        op.out: (op.shape, False) for op in module.of_type(ann.Input)
    }
    sources |= {op.source: (op.shape, op.in_time) for op in module.of_type(snn.InputOp) if op.source}
    arrays = {name: item for name, item in given.items() if name}
    found = {}
    for name, (shape, in_time) in sources.items():
        item = arrays.get(name)
        if item is None and len(sources) == 1:
            item = arrays.get("x", next(iter(arrays.values()), None))
        if item is None:
            have = ", ".join(arrays) or "none"
            raise fail(
                "E0401", f"no data for input {name}; arrays: {have}", where=where, hint="give --input FILE"
            )
        raw, limit = given.get("", np.array([0, len(item)])).tolist()
        found[name] = _spikes(item, shape, limit) if in_time else _static(item, shape, bool(raw), limit)
    return found


def _spikes(item: Array, shape: tuple[int, ...], limit: int) -> Array:
    """Spikes (T, *shape) or (B, T, *shape); the axes of a sample may be joined or split."""
    size = int(np.prod(shape, dtype=np.int64))
    for lead in (1, 2):
        if item.ndim > lead - 1 and item.shape[lead:] == shape or int(np.prod(item.shape[lead:])) == size:
            batch = item.reshape(*item.shape[:lead], *shape)
            return batch[None] if lead == 1 else batch[:limit]
    raise fail("E0401", f"spikes of shape {item.shape}; the network takes (samples, steps, {_shown(shape)})")


def _static(item: Array, shape: tuple[int, ...], raw: bool, limit: int) -> Array:
    batch = item[None] if item.shape == shape else item[:limit]
    return fit_shape(scale_samples(batch, raw=raw), shape)


def _shown(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def steps_of(side: Any, data: Mapping[str, Array]) -> int:
    """Steps that a module or program says, else those of its spike data; 0 where neither tells."""
    module = side if isinstance(side, Module) else side.module
    steps = module.attr("steps", 0)
    if isinstance(steps, int) and steps > 0:
        return steps
    times = [
        data[op.source].shape[1] for op in module.of_type(snn.InputOp) if op.source in data and op.in_time
    ]
    return max(times, default=0)
