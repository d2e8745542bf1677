"""Host tables resolved to positions of cores, compartments and in-axon rows."""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic
from nmc.ir.ops.sources import MAX_MEAN, Poisson
from nmc.targets.loihi.emulator.compartments import Compartments
from nmc.targets.loihi.layout import MAX_CX, InputMap, Ints, LoihiImage
from nmc.targets.loihi.synapses import InAxons


@dataclass(frozen=True, eq=False)
class Place:
    """Neurons as core positions and compartment positions; `vcx` is where u and v are read."""

    core: Ints
    cx: Ints
    vcx: Ints


@dataclass(frozen=True, eq=False)
class SpikeInput:
    """Entries of a spike input: flat index, core position, in-axon row; spikes an element a step at most."""

    name: str
    index: Ints
    core: Ints
    row: Ints
    most: int


@dataclass(frozen=True, eq=False)
class BiasInput:
    """Entries of a bias input: flat index, core position, compartment position."""

    name: str
    index: Ints
    core: Ints
    cx: Ints
    gain: float
    exponent: int


@dataclass(frozen=True, eq=False)
class HostMaps:
    """All host tables, resolved; `problems` is what is wrong with them."""

    spikes: tuple[SpikeInput, ...]
    biases: tuple[BiasInput, ...]
    outputs: dict[str, Place]
    pops: dict[str, Place]
    problems: tuple[Diagnostic, ...]


def resolve_host_maps(
    image: LoihiImage, numbers: list[int], cores: list[Compartments], axons: list[InAxons]
) -> HostMaps:
    """Look every entry of the host tables up; problems carry E0530."""
    problems: list[Diagnostic] = []
    ids = np.array(numbers, np.int64)
    spikes, biases = [], []
    for m in image.inputs:
        problems += _check_input(m)
        core = find_cores(ids, m.core)
        if m.kind == "spikes":
            row = find_rows(axons, core, m.target, m.atom)
            problems += _missing(row, m.name, "in-axons")
            spikes.append(SpikeInput(m.name, m.index, core, row, most_spikes(m)))
        else:
            cx = _positions(cores, core, m.target)
            problems += _missing(cx, m.name, "compartments")
            biases.append(BiasInput(m.name, m.index, core, cx, m.gain, m.bias_exp))
    outputs, pops = {}, {}
    for o in image.outputs:
        core = find_cores(ids, o.core)
        cx = _positions(cores, core, o.cx)
        problems += _missing(cx, o.name, "compartments")
        outputs[o.name] = Place(core, cx, cx)
    for p in image.pops:
        core = find_cores(ids, p.core)
        cx, vcx = _positions(cores, core, p.cx), _positions(cores, core, p.vcx)
        problems += _missing(np.minimum(cx, vcx), p.name, "compartments")
        pops[p.name] = Place(core, cx, vcx)
    for kind, names in (
        ("input", [m.name for m in image.inputs]),
        ("output", [m.name for m in image.outputs]),
        ("population", [m.name for m in image.pops]),
    ):
        twice = sorted(n for n, times in Counter(names).items() if times > 1)
        problems += [Diagnostic("E0530", f"two {kind} tables are called {n}", where=n) for n in twice]
    return HostMaps(tuple(spikes), tuple(biases), outputs, pops, tuple(problems))


def process_of(m: InputMap) -> Poisson:
    """The Poisson process whose counts the host injects."""
    return Poisson(out=m.name, shape=m.shape, mean=m.gain, seed=m.seed)


def most_spikes(m: InputMap) -> int:
    """How many spikes an element of an input sends in a step at most."""
    counts = m.encoder == "poisson" and 0 <= m.gain <= MAX_MEAN
    return process_of(m).most if counts else 1


def find_cores(numbers: Ints, wanted: Ints) -> Ints:
    """Give the position of each wanted core number in the ascending `numbers`, -1 where absent."""
    if not numbers.size:
        return np.full(wanted.shape, -1, np.int64)
    at = np.minimum(np.searchsorted(numbers, wanted), numbers.size - 1)
    return np.where(numbers[at] == wanted, at, -1)


def find_rows(axons: list[InAxons], core: Ints, axon: Ints, atom: Ints) -> Ints:
    """Give the in-axon row of each (core position, in-axon, atom), -1 where it does not exist."""
    row = np.full(core.shape, -1, np.int64)
    for position in np.unique(core[core >= 0]):
        table = axons[position]
        mine = (core == position) & (axon >= 0) & (axon < table.rows.size)
        a = axon[mine]
        row[mine] = np.where(
            (atom[mine] >= 0) & (atom[mine] < table.rows[a]), table.first_row[a] + atom[mine], -1
        )
    return row


def _check_input(m: InputMap) -> list[Diagnostic]:
    problems = []
    if m.kind not in ("bias", "spikes"):
        problems.append(Diagnostic("E0530", f"input kind {m.kind!r} is not bias or spikes", where=m.name))
    if not np.isfinite(m.gain) or not 0 <= m.bias_exp <= 7:
        text = f"gain {m.gain} must be finite and bias exponent {m.bias_exp} in 0..7"
        problems.append(Diagnostic("E0530", text, where=m.name))
    if m.encoder == "poisson" and not (m.kind == "spikes" and 0 <= m.gain <= MAX_MEAN):
        text = f"a Poisson process sends spikes, 0 to {MAX_MEAN:g} a step on average, not {m.gain} ({m.kind})"
        problems.append(Diagnostic("E0530", text, where=m.name))
    bad = (m.index < 0) | (m.index >= prod(m.shape))
    if bad.any():
        text = f"{int(bad.sum())} entries lie outside shape {m.shape} (the first is {m.index[bad][0]})"
        problems.append(Diagnostic("E0530", text, where=m.name))
    return problems


def _positions(cores: list[Compartments], core: Ints, cx: Ints) -> Ints:
    """Give the position of each compartment in its core, -1 where core or compartment is not there."""
    result = np.full(core.shape, -1, np.int64)
    for number in np.unique(core[core >= 0]):
        mine = (core == number) & (cx >= 0) & (cx < MAX_CX)
        result[mine] = cores[number].position[cx[mine]]
    return result


def _missing(found: Ints, name: str, what: str) -> list[Diagnostic]:
    bad = np.flatnonzero(found < 0)
    if not bad.size:
        return []
    text = f"{bad.size} entries name {what} that are not in the image (the first is entry {bad[0]})"
    return [Diagnostic("E0530", text, where=name)]
