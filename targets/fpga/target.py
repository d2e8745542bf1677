"""The FPGA core as a `Target`: ``target.toml`` with a user's shape or device, and the demand functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from nmc.ir.diagnostics import fail
from nmc.ir.target import Target, check_entries, lowered
from nmc.targets.fpga.demands import FpgaDemands
from nmc.targets.fpga.devices import RESOURCES
from nmc.targets.fpga.shape import MAX_CORES, Shape

#: Lanes where nobody says how many: the fastest shape whose clock was measured at 120 MHz (facts/fpga.md 2.4).
LANES = 4
#: Limits that a field of the shape gives.
_OF_SHAPE = {
    "compartments": "neurons", "in_axons": "axons", "weight_rows": "weight_rows", "geometries": "geometries",
    "classes": "classes",
}  # fmt: skip


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
        Tables of a user's TOML file: ``[shape]`` with fields of `nmc.targets.fpga.shape.Shape` that are fixed (the
        others are made to fit the network), ``device = "ecp5-85k"``, ``target_rate`` (samples a second),
        ``[limits.compartments] value = 256``, ``[devices.up5k] multipliers = 4`` (less of a device).

    Raises
    ------
    NmcError
        E0722 for anything else in these tables, E1001 for a shape that cannot be.
    """
    data, changes = dict(chip_data()), changes or {}
    check_entries("the FPGA core", changes, "chips", "limits", "shape", "device", "target_rate", "devices")
    given = _shape(changes.get("shape", {}))
    if changes.get("chips", 1) != 1:
        raise fail("E0722", "the FPGA core is one chip: chips must be 1")
    device = changes.get("device", "")
    if device and device not in data["devices"]:
        raise fail("E0722", f"there is no device {device!r}", hint=f"known: {', '.join(data['devices'])}")
    rate = changes.get("target_rate", 0.0)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 0:
        raise fail("E0722", f"target_rate is {rate!r}, not samples a second")
    limits = {name: int(entry["value"]) for name, entry in data["limits"].items()}
    limits |= lowered("the FPGA core", data["limits"], limits, changes)
    limits |= {name: int(given[field]) for name, field in _OF_SHAPE.items() if given.get(field)}
    lanes = int(given.get("lanes", LANES))
    limits["groups"] = min(
        limits["groups"], -(-limits["compartments"] // lanes) if "neurons" in given else limits["groups"]
    )
    return Target(
        name="fpga",
        description=str(changes.get("description", data["description"])),
        limits=limits,
        tiles=(int(given.get("cores", MAX_CORES)), 1),
        cores_per_tile=1,
        chips=1,
        costs=data["costs"],
        data={
            **data,
            "shape": given,
            "device": device,
            "target_rate": float(rate),
            "devices": _devices(data["devices"], changes.get("devices", {})),
        },  # fmt: skip
        sources={name: str(entry["source"]) for name, entry in data["limits"].items()},
        combined_by_max=frozenset(),
        demands=FpgaDemands(lanes),
    )


def _shape(table: object) -> dict[str, Any]:
    """Fields of the shape that are fixed."""
    if not isinstance(table, dict):
        raise fail("E0722", "shape must be a table: [shape] cores = 4, lanes = 4")
    Shape.from_json({"weight_rows": 1, **table})  # refuses what cannot be
    known = {item.name for item in fields(Shape)}
    return {name: value for name, value in table.items() if name in known}


def _devices(known: Mapping[str, Any], changes: object) -> dict[str, Any]:
    """The devices, with as much less of what they have as a chip file says."""
    if not isinstance(changes, dict):
        raise fail("E0722", "devices must be a table, like [devices.up5k] multipliers = 4")
    found = dict(known)
    for name in changes:
        if name not in known:
            raise fail("E0722", f"there is no device {name!r}", hint=f"known: {', '.join(known)}")
        limits = {resource: known[name][resource] for resource in RESOURCES}
        found[name] = {**known[name], **lowered(f"device {name}", {}, limits, changes, name)}
    return found
