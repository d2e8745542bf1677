"""Traffic of networks, made up: layered, ResNet-, MobileNet- and U-net-like, random, liquid, cortical columns.

Every generator gives ``(source, goal, spikes)``, three arrays (E,) of directed traffic between about `parts` parts,
the same for the same seed. Parts are numbered layer by layer, as a compiler does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Traffic = tuple[IntArray, IntArray, IntArray]


def _spikes(rng: np.random.Generator, source: IntArray, parts: int) -> IntArray:
    """Spikes of each source part, log-normal as measured rates are, at least 1."""
    rate = np.maximum(1, np.rint(np.exp(rng.normal(4.0, 0.7, parts)))).astype(np.int64)
    return np.asarray(rate[source], np.int64)


def _sizes(parts: int, shares: NDArray[np.float64]) -> IntArray:
    """Sizes of layers in these proportions, each at least 1, that add up to `parts`."""
    ends = np.rint(np.cumsum(shares) / shares.sum() * (parts - len(shares))).astype(np.int64)
    return np.diff(ends, prepend=0) + 1


def _link(first: int, size: int, second: int, other: int, fan: int) -> tuple[IntArray, IntArray]:
    """Each part of a layer to the `fan` parts of another around the same relative position."""
    fan = min(fan, other)
    i = np.repeat(np.arange(size, dtype=np.int64), fan)
    begin = np.clip(np.arange(size, dtype=np.int64) * other // size - fan // 2, 0, other - fan)
    return first + i, second + np.repeat(begin, fan) + np.tile(np.arange(fan, dtype=np.int64), size)


def _chain(
    parts: int, shares: NDArray[np.float64], fans: list[int], skips: list[tuple[int, int]], seed: int
) -> Traffic:
    """Layers one after another with a fan-out each, and links that skip layers."""
    rng = np.random.default_rng(seed)
    size = _sizes(parts, shares)
    first = np.cumsum(size) - size
    links = [(k, k + 1, fans[k]) for k in range(len(size) - 1)] + [(a, b, 1) for a, b in skips]
    pairs = [_link(int(first[a]), int(size[a]), int(first[b]), int(size[b]), fan) for a, b, fan in links]
    source, goal = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    return source, goal, _spikes(rng, source, parts)


def _depth(parts: int, most: int) -> int:
    return int(max(2, min(most, parts // 4)))


def mlp(parts: int, seed: int = 0) -> Traffic:
    """Dense layers: each part sends to every part of the next layer (at most 64 of them)."""
    depth = max(_depth(parts, 8), parts // 64)
    return _chain(parts, np.ones(depth), [64] * depth, [], seed)


def cnn(parts: int, seed: int = 0) -> Traffic:
    """Convolutions with shrinking maps: narrow local fan-out, dense in the end."""
    depth = _depth(parts, 12)
    shares = 0.75 ** np.arange(depth)
    return _chain(parts, shares, [4] * (depth - 2) + [16, 16], [], seed)


def vgg(parts: int, seed: int = 0) -> Traffic:
    """Blocks of equal layers, halved between blocks."""
    depth = _depth(parts, 15)
    shares = 0.5 ** (np.arange(depth) // 3)
    return _chain(parts, shares, [6 if k < depth - 3 else 24 for k in range(depth)], [], seed)


def resnet(parts: int, seed: int = 0) -> Traffic:
    """Blocks of two convolutions with a shortcut over each."""
    depth = _depth(parts, 33)
    shares = 0.6 ** (np.arange(depth) // 8)
    return _chain(parts, shares, [5] * depth, [(k, k + 2) for k in range(0, depth - 2, 2)], seed)


def mobilenet(parts: int, seed: int = 0) -> Traffic:
    """Depthwise (one to one) and pointwise (wide) layers in turn."""
    depth = _depth(parts, 28)
    shares = 0.7 ** (np.arange(depth) // 6)
    return _chain(parts, shares, [1 if k % 2 else 12 for k in range(depth)], [], seed)


def unet(parts: int, seed: int = 0) -> Traffic:
    """Shrinking, then growing layers, each joined with its counterpart."""
    depth = _depth(parts, 17) | 1
    level = np.minimum(np.arange(depth), depth - 1 - np.arange(depth))
    skips = [(k, depth - 1 - k) for k in range(depth // 2)]
    return _chain(parts, 0.7**level, [5] * depth, skips, seed)


def deep(parts: int, seed: int = 0) -> Traffic:
    """Many layers of some hundred parts with local fan-out: a layered net that spans many chips."""
    depth = max(2, parts // max(8, int(parts**0.5)))
    return _chain(parts, np.ones(depth), [8] * depth, [], seed)


def uniform(parts: int, seed: int = 0) -> Traffic:
    """Each part sends to six others anywhere."""
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(parts, dtype=np.int64), 6)
    return source, rng.integers(0, parts, len(source)), _spikes(rng, source, parts)


def liquid(parts: int, seed: int = 0) -> Traffic:
    """A liquid state machine: parts at random points of a cube, twelve targets near by, fewer far away (Maass 2002)."""
    rng = np.random.default_rng(seed)
    at = rng.random((parts, 3))
    side = max(1, int(round((parts / 4) ** (1 / 3))))
    box = np.minimum((at * side).astype(np.int64), side - 1)
    key = (box[:, 0] * side + box[:, 1]) * side + box[:, 2]
    order = np.argsort(key, kind="stable")
    source = np.repeat(np.arange(parts, dtype=np.int64), 12)
    step = np.clip(box[source] + np.rint(rng.normal(0, 0.7, (len(source), 3))).astype(np.int64), 0, side - 1)
    goal_key = (step[:, 0] * side + step[:, 1]) * side + step[:, 2]
    first, last = np.searchsorted(key[order], goal_key), np.searchsorted(key[order], goal_key, side="right")
    kept = last > first
    pick = first + (rng.random(len(source)) * (last - first)).astype(np.int64)
    goal = order[np.minimum(pick, parts - 1)]
    return source[kept], goal[kept], _spikes(rng, source[kept], parts)


def cortex(parts: int, seed: int = 0) -> Traffic:
    """Cortical columns on a sheet: eight parts a column, dense within, to neighbours, and a few long links."""
    rng = np.random.default_rng(seed)
    columns = -(-parts // 8)
    side = max(1, int(np.ceil(columns**0.5)))
    source = np.repeat(np.arange(parts, dtype=np.int64), 14)
    kind = np.tile(np.arange(14), parts)
    column = source // 8
    x, y = column // side, column % side
    near = np.stack([x, y]) + rng.integers(-1, 2, (2, len(source))) * ((kind >= 7) & (kind < 13))
    near = np.where(kind == 13, rng.integers(0, side, (2, len(source))), np.clip(near, 0, side - 1))
    goal = (near[0] * side + near[1]) * 8 + rng.integers(0, 8, len(source))
    kept = goal < parts
    shuffle = rng.permutation(parts)  # columns are not numbered as they lie
    return shuffle[source[kept]], shuffle[goal[kept]], _spikes(rng, source[kept], parts)


GENERATORS: Mapping[str, Callable[[int, int], Traffic]] = {
    "mlp": mlp, "cnn": cnn, "vgg": vgg, "resnet": resnet, "mobilenet": mobilenet, "unet": unet, "deep": deep,
    "random": uniform, "liquid": liquid, "cortex": cortex,
}  # fmt: skip
