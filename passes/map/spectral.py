"""Spectral layout: slow modes of a random walk on the traffic, in integers so that every machine agrees."""

from __future__ import annotations

import numpy as np

from nmc.passes.map.sparse import Graph, IntArray, Sites

_ONE = 1 << 20
_ROUNDS = 400
_ROUND_ENTRIES = 1 << 28  # entries of the graph times rounds


def coordinates(graph: Graph) -> IntArray:
    """Two slow modes (2, P) of the lazy random walk, in 2^-20.

    Power iteration (the smallest eigenvectors of the normalised Laplacian; Hall 1970) in fixed point, begun with the
    order of the parts and a bend of it. Floating-point eigenvectors would differ between machines where
    eigenvalues coincide, as they do for regular networks.
    """
    parts, entries = graph.parts, np.diff(graph.start)
    degree = _row_sums(graph, graph.weight)
    shift = max(0, int(degree.max(initial=1)).bit_length() - 40)
    weight = np.maximum(graph.weight >> shift, 1)  # of a row less than 2^41: times a mode less than 2^62
    degree = np.maximum(_row_sums(graph, weight), 1)
    mass = np.maximum(degree * _ONE // int(degree.max(initial=1)), 1)
    ramp = (2 * np.arange(parts, dtype=np.int64) - (parts - 1)) * _ONE // max(parts, 1)
    modes = [ramp, np.abs(ramp) * 2 - _ONE]
    rounds = max(8, min(_ROUNDS, _ROUND_ENTRIES // max(int(entries.sum()), 1)))
    for _ in range(rounds):
        modes = [(mode + _row_sums(graph, weight * mode[graph.partner]) // degree) // 2 for mode in modes]
        modes = _apart(modes, mass)
    return np.stack(modes)


def _row_sums(graph: Graph, value: IntArray) -> IntArray:
    """Sums (P,) of values (E,) over the partners of each part; wrapping of the running total cancels out."""
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(value)])
    return np.asarray(total[graph.start[1:]] - total[graph.start[:-1]], np.int64)


def _apart(modes: list[IntArray], mass: IntArray) -> list[IntArray]:
    """Remove the constant from both and the first from the second, then scale to 2^20."""
    done: list[IntArray] = []
    weight = float(mass.sum())
    for mode in modes:
        mode = mode - round(_inner(mode, mass) / weight)
        for other in done:
            size = _inner(other, mass, other)
            if size:
                factor = round(_inner(mode, mass, other) / size * _ONE)
                mode = mode - (other * factor >> 20)
        largest = int(np.abs(mode).max(initial=0))
        done.append(mode * _ONE // largest if largest else mode)
    return done


def _inner(a: IntArray, mass: IntArray, b: IntArray | None = None) -> int:
    """Exact sum of a * mass * b in units that fit 64 bits."""
    product = (a >> 4) * (mass >> 6) if b is None else ((a >> 6) * (b >> 6) >> 8) * (mass >> 6)
    return int(product.sum()) << (10 if b is None else 26)


def layout(graph: Graph, sites: Sites, cells: IntArray) -> IntArray:
    """Put parts on as many cells (P,), by rank of the first mode into columns and of the second within each."""
    first, second = coordinates(graph)
    column = cells // len(sites.ys)
    into = np.sort(column)
    order = np.lexsort((np.arange(graph.parts), first))
    rank = np.empty(graph.parts, np.int64)
    rank[order] = into
    inner = np.lexsort((np.arange(graph.parts), second, rank))
    site = np.empty(graph.parts, np.int64)
    site[inner] = np.sort(cells)
    return site
