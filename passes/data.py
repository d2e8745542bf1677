"""Sample data that passes look at (calibration, traffic): ``.npz`` files with ``x`` and perhaps ``y``."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.npz import read_npz

Array = NDArray[Any]


def load_samples(path: str, *, limit: int = 0, raw: bool = False) -> tuple[Array, Array | None]:
    """Read samples and labels.

    Parameters
    ----------
    path : str
        ``.npz`` file with ``x`` (N, ...) and, if known, ``y`` (N,).
    limit : int
        Only the first `limit` samples when positive.
    raw : bool
        Leave uint8 samples as they are instead of dividing by 255.

    Returns
    -------
    x : (N, ...) float32 array
    y : (N,) int64 array or None

    Raises
    ------
    NmcError
        E0403 when there is no usable ``x``; E0120 for a damaged file.
    """
    arrays = read_npz(path)
    if "x" not in arrays:
        raise fail("E0403", f"no array x in the file (it has {', '.join(arrays) or 'none'})", where=path)
    x, y = arrays["x"], arrays.get("y")
    if x.ndim < 2 or not len(x) or x.dtype.kind not in "uif":
        raise fail("E0403", f"x must hold numbers, one sample a row, not {x.dtype} {x.shape}", where=path)
    if y is not None and y.shape != x.shape[:1]:
        raise fail("E0403", f"y has shape {y.shape} for {len(x)} samples", where=path)
    if limit > 0:
        x, y = x[:limit], None if y is None else y[:limit]
    return scale_samples(x, raw=raw), None if y is None else y.astype(np.int64)


def byte_scale(path: str, *, raw: bool = False) -> int:
    """By what the bytes of a file's ``x`` are divided: 255, 1 where they are `raw`, 0 where they are no bytes."""
    with zipfile.ZipFile(path) as archive, archive.open("x.npy") as member:
        major, _ = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        kind = read(member)[2]
    return 0 if kind != np.uint8 else 1 if raw else 255


def scale_samples(x: Array, *, raw: bool = False) -> Array:
    """Give samples as float32; uint8 is divided by 255 unless `raw`."""
    scale = np.float32(255) if x.dtype == np.uint8 and not raw else np.float32(1)
    samples: Array = x.astype(np.float32) / scale
    return samples


def fit_shape(x: Array, shape: tuple[int, ...]) -> Array:
    """Bring samples (N, ...) to (N, *shape), adding a channel axis or flattening where the sizes agree.

    Raises
    ------
    NmcError
        E0401 when a sample has another number of elements.
    """
    if x.shape[1:] == shape:
        return x
    if x[0].size != int(np.prod(shape)):
        raise fail("E0401", f"the data have shape {x.shape[1:]} a sample, the network takes {shape}")
    return x.reshape(len(x), *shape)


def fit_input(x: Array, shape: tuple[int, ...], *, in_time: bool) -> Array:
    """Bring samples as `load_samples` gives them to what an input takes: `fit_shape`, or spikes (N, T, *shape).

    Raises
    ------
    NmcError
        E0401 when a sample (or a step of one) has another number of elements.
    """
    if not in_time:
        return fit_shape(x, shape)
    if x.ndim < 3 or int(np.prod(x.shape[2:])) != int(np.prod(shape)):
        takes = ", ".join(map(str, shape))
        raise fail(
            "E0401", f"the data have shape {x.shape[1:]} a sample, the network takes spikes (steps, {takes})"
        )
    spikes: Array = (x != 0).reshape(*x.shape[:2], *shape).astype(np.uint8)
    return spikes
