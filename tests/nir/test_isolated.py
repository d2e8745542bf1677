"""A damaged file ends in a diagnostic, whatever the HDF5 library does with it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from nmc.frontends.nir import isolated, load_nir
from nmc.ir.diagnostics import NmcError

h5py = pytest.importorskip("h5py")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """One integrate-and-fire neuron."""
    path = tmp_path / "net.nir"
    nodes = {
        "input": {"type": "Input", "shape": np.array([1])},
        "lif": {"type": "IF", "r": np.ones(1), "v_threshold": np.ones(1)},
        "output": {"type": "Output", "shape": np.array([1])},
    }
    with h5py.File(path, "w") as file:
        file["version"] = "1.0.8"
        file["node/type"] = "NIRGraph"
        for name, fields in nodes.items():
            for key, value in fields.items():
                file[f"node/nodes/{name}/{key}"] = value
        file["node/edges"] = np.array([[b"input", b"lif"], [b"lif", b"output"]])
    return path


def test_what_the_child_reads_is_what_the_file_holds(network: Path) -> None:
    raw, version = isolated.read_isolated(network)
    assert version == "1.0.8" and sorted(raw.nodes) == ["input", "lif", "output"]
    assert raw.edges == [("input", "lif"), ("lif", "output")]
    np.testing.assert_array_equal(raw.nodes["lif"].fields["v_threshold"], [1.0])


def test_a_reader_that_does_not_end_is_ended_and_told(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "_SECONDS", 0.0)
    monkeypatch.setattr(isolated, "_SECONDS_A_MEGABYTE", 0.0)
    with pytest.raises(NmcError, match="did not end"):
        load_nir(network, dt=1e-3)


def test_flipped_bytes_end_in_a_network_or_a_diagnostic(network: Path, tmp_path: Path) -> None:
    data, chance = network.read_bytes(), random.Random(5)
    for _ in range(15):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 3, 9])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "bad.nir").write_bytes(damaged)
        try:
            load_nir(tmp_path / "bad.nir", dt=1e-3, convention="nir")
        except NmcError as error:
            assert all(item.code.startswith("E0") for item in error.diagnostics)
