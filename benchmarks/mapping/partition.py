"""Packing of random items: what is proved, how far bins and traffic may be from the best, against first fit.

    python benchmarks/mapping/partition.py [--effort fast|normal|best] [--sizes 16 50 200 1000]

Four resources, a bin holds about four items, each item sends to three others. Times are CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import time
from random import Random

from nmc.passes.map.binpack import Effort, Items, Packing, pack


def instance(count: int, seed: int) -> Items:
    """Random items of four resources with sparse traffic."""
    random = Random(f"{count}/{seed}")
    sizes = [[random.randint(5, 45) for _ in range(4)] for _ in range(count)]
    pairs = {
        (i, random.randrange(max(0, i - 12), i)): random.randint(1, 99)
        for i in range(1, count)
        for _ in range(3)
    }
    return Items(sizes, [100] * 4, traffic=pairs)


def first_fit(items: Items) -> tuple[int, int]:
    """Bins and traffic of first fit in the order given."""
    loads: list[list[int]] = []
    bins = []
    for row in items.sizes:
        fits = (
            b
            for b, load in enumerate(loads)
            if all(u + s <= c for u, s, c in zip(load, row, items.capacity, strict=True))
        )
        chosen = next(fits, len(loads))
        if chosen == len(loads):
            loads.append([0] * len(row))
        loads[chosen] = [u + s for u, s in zip(loads[chosen], row, strict=True)]
        bins.append(chosen)
    return len(loads), sum(w for (a, b), w in items.traffic.items() if bins[a] != bins[b])


def main() -> None:
    """Print one row for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", choices=("fast", "normal", "best"), default="normal")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 20, 50, 200, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(f"{'items':>6} {'seed':>4} {'CPU s':>7} {'bins':>5} {'bound':>5} {'f.fit':>5} "
          f"{'traffic':>8} {'bound':>8} {'gap %':>6} {'f.fit':>8}  status")  # fmt: skip
    for count in args.sizes:
        for seed in range(args.seeds if count < 1000 else 1):
            row(count, seed, args.effort)


def row(count: int, seed: int, effort: Effort) -> None:
    """Solve one instance and print it."""
    items = instance(count, seed)
    begin = time.process_time()
    found: Packing = pack(items, effort)
    seconds = time.process_time() - begin
    bins, traffic = first_fit(items)
    gap = 100 * (found.traffic - found.traffic_bound) / max(found.traffic, 1)
    head = f"{count:>6} {seed:>4} {seconds:>7.2f} {found.bins:>5} {found.bins_bound:>5} {bins:>5}"
    tail = f"{found.traffic:>8} {found.traffic_bound:>8} {gap:>6.1f} {traffic:>8}  {found.status}"
    print(head, tail, flush=True)


if __name__ == "__main__":
    main()
