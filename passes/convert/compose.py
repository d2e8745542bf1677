"""Kernels of linear layers that follow each other: one convolution in place of two."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ints = tuple[int, ...]


def composite(first: Array, step: Ints, groups: int, second: Array, second_groups: int) -> tuple[Array, int]:
    """Give the kernel of a convolution behind another.

    An output of the second reads outputs of the first that lie `step` inputs apart, so that its kernel of k elements
    behind one of n reaches n + (k - 1) * step inputs.

    Parameters
    ----------
    first : (M, C / groups, *kernel) array
        Kernel of the convolution that comes first, without dilation.
    step : tuple of int
        Its stride.
    groups, second_groups : int
        Channel groups of the two.
    second : (O, M / second_groups, *kernel) array
        Kernel of the convolution behind it, without dilation.

    Returns
    -------
    kernel, groups : (O, C / groups, *kernel) float64 array, int
    """
    mix, groups = _mixer(first, groups, second, second_groups)
    reach = tuple(n + (k - 1) * s for n, k, s in zip(first.shape[2:], second.shape[2:], step, strict=True))
    kernel: Array | None = None
    for tap in product(*map(range, second.shape[2:])):
        element: Any = (..., *tap)
        mixed = mix(second[element])
        kernel = np.zeros((*mixed.shape[:2], *reach)) if kernel is None else kernel
        cut = [slice(at * s, at * s + n) for at, s, n in zip(tap, step, first.shape[2:], strict=True)]
        place: Any = (..., *cut)
        kernel[place] += mixed
    assert kernel is not None, "a kernel has elements"
    return kernel, groups


def _mixer(first: Array, groups: int, second: Array, second_groups: int) -> tuple[Any, int]:
    """How one element (O, M / second_groups) of the second kernel mixes the first, and the groups of the result."""
    made, outputs = len(first), len(second)
    spread = [1] * (first.ndim - 2)
    if second_groups == made and made == outputs:  # each channel by itself: pooling behind a convolution
        return (lambda part: first * part.reshape(-1, 1, *spread)), groups
    if groups == made and first.shape[1] == 1:  # pooling before a convolution: each input by its own kernel
        rows = first[:, 0].reshape(second_groups, -1, *first.shape[2:])
        own = np.repeat(rows, outputs // second_groups, axis=0)
        return (lambda part: own * part.reshape(*part.shape, *spread)), second_groups
    whole = ungrouped(first, groups)
    return (lambda part: np.tensordot(ungrouped(part, second_groups), whole, axes=1)), 1


def ungrouped(weight: Array, groups: int) -> Array:
    """Write the zeros of a grouped kernel out."""
    if groups == 1:
        return weight
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    full = np.zeros((weight.shape[0], columns * groups, *weight.shape[2:]))
    for group in range(groups):
        own = slice(group * rows, (group + 1) * rows)
        full[own, group * columns : (group + 1) * columns] = weight[own]
    return full


def border_is_empty(kernel: Ints, step: Ints, pad: Ints, space: Ints, second_pad: Ints) -> bool:
    """Tell whether the border of a second convolution is what the first would give there: nothing.

    Behind the first convolution the border is zero; one kernel in place of both computes there what the first makes of
    inputs near the edge, unless its windows lie in its own border alone.
    """
    if max(second_pad, default=0) <= 0:
        return True
    if any(pad) or any(n > s for n, s in zip(kernel, step, strict=True)):
        return False
    made = [(extent - n) // s + 1 for extent, n, s in zip(space, kernel, step, strict=True)]
    behind = second_pad[len(space) :]
    return all(
        late <= 0 or count * s >= extent
        for late, count, s, extent in zip(behind, made, step, space, strict=True)
    )


def permutation(places: Array, shape: Ints) -> Array | None:
    """Where each channel comes from when a value only changed places by whole channels; None otherwise.

    Parameters
    ----------
    places : (1, C', *space) int array
        Index of the element of a value of `shape` (C, *space) that stands in each place, -1 for none.
    shape : tuple of int
        Of the value.

    Returns
    -------
    (C',) int64 array or None
        -1 for channels of none.
    """
    if places.shape[2:] != tuple(shape[1:]):
        return None
    size = int(np.prod(shape[1:]))
    flat = places.reshape(places.shape[1], size)
    source = np.where(flat[:, 0] < 0, -1, flat[:, 0] // size)
    wanted = np.where(source[:, None] < 0, -1, source[:, None] * size + np.arange(size))
    return source if (flat == wanted).all() else None
