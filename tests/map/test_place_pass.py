"""The place pass on one chip and on so many that no matrix of all cores is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.cli import main
from nmc.ir.target import resolve
from nmc.passes.map.place import coordinates


def compiled(folder: Path, repo: Path, chips: int, capsys: Any) -> dict[str, Any]:
    """Facts of the digits network on chips with very small cores."""
    target = folder / "small.toml"
    target.write_text(f'base = "loihi"\nchips = {chips}\n\n[limits.compartments]\nvalue = 8\n')
    data = folder / "calib.npz"
    np.savez(data, x=np.random.default_rng(1).random((20, 1, 8, 8), np.float32))
    words = [
        "compile",
        str(repo / "examples" / "models" / "digits_mlp.onnx"),
        "--target",
        str(target),
        "--calib",
        str(data),
    ]
    assert main([*words, "--json", "-q", "-o", str(folder / "small.nmx")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert isinstance(facts, dict)
    return facts


@pytest.mark.parametrize("chips", [1, 17])
def test_many_small_cores_are_placed(tmp_path: Path, repo: Path, chips: int, capsys: Any) -> None:
    facts = compiled(tmp_path, repo, chips, capsys)
    place = facts["placement"]
    assert facts["cores"]["used"] > 8
    assert 0 < place["bound"] <= place["objective"]
    assert place["status"] in ("feasible", "optimal") and place["bound_name"] and place["method"]
    links = place["links"]
    assert links["used"] > 0 and links["busiest"] and links["load"] >= links["mean"] > 0
    assert place["spikes"] == "measured" and not any("time" in name for name in place)


def test_coordinates_follow_the_core_numbers() -> None:
    target = resolve("loihi")
    at = coordinates(target)
    assert at.shape == (128, 2) and at[0].tolist() == at[3].tolist() == [0, 0]
    assert at[4].tolist() == [0, 1] and at[16].tolist() == [1, 0]
    assert len(np.unique(coordinates(resolve("spinnaker2")), axis=0)) == len(
        set(resolve("spinnaker2").positions)
    )
