"""What lies between populations: chains of linear nodes, constants that they add, and the loops they close."""

from __future__ import annotations

from math import prod

import numpy as np

from nmc.frontends.nir.primitives import NEURONS, Array, Graph, Unfit
from nmc.frontends.nir.shapes import Shapes
from nmc.frontends.nir.stages import Stage
from nmc.ir.dataclass import dataclass

MAX_PATHS = 4096


@dataclass(frozen=True)
class Path:
    """A way from a population (or input) to a population (or output)."""

    source: str
    target: str
    stages: tuple[Stage, ...]
    recurrent: bool = False


class Paths:
    """All ways into each population; those that close a loop are marked."""

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self._graph, self._shapes = graph, shapes
        self._before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self._before[target].append(source)
        ends = [name for name, node in graph.nodes.items() if node.kind in NEURONS or node.kind == "Output"]
        ways = {name: self._into(name) for name in ends}
        self.order, self._back = walk(graph, ways)
        self.into = {
            name: [Path(w.source, name, w.stages, (w.source, name) in self._back) for w in found]
            for name, found in ways.items()
        }

    def _into(self, target: str) -> list[Path]:
        found: list[Path] = []
        stack: list[tuple[str, tuple[Stage, ...]]] = [(name, ()) for name in reversed(self._before[target])]
        while stack:
            name, stages = stack.pop()
            node = self._graph.nodes[name]
            if node.kind in NEURONS or node.kind == "Input":
                found.append(Path(name, target, stages))
            elif node.kind == "Output":
                raise Unfit("E0344", f"the output {name!r} leads on to {target!r}")
            elif any(stage.node.name == name for stage in stages):
                raise Unfit("E0344", f"the loop through {name!r} holds no neuron", "put one into it")
            else:
                more = (self._shapes.stage[name], *stages)
                stack += [(before, more) for before in reversed(self._before[name])]
            if len(found) + len(stack) > MAX_PATHS:
                raise Unfit("E0348", f"more than {MAX_PATHS} ways lead into {target!r}")
        return found

    def biases(self, target: str) -> tuple[Array | None, Array | None]:
        """Constant currents into a population: of forward branches, of recurrent ones; None where there are none."""
        shape = self._shapes.shape[target]
        total: dict[bool, Array | None] = {False: None, True: None}
        for name in self._before[target]:
            for recurrent, bias in self._constant(name, target).items():
                have = total[recurrent]
                total[recurrent] = bias.reshape(shape) if have is None else have + bias.reshape(shape)
        return total[False], total[True]

    def _constant(self, name: str, target: str) -> dict[bool, Array]:
        """What a linear node gives out while nothing spikes, split by whether only loops feed it."""
        stage = self._shapes.stage.get(name)
        if stage is None:
            return {}
        found = {
            key: stage.linear(bias[None])[0]
            for before in self._before[name]
            for key, bias in self._constant(before, target).items()
        }
        if len(self._before[name]) > 1:
            found = self._added(name, target, stage)
        if "bias" in stage.node.fields:
            sources = self._sources(name)
            recurrent = bool(sources) and all((source, target) in self._back for source in sources)
            found[recurrent] = found.get(recurrent, np.zeros(stage.shape)) + stage.bias()
        return found

    def _added(self, name: str, target: str, stage: Stage) -> dict[bool, Array]:
        found: dict[bool, Array] = {}
        for before in self._before[name]:
            for key, bias in self._constant(before, target).items():
                found[key] = found.get(key, np.zeros(stage.shape)) + stage.linear(bias[None])[0]
        return found

    def _sources(self, name: str) -> set[str]:
        found: set[str] = set()
        stack, seen = [name], set[str]()
        while stack:
            here = stack.pop()
            if here in self._shapes.stage and here not in seen:
                seen.add(here)
                stack += self._before[here]
            elif here not in self._shapes.stage:
                found.add(here)
        return found


def walk(graph: Graph, ways: dict[str, list[Path]]) -> tuple[list[str], set[tuple[str, str]]]:
    """Populations so that sources come first, and the hops that close loops (depth first, in file order)."""
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for name, found in ways.items():
        for way in found:
            if name not in after[way.source]:
                after[way.source].append(name)
    inputs = [name for name, node in graph.nodes.items() if node.kind == "Input"]
    done: list[str] = []
    colour: dict[str, int] = {}
    back: set[tuple[str, str]] = set()
    for root in [*inputs, *(name for name in ways if name not in inputs)]:
        if root in colour:
            continue
        colour[root] = 1
        stack = [(root, iter(after[root]))]
        while stack:
            here, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                colour[here] = 2
                done.append(here)
                stack.pop()
            elif colour.get(following) == 1:
                back.add((here, following))
            elif following not in colour:
                colour[following] = 1
                stack.append((following, iter(after[following])))
    return done[::-1], back


def matrix(stages: tuple[Stage, ...], source: int, target: int, limit: int) -> Array:
    """The matrix (target, source) of a chain: what it makes of each unit vector.

    Raises
    ------
    Unfit
        E0348 when it would take more than `limit` elements.
    """
    widest = max(source, target, *(prod(stage.shape) for stage in stages))
    if source * target > limit:
        raise Unfit("E0348", f"this chain of linear nodes has {source * target:,} of at most {limit:,} weights",
                    "put neurons between its nodes, or merge them before export")  # fmt: skip
    rows = max(1, (1 << 24) // widest)
    parts = []
    for start in range(0, source, rows):
        x = np.zeros((min(rows, source - start), source))
        x[np.arange(len(x)), start + np.arange(len(x))] = 1.0
        for stage in stages:
            x = stage.linear(x)
        parts.append(x.reshape(len(x), -1))
    return np.concatenate(parts).T
