"""Files that a program names: only ``.npz`` and ``.npy`` inside the program's own folder, of bounded size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from nmc.frontends.snn.problems import Fault
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import Array
from nmc.ir.diagnostics import NmcError
from nmc.ir.npz import read_npz

MAX_NPY_BYTES = 1 << 30


def inside(folder: Path | None, name: str, pos: Pos) -> Path:
    """Give the path of a file inside the program's folder.

    Raises
    ------
    Fault
        E0374 when it is not there or leaves the folder (links included).
    """
    if folder is None:
        raise Fault("E0374", pos, "a program without a file has no folder for other files")
    try:
        path = (folder / name).resolve()
        within = bool(name) and path.is_relative_to(folder.resolve())
        there = within and path.is_file()
    except (OSError, ValueError, RuntimeError):
        raise Fault("E0374", pos, "this is not the name of a file") from None
    if not within:
        raise Fault("E0374", pos, f"{name} leaves the program's folder", "put the file beside the program")
    if not there:
        raise Fault("E0374", pos, f"there is no file {name} in the program's folder")
    return path


def read_arrays(path: Path, pos: Pos) -> dict[str, Array] | Array:
    """Read an ``.npz`` (arrays by name) or ``.npy`` (one array) of finite numbers.

    Raises
    ------
    Fault
        E0374 when it is no such file.
    """
    try:
        found: dict[str, Array] | Array
        if path.suffix == ".npz":
            found = read_npz(path)
        elif path.suffix == ".npy":
            found = _read_npy(path)
        else:
            raise Fault("E0374", pos, f"cannot read {path.name}", "weights are .npz or .npy files")
    except NmcError as error:
        raise Fault("E0374", pos, f"{path.name}: {error.diagnostics[0].message}") from None
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise Fault("E0374", pos, f"{path.name} is not a readable .npy file: {error}") from None
    for name, array in found.items() if isinstance(found, dict) else [(path.name, found)]:
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise Fault("E0374", pos, f"{name} in {path.name} holds something else than finite numbers")
    return found


def _read_npy(path: Path) -> Array:
    if path.stat().st_size > MAX_NPY_BYTES:
        raise ValueError(f"it is larger than {MAX_NPY_BYTES:,} bytes")
    array: Array = np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
    return array
