"""From a place on the chip to a neuron of the network, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from math import prod
from typing import Any

from nmc.ir.diagnostics import fail

_COMPARTMENT = re.compile(r"(?:core\s*)?(\d{1,9})\s*(?::|\s+cx\s*|,\s*cx\s*)\s*(\d{1,9})")
_COLUMNS = ("core", "compartment", "receives")
_NEURON = re.compile(r"(.+?)\[([\d,\s]+)\]")


def find_place(places: Mapping[str, Any], text: str) -> list[str]:
    """Describe a compartment, a neuron or a population; see `nmc.program.Program.where`.

    Parameters
    ----------
    places : mapping
        The content of ``map.json``.
    text : str
        What is asked for.

    Raises
    ------
    NmcError
        E0807 when there is no such place.
    """
    text = text.strip().lstrip("%")
    if found := _COMPARTMENT.fullmatch(text):
        return _at(places, int(found[1]), int(found[2]))
    if text in places:
        return _population(text, places[text])
    if found := _NEURON.fullmatch(text):
        return [_neuron(places, found[1], [int(part) for part in found[2].replace(",", " ").split()])]
    near = get_close_matches(text, list(places), 1)
    hint = f"did you mean {near[0]}?" if near else f"populations: {', '.join(places)}"
    raise fail("E0807", f"there is no place {text!r}", hint=hint)


def check_places(places: dict[str, Any]) -> dict[str, Any]:
    """Give a map back when it is one: its bytes may come from anywhere.

    Raises
    ------
    NmcError
        E0804 when an entry is not what the compiler writes.
    """
    for name, entry in places.items():
        columns = [entry.get(key) for key in ("shape", *_COLUMNS)] if isinstance(entry, dict) else [None]
        if not all(
            isinstance(column, list) and all(type(item) is int for item in column) for column in columns
        ):
            raise fail("E0804", f"map.json: the entry of {name[:80]!r} is damaged")
        shape, *lists = (column for column in columns if column is not None)
        if (
            {prod(shape)} != {len(column) for column in lists}
            or min(shape, default=0) < 0
            or "source" not in entry
        ):
            raise fail("E0804", f"map.json: the lists of {name[:80]!r} do not have the length of its shape")
    return places


def _at(places: Mapping[str, Any], core: int, compartment: int) -> list[str]:
    for name, entry in places.items():
        for column, role in (("compartment", "spikes"), ("receives", "integrates")):
            for index, (there, cx) in enumerate(zip(entry["core"], entry[column], strict=True)):
                if there == core and cx == compartment:
                    where = ",".join(map(str, _unravel(index, entry["shape"])))
                    role = "" if entry["compartment"] == entry["receives"] else f" ({role})"
                    return [f"core {core} cx {compartment}: {name}[{where}]{role}  <- {entry['source']}"]
    raise fail("E0807", f"compartment {compartment} of core {core} is not used")


def _population(name: str, entry: Mapping[str, Any]) -> list[str]:
    cores: dict[int, int] = {}
    for core in entry["core"]:
        cores[core] = cores.get(core, 0) + 1
    shape = "x".join(map(str, entry["shape"]))
    rows = [f"core {core}: {count} neurons" for core, count in sorted(cores.items())]
    return [f"{name} ({shape})  <- {entry['source']}", *rows]


def _neuron(places: Mapping[str, Any], name: str, index: list[int]) -> str:
    entry = places.get(name)
    if entry is None:
        near = get_close_matches(name, list(places), 1)
        raise fail(
            "E0807", f"there is no population {name!r}", hint=f"did you mean {near[0]}?" if near else ""
        )
    shape = entry["shape"]
    if len(index) != len(shape) or any(i >= extent for i, extent in zip(index, shape, strict=True)):
        raise fail("E0807", f"{name} has shape {'x'.join(map(str, shape))}; {index} is outside")
    flat = 0
    for i, extent in zip(index, shape, strict=True):
        flat = flat * extent + i
    core, cx, receives = (entry[column][flat] for column in ("core", "compartment", "receives"))
    extra = "" if cx == receives else f" (integrates in cx {receives})"
    return f"{name}[{','.join(map(str, index))}]: core {core} cx {cx}{extra}  <- {entry['source']}"


def _unravel(flat: int, shape: list[int]) -> list[int]:
    index = []
    for extent in reversed(shape):
        flat, rest = divmod(flat, extent)
        index.append(rest)
    return index[::-1]
