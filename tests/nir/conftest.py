"""Small NIR files, and the folder of published traces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nmc.ir.diagnostics import Diagnostic, NmcError

Nodes = Mapping[str, Mapping[str, Any]]
Edges = Sequence[tuple[str, str]]


def fill(group: Any, nodes: Nodes, edges: Edges) -> None:
    group["type"] = "NIRGraph"
    inside = group.create_group("nodes")
    for name, fields in nodes.items():
        node = inside.create_group(name)
        if "nodes" in fields:
            fill(node, fields["nodes"], fields["edges"])
            continue
        for key, value in fields.items():
            node[key] = value
    group.create_dataset("edges", data=[[a.encode(), b.encode()] for a, b in edges], dtype="S80")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a graph as NIR does."""
    h5py = pytest.importorskip("h5py")

    def make(nodes: Nodes, edges: Edges, version: str = "1.0.8") -> Path:
        path = tmp_path / "net.nir"
        with h5py.File(path, "w") as file:
            file["version"] = version
            fill(file.create_group("node"), nodes, edges)
        return path

    return make


@pytest.fixture
def refusal() -> Callable[..., tuple[Diagnostic, ...]]:
    """The diagnostics of an import that must fail."""
    pytest.importorskip("h5py")

    def call(path: Path, **options: Any) -> tuple[Diagnostic, ...]:
        from nmc.frontends.nir import load_nir

        with pytest.raises(NmcError) as caught:
            load_nir(path, **options)
        return caught.value.diagnostics

    return call


@pytest.fixture(scope="session")
def traces(shared: Path) -> Path:
    pytest.importorskip("h5py")
    return shared / "oracles" / "nir"
