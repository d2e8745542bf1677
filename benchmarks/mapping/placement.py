"""Placement beside the usual placers, on made-up networks and QAPLIB files; memory allocation on MiniMalloc files.

    python benchmarks/mapping/placement.py networks --parts 16 64 256 1024 10000
    python benchmarks/mapping/placement.py networks --kinds deep vgg cortex --parts 100000 --force
    python benchmarks/mapping/placement.py qaplib nug30.dat sko100a.dat
    python benchmarks/mapping/placement.py memory A.1048576.csv

Networks: hops per spike of row-major, Hilbert, spectral and radial (rings from the middle, as PACMAN places) orders, on
request Hilbert followed by force-directed exchanges of neighbours (the ASPLOS 2023 recipe), and of nmc; its bound, gap,
CPU seconds, and the most memory that this process has taken so far. QAPLIB: with a solution file
``NAME.sln`` beside it, the distance to the best known value.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from generators import GENERATORS

from nmc.passes.map import anneal, curves
from nmc.passes.map.large import place_large
from nmc.passes.map.memory import allocate, conflicts
from nmc.passes.map.mesh import mesh_of
from nmc.passes.map.placement import place
from nmc.passes.map.readers import read_minimalloc, read_qaplib
from nmc.passes.map.result import Placement
from nmc.passes.map.sparse import Graph, IntArray, Sites, cost_at, cost_of

_KINDS = ("mlp", "cnn", "vgg", "resnet", "mobilenet")
_DENSE = 2048
_FORCE_SWEEPS = 40


def force_directed(graph: Graph, sites: Sites, site: IntArray) -> int:
    """Cost after sweeps that exchange neighbouring parts wherever both together gain."""
    width, height = len(sites.xs), len(sites.ys)
    rows, best = graph.rows, cost_of(graph, sites, site)
    for sweep in range(_FORCE_SWEEPS):
        across, odd = sweep % 2 == 0, sweep // 2 % 2
        x, y = np.divmod(site, height)
        line = (x if across else y) - odd
        step = np.where(line % 2 == 0, 1, -1)
        goal = (x + step if across else x) * height + (y if across else y + step)
        inside = (line >= 0) & ((x + step < width) if across else (y + step < height))
        goal = np.where(inside, goal, site)
        at, to = sites.where(site).astype(np.int64), sites.where(goal).astype(np.int64)
        there = at[graph.partner]
        change = np.abs(to[rows] - there).sum(axis=1) - np.abs(at[rows] - there).sum(axis=1)
        total = np.concatenate([[0], np.cumsum(graph.weight * change)])
        gain = total[graph.start[1:]] - total[graph.start[:-1]]
        owner = np.full(sites.count, -1)
        owner[site] = np.arange(graph.parts)
        other = owner[goal]
        both = gain + np.where(other >= 0, gain[other], 0)
        moved = np.where(both < 0, goal, site)
        cost = cost_at(graph, sites.where(moved).astype(np.int64))
        if cost < best:
            site, best = moved, cost
    return best


def one_network(kind: str, parts: int, effort: str, force: bool) -> tuple[dict[str, int], Placement, float]:
    """Costs of the placers by name, nmc's placement, and its CPU seconds."""
    graph = Graph.from_pairs(parts, *GENERATORS[kind](parts, 0))
    side = int(np.ceil(parts**0.5))
    at = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    mesh = mesh_of(at)
    task = anneal.Task(graph, mesh.sites, np.zeros(parts, bool))
    starts = anneal.starts(task, np.zeros(parts, np.int64))
    names = {"columns": "row-major", "hilbert": "hilbert", "spectral": "spectral", "rings": "radial"}
    costs = {shown: cost_of(graph, mesh.sites, starts[name]) for name, shown in names.items()}
    if force:
        costs["hilbert+force"] = force_directed(graph, mesh.sites, curves.hilbert(side, side)[:parts])
    begin = time.process_time()
    if parts > _DENSE:
        found = place_large(graph, at, effort=effort)  # type: ignore[arg-type]
    else:
        dense = np.zeros((parts, parts), np.int64)
        upper = graph.rows < graph.partner
        dense[graph.rows[upper], graph.partner[upper]] = graph.weight[upper]
        hops = np.abs(at[:, None] - at[None]).sum(axis=2)
        found = place(dense, hops, at=at, effort=effort)  # type: ignore[arg-type]
    return costs, found, time.process_time() - begin


def networks(kinds: list[str], sizes: list[int], effort: str, force: bool) -> None:
    """One line a network, and how far below Hilbert nmc is on average."""
    below = []
    print("network      parts  " + "  hops/spike of each placer")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    for parts in sizes:
        for kind in kinds:
            costs, found, seconds = one_network(kind, parts, effort, force)
            spikes = Graph.from_pairs(parts, *GENERATORS[kind](parts, 0)).total
            shown = "  ".join(f"{name} {cost / spikes:.2f}" for name, cost in costs.items())
            below.append(1 - found.objective / costs["hilbert"] if costs["hilbert"] else 0.0)
            worse = [name for name, cost in costs.items() if found.objective > cost]
            print(
                f"{kind:10} {parts:7,}  {shown}  nmc {found.objective / spikes:.2f}  bound {found.bound / spikes:.2f} "
                f"({found.bound_name}, gap {100 * found.gap:.1f} %)  {seconds:.1f} s"
                f"  peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.2f} GB"
                + (f"  WORSE than {worse}" if worse else ""),
                flush=True,
            )
    print(f"below Hilbert: {100 * float(np.mean(below)):.1f} % on average")


def qaplib(files: list[Path], effort: str) -> None:
    """One line a file."""
    for file in files:
        problem = read_qaplib(file)
        begin = time.process_time()
        found = place(problem.flow, problem.distance, effort=effort)  # type: ignore[arg-type]
        seconds = time.process_time() - begin
        solution = file.with_suffix(".sln")
        known = int(solution.read_text().split()[1]) if solution.is_file() else 0
        off = f"{100 * (found.objective / known - 1):+.3f} % of {known}" if known else "no best known"
        print(
            f"{file.stem:10} {found.objective:>10}  {off}  bound {found.bound} ({found.bound_name}, "
            f"gap {100 * found.gap:.1f} %)  {seconds:.1f} s",
            flush=True,
        )


def memory(files: list[Path]) -> None:
    """One line a file; the capacity is the number in the name, as in MiniMalloc's benchmarks."""
    for file in files:
        buffers = read_minimalloc(file)
        words = [word for word in file.name.split(".") if word.isdigit()]
        begin = time.process_time()
        found = allocate(buffers, int(words[0]) if words else 0)
        seconds = time.process_time() - begin
        wrong = len(conflicts(buffers, found.offsets))
        print(
            f"{file.name}: {len(buffers)} buffers, height {found.height}, bound {found.bound}, {found.status} "
            f"({found.method}), {wrong} conflicts, {seconds:.1f} s",
            flush=True,
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("networks", "qaplib", "memory"))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=sorted(GENERATORS), default=list(_KINDS))
    parser.add_argument("--parts", nargs="+", type=int, default=[16, 64, 256])
    parser.add_argument("--effort", choices=("fast", "normal", "best"), default="normal")
    parser.add_argument("--force", action="store_true", help="also Hilbert and force-directed exchanges")
    given = parser.parse_args()
    if given.what == "networks":
        networks(given.kinds, given.parts, given.effort, given.force)
    elif given.what == "qaplib":
        qaplib(given.files, given.effort)
    else:
        memory(given.files)


if __name__ == "__main__":
    main()
