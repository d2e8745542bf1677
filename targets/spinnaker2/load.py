"""Read a PE image back: the law, its parameters and synapses, everything checked.

Images come from files and are not trusted. What passes `load` cannot make the firmware (which trusts its data) read
or write outside its regions or divide by zero, and the engines need not look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.targets.spinnaker2 import layout, machine
from nmc.targets.spinnaker2.build import fields_at, values_at
from nmc.targets.spinnaker2.laws import Law, param_dtype, params_of, state_dtype
from nmc.targets.spinnaker2.layout import PeImage, Words
from nmc.targets.spinnaker2.machine import Machine

Array = NDArray[Any]

#: Synapses that the shared kernels of a PE may unfold to, positions outside the target box included.
MAX_UNFOLDED = 1 << 24
_POSITIVE = ("theta",)


@dataclass(frozen=True, eq=False)
class LoadedEntry:
    """One entry of the population table with its synapses.

    Either `dense` is the (count, targets) int8 matrix of a ``dense8`` entry, or the synapses of source s are those
    from ``starts[s]`` to ``starts[s + 1]`` of `field` (delay field), `type`, `target`, `weight` (int64 each).
    `geometry` is that of a ``conv`` entry.
    """

    key: int
    mask: int
    first: int
    count: int
    gain: int
    format: str
    dense: Array | None
    dense_at: tuple[int, int, int]
    starts: Array
    field: Array
    type: Array
    target: Array
    weight: Array
    geometry: Mapping[str, int] | None = None

    def row_lengths(self) -> NDArray[np.int64]:
        """Synaptic events of a spike, by source (a dense row counts whole)."""
        if self.dense is not None:
            return np.full(self.count, self.dense.shape[1], np.int64)
        return np.diff(self.starts)


@dataclass(frozen=True, eq=False)
class LoadedPe:
    """What a PE does.

    Parameters
    ----------
    image : PeImage
    law : Law
    neurons, slots, key_base, rx_packets : int
    params : mapping of str to array
        Of one element or one a neuron.
    state : mapping of str to (neurons,) array
        Before the first tick.
    entries : tuple of LoadedEntry
    record : frozenset of str
        What is recorded in SRAM.
    record_ticks : int
    """

    image: PeImage
    law: Law
    neurons: int
    slots: int
    key_base: int
    rx_packets: int
    params: Mapping[str, Array]
    state: Mapping[str, Array]
    entries: tuple[LoadedEntry, ...]
    record: frozenset[str]
    record_ticks: int

    @cached_property
    def key_ranges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last key that each entry may match."""
        low = np.array([entry.key for entry in self.entries], np.int64)
        return low, low | np.array([~entry.mask & 0xFFFFFFFF for entry in self.entries], np.int64)


def load(image: PeImage) -> LoadedPe:
    """Decode and check an image.

    Raises
    ------
    NmcError
        E0912 for an image whose records, sizes or pointers do not fit together.
    """
    where = f"PE {image.chip}:{image.pe}"
    check = _Check(where)
    check(set(image.regions) == set(layout.REGIONS), "regions are missing")
    check(image.used_bytes() <= layout.SRAM_BYTES, f"{image.used_bytes():,} bytes are more than the SRAM")
    check(len(image.regions["global"]) == len(layout.GLOBAL), "the region global has the wrong size")
    g = image.global_words()
    law = _law(g, _machine(image, check) if image.user else None, check)
    n, slots = g["neurons"], g["slot_mask"] + 1
    _check_sizes(image, g, law, check)
    params = _params(image, law, n, g["period"], check)
    states = image.regions["state"].reshape(len(law.states), n)
    state = {name: states[k].view(state_dtype(law, name)) for k, name in enumerate(law.states)}
    finite = law.machine is None or all(bool(np.isfinite(values).all()) for values in state.values())
    check(finite, "a state begins where it is not finite")
    record = frozenset(name for name, bit in layout.RECORDS.items() if g["record"] & bit)
    return LoadedPe(
        image, law, n, slots, int(image.regions["routing"][0]), len(image.regions["rx"]) // 2, params, state,
        _entries(image, g, law, check), record, g["record_ticks"],
    )  # fmt: skip


class _Check:
    """Raises E0912 with the PE's name."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.unfolded = 0

    def __call__(self, good: bool | np.bool_, text: str) -> None:
        if not good:
            self.wrong(text)

    def wrong(self, text: str) -> NoReturn:
        raise fail("E0912", text, where=self.where)


def _machine(image: PeImage, check: _Check) -> Machine:
    """The model of the network's user: forward only, and nothing is read that it has not written."""
    try:
        found = machine.decode(image.regions["params"])
    except ValueError as error:
        check.wrong(str(error))
    constants = np.array(found.constants, np.uint32).view(found.dtype)
    check(bool(np.isfinite(constants).all()), "a constant is not finite")
    return found


def _law(g: Mapping[str, int], model_of_user: Machine | None, check: _Check) -> Law:
    check(1 <= g["model"] <= len(layout.MODELS), f"there is no model {g['model']}")
    model = layout.MODELS[g["model"] - 1]
    flags = {name for name, bit in layout.FLAGS.items() if g["flags"] & bit}
    check(
        0 <= g["flags"] < 32 and flags.isdisjoint({"subtract"}) | flags.isdisjoint({"to-value"}),
        "wrong flags",
    )
    most = {"lif": 2, "lif_fixed": 2, "max_pool": layout.MAX_TYPES}.get(model, 1)
    check(1 <= g["types"] <= most, f"{g['types']} synapse types")
    check(min(g["start"], g["levels"], g["open"], g["extra"]) >= 0, "a window or count is negative")
    check(
        g["open"] + g["levels"] < 1 << 31 and max(g["start"], g["open"], g["extra"]) < 1 << 30,
        "too long a window",
    )
    check(model != "stbif" or g["extra"] <= 0xFFFF, "the bias is spread over more than 65,535 ticks")
    check(model != "bit_serial" or 1 <= g["extra"] <= 31, f"{g['extra']} bits")
    return Law(
        model,  # type: ignore[arg-type]
        "ge" if "ge" in flags else "gt",
        "subtract" if "subtract" in flags else "to-value" if "to-value" in flags else "none",
        "membrane-first" if "membrane-first" in flags else "synapse-first",
        "shape-last" in flags,
        g["types"], g["levels"], g["open"], g["extra"], g["start"], model_of_user,
    )  # fmt: skip


def _check_sizes(image: PeImage, g: Mapping[str, int], law: Law, check: _Check) -> None:
    n, have = g["neurons"], {name: len(words) for name, words in image.regions.items()}
    check(1 <= n <= layout.MAX_NEURONS, f"{n} neurons")
    check(g["stride"] == n, f"ring stride {g['stride']} for {n} neurons")
    check(g["slot_mask"] in (0, 1, 3, 7), f"{g['slot_mask'] + 1} delay slots")
    check(1 <= g["period"] <= n, f"{g['period']} classes of {n} neurons")
    check(0 <= g["record"] < 8 and 0 <= g["record_ticks"] < 1 << 20, "wrong recording")
    scratch = machine.scratch_words(law.machine) if law.machine else 0
    ticks = {name: g["record_ticks"] if g["record"] & bit else 0 for name, bit in layout.RECORDS.items()}
    want = {
        "control": len(layout.CONTROL), "state": n * len(law.states), "tx": 2 * n + scratch,
        "ring": (g["slot_mask"] + 1) * g["types"] * n, "table": g["entries"] * layout.ENTRY_WORDS,
        "rec_spikes": ticks["spikes"] * ((n + 31) // 32), "rec_v": ticks["v"] * n, "rec_payload": ticks["payload"] * n,
    }  # fmt: skip
    for name, words in want.items():
        check(have[name] == words, f"the region {name} has {have[name]} words, not {words}")
    check(have["rx"] >= 2 and have["rx"] % 2 == 0, f"the mailbox has {have['rx']} words")
    check(have["routing"] >= 1 and have["params"] >= values_at(law), "routing or params are cut short")
    for name in layout.ZEROED:
        check(not image.regions[name].any(), f"the region {name} is not zero")


def _params(image: PeImage, law: Law, n: int, period: int, check: _Check) -> dict[str, Array]:
    words, base = image.regions["params"], image.pointers()["params"]
    sizes = {layout.UNIFORM: 1, layout.CLASS: period, layout.NEURON: n}
    found: dict[str, Array] = {}
    names, first = [*params_of(law)], fields_at(law)
    if law.machine:
        del sizes[layout.CLASS]
    else:
        names += [""] * (layout.MAX_FIELDS - len(names))
    for number, name in enumerate(names):
        pointer, mode = int(words[first + 2 * number]), int(words[first + 2 * number + 1])
        check(mode in sizes and pointer % 4 == 0, f"parameter {number} has mode {mode} at {pointer:#x}")
        at, size = (pointer - base) // 4, sizes[mode]
        check(at >= 0 and at + size <= len(words), f"parameter {number} lies outside its region")
        if name:
            value = words[at : at + size].view(param_dtype(law, name))
            found[name] = np.resize(value, n) if mode == layout.CLASS else value
            check(bool(np.isfinite(value).all()), f"the parameter {name} is not finite")
            check(name != "theta" or bool((value > 0).all()), "a threshold is not positive")
    return found


def _entries(image: PeImage, g: Mapping[str, int], law: Law, check: _Check) -> tuple[LoadedEntry, ...]:
    table = image.regions["table"].reshape(-1, layout.ENTRY_WORDS)
    found = []
    last: tuple[int, int] | None = None
    for row in table:
        e = {name: int(word) for name, word in zip(layout.ENTRY, row, strict=True)}
        span = (e["key"], e["mask"])
        check(e["key"] & ~e["mask"] == 0, f"key {e['key']:#x} has bits outside its mask")
        after = last is None or span == last or e["key"] > (last[0] | (~last[1] & 0xFFFFFFFF))
        check(after, f"entry {e['key']:#x} overlaps the one before or is out of order")
        last = span
        found.append(_entry(image, e, g, check))
    return tuple(found)


def _entry(image: PeImage, e: Mapping[str, int], g: Mapping[str, int], check: _Check) -> LoadedEntry:
    code, late, kind = e["info"] & 255, e["info"] >> 8 & 255, e["info"] >> 16
    check(code < len(layout.FORMATS), f"entry {e['key']:#x} has no known format")
    check(
        late <= g["slot_mask"] and kind < g["types"], f"entry {e['key']:#x}: delay field {late}, type {kind}"
    )
    check(1 <= e["count"] <= 1 << 20, f"entry {e['key']:#x} has {e['count']} sources")
    name = layout.FORMATS[code]
    none = np.zeros(0, np.int64)
    geometry, dense, lists = None, None, (np.zeros(e["count"] + 1, np.int64), none, none, none, none)
    if name == "dense8":
        dense = _dense(image, e, g, check)
    elif name == "conv":
        geometry = _geometry(image, e, g, check)
        starts, target, weight = _conv(image, e, geometry, check)
        lists = (starts, np.full(target.size, late), np.full(target.size, kind), target, weight)
    else:
        lists = _sparse(image, e, g, name, check)
    gain = e["gain"] - ((e["gain"] >> 31) << 32)
    at = (late, kind, e["target"])
    return LoadedEntry(e["key"], e["mask"], e["first"], e["count"], gain, name, dense, at, *lists, geometry)


def _bytes(image: PeImage, region: str, pointer: int, size: int, check: _Check) -> NDArray[np.uint8]:
    """`size` bytes at an SRAM address that must lie in a region."""
    at = pointer - image.pointers()[region]
    data = image.regions[region].view(np.uint8)
    check(at >= 0 and at + size <= len(data), f"{size} bytes at {pointer:#x} leave the region {region}")
    return data[at : at + size]


def _dense(image: PeImage, e: Mapping[str, int], g: Mapping[str, int], check: _Check) -> Array:
    check(e["stride"] % 4 == 0 == e["rows"] % 4, f"entry {e['key']:#x}: rows are not aligned")
    check(
        1 <= e["targets"] <= e["stride"],
        f"entry {e['key']:#x}: {e['targets']} targets in {e['stride']} bytes",
    )
    check(e["target"] + e["targets"] <= g["stride"], f"entry {e['key']:#x} reaches past the last neuron")
    data = _bytes(image, "rows", e["rows"], e["count"] * e["stride"], check)
    matrix: Array = data.view(np.int8).reshape(e["count"], e["stride"])[:, : e["targets"]]
    return matrix


def _sparse(
    image: PeImage, e: Mapping[str, int], g: Mapping[str, int], name: str, check: _Check
) -> tuple[Array, Array, Array, Array, Array]:
    check(e["stride"] % 2 == 0 == e["rows"] % 4, f"entry {e['key']:#x}: rows are not aligned")
    halves = _bytes(image, "index", e["stride"], 2 * (e["count"] + 1), check).view(np.uint16)
    starts = halves.astype(np.int64)
    check((np.diff(starts) >= 0).all(), f"entry {e['key']:#x}: rows run backwards")
    size = 2 if name == "sparse16" else 4
    data = _bytes(image, "rows", e["rows"], size * int(starts[-1]), check)
    words = data.view(np.uint16 if size == 2 else np.uint32).astype(np.int64)
    if size == 2:
        late, kind, target, weight = words >> 9 & 7, words >> 8 & 1, words & 255, words >> 12
        if g["types"] == 1:
            weight, kind = np.where(kind, -weight, weight), np.zeros_like(kind)
    else:
        late, kind, target, weight = (
            words >> 13 & 7,
            words >> 12 & 1,
            words & 4095,
            words.astype(np.int32) >> 16,
        )
    used = np.zeros(words.size, bool)
    used[int(starts[0]) :] = True
    inside = (late <= g["slot_mask"]) & (kind < g["types"]) & (target < g["stride"])
    check((inside | ~used).all(), f"entry {e['key']:#x} reaches past the neurons, slots or types")
    return starts, late, kind, target, weight.astype(np.int64)


def _geometry(image: PeImage, e: Mapping[str, int], g: Mapping[str, int], check: _Check) -> Mapping[str, int]:
    check(e["stride"] % 4 == 0 == e["rows"] % 4, f"entry {e['key']:#x}: rows are not aligned")
    words = _bytes(image, "geometry", e["stride"], 4 * len(layout.GEOMETRY), check).view(np.int32)
    q = {name: int(word) for name, word in zip(layout.GEOMETRY, words, strict=True)}
    check(all(abs(word) < 1 << 15 for word in q.values()), "a geometry holds numbers beyond 15 bits")
    positive = ("channels", "width", "kernel_y", "kernel_x", "stride_y", "stride_x", "dilation_y", "dilation_x",
                "group_in", "group_out", "kernel_stride")  # fmt: skip
    check(
        min(q[name] for name in positive) > 0 and min(q["c0"], q["tc0"]) >= 0,
        "a geometry holds a size below 1",
    )
    extent = [q["ty1"] - q["ty0"], q["tx1"] - q["tx0"], q["tc1"] - q["tc0"]]
    check(min(extent) > 0 and int(np.prod(extent)) <= g["stride"], "a target box is not that of the PE")
    return q


def _conv(
    image: PeImage, e: Mapping[str, int], q: Mapping[str, int], check: _Check
) -> tuple[Array, Array, Array]:
    channel = q["c0"] + np.arange(q["channels"])
    low = np.maximum(channel // q["group_in"] * q["group_out"], q["tc0"])
    high = np.maximum(np.minimum((channel // q["group_in"] + 1) * q["group_out"], q["tc1"]), low)
    check((high - low).max() <= q["kernel_stride"] and q["kernel_stride"] % 4 == 0, "a kernel is cut short")
    size = q["channels"] * q["kernel_y"] * q["kernel_x"] * q["kernel_stride"]
    kernel = _bytes(image, "rows", e["rows"], size, check).view(np.int8)
    check.unfolded += e["count"] * q["kernel_y"] * q["kernel_x"] * max(int((high - low).max()), 1)
    check(check.unfolded <= MAX_UNFOLDED, f"its kernels stand for {check.unfolded:,} synapses or more")
    return _unfold(
        e["count"], q, low, high - low, kernel.reshape(q["channels"], q["kernel_y"], q["kernel_x"], -1)
    )


def _axis(place: Array, q: Mapping[str, int], axis: str) -> tuple[Array, Array]:
    """Output place (source, tap) along an axis, and whether it is one inside the box."""
    away = place[:, None] + q[f"pad_{axis}"] - np.arange(q[f"kernel_{axis}"]) * q[f"dilation_{axis}"]
    out = away // q[f"stride_{axis}"]
    inside = (
        (away % q[f"stride_{axis}"] == 0) & (out >= q[f"t{axis}0"]) & (out < q[f"t{axis}1"]) & (away >= 0)
    )
    return out - q[f"t{axis}0"], inside


def _unfold(
    count: int, q: Mapping[str, int], low: Array, width: Array, kernel: Array
) -> tuple[Array, Array, Array]:
    """All synapses of a shared kernel: starts (count + 1), targets and weights."""
    source = np.arange(count)
    c, at = source % q["channels"], source // q["channels"]
    oy, good_y = _axis(q["y0"] + at // q["width"], q, "y")
    ox, good_x = _axis(q["x0"] + at % q["width"], q, "x")
    s, ky, kx = np.nonzero(good_y[:, :, None] & good_x[:, None, :])
    n = width[c[s]]  # targets of each (source, tap)
    line = np.repeat(np.arange(s.size), n)
    k = np.arange(line.size) - np.repeat(np.cumsum(n) - n, n)
    channels = q["tc1"] - q["tc0"]
    place = oy[s, ky] * (q["tx1"] - q["tx0"]) + ox[s, kx]
    target = place[line] * channels + (low[c[s]] - q["tc0"])[line] + k
    weight = kernel[c[s][line], ky[line], kx[line], k].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(s, weights=n, minlength=count).astype(np.int64))])
    return starts, target, weight


def words_of(values: Array) -> Words:
    """State or ring values (32 bits each) as words."""
    return np.ascontiguousarray(values).view(np.uint32).reshape(-1)
