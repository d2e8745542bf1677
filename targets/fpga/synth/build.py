"""A bitstream for a program: from the cache of routed shapes, with the program's own weights in it.

A shape is routed once, with random weights, and kept in the user's cache folder under a name of all that it depends on
(`Design.key`). A program for the shape exchanges the weights (`swap.exchange`) and packs; the result is byte for byte
that of a full build with these weights, which is what happens where the exchange refuses.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.targets.fpga.devices import RESOURCES, needs
from nmc.targets.fpga.image import PROGRAM, Image
from nmc.targets.fpga.sim.build import cache_folder
from nmc.targets.fpga.synth import contents, flow, tools
from nmc.targets.fpga.synth.swap import CannotSwapError, exchange

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Synthesis:
    """A bitstream, what is still to be loaded, and the figures.

    Parameters
    ----------
    design : Design
    figures : Figures
    bitstream, stream : bytes
        The stream lacks the weights where the bitstream holds them.
    cached : bool
        Whether the shape was routed before.
    """

    design: flow.Design
    figures: flow.Figures
    bitstream: bytes
    stream: bytes
    cached: bool

    @property
    def peak(self) -> float:
        """Synaptic operations a second if every lane had one each clock."""
        shape = self.design.shape
        return shape.cores * shape.lanes * self.figures.megahertz * 1e6

    def files(self) -> dict[str, bytes]:
        """What a board would take, by file name."""
        return {f"design{flow.SUFFIX[self.design.device.family]}": self.bitstream, PROGRAM: self.stream}

    def to_json(self) -> dict[str, Any]:
        """The report; the same for the same program, cached or not."""
        device, model = self.design.device, needs(self.design.shape, self.design.device.family)
        return {
            "device": device.name, "shell": self.design.shell, "seed": self.design.seed,
            "tools": [tools.version_of(path) for path in tools.locate(device.family)],
            **self.figures.to_json(),
            "available": {name: getattr(device, name) for name in RESOURCES},
            "model": {name: getattr(model, name) for name in RESOURCES},
            "peak_synaptic_operations_per_second": self.peak,
            "weights": "bitstream" if self.design.inside else "word stream",
            "bitstream_bytes": len(self.bitstream), "stream_bytes": len(self.stream),
        }  # fmt: skip


def synthesize(image: Image, design: flow.Design, tell: Tell = lambda stage: None) -> Synthesis:
    """Make the bitstream of a program.

    Parameters
    ----------
    image : Image
    design : Design
        Of the image's shape; whether it holds the weights is decided here.
    tell : callable
        Called with the name of each stage.

    Raises
    ------
    NmcError
        E1021 where a tool is missing, E1022 where one fails, E0949 (`DoesNotFit`) where the device is too small.
    """
    design = _settled(design)
    if not design.inside:
        routed, cached = routed_shape(design, tell)
        config, stream = routed.config, image.program
    else:
        wanted = contents.of_program(image)
        routed, cached = routed_shape(design, tell)
        tell("exchange weights")
        try:
            config = exchange(design.device.family, routed.config, contents.at_random(design.shape), wanted)
        except CannotSwapError:
            tell("place and route")
            config = flow.route(design, wanted).config
        stream = contents.without_weights(image)
    tell("pack")
    return Synthesis(design, routed.figures, flow.pack(design, config), stream, cached)


def _settled(design: flow.Design) -> flow.Design:
    from dataclasses import replace

    return replace(design, inside=flow.holds_weights(design.shape, design.device))


def routed_shape(design: flow.Design, tell: Tell = lambda stage: None) -> tuple[flow.Routed, bool]:
    """A routed shape with random weights, from the cache or newly made; and whether it was there."""
    path = cache_folder() / "routed" / f"{design.key()}.json"
    found = _kept(path)
    if found is not None:
        return found, True
    tell("place and route")
    routed = flow.route(design, contents.at_random(design.shape) if design.inside else ())
    _keep(path, routed)
    return routed, False


def _kept(path: Path) -> flow.Routed | None:
    """What the cache holds; None where it holds nothing, or something damaged."""
    try:
        entry = json.loads(path.read_bytes())
        config = zlib.decompress(path.with_suffix(".z").read_bytes())
        figures = flow.Figures(**entry["figures"])
        right = zlib.crc32(config) == entry["crc"]
    except (OSError, ValueError, KeyError, TypeError, zlib.error):
        return None
    return flow.Routed(config, figures) if right else None


def _keep(path: Path, routed: flow.Routed) -> None:
    """Write an entry; the part that makes it valid comes last, and each part at once."""
    entry = {"figures": routed.figures.to_json(), "crc": zlib.crc32(routed.config)}
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = ((path.with_suffix(".z"), zlib.compress(routed.config, 6)), (path, json.dumps(entry).encode()))
    for target, data in parts:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, target)
