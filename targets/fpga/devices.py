"""The devices that a core can be built for, and what a shape takes of them by the closed forms of `bram`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.targets.fpga import area, bram
from nmc.targets.fpga.shape import Shape

Family = Literal["ecp5", "ice40"]
#: What runs out, in the words of messages.
RESOURCES = ("luts", "block_rams", "large_rams", "multipliers")
#: The device where none is named.
USUAL = "ecp5-85k"


@dataclass(frozen=True)
class Device:
    """An FPGA as the tools know it; figures and their sources are in ``target.toml``.

    Parameters
    ----------
    name : str
    family : {"ecp5", "ice40"}
    options : tuple of str
        Of nextpnr: size and package.
    luts, block_rams, large_rams, multipliers : int
        What there is. Large RAMs are those of 256 kbit with one port (iCE40).
    hertz : float
        The clock that is assumed before anything is routed.
    shell : {"words", "uart"}
        The interface that its pins have room for.
    """

    name: str
    family: Family
    options: tuple[str, ...]
    luts: int
    block_rams: int
    large_rams: int
    multipliers: int
    hertz: float
    shell: Literal["words", "uart"]


@dataclass(frozen=True)
class Needs:
    """What a shape takes, by the model: LUTs are estimated, the others counted."""

    luts: int
    block_rams: int
    large_rams: int
    multipliers: int

    def beyond(self, device: Device) -> list[str]:
        """What a device has too little of, in words with figures."""
        return [
            f"{getattr(self, name):,} of {getattr(device, name):,} {name.replace('_', ' ')}"
            for name in RESOURCES
            if getattr(self, name) > getattr(device, name)
        ]


def names() -> tuple[str, ...]:
    """All devices."""
    from nmc.targets.fpga.target import chip_data

    return tuple(chip_data()["devices"])


def device(name: str, known: Mapping[str, Any] | None = None) -> Device:
    """Give a device by name.

    Parameters
    ----------
    name : str
    known : mapping, optional
        The table ``devices`` of a target, where a chip file made some of them smaller.

    Raises
    ------
    NmcError
        E0722 for one that is not known.
    """
    from nmc.targets.fpga.target import chip_data

    known = chip_data()["devices"] if known is None else known
    if name not in known:
        raise fail("E0722", f"there is no device {name!r}", hint=f"known: {', '.join(known)}")
    entry = known[name]
    return Device(
        name=name, family=entry["family"], options=tuple(entry["options"]), luts=entry["luts"],
        block_rams=entry["block_rams"], large_rams=entry["large_rams"], multipliers=entry["multipliers"],
        hertz=float(entry["hertz"]), shell=entry["shell"],
    )  # fmt: skip


def large_weights(shape: Shape, family: Family) -> bool:
    """Whether weights go to large RAMs: on an iCE40, where its block RAMs cannot hold all memories."""
    if family != "ice40" or shape.stdp:  # a large RAM has one port: a core that learns needs two
        return False
    return bram.total_ice40(shape) > device("up5k").block_rams


def needs(shape: Shape, family: Family = "ecp5") -> Needs:
    """What a shape takes of a family."""
    multipliers = bram.multipliers_of(shape, family)
    if family == "ecp5":
        return Needs(area.luts(shape), bram.total_ebr(shape), 0, multipliers)
    large = large_weights(shape, family)
    rams = shape.cores * bram.spram(shape.weight_rows, shape.memories["weights"].width) if large else 0
    blocks = bram.total_ice40(shape, large_weights=large)
    return Needs(area.luts(shape, family), blocks, rams, multipliers)
