"""Compiled code where there is a C compiler, and annealing in it or in numpy: bit for bit the same."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.passes.map.sparse import Graph, IntArray, Sites, SmallArray
from nmc.passes.map.twin import Twin

Engine = Literal["auto", "c", "numpy"]
_FLAGS = ("-O3", "-std=c99", "-shared", "-fPIC")
_NATIVE = "-march=native"  # integers stay integers; two thirds faster
_COMPILE_SECONDS = 120
_EXACT_BEST = 4096  # parts up to which the best state is kept at every step, not only at the end of a stage
_NEAR = 9  # nearest sites of a table that a move looks at
#: -ln(u) of 4096 midpoints in 2^-20 steps: rounded so coarsely that every libm gives the same integers.
SURPRISE = np.rint(-np.log((np.arange(4096) + 0.5) / 4096) * 2.0**20).astype(np.int64)
_INTEGERS = (
    "sites", "parts", "movable", "width", "height", "near_count", "near_radius", "stages", "steps", "shift",
    "exact_best",
)  # fmt: skip
_ARRAYS = (
    "start", "partner", "weight", "free", "xs", "ys", "table", "near", "heat", "radius", "surprise",
    "site", "at", "owner", "best", "told",
)  # fmt: skip


class _Run(ctypes.Structure):
    """The structure ``Run`` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _INTEGERS),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run found.

    Attributes
    ----------
    site : SmallArray
        (P,) the best sites seen.
    change : int
        Cost of the best minus that of the start, 0 or less.
    typical : float
        Mean size of the changes judged.
    """

    site: SmallArray
    change: int
    typical: float


def _source() -> bytes:
    return Path(__file__).with_name("kernel.c").read_bytes()


def _folder() -> Path | None:
    """Where compiled code is kept, if it can be."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "nmc"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError):
        return None
    return folder


def _processor() -> bytes:
    """What tells processors with different instructions apart; empty if that cannot be known."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return b""
    return next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")


def _compile(target: Path) -> bool:
    """Compile to `target`, with the instructions of this processor if those can be told apart and compiled for."""
    return bool(_processor()) and _compile_with((*_FLAGS, _NATIVE), target) or _compile_with(_FLAGS, target)


def _compile_with(flags: tuple[str, ...], target: Path) -> bool:
    """Compile in one step that others cannot see half done."""
    command = shutil.which(os.environ.get("CC", "cc")) or shutil.which("cc")
    if command is None:
        return False
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            code, made = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
            code.write_bytes(_source())
            words = [command, *flags, "-o", str(made), str(code)]
            done = subprocess.run(
                words, capture_output=True, stdin=subprocess.DEVNULL, timeout=_COMPILE_SECONDS, check=False
            )
            if done.returncode:
                return False
            os.replace(made, target)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@cache
def library() -> Any:
    """The compiled kernel, made on first use and kept for later ones; None without a C compiler."""
    told = b"|".join(
        [_source(), " ".join((*_FLAGS, _NATIVE)).encode(), platform.platform().encode(), _processor()]
    )
    name = f"kernel-{hashlib.sha256(told).hexdigest()[:20]}.so"
    kept = _folder()
    if kept is not None and ((kept / name).is_file() or _compile(kept / name)):
        found = _loaded(kept / name)
        if found is not None or (_compile(kept / name) and (found := _loaded(kept / name)) is not None):
            return found
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        return _loaded(target) if _compile(target) else None


def _loaded(path: Path) -> Any:
    try:
        found = ctypes.CDLL(str(path))
        for call in (found.nmc_anneal, found.nmc_pack, found.nmc_heap):
            call.argtypes, call.restype = [ctypes.c_void_p], None
    except (OSError, AttributeError):
        return None
    return found


def run(
    graph: Graph,
    sites: Sites,
    start: Any,
    heat: IntArray,
    radius: IntArray,
    steps: int,
    shift: int,
    seed: int,
    *,
    locked: NDArray[np.bool_] | None = None,
    at: SmallArray | None = None,
    engine: Engine = "auto",
) -> Outcome:
    """Anneal once.

    Parameters
    ----------
    graph, sites : Graph, Sites
        The problem.
    start : array of int
        (P,) different open sites; -1 for a locked part that lies beside them.
    heat : IntArray
        (stages,) temperature of each stage times 2^(`shift` - 20), below 2^38; -1 for a stage that only judges.
    radius : IntArray
        (stages,) reach, in cells, of the moves that go anywhere near.
    steps : int
        Proposals of each stage.
    shift : int
        Scale of the temperatures, 0..62.
    seed : int
        Seed of the proposals.
    locked : array of bool, optional
        (P,) parts that stay.
    at : SmallArray, optional
        (P, 2) coordinates; needed only where locked parts lie beside the sites.
    engine : {"auto", "c", "numpy"}
        "c" and "numpy" give the same; "auto" takes C where it can be had.

    Raises
    ------
    RuntimeError
        If `engine` is "c" and there is no C compiler.
    """
    state, free = _state(graph, sites, start, locked, at)
    if not len(free) or not len(heat):
        return Outcome(state["best"], 0, 0.0)
    near = _near(sites)
    found = None if engine == "numpy" else library()
    if found is None and engine == "c":
        raise RuntimeError("there is no C compiler")
    if found is None:
        twin = Twin(graph, sites, free, near, state)
        twin.run(heat, radius, SURPRISE, steps, shift, graph.parts <= _EXACT_BEST, seed)
        told = twin.told
    else:
        told = _compiled(found, graph, sites, free, near, state, heat, radius, steps, shift, seed)
    return Outcome(state["best"], told[1], told[3] / max(told[4], 1))


def _state(
    graph: Graph, sites: Sites, start: Any, locked: NDArray[np.bool_] | None, at: SmallArray | None
) -> tuple[dict[str, Any], SmallArray]:
    """The arrays that a run changes, and the parts that may move."""
    site = np.array(start, np.int32)
    owner = np.where(sites.closed, np.int32(-2), np.int32(-1)).astype(np.int32)
    owner[site[site >= 0]] = np.flatnonzero(site >= 0)
    free = np.arange(graph.parts, dtype=np.int32)
    if locked is not None:
        owner[site[locked & (site >= 0)]] = -2
        free = np.flatnonzero(~locked).astype(np.int32)
    where = sites.where(site) if at is None else np.ascontiguousarray(at, np.int32).copy()
    return {"site": site, "at": where, "owner": owner, "best": site.copy()}, free


def _near(sites: Sites) -> SmallArray:
    if sites.is_grid:
        return np.zeros((1, 1), np.int32)
    order = np.argsort(sites.table, axis=1, kind="stable")[:, :_NEAR]
    return np.ascontiguousarray(order, np.int32)


def _compiled(
    code: Any, graph: Graph, sites: Sites, free: Any, near: Any, state: dict[str, Any],
    heat: IntArray, radius: IntArray, steps: int, shift: int, seed: int,
) -> list[int]:  # fmt: skip
    told = np.zeros(5, np.int64)
    arrays = {
        "start": graph.start, "partner": graph.partner, "weight": graph.weight, "free": free, "xs": sites.xs,
        "ys": sites.ys, "table": sites.table, "near": near, "heat": np.ascontiguousarray(heat, np.int64),
        "radius": np.ascontiguousarray(radius, np.int64), "surprise": SURPRISE, **state, "told": told,
    }  # fmt: skip
    numbers = (
        sites.count, graph.parts, len(free), len(sites.xs), len(sites.ys), near.shape[1], sites.near_radius,
        len(heat), steps, shift, int(graph.parts <= _EXACT_BEST),
    )  # fmt: skip
    whole = {name: np.ascontiguousarray(arrays[name]) for name in _ARRAYS}
    code.nmc_anneal(
        ctypes.byref(_Run(*numbers, seed & ((1 << 64) - 1), *(a.ctypes.data for a in whole.values())))
    )
    for name in ("site", "at", "owner", "best"):
        state[name] = whole[name]
    return [int(value) for value in told]
