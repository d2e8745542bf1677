"""Output registers of an ECP5's block RAMs: flip-flops that take what a block RAM reads move into it.

Yosys leaves the second stage of a read (rtl/nmc_ram.sv) in flip-flops of the fabric. A block RAM answers 5.8 ns after
the clock, and the way to those flip-flops takes as long again; from its own output register (REGMODE of a DP16KD,
FPGA-TN-02204) it answers at once. `merge` moves the registers where this changes nothing: all bits that are used of a
port go to one flip-flop each and nowhere else, with the clock of the port, one clock enable, no reset, and zero at
first. The enable becomes that of the output register (OCE). Rows of 36 bits stay as they are.

    before                                             after
    DP16KD  REGMODE_B NOREG  OCEB 1   DOB0 a           DP16KD  REGMODE_B OUTREG  OCEB e  DOB0 q
    TRELLIS_FF  CLK c  CE e  DI a  Q q
"""

from __future__ import annotations

from typing import Any

Cell = dict[str, Any]
#: Name of the user of a bit, and the port.
_User = tuple[str, str]
_OUTSIDE = ("", "")


def merge(netlist: dict[str, Any]) -> int:
    """Move flip-flops into block RAMs, in place; how many are gone.

    Parameters
    ----------
    netlist : dict
        What Yosys writes as JSON, flat.
    """
    gone = 0
    for module in netlist["modules"].values():
        cells: dict[str, Cell] = module["cells"]
        rams = [cell for cell in cells.values() if cell["type"] == "DP16KD"]
        users = _users(module) if rams else {}
        for ram in rams:
            for side in "AB":
                found = _registers(ram, side, cells, users)
                _move(ram, side, found, cells)
                gone += len(found)
    return gone


def _users(module: dict[str, Any]) -> dict[int, list[_User]]:
    """Who reads each bit."""
    found: dict[int, list[_User]] = {}
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                for bit in bits:
                    found.setdefault(bit, []).append((name, port))
    for port in module["ports"].values():
        if port["direction"] != "input":
            for bit in port["bits"]:
                found.setdefault(bit, []).append(_OUTSIDE)
    return found


def _registers(ram: Cell, side: str, cells: dict[str, Cell], users: dict[int, list[_User]]) -> dict[str, str]:
    """Output of a port -> its flip-flop; empty where one of them is not what it must be."""
    if ram["parameters"].get(f"REGMODE_{side}") != "NOREG" or _tied(ram, f"RST{side}") != "0" or _paired(ram):
        return {}
    found: dict[str, str] = {}
    for port, bits in ram["connections"].items():
        if not port.startswith(f"DO{side}") or not users.get(bits[0]):
            continue
        (name, pin), *others = users[bits[0]]
        if others or (name, pin) == _OUTSIDE or pin != "DI" or not _plain(cells[name]):
            return {}
        found[port] = name
    clock = ram["parameters"].get(f"CLK{side}MUX") == f"CLK{side}", ram["connections"][f"CLK{side}"]
    same = {(_enable(cells[name]), cells[name]["connections"]["CLK"][0]) for name in found.values()}
    right = len(same) == 1 and clock[0] and same.pop()[1] == clock[1][0]
    return found if right else {}


def _paired(ram: Cell) -> bool:
    """Whether a row has 36 bits, and comes by both ports at once."""
    widths = (ram["parameters"].get(f"DATA_WIDTH_{side}", "0") for side in "AB")
    return any(int(str(width), 2) == 36 for width in widths)


def _plain(cell: Cell) -> bool:
    """Whether a flip-flop is one that an output register can be: rising clock, no reset, zero at first."""
    if cell["type"] != "TRELLIS_FF":
        return False
    given, free = cell["parameters"], _tied(cell, "LSR") == "0"
    values = (given.get("CLKMUX"), given.get("LSRMUX"), given.get("REGSET"))
    return free and values == ("CLK", "LSR", "RESET") and _gate(cell) in ("CE", "1")


def _tied(cell: Cell, port: str) -> object:
    """What an input is tied to; nothing is zero."""
    return cell["connections"].get(port, ["0"])[0]


def _gate(cell: Cell) -> str:
    """Where the enable comes from; Yosys writes a blank after what looks like a number."""
    return str(cell["parameters"].get("CEMUX", "")).strip()


def _enable(cell: Cell) -> object:
    """Net of the clock enable, ``"1"`` where it is always on."""
    return "1" if _gate(cell) == "1" else cell["connections"]["CE"][0]


def _move(ram: Cell, side: str, registers: dict[str, str], cells: dict[str, Cell]) -> None:
    for port, name in registers.items():
        register = cells.pop(name)
        ram["connections"][port] = register["connections"]["Q"]
        ram["connections"][f"OCE{side}"] = [_enable(register)]
        ram["parameters"][f"REGMODE_{side}"] = "OUTREG"
