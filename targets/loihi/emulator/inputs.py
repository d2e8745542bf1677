"""The host's side of a run: checking input arrays, spikes to inject, biases to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.targets.loihi.emulator.hostmaps import BiasInput, SpikeInput, most_spikes
from nmc.targets.loihi.emulator.kernels import as_slice
from nmc.targets.loihi.layout import Ints, LoihiImage


def check_inputs(
    image: LoihiImage, inputs: Mapping[str, ArrayLike], steps: int
) -> tuple[dict[str, NDArray[np.generic]], int]:
    """Check the input arrays of a run and count the samples (1 for an image without inputs).

    Raises
    ------
    NmcError
        E0540 for missing or unknown names, wrong shapes, numbers of samples that differ, NaN, spikes that are
        not 0 or 1 (more for a Poisson process).
    """
    names = {m.name for m in image.inputs}
    problems = [_error(f"the image has no input {n!r}") for n in inputs if n not in names]
    if steps < 0:
        problems.append(_error(f"{steps} steps"))
    arrays: dict[str, NDArray[np.generic]] = {}
    for m in image.inputs:
        if m.name not in inputs:
            problems.append(_error(f"input {m.name!r} is missing"))
            continue
        array = np.asarray(inputs[m.name])
        lead = (steps,) if m.kind == "spikes" else ()
        if array.ndim != 1 + len(lead) + len(m.shape) or array.shape[1:] != (*lead, *m.shape):
            expected = ", ".join(str(n) for n in ("samples", *lead, *m.shape))
            problems.append(_error(f"input {m.name!r} has shape {array.shape}, expected ({expected})"))
        elif array.dtype.kind not in "biuf":
            problems.append(_error(f"input {m.name!r} has type {array.dtype}"))
        elif m.kind == "spikes" and not _lawful_spikes(array, most_spikes(m)):
            values = "0 and 1" if most_spikes(m) == 1 else f"0, 1, ... {most_spikes(m)}"
            problems.append(_error(f"spike input {m.name!r} has values other than {values}"))
        elif m.kind == "bias" and np.isnan(array).any():
            problems.append(
                _error(f"input {m.name!r} has {int(np.isnan(array).sum())} values that are not numbers")
            )
        arrays[m.name] = array.reshape(*array.shape[: 1 + len(lead)], -1) if array.size else array
    sizes = {a.shape[0] for a in arrays.values() if a.ndim}
    if len(sizes) > 1:
        problems.append(_error(f"inputs differ in their number of samples: {sorted(sizes)}"))
    if 0 in sizes:
        problems.append(_error("the inputs hold no sample"))
    if problems:
        raise NmcError(problems)
    return arrays, sizes.pop() if sizes else 1


def _lawful_spikes(array: NDArray[Any], most: int) -> bool:
    """Whether all values are 0 or 1, or whole numbers up to `most`."""
    if most == 1:
        return bool(((array == 0) | (array == 1)).all())
    return bool(((array >= 0) & (array <= most) & (array == np.floor(array))).all())


def _error(text: str) -> Diagnostic:
    return Diagnostic("E0540", text)


def bias_mantissas(m: BiasInput, x: NDArray[np.generic]) -> Ints:
    """Give clip(rint(gain * x), 0, 4095) for each entry: int64 (entries, samples)."""
    scaled = np.rint(m.gain * x.astype(np.float64).T[m.index])
    return np.clip(scaled, 0, 4095).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Injection:
    """The spikes that one spike input sends to one core.

    Attributes
    ----------
    core : position of the core
    index, row : what goes where
    spikes : uint8 (steps, inputs, samples)
    repeats : the rows again when some row appears more than once, else None
    """

    core: int
    index: slice | Ints
    row: slice | Ints
    spikes: NDArray[np.uint8]
    repeats: Ints | None

    def send(self, x: NDArray[np.float32], t: int) -> int:
        """Add the spikes of step `t` to the in-axon rows `x`; gives their number."""
        part = self.spikes[t][self.index]
        sent = int(part.sum(dtype=np.int64))
        if sent and self.repeats is not None:
            np.add.at(x, self.repeats, part)
        elif sent:
            x[self.row] += part
        return sent


def injections(m: SpikeInput, x: NDArray[np.generic]) -> list[Injection]:
    """Sort a spike input (samples, steps, inputs) by core."""
    spikes = np.ascontiguousarray(np.moveaxis(x, 0, -1)).astype(np.uint8)
    result = []
    for core in np.unique(m.core):
        mine = m.core == core
        row = m.row[mine]
        repeats = row if np.unique(row).size < row.size else None
        result.append(Injection(int(core), as_slice(m.index[mine]), as_slice(row), spikes, repeats))
    return result
