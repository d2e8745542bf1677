"""Programs whose data are spike trains, or that draw their spikes themselves."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Nmc = Callable[..., Any]
OWN = """network own(dt = 1 ms, steps = 30, seed = 3)
neuron c = iaf(v_threshold = 1.0, reset = zero)
input x[6] : poisson(rate = 900 Hz)
pop p[6] : c
x -> p : one_to_one(weight = 0.4)
probe p.v[1:3] every 5 ms
probe p.spikes
"""
TRAINS = OWN.replace("poisson(rate = 900 Hz)", "raster()").replace("0.4", "1.5") + "output p : count()\n"


def compiled(nmc: Nmc, text: str, folder: Path) -> Path:
    (folder / "own.snn").write_text(text)
    done = nmc("compile", "own.snn", "-o", "own.nmx")
    assert done.code == 0, done.err
    return folder / "own.nmx"


def test_a_program_without_data_runs_once_and_writes_its_own_probes(nmc: Nmc, tmp_path: Path) -> None:
    compiled(nmc, OWN, tmp_path)
    done = nmc("run", "own.nmx", "-o", "out.npz", "--json")
    assert done.code == 0, done.err
    assert done.facts["samples"] == 1 and done.facts["predictions"] is None
    with np.load(tmp_path / "out.npz") as found:
        assert {name: found[name].shape for name in found} == {"p.v": (1, 6, 2), "p.spikes": (1, 30, 6)}
        assert found["p.spikes"].any()
    chosen = nmc("run", "own.nmx", "--probe", "p.u", "-o", "chosen.npz", "--json")
    assert chosen.facts["probes"] == {"p.u": [1, 30, 6]}


def test_spike_trains_are_taken_as_they_are(nmc: Nmc, tmp_path: Path) -> None:
    compiled(nmc, TRAINS, tmp_path)
    trains = (np.random.default_rng(0).random((3, 30, 6)) < 0.3).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=trains)
    done = nmc("run", "own.nmx", "--input", "x.npz", "-o", "out.npz", "--json")
    assert done.code == 0, done.err
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["p.spikes"], trains)  # each spike is above the threshold
        np.testing.assert_array_equal(found["logits"], trains.sum(axis=1))


def test_missing_data_are_asked_for(nmc: Nmc, tmp_path: Path) -> None:
    compiled(nmc, TRAINS, tmp_path)
    done = nmc("run", "own.nmx")
    assert done.code == 1 and "E0401" in done.err and "--input" in done.err


@pytest.mark.parametrize(
    "probes", [3, {"p.v": 1}, {"p.v": {"every": 0}}, {"p.v": {"box": "a:b"}}, {"p.v": {"box": "0:1, 0:1"}}]
)
def test_damaged_probes_of_a_manifest_are_refused(nmc: Nmc, tmp_path: Path, probes: Any) -> None:
    path = compiled(nmc, OWN, tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), "probes": probes}).encode()
    with zipfile.ZipFile(tmp_path / "bad.nmx", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    done = nmc("run", "bad.nmx", "-o", "out.npz")
    assert done.code == 1 and "E0804" in done.err
