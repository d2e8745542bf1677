"""Loihi as a `Target`: ``target.toml`` with a user's changes, and the demand functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nmc.ir.diagnostics import fail
from nmc.ir.target import Target, check_entries, lowered
from nmc.targets.loihi.demands import LoihiDemands


@cache
def _data() -> Mapping[str, Any]:
    import tomllib

    return tomllib.loads(Path(__file__).with_name("target.toml").read_text(encoding="utf-8"))


def load(changes: Mapping[str, Any] | None = None) -> Target:
    """Make the target description.

    Parameters
    ----------
    changes : mapping
        Tables of a user's TOML file that replace entries: ``[limits.compartments] value = 512``, ``chips = 4``.

    Raises
    ------
    NmcError
        E0722 for a limit that Loihi does not have or a value that is not a positive integer.
    """
    data, changes = _data(), changes or {}
    check_entries("Loihi", changes, "chips", "limits")
    limits = {name: int(entry["value"]) for name, entry in data["limits"].items()}
    limits |= lowered("Loihi", data["limits"], limits, changes)
    chips = changes.get("chips", 1)
    if not isinstance(chips, int) or not 1 <= chips <= data["mesh"]["chips"]["value"]:
        raise fail("E0722", f"chips must be 1..{data['mesh']['chips']['value']}, not {chips!r}")
    mesh = {name: int(entry["value"]) for name, entry in data["mesh"].items()}
    words = data["axon_words"]["discrete"]["value"] + (
        data["axon_words"]["cross_chip_extra"]["value"] if chips > 1 else 0
    )
    return Target(
        name="loihi",
        description=str(changes.get("description", data["description"])),
        limits=limits,
        tiles=(mesh["tiles_x"], mesh["tiles_y"]),
        cores_per_tile=mesh["cores_per_tile"],
        chips=chips,
        costs=data["costs"],
        data=data,
        sources={name: str(entry["source"]) for name, entry in data["limits"].items()},
        combined_by_max=frozenset({"words_per_axon"}),
        demands=LoihiDemands(words),
    )
