"""The shells of the FPGA core keep the rules of their lines, clock by clock (cocotb, Verilator)."""

import shutil
from pathlib import Path

import pytest

import fpga_cocotb
from fpga_mutants import SHELL_MUTANTS, ShellMutant
from nmc.targets.fpga.sim.build import RTL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(fpga_cocotb.missing()), reason=f"needs {fpga_cocotb.missing()}"),
]


UART: fpga_cocotb.Parameters = {"DIVIDER": 8, "PATIENCE": 40}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Objects that all builds of this module share."""
    return tmp_path_factory.mktemp("runtime")


def test_the_stream_shell_keeps_the_rules_of_valid_and_ready(tmp_path: Path, runtime: Path) -> None:
    count, failed = fpga_cocotb.simulate("cocotb_axis", "nmc_axis", tmp_path, runtime=runtime)
    assert count >= 5 and failed == 0, (tmp_path / "test.log").read_text()[-3000:]


def test_the_serial_shell_keeps_the_rules_of_frames_and_handshakes(tmp_path: Path, runtime: Path) -> None:
    count, failed = fpga_cocotb.simulate(
        "cocotb_uart", "nmc_uart", tmp_path, parameters=UART, runtime=runtime
    )
    assert count >= 10 and failed == 0, (tmp_path / "test.log").read_text()[-3000:]


@pytest.mark.parametrize("damage", SHELL_MUTANTS, ids=range(len(SHELL_MUTANTS)))
def test_a_damaged_shell_is_noticed(damage: ShellMutant, tmp_path: Path, runtime: Path) -> None:
    (file, old, new), test = damage
    shutil.copytree(RTL, tmp_path / "rtl")
    text = (RTL / file).read_text()
    assert text.count(old) == 1
    (tmp_path / "rtl" / file).write_text(text.replace(old, new))
    serial = file != "nmc_axis.sv"
    module, top = ("cocotb_uart", "nmc_uart") if serial else ("cocotb_axis", "nmc_axis")
    parameters = UART if serial else {}
    count, failed = fpga_cocotb.simulate(
        module, top, tmp_path, parameters=parameters, rtl=tmp_path / "rtl", runtime=runtime, only=test
    )
    assert (count, failed) == (1, 1)
