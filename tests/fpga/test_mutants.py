"""Every damage of the RTL in `fpga_mutants` is noticed by the bench."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fpga_bench import SHAPES, failures, locked
from fpga_mutants import MUTANTS, Mutant
from fpga_programs import program
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, simulators
from nmc.targets.fpga.sim.rtl import RtlChip


def test_every_mutant_changes_one_place() -> None:
    assert len(MUTANTS) >= 20
    for file, old, new in MUTANTS:
        text = (RTL / file).read_text()
        assert text.count(old) == 1, f"{file}: {old!r}"
        assert old != new


@pytest.mark.slow
@pytest.mark.skipif("verilator" not in simulators(), reason="needs Verilator")
@pytest.mark.parametrize("mutant", MUTANTS, ids=range(len(MUTANTS)))
def test_the_bench_kills(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, old, new = mutant
    shutil.copytree(RTL, tmp_path / "rtl")
    text = (RTL / file).read_text()
    (tmp_path / "rtl" / file).write_text(text.replace(old, new))
    shape = Shape(**SHAPES["full"])
    killed = next(failures(shape, tmp_path / "rtl", level="-O0"), "")
    chip = RtlChip(shape, rtl=tmp_path / "rtl", level="-O0")
    assert killed or not locked(shape, chip, np.asarray(program(shape, 1, ticks=2)))
