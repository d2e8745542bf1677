"""Ways, multicast trees, link loads, and relief of the busiest link."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.target import resolve
from nmc.passes.map import routing
from nmc.passes.map.place import coordinates, tiles
from nmc.passes.map.routing import Flow, Tile

TILES = [(x, y) for x in range(4) for y in range(3) for _ in range(2)]  # two cores a tile


@st.composite
def flows(draw: Any) -> list[Flow]:
    core = st.integers(0, len(TILES) - 1)
    goals = st.dictionaries(core, st.integers(1, 50), max_size=6)
    return draw(st.lists(st.builds(Flow, core, goals), max_size=8))  # type: ignore[no-any-return]


def apart(a: Tile, b: Tile) -> int:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


@given(flows())
def test_all_links_together_carry_spikes_times_hops(sent: list[Flow]) -> None:
    expected = sum(n * apart(TILES[f.source], TILES[g]) for f in sent for g, n in f.goals.items())
    found = routing.loads(sent, TILES, "core")
    assert sum(found.values()) == expected
    assert all(apart(*link) == 1 for link in found)


@given(flows())
def test_a_tree_carries_no_more_than_a_message_a_tile_and_that_no_more_than_one_a_core(
    sent: list[Flow],
) -> None:
    tree, tile, core = (routing.loads(sent, TILES, cast) for cast in ("tree", "tile", "core"))
    assert set(tree) == set(tile) == set(core)
    assert all(tree[link] <= tile[link] <= core[link] for link in tree)


@given(flows())
def test_a_tree_reaches_every_goal_and_enters_no_tile_twice(sent: list[Flow]) -> None:
    for flow in sent:
        start, goals = TILES[flow.source], [TILES[core] for core in flow.goals]
        entered = [end for _, end in routing.tree(start, goals)]
        assert len(entered) == len(set(entered))
        reached = {start}
        for begin, end in routing.tree(start, goals):
            assert begin in reached  # a spike arrives before it leaves
            reached.add(end)
        assert reached >= set(goals)


def test_the_summary_names_the_busiest_link_and_counts_crossings() -> None:
    found = routing.loads([Flow(0, {3: 5}), Flow(1, {3: 2})], [(0, 0), (1, 0), (2, 0), (3, 0)], "core")
    told = routing.summary(found, 2)
    assert told == {"used": 3, "busiest": "(1, 0) -> (2, 0)", "load": 7, "mean": 6.3, "crossing": 7}


@settings(max_examples=25)
@given(flows(), st.integers(0, 2**32), st.sampled_from([0.0, 3.0]))
def test_relief_never_makes_a_link_busier_nor_costs_more_than_it_is_worth(
    sent: list[Flow], seed: int, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    site, locked = rng.permutation(len(TILES)), rng.random(len(TILES)) < 0.2

    def cost(at: Any) -> int:
        return sum(n * apart(TILES[at[f.source]], TILES[at[g]]) for f in sent for g, n in f.goals.items())

    def peak(at: Any) -> int:
        return max(routing.loads(sent, [TILES[s] for s in at], "core").values(), default=0)

    better = routing.relieved(site, sent, TILES, "core", lambda a, b: cost(b) - cost(a), locked, weight)
    assert sorted(better.tolist()) == sorted(site.tolist()) and (better[locked] == site[locked]).all()
    assert cost(better) - cost(site) <= weight * (peak(site) - peak(better))
    assert peak(better) <= peak(site)


def test_relief_moves_a_part_off_the_busiest_link_at_no_cost() -> None:
    at = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]
    sent = [Flow(0, {1: 10, 2: 10})]  # two parts on one way: one may go another

    def cost(site: Any) -> int:
        return sum(n * apart(at[site[f.source]], at[site[g]]) for f in sent for g, n in f.goals.items())

    site = np.array([0, 1, 4])  # along a row: the first link carries 20
    better = routing.relieved(site, sent, at, "core", lambda a, b: cost(b) - cost(a), np.zeros(3, bool))
    assert max(routing.loads(sent, [at[s] for s in better], "core").values()) == 10
    assert cost(better) == 20 < cost(site)


@pytest.mark.parametrize(("name", "chip"), [("loihi", (8, 4)), ("spinnaker2", (8, 7))])
def test_a_crossing_between_chips_counts_as_several_hops(
    name: str, chip: tuple[int, int], tmp_path: Any
) -> None:
    file = tmp_path / "two.toml"
    file.write_text(f'base = "{name}"\nchips = 2\n')
    target = resolve(str(file))
    more = target.data["routing"]["crossing"]["value"] - 1
    at, where = coordinates(target), np.array(tiles(target))
    second = where[:, 0] >= chip[0]
    assert more > 0 and second.sum() * 2 == len(at)
    assert np.array_equal(at - where, np.stack([more * second, 0 * second], axis=1))
