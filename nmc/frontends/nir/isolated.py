"""Reading HDF5 in a process of its own: the HDF5 library can loop or crash on a damaged file, which nmc must not.

The child reads the file with `nmc.frontends.nir.hdf5`, writes an ``.npz`` with the tree as JSON and the arrays to its
standard output, and is ended when it takes too long.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nmc.frontends.nir.hdf5 import Raw, read_file
from nmc.frontends.nir.primitives import Field
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.npz import npz_bytes, read_npz

#: Seconds that reading a file may take at least, and more for each megabyte of it.
_SECONDS, _SECONDS_A_MEGABYTE = 20.0, 1.0


def read_isolated(path: Path) -> tuple[Raw, str]:
    """Read a ``.nir`` file as `nmc.frontends.nir.hdf5.read_file` does, in a child process.

    Raises
    ------
    NmcError
        E0341 for everything that is wrong with the file, also when reading it does not end or crashes.
    """
    if not path.is_file():
        raise fail("E0341", "no such file", where=path.name)
    limit = _SECONDS + _SECONDS_A_MEGABYTE * path.stat().st_size / 1e6
    command = [sys.executable, "-m", "nmc.frontends.nir.isolated", str(path.resolve())]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise fail(
            "E0341", f"the file is damaged: reading it did not end in {limit:.0f} s", where=path.name
        ) from None
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = told[-1][:200] if told else f"signal {-done.returncode}"
        raise fail("E0341", f"the file is damaged: the HDF5 library failed on it ({reason})", where=path.name)
    arrays = read_npz(io.BytesIO(done.stdout))
    answer = json.loads(arrays.pop("tree").tobytes())
    if "problems" in answer:
        raise NmcError([Diagnostic(**entry) for entry in answer["problems"]])
    return _unpack(answer["raw"], arrays), str(answer["version"])


def _pack(raw: Raw, arrays: dict[str, Any]) -> dict[str, Any]:
    fields, meta = _pack_fields(raw.fields, arrays), _pack_fields(raw.meta, arrays)
    nodes = {name: _pack(node, arrays) for name, node in raw.nodes.items()}
    return {"kind": raw.kind, "fields": fields, "nodes": nodes, "edges": raw.edges, "meta": meta}


def _pack_fields(items: dict[str, Field], arrays: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, item in items.items():
        if isinstance(item, str):
            fields[name] = {"text": item}
        else:
            fields[name] = {"array": f"a{len(arrays)}"}
            arrays[f"a{len(arrays)}"] = np.asarray(item)
    return fields


def _unpack(entry: dict[str, Any], arrays: dict[str, Any]) -> Raw:
    fields, meta = (
        {name: item["text"] if "text" in item else arrays[item["array"]] for name, item in entry[key].items()}
        for key in ("fields", "meta")
    )
    nodes = {name: _unpack(node, arrays) for name, node in entry["nodes"].items()}
    edges = [(source, target) for source, target in entry["edges"]]
    return Raw(entry["kind"], fields, nodes, edges, meta)


def _answer(path: Path) -> bytes:
    arrays: dict[str, Any] = {}
    try:
        raw, version = read_file(path)
        tree: dict[str, Any] = {"raw": _pack(raw, arrays), "version": version}
    except NmcError as error:
        arrays = {}
        tree = {"problems": [vars(item) for item in error.diagnostics]}
    return npz_bytes({"tree": np.frombuffer(json.dumps(tree).encode(), np.uint8), **arrays})


if __name__ == "__main__":
    sys.stdout.buffer.write(_answer(Path(sys.argv[1])))
