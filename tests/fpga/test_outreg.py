"""Registers move into block RAMs where nothing else sees the difference, and nowhere else."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from nmc.targets.fpga.synth.outreg import merge


def netlist(width: int = 9) -> dict[str, Any]:
    """A block RAM that port B reads, and a flip-flop at each of two bits."""
    ram = {
        "type": "DP16KD",
        "parameters": {
            "REGMODE_A": "NOREG", "REGMODE_B": "NOREG", "CLKAMUX": "CLKA", "CLKBMUX": "CLKB",
            "DATA_WIDTH_A": f"{width:032b}", "DATA_WIDTH_B": f"{width:032b}",
        },
        "port_directions": {"CLKA": "input", "CLKB": "input", "OCEB": "input", "DOB0": "output", "DOB1": "output"},
        "connections": {"CLKA": [2], "CLKB": [2], "OCEB": ["1"], "DOB0": [10], "DOB1": [11]},
    }  # fmt: skip
    cells = {"ram": ram, "low": register(10, 20), "high": register(11, 21)}
    ports = {"clk": {"direction": "input", "bits": [2]}, "q": {"direction": "output", "bits": [20, 21]}}
    return {"modules": {"top": {"cells": cells, "ports": ports}}}


def register(data: int, state: int) -> dict[str, Any]:
    """A flip-flop with an enable and no reset."""
    return {
        "type": "TRELLIS_FF",
        "parameters": {"CEMUX": "CE", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"},
        "port_directions": {"CE": "input", "CLK": "input", "DI": "input", "LSR": "input", "Q": "output"},
        "connections": {"CE": [3], "CLK": [2], "DI": [data], "LSR": ["0"], "Q": [state]},
    }


def test_the_registers_of_a_port_become_its_output_register() -> None:
    given = netlist()
    assert merge(given) == 2
    cells = given["modules"]["top"]["cells"]
    assert list(cells) == ["ram"]
    assert cells["ram"]["parameters"]["REGMODE_B"] == "OUTREG"
    assert cells["ram"]["parameters"]["REGMODE_A"] == "NOREG"
    wires = cells["ram"]["connections"]
    assert (wires["DOB0"], wires["DOB1"], wires["OCEB"]) == ([20], [21], [3])


@pytest.mark.parametrize(
    ("cell", "where", "name", "value"),
    [
        ("low", "connections", "LSR", [4]), ("low", "connections", "CLK", [5]), ("low", "connections", "CE", [6]),
        ("low", "parameters", "CEMUX", "INV"), ("low", "parameters", "CLKMUX", "INV"),
        ("low", "parameters", "REGSET", "SET"), ("low", "connections", "DI", [11]),
        ("ram", "parameters", "CLKBMUX", "INV"), ("ram", "parameters", "REGMODE_B", "OUTREG"),
        ("ram", "connections", "DOB1", [20]),
    ],
)  # fmt: skip
def test_what_would_be_seen_stays(cell: str, where: str, name: str, value: Any) -> None:
    given = netlist()
    given["modules"]["top"]["cells"][cell][where][name] = value
    before = deepcopy(given)
    assert merge(given) == 0
    assert given == before


def test_rows_of_both_ports_and_bits_that_go_elsewhere_stay() -> None:
    assert merge(netlist(36)) == 0
    given = netlist()
    given["modules"]["top"]["ports"]["q"]["bits"] = [10, 20, 21]
    assert merge(given) == 0
