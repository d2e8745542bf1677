"""Running samples batch by batch, and for how many steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.interp import Progress

Array = NDArray[Any]
#: More steps a sample only run when the caller asks for them: an image may come from anywhere.
MAX_STEPS = 1 << 20


def steps_of(image: int, asked: int | None) -> int:
    """Time steps a sample: those the caller asks for, else the image's own number.

    Raises
    ------
    NmcError
        E0401 for less than one step, and for an image that asks for more than `MAX_STEPS`.
    """
    count = image if asked is None else asked
    if asked is None and count > MAX_STEPS:
        text = f"the image asks for {count:,} steps a sample, more than {MAX_STEPS:,}"
        raise fail("E0401", text, hint="say how many steps you want")
    if count < 1:
        raise fail("E0401", f"{count} steps are none")
    return count


def batches(
    data: Mapping[str, Array], batch: int, progress: Progress | None
) -> Iterator[tuple[int, int, dict[str, Array]]]:
    """Cut samples into batches: number of the first sample, how many there are, and the data of these.

    Parameters
    ----------
    data : mapping of str to (N, *shape) array
        A network without data runs one sample.
    batch : int
        Samples at a time, at most.
    progress : callable or None
        Told after each batch how many samples of how many are done.

    Raises
    ------
    NmcError
        E0401 when there are no samples.
    """
    total = min((len(item) for item in data.values()), default=1)
    if total < 1:
        raise fail("E0401", "there are no samples to run")
    for start in range(0, total, batch):
        stop = min(start + batch, total)
        yield start, stop - start, {name: np.asarray(item)[start:stop] for name, item in data.items()}
        if progress:
            progress(stop, total)
