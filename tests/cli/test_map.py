"""``nmc map``: says what is proved, starts from an earlier mapping, draws a lawful picture, writes the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from nmc.ir.ops.mapped import HOST, Neurons
from nmc.program import Program

Nmc = Any
CHIP = 'base = "loihi"\n[limits]\ncompartments = 300\n'


def sites(path: Path) -> dict[str, int]:
    """Core of each part on the chip."""
    parts = Program.open(path).module.of_type(Neurons)
    return {part.out: part.core for part in parts if part.core != HOST}


@pytest.fixture
def words(models: Path, digits: Path, tmp_path: Path) -> list[object]:
    """A command for a chip on which the digits take several cores."""
    chip = tmp_path / "small.toml"
    chip.write_text(CHIP)
    return ["map", models / "digits_cnn.onnx", "--calib", digits, "--target", chip, "--effort", "fast", "-q"]


def test_it_tells_bound_gap_status_stages_and_cores(nmc: Nmc, words: list[object]) -> None:
    done = nmc(*words, "--json")
    assert done.code == 0, done.err
    found, packing = done.facts["placement"], done.facts["packing"]
    assert found["bound"] <= found["objective"] and found["bound"] == max(found["bounds"].values())
    assert packing["bound"] <= packing["cores"] == done.facts["cores"]["used"] and packing["status"]
    assert {stage["stage"].partition("{")[0] for stage in done.facts["stages"]} >= {"partition", "place"}


def test_a_hint_of_the_same_network_moves_nothing_whatever_the_seed(
    nmc: Nmc, words: list[object], tmp_path: Path
) -> None:
    old, new, again = tmp_path / "old.nmx", tmp_path / "new.nmx", tmp_path / "again.nmx"
    assert nmc(*words, "-o", old).code == 0
    for path in (new, again):
        done = nmc(*words, "--seed", "7", "--hint", old, "-o", path, "--json")
        assert done.facts["placement"]["hint"] == {"kept": done.facts["cores"]["used"], "moved": 0}
    assert sites(new) == sites(old)
    assert new.read_bytes() == again.read_bytes()


def test_a_hint_for_another_chip_is_a_users_mistake(nmc: Nmc, words: list[object], tmp_path: Path) -> None:
    old = tmp_path / "old.nmx"
    assert nmc(*words, "-o", old).code == 0
    other = [word for word in words if word != "--target" and not str(word).endswith(".toml")]
    done = nmc(*other, "--target", "spinnaker2", "--hint", old)
    assert done.code == 1 and "E0004" in done.err


def test_the_picture_shows_every_part_once(nmc: Nmc, words: list[object], tmp_path: Path) -> None:
    path, program = tmp_path / "cores.svg", tmp_path / "a.nmx"
    done = nmc(*words[:-1], "--solver-log", "-o", program, "--picture", path)
    assert done.code == 0 and "bound, hop" in done.out and "time, partition" in done.out
    titles = [str(item.text) for item in ElementTree.parse(path).iter() if item.tag.endswith("title")]
    assert sorted(title.split(",")[0] for title in titles) == sorted(
        f"core {core}: {part}" for part, core in sites(program).items()
    )
    assert np.char.count(path.read_text(), "http") == 1, "nothing is fetched"


def test_the_log_of_cp_sat_is_told_where_it_ran(nmc: Nmc, tmp_path: Path) -> None:
    net = tmp_path / "net.snn"
    pops = "".join(f"pop p{k}[40] : lif(tau = 20 ms, v_threshold = 1.0)\n" for k in range(3))
    links = "".join(
        f"{a} -> {b} : fixed_prob(p = 0.4, weight = uniform(0.2, 0.9))\n"
        for a, b in (("x", "p0"), ("p0", "p1"), ("p1", "p2"))
    )
    net.write_text(
        f"network n(dt = 1 ms, steps = 8)\ninput x[9] : raster()\n{pops}{links}output p2 : count()\n"
    )
    chip = tmp_path / "small.toml"
    chip.write_text('base = "loihi"\n[limits]\ncompartments = 14\n')
    words = ["map", net, "--target", chip, "-q"]
    plain, told = nmc(*words, "-o", tmp_path / "a.nmx"), nmc(*words, "--solver-log", "-o", tmp_path / "b.nmx")
    assert plain.code == told.code == 0, told.err
    assert "CpSolverResponse" not in plain.out
    assert "-- CP-SAT: places of 9 cores" in told.out and "CpSolverResponse" in told.out
    assert (tmp_path / "a.nmx").read_bytes() == (tmp_path / "b.nmx").read_bytes()
