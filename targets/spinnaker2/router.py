"""Where packets go: routes between chips, router tables and their compression, packets on the network on chip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit
from nmc.targets.spinnaker2.engines.chip import matches
from nmc.targets.spinnaker2.keys import KeyRange
from nmc.targets.spinnaker2.layout import LINK_STEPS, LINKS, NocTarget, Route
from nmc.targets.spinnaker2.target import chip_data, place_on_qpe, qpe_of

Place = tuple[int, int]
_EAST, _WEST = LINK_STEPS.index((1, 0)), LINK_STEPS.index((-1, 0))


@dataclass(frozen=True)
class Flow:
    """Packets with the keys of a box, from a chip to PEs."""

    keys: KeyRange
    chip: int
    targets: frozenset[Place]


def plain_tables(flows: Iterable[Flow], chips: int) -> dict[int, list[Route]]:
    """One entry a box on every chip that its packets pass; chips stand in a row, packets go east and west."""
    tables: dict[int, list[Route]] = {chip: [] for chip in range(chips)}
    for flow in flows:
        if not flow.targets:
            continue
        reached = [chip for chip, _ in flow.targets]
        low, high = min(*reached, flow.chip), max(*reached, flow.chip)
        for chip in range(low, high + 1):
            route = sum(1 << (LINKS + pe) for at, pe in flow.targets if at == chip)
            route |= (1 << _EAST) if flow.chip <= chip < high else 0
            route |= (1 << _WEST) if low < chip <= flow.chip else 0
            tables[chip].append(Route(flow.keys.base, flow.keys.mask, route))
    return {chip: sorted(table) for chip, table in tables.items()}


def compress(table: Sequence[Route]) -> list[Route]:
    """The fewest entries with prefix masks that send all keys of a table (which do not overlap) where it does.

    Keys that nobody has may go anywhere: a range in which all keys in use go one way becomes one entry.
    """

    def cover(entries: Sequence[Route], base: int, bits: int) -> list[Route]:
        if len({entry.route for entry in entries}) == 1:
            only = entries[0]
            return [only] if len(entries) == 1 else [Route(base, _mask(bits), only.route)]
        middle = base + (1 << (bits - 1))
        halves = [entry for entry in entries if entry.key < middle], [e for e in entries if e.key >= middle]
        return [
            route
            for half, start in zip(halves, (base, middle), strict=True)
            if half
            for route in cover(half, start, bits - 1)
        ]

    if not table:
        return []
    last = table[-1].key | (~table[-1].mask & 0xFFFFFFFF)
    bits = (table[0].key ^ last).bit_length()
    return cover(table, table[0].key >> bits << bits, bits)


def _mask(bits: int) -> int:
    return 0xFFFFFFFF >> bits << bits


def tables(
    flows: Sequence[Flow], sizes: Mapping[KeyRange, int], chips: int, limit: int
) -> dict[int, tuple[Route, ...]]:
    """Compressed router tables, every key of which has been checked against the plain ones.

    Parameters
    ----------
    flows : sequence of Flow
    sizes : mapping of KeyRange to int
        Keys in use of each range.
    chips : int
    limit : int
        Entries of a router.

    Raises
    ------
    DoesNotFit
        E0926 for a table that is too long even compressed.
    """
    plain = plain_tables(flows, chips)
    found = {}
    for chip, table in plain.items():
        short = compress(table)
        if len(short) > limit:
            before = f"{len(table):,} before compression"
            text = f"the router of chip {chip} needs {len(short):,} of {limit:,} entries ({before}"
            source = chip_data()["router"]["entries"]["source"]
            hint = (
                "fewer and larger populations, or fewer weight bits: each part of a population takes an entry"
            )
            raise DoesNotFit(Diagnostic("E0926", f"{text}; source: {source})", hint=hint))
        differing = wrong_keys(table, short, sizes)
        assert not differing, f"compression sends {differing} keys elsewhere"
        found[chip] = tuple(short)
    return found


def wrong_keys(before: Sequence[Route], after: Sequence[Route], sizes: Mapping[KeyRange, int]) -> int:
    """How many keys in use two tables send to different places; every key is looked up in both."""
    used = [
        np.arange(keys.base, keys.base + size)
        for keys, size in sorted(sizes.items(), key=lambda item: item[0].base)
    ]
    every = np.concatenate(used) if used else np.zeros(0, np.int64)
    known = matches(every, before)
    every, known = every[known >= 0], known[known >= 0]
    now = matches(every, after)
    routes = sorted({route.route for route in (*before, *after)})
    number = {route: k for k, route in enumerate(routes)}
    old = np.array([number[route.route] for route in before], np.int64)
    new = np.array([number[route.route] for route in after] + [-1], np.int64)
    return int((old[known] != new[now]).sum()) if every.size else 0


def noc_targets(chip: int, targets: Iterable[Place]) -> tuple[NocTarget, ...]:
    """Packets on the network on chip: one for each QPE with targets, which reaches its PEs by a mask of four bits."""
    masks: dict[tuple[int, int], int] = {}
    for at, pe in sorted(targets):
        if at == chip:
            qpe = qpe_of(pe)
            masks[qpe] = masks.get(qpe, 0) | 8 >> place_on_qpe(pe)  # the top bit is PE 0
    return tuple(NocTarget(x, y, mask) for (x, y), mask in sorted(masks.items()))
