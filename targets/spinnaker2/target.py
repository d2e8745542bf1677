"""SpiNNaker2 as a `Target`: ``target.toml`` with a user's changes, and the demand functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nmc.ir.diagnostics import fail
from nmc.ir.target import Target, check_entries, lowered
from nmc.targets.spinnaker2.demands import SpinnakerDemands


@cache
def chip_data() -> Mapping[str, Any]:
    """``target.toml``."""
    import tomllib

    return tomllib.loads(Path(__file__).with_name("target.toml").read_text(encoding="utf-8"))


def load(changes: Mapping[str, Any] | None = None) -> Target:
    """Make the target description.

    Parameters
    ----------
    changes : mapping
        Tables of a user's TOML file that replace entries: ``[limits.sram_bytes] value = 65536``, ``chips = 4``,
        ``clock = 150`` (MHz: what ticks are cut and warned for), ``[router] entries = 1024``.

    Raises
    ------
    NmcError
        E0722 for a limit or clock that SpiNNaker2 does not have or a value that is not a positive integer.
    """
    data, changes = chip_data(), changes or {}
    check_entries("SpiNNaker2", changes, "chips", "clock", "limits", "router")
    limits = {name: int(entry["value"]) for name, entry in data["limits"].items()}
    limits["update_cycles"] = round(_clock(changes) * 1e6 * data["chip"]["tick"]["value"])
    limits |= lowered("SpiNNaker2", data["limits"], limits, changes)
    chips = changes.get("chips", 1)
    if not isinstance(chips, int) or not 1 <= chips <= data["chip"]["chips"]["value"]:
        raise fail("E0722", f"chips must be 1..{data['chip']['chips']['value']}, not {chips!r}")
    return Target(
        name="spinnaker2",
        description=str(changes.get("description", data["description"])),
        limits=limits,
        tiles=(8, 7),
        cores_per_tile=4,
        chips=chips,
        costs=data["costs"],
        data={**data, "router": _router(data["router"], changes)},
        sources={name: str(entry["source"]) for name, entry in data["limits"].items()},
        combined_by_max=frozenset(),
        demands=SpinnakerDemands(),
        positions=tuple(qpe_of(core + reserved()) for core in range(usable())),
    )


def reserved() -> int:
    """PEs of a chip that are not for populations, the first ones."""
    return int(chip_data()["chip"]["reserved"]["value"])


def usable() -> int:
    """PEs of a chip for populations."""
    return int(chip_data()["chip"]["pes"]["value"]) - reserved()


def qpe_of(pe: int) -> tuple[int, int]:
    """Quad element (x, y) of a PE."""
    x, y = chip_data()["grid"]["qpe"]["value"][pe // 4]
    return int(x), int(y)


def place_on_qpe(pe: int) -> int:
    """Place of a PE on its quad element, 0..3, in the numbering that ``target.toml`` names."""
    grid = chip_data()["grid"]
    return int(grid[grid["numbering"]["value"]]["value"][pe % 4])


def place_of(core: int) -> tuple[int, int]:
    """Chip and PE of a core of the mapping (0 and up over all chips, usable PEs only)."""
    chip, number = divmod(core, usable())
    return chip, number + reserved()


def pe_number(chip: int, pe: int) -> int:
    """Number of a PE over all chips, as images and reports count."""
    return chip * int(chip_data()["chip"]["pes"]["value"]) + pe


def core_of(chip: int, pe: int) -> int:
    """Core of the mapping that a PE is."""
    return chip * usable() + pe - reserved()


def _clock(changes: Mapping[str, Any]) -> int:
    """The clock in MHz: the fastest, unless said otherwise."""
    known = [hertz // 1_000_000 for hertz in chip_data()["chip"]["clocks"]["value"]]
    clock = changes.get("clock", max(known))
    if clock not in known or isinstance(clock, bool):
        raise fail("E0722", f"clock must be {' or '.join(map(str, known))} (MHz), not {clock!r}")
    return int(clock)


def _router(entries: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The table of the router with the limits that a chip file lowers."""
    limits = {name: int(entry["value"]) for name, entry in entries.items()}
    less = lowered("the router of SpiNNaker2", entries, limits, changes, "router")
    return {name: {**entry, "value": less.get(name, limits[name])} for name, entry in entries.items()}
