"""From an HDF5 file to nodes and edges: sizes are checked before anything is read, links are not followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from nmc.frontends.nir.primitives import Field
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import NmcError, fail

MAX_FILE = 1 << 31
MAX_DATA = 1 << 32
MAX_NODES = 100_000
MAX_DEPTH = 16


@dataclass
class Raw:
    """A node or a (sub)graph as the file has it."""

    kind: str
    fields: dict[str, Field] = field(default_factory=dict)
    nodes: dict[str, Raw] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    meta: dict[str, Field] = field(default_factory=dict)


def read_file(path: Path) -> tuple[Raw, str]:
    """Read the graph of a ``.nir`` file and the version of NIR that wrote it.

    Raises
    ------
    NmcError
        E0341 when it cannot be read, is not NIR, or claims more than can be.
    """
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        raise fail(
            "E0341", "NIR files are HDF5: h5py is missing", where=path.name, hint="pip install 'nmc[nir]'"
        ) from None
    try:
        size = path.stat().st_size
        if not path.is_file() or size > MAX_FILE:
            raise fail(
                "E0341", f"it has {size:,} of at most {MAX_FILE:,} bytes, or is no file", where=path.name
            )
        with h5py.File(path, "r") as file:
            return _Reader(h5py, path.name).top(file)
    except NmcError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, MemoryError,
            OverflowError) as error:  # fmt: skip
        told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        hint = "give a .nir file as nir.write makes it"
        raise fail("E0341", f"not a readable NIR file: {told}", where=path.name, hint=hint) from None


@dataclass
class _Reader:
    h5py: Any
    where: str
    bytes: int = 0
    nodes: int = 0

    def fail(self, message: str) -> NmcError:
        return fail("E0341", message, where=self.where, hint="give a .nir file as nir.write makes it")

    def top(self, file: Any) -> tuple[Raw, str]:
        items = dict(self._items(file))
        if "node" not in items or not isinstance(items["node"], self.h5py.Group):
            raise self.fail("it is HDF5 but not NIR: there is no group /node")
        version = self._read(items["version"], "version") if "version" in items else ""
        raw = self._node(items["node"], "", 0)
        if raw.kind != "NIRGraph":
            raise self.fail(f"its top node is of type {raw.kind[:40]!r}, not NIRGraph")
        return raw, version[:40] if isinstance(version, str) else ""

    def _items(self, group: Any) -> Iterator[tuple[str, Any]]:
        """Members of a group that are in this file; soft and external links are refused."""
        for name in sorted(group):
            link = group.get(name, getlink=True)
            if not isinstance(link, self.h5py.HardLink):
                raise self.fail(f"{group.name}/{name} is a link out of the graph")
            yield name, group[name]

    def _node(self, group: Any, name: str, depth: int) -> Raw:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise self.fail(f"more than {MAX_DEPTH} levels of subgraphs or {MAX_NODES:,} nodes")
        items = dict(self._items(group))
        kind = self._read(items.pop("type"), "type") if "type" in items else "a node without type"
        if not isinstance(kind, str):
            raise self.fail(f"the type of node {name!r} is no text")
        raw = Raw(kind)
        raw.meta = self._own(items.pop("metadata", None))
        if kind == "NIRGraph":
            if "nodes" not in items or "edges" not in items:
                raise self.fail(f"the graph {name!r} lacks nodes or edges")
            raw.nodes = {key: self._node(sub, key, depth + 1) for key, sub in self._items(items["nodes"])}
            raw.edges = self._edges(items["edges"])
            return raw
        for key, item in items.items():
            if isinstance(item, self.h5py.Dataset):
                raw.fields[key] = self._read(item, key)
            else:
                raw.fields.update(self._group_field(key, item))
        return raw

    def _own(self, group: Any) -> dict[str, Field]:
        """What nmc itself wrote into the metadata of a node; that of other tools may be anything."""
        if not isinstance(group, self.h5py.Group):
            return {}
        names = [name for name in sorted(group) if name == "nmc" or name.startswith("nmc_")]
        links = [name for name in names if not isinstance(group.get(name, getlink=True), self.h5py.HardLink)]
        if links:
            raise self.fail(f"{group.name}/{links[0]} is a link out of the graph")
        return {name: self._read(group[name], name) for name in names}

    def _group_field(self, key: str, group: Any) -> dict[str, Field]:
        """``input_type`` and ``output_type`` may be groups with one shape."""
        found = [item for _, item in self._items(group) if isinstance(item, self.h5py.Dataset)]
        return {key: self._read(found[0], key)} if len(found) == 1 else {}

    def _check(self, data: Any, key: str) -> None:
        if not isinstance(data, self.h5py.Dataset) or data.shape is None:
            raise self.fail(f"{key} is no data set")
        if data.is_virtual or data.external:
            raise self.fail(f"{data.name} keeps its data in another file")
        self.bytes += int(np.prod(data.shape, dtype=object)) * max(data.dtype.itemsize, 1)
        if self.bytes > MAX_DATA:
            raise self.fail(f"its data take more than {MAX_DATA:,} bytes")

    def _read(self, data: Any, key: str) -> Field:
        self._check(data, key)
        if data.dtype.kind in "OS":
            if data.size != 1 or self.h5py.check_string_dtype(data.dtype) is None:
                raise self.fail(f"{data.name} holds neither numbers nor one text")
            text = data.asstr()[()]
            return str(text if isinstance(text, str) else np.asarray(text).reshape(-1)[0])
        if data.dtype.kind not in "fiub" or (data.dtype.kind == "f" and data.dtype.itemsize not in (2, 4, 8)):
            raise self.fail(f"{data.name} holds elements of type {data.dtype}, not numbers")
        array = np.asarray(data[()])
        return (
            array.astype(np.float32)
            if array.dtype == np.float16
            else array.astype(array.dtype.newbyteorder("="))
        )

    def _edges(self, data: Any) -> list[tuple[str, str]]:
        self._check(data, "edges")
        if data.size == 0:
            return []
        if len(data.shape) != 2 or data.shape[1] != 2 or self.h5py.check_string_dtype(data.dtype) is None:
            raise self.fail(f"{data.name} is no list of pairs of names")
        if data.shape[0] > 10 * MAX_NODES:
            raise self.fail(f"it has {data.shape[0]:,} of at most {10 * MAX_NODES:,} edges")
        return [(str(a), str(b)) for a, b in data.asstr()[()]]
