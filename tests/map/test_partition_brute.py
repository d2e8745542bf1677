"""What is proved of the cores is so: brute force over tilings, boxes and slots, on dense, conv and sparse nets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from loihi_chain import legal_module
from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import Box, Target, resolve
from nmc.passes.map.partition import partition
from nmc.passes.map.tiling import boxes, excesses
from nmc.targets.loihi import ops as loihi

CLAIMS = ("optimal", "optimal for these tilings", "optimal for these boxes", "feasible")


@st.composite
def networks(draw: st.DrawFn) -> tuple[Module, Target]:
    """One to three small populations in a row behind an input, on a chip with tight cores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    source: Op = loihi.Input(out="x", source="x", shape=(2, 3, 4), kind="raster")
    ops: list[Op] = [source]
    for number in range(draw(st.integers(1, 3))):
        via = projection(draw, rng, source, f"v{number}")
        source = loihi.Lif(out=f"p{number}", current=(via.result,), vth=4000, reset="hard")
        ops += [via, source]
    limits = {
        "compartments": draw(st.sampled_from([10, 17, 24])), "in_axons": draw(st.sampled_from([24, 30, 48])),
        "synapse_words": draw(st.sampled_from([25, 60, 200])), "out_axon_words": draw(st.sampled_from([16, 30, 60])),
    }  # fmt: skip
    chip = resolve("loihi")  # its demand functions are those of one network
    target = replace(chip, limits={**chip.limits, **limits})
    return legal_module([*ops, snn.Output(data=source.result)]), target


def projection(draw: st.DrawFn, rng: np.random.Generator, source: Op, name: str) -> loihi.SynapseOp:
    """A projection of any kind onto at most 24 neurons, some weights zero."""
    delay = 0 if isinstance(source, loihi.Input) else 1
    shape = source.result.shape

    def weights(*sizes: int) -> Const:
        alive = rng.random(sizes) < draw(st.sampled_from([0.4, 1.0]))
        return Const(f"{name}.w", (2 * rng.integers(1, 60, sizes) * alive).astype(np.int16))

    kind = draw(st.sampled_from(["dense", "conv", "sparse"]))
    size = int(np.prod(shape))
    if kind == "conv" and len(shape) == 3:
        kernel = weights(draw(st.integers(1, 2)), shape[0], 3, 3)
        return loihi.Conv(
            out=name,
            spikes=source.result,
            weight=kernel,
            delay=delay,
            stride=(1, 1),
            pad=(1,) * 4,
            dilation=(1, 1),
        )
    out = draw(st.integers(2, 24))
    if kind == "dense":
        return loihi.Dense(out=name, spikes=source.result, weight=weights(out, size), delay=delay)
    pairs = np.unique(rng.integers(0, size * out, 30))
    source_of, target_of = (
        Const(f"{name}.{n}", a.astype(np.int32)) for n, a in zip("st", divmod(pairs, out), strict=True)
    )
    return loihi.Sparse(
        out=name, spikes=source.result, weight=weights(len(pairs)), source=source_of, target=target_of, shape=(out,),
        delay=delay,
    )  # fmt: skip


class Brute:
    """Demands counted with the slots that boxes get, in every order in which they may lie on a core."""

    def __init__(self, module: Module, target: Target, tiles: Mapping[str, list[Box]]) -> None:
        self.module, self.target, self.tiles = module, target, tiles
        self.boxes = [(op, box) for op in target.demands.populations(module) for box in tiles[op.out]]
        self.known: dict[frozenset[int], bool] = {}

    def demand(self, number: int, slot: int) -> dict[str, int]:
        op, box = self.boxes[number]
        targets = [(name, other) for name, found in self.tiles.items() for other in found]
        sent = self.target.demands.outgoing(self.module, op, targets)
        own = {name: int(each[tuple(s.slice() for s in box)].sum()) for name, each in sent.items()}
        return {**self.target.demands.incoming(self.module, op, box, slot), **own}

    def fits(self, group: frozenset[int]) -> bool:
        """Whether some order of these boxes keeps every limit of one core."""
        if group not in self.known:
            keys = {self.target.demands.shared(self.module, self.boxes[k][0]) for k in group}
            self.known[group] = len(keys) == 1 and any(map(self._holds, permutations(sorted(group))))
        return self.known[group]

    def _holds(self, order: tuple[int, ...]) -> bool:
        used: dict[str, int] = {}
        for number in order:
            more = self.demand(number, used.get("compartments", 0))
            largest = self.target.combined_by_max
            used = {
                name: max(used.get(name, 0), more.get(name, 0)) if name in largest
                else used.get(name, 0) + more.get(name, 0)
                for name in {**used, **more}
            }  # fmt: skip
        return not excesses(used, self.target.limits)

    def least(self) -> int:
        """Cores of the best of all ways to put the boxes together."""
        return min(len(groups) for groups in together(range(len(self.boxes))) if all(map(self.fits, groups)))


def together(items: range) -> Iterator[list[frozenset[int]]]:
    """All ways to share items out."""
    if not items:
        yield []
        return
    for rest in together(items[:-1]):
        yield [*rest, frozenset({items[-1]})]
        for k, group in enumerate(rest):
            yield [*rest[:k], group | {items[-1]}, *rest[k + 1 :]]


def cut_of(mapped: Module) -> dict[str, list[Box]]:
    """How the populations are cut."""
    found: dict[str, list[Box]] = {}
    for part in mapped.of_type(Neurons):
        if part.core != HOST:
            found.setdefault(part.of.name, []).append(part.box)
    return found


def regular(shape: tuple[int, ...], most: int) -> list[list[Box]]:
    """All regular tilings of at most so many boxes."""
    every = product(*(range(1, extent + 1) for extent in shape))
    return [boxes(shape, splits) for splits in every if np.prod(splits) <= most]


def assert_claims(module: Module, target: Target, effort: Any) -> None:
    """No way to put the boxes together, and no way to cut, does with fewer cores than what is called proved."""
    try:
        mapped = partition(module, target, "loihi", effort=effort)
    except DoesNotFit:
        assume(False)
    told, tiles = mapped.attr("packing"), cut_of(mapped)
    cores = {part.core for part in mapped.of_type(Neurons) if part.core != HOST}
    assert told["status"] in CLAIMS and told["cores"] == len(cores)
    assert told["bound_any"] <= told["bound_tilings"] <= told["cores"] and told["bound"] <= told["cores"]
    held: dict[int, set[int]] = {}
    brute = Brute(module, target, tiles)
    places = [part.core for part in mapped.of_type(Neurons) if part.core != HOST]
    for number, core in enumerate(places):
        held.setdefault(core, set()).add(number)
    assert all(brute.fits(frozenset(group)) for group in held.values())
    if len(brute.boxes) > 6:
        return
    least = brute.least()
    assert told["bound"] <= least
    if told["status"] != "feasible":
        assert least == told["cores"]
    if told["status"] in ("optimal", "optimal for these tilings"):
        shapes = {op.out: op.result.shape for op in target.demands.populations(module)}
        choices = [regular(shape, len(tiles[name])) for name, shape in shapes.items()]
        for chosen in product(*choices):
            if sum(map(len, chosen)) <= 5:
                other = Brute(module, target, dict(zip(shapes, chosen, strict=True)))
                assert not all(
                    other.fits(frozenset({k})) for k in range(len(other.boxes))
                ) or other.least() >= len(cores)


LIMITED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@given(networks())
@settings(LIMITED, max_examples=10)
def test_what_is_called_proved_of_the_cores_is_so(case: tuple[Module, Target]) -> None:
    assert_claims(*case, "normal")


@pytest.mark.slow
@pytest.mark.parametrize("effort", [None, "fast", "normal"])
def test_many_more_networks_keep_what_is_proved(effort: Any) -> None:
    @given(networks())
    @settings(LIMITED, max_examples=100)
    def holds(case: tuple[Module, Target]) -> None:
        assert_claims(*case, effort)

    holds()
