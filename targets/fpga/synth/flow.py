"""From a shape to a routed design: Yosys, nextpnr, and the packers that make bitstreams of it.

Nothing was ever run on a board: what the figures mean is "synthesised, placed, routed".
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit, fail
from nmc.targets.fpga import bram
from nmc.targets.fpga.devices import Device, Needs, large_weights
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, SOURCES, Shell, top
from nmc.targets.fpga.synth import outreg, tools
from nmc.targets.fpga.synth.contents import Bits, hex_text

#: Yosys' script by family; wide multiplexers of an ECP5 cost more LUTs than they save (YosysHQ/yosys #4798).
SYNTHESIS = {
    "ecp5": "synth_ecp5 -top nmc_top -nowidelut -json net.json",
    "ice40": "synth_ice40 -top nmc_top -device u -dsp -spram -json net.json",
}
#: Clock that placement works towards, MHz: a little beyond what was ever reached.
WANTED = {"ecp5": 130, "ice40": 45}
#: Suffix of bitstreams.
SUFFIX = {"ecp5": ".bit", "ice40": ".bin"}
#: Suffix of the files with pins of one's board.
PINS = {"ecp5": ".lpf", "ice40": ".pcf"}
_CONFIG = {"ecp5": ("--textcfg", "design.config"), "ice40": ("--asc", "design.asc")}
_USED = {
    "ecp5": ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D", ""),
    "ice40": ("ICESTORM_LC", "", "ICESTORM_RAM", "ICESTORM_DSP", "ICESTORM_SPRAM"),
}
#: Clocks a bit of the serial line: 1 Mbaud at the clocks of the table of devices.
DIVIDER = {"ecp5": 90, "ice40": 39}


@dataclass(frozen=True)
class Design:
    """What is built.

    Parameters
    ----------
    shape : Shape
    device : Device
    shell : {"words", "uart", "axis"}
    seed : int
        Of the placement.
    pins : str
        Text of a file with the pins of a board (.lpf, .pcf); where it is empty, the tools choose them.
    inside : bool
        Whether the bitstream holds the weights.
    """

    shape: Shape
    device: Device
    shell: Shell = "words"
    seed: int = 1
    pins: str = ""
    inside: bool = False

    def text(self) -> str:
        """Verilog of the top module."""
        more = {"ONE": "1"} if large_weights(self.shape, self.device.family) else {}
        more |= {"WINIT": '"weights"'} if self.inside else {}
        return top(self.shape, self.shell, DIVIDER[self.device.family], more)

    def key(self) -> str:
        """Name of the routed design: of all that it depends on, versions of tools and sources of the RTL included."""
        family = self.device.family
        digest = hashlib.sha256(self.text().encode())
        for source in SOURCES:
            digest.update((RTL / source).read_bytes())
        digest.update(Path(outreg.__file__).read_bytes())
        given = (SYNTHESIS[family], WANTED[family], self.device.options, self.seed, self.pins)
        versions = [tools.version_of(path) for path in tools.locate(family)]
        digest.update(json.dumps([given, versions]).encode())
        return f"{self.device.name}-{self.shape.hash:08x}-{digest.hexdigest()[:24]}"


def holds_weights(shape: Shape, device: Device) -> bool:
    """Whether a bitstream can hold the weights: they are in block RAMs (large RAMs of an iCE40 begin empty)."""
    width = shape.memories["weights"].width
    if device.family == "ice40":
        return not large_weights(shape, "ice40")
    return bram.in_block(shape.weight_rows, width)


@dataclass(frozen=True)
class Figures:
    """What the tools count after place and route.

    Parameters
    ----------
    luts : int
        TRELLIS_COMB of an ECP5, logic cells (a LUT and a flip-flop) of an iCE40.
    flip_flops, block_rams, large_rams, multipliers : int
    megahertz : float
        The slowest clock.
    """

    luts: int
    flip_flops: int
    block_rams: int
    large_rams: int
    multipliers: int
    megahertz: float

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Routed:
    """A routed design: its text and its figures."""

    config: bytes
    figures: Figures


def route(design: Design, contents: Sequence[Bits] = ()) -> Routed:
    """Synthesise, place and route.

    Parameters
    ----------
    design : Design
    contents : sequence of array
        Weights of each core, where the design holds them.

    Raises
    ------
    NmcError
        E1021 where a tool is missing, E1022 where one fails.
    DoesNotFit
        E0949 where the device is too small.
    """
    synthesis, place, _ = tools.locate(design.device.family)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = _synthesised(design, contents, synthesis, folder)
        short = counted(cells, design.device.family).beyond(design.device)
        if short:
            text = f"{design.device.name} is too small after synthesis: {', '.join(short)}"
            raise DoesNotFit(Diagnostic("E0949", text, hint="fewer lanes or cores, or a larger device"))
        _place(design, place, folder)
        report = json.loads((folder / "report.json").read_text())
        config = (folder / _CONFIG[design.device.family][1]).read_bytes()
    return Routed(config, _figures(report, cells, design.device.family))


def synthesise(design: Design) -> dict[str, int]:
    """Cells by type after Yosys alone."""
    synthesis, _, _ = tools.locate(design.device.family)
    with tempfile.TemporaryDirectory() as name:
        return _synthesised(design, (), synthesis, Path(name))


def _synthesised(design: Design, contents: Sequence[Bits], tool: str, folder: Path) -> dict[str, int]:
    for source in SOURCES:
        shutil.copy(RTL / source, folder / source)
    (folder / "nmc_top.sv").write_text(design.text(), encoding="utf-8")
    for number, bits in enumerate(contents):
        (folder / f"weights{number:02d}.hex").write_text(hex_text(bits), encoding="ascii")
    files = " ".join((*SOURCES, "nmc_top.sv"))
    script = f"read_verilog -sv {files}; {SYNTHESIS[design.device.family]}; tee -q -o stat.json stat -json"
    tools.run([tool, "-q", "-p", script], folder)
    if design.device.family == "ecp5":
        _registers_into_block_rams(folder / "net.json")
    cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    return {name: int(count) for name, count in cells.items()}


def _registers_into_block_rams(path: Path) -> None:
    netlist = json.loads(path.read_text())
    outreg.merge(netlist)
    path.write_text(json.dumps(netlist), encoding="utf-8")


def counted(cells: dict[str, int], family: str) -> Needs:
    """What a design takes after synthesis; packing adds a few LUTs to those of an ECP5."""

    def of(*names: str) -> int:
        return sum(cells.get(name, 0) for name in names)

    if family == "ice40":
        registers = sum(count for name, count in cells.items() if name.startswith("SB_DFF"))
        cells_least = max(of("SB_LUT4"), registers)
        return Needs(cells_least, of("SB_RAM40_4K"), of("SB_SPRAM256KA"), of("SB_MAC16"))
    combined = of("LUT4") + 2 * of("CCU2C") + 8 * of("TRELLIS_DPR16X4")
    return Needs(combined, of("DP16KD", "PDPW16KD"), 0, of("MULT18X18D"))


def _place(design: Design, tool: str, folder: Path) -> None:
    family = design.device.family
    command = [tool, *design.device.options, "--json", "net.json", "--report", "report.json", *_CONFIG[family],
               "--freq", str(WANTED[family]), "--seed", str(design.seed), "--timing-allow-fail", "--quiet"]  # fmt: skip
    if design.pins:
        (folder / f"pins{PINS[family]}").write_text(design.pins, encoding="utf-8")
        command += ["--lpf" if family == "ecp5" else "--pcf", f"pins{PINS[family]}"]
    elif family == "ecp5":
        command.append("--lpf-allow-unconstrained")
    tools.run(command, folder)


def _figures(report: dict[str, Any], cells: dict[str, int], family: str) -> Figures:
    used = {name: int(entry["used"]) for name, entry in report["utilization"].items()}
    luts, registers, blocks, multipliers, large = (used.get(name, 0) for name in _USED[family])
    if family == "ice40":
        registers = sum(count for name, count in cells.items() if name.startswith("SB_DFF"))
    clocks = [float(item["achieved"]) for item in report["fmax"].values()]
    if not clocks:
        raise fail("E1022", "the tools tell no clock of the routed design")
    return Figures(luts, registers, blocks, large, multipliers, round(min(clocks), 2))


def pack(design: Design, config: bytes) -> bytes:
    """Make the bitstream of a routed design."""
    family = design.device.family
    tool = tools.locate(family)[2]
    options = ["--compress"] if family == "ecp5" else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "design.in").write_bytes(config)
        tools.run([tool, *options, "design.in", "design.out"], folder)
        return (folder / "design.out").read_bytes()
