"""Shapes of all nodes, inferred from the inputs onwards, through loops too."""

from __future__ import annotations

from math import prod

import numpy as np

from nmc.frontends.nir.primitives import NEURONS, Graph, Ints, Node, Unfit
from nmc.frontends.nir.stages import Stage, stage_of
from nmc.ir.diagnostics import Diagnostic

_PARAMETERS = ("r", "tau", "tau_syn", "tau_mem", "v_leak", "v_threshold", "v_reset", "w_in", "threshold")
MAX_SIZE = 1 << 28


class Shapes:
    """Infers `shape` of every node and `stage` of every linear one; `problems` tells what did not work."""

    def __init__(self, graph: Graph, file: str) -> None:
        self.shape: dict[str, Ints] = {}
        self.stage: dict[str, Stage] = {}
        self.problems: list[Diagnostic] = []
        self._graph, self._file = graph, file
        self._before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self._after: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self._before[target].append(source)
            self._after[source].append(target)
        self._failed: set[str] = set()
        self._run()

    def _run(self) -> None:
        ready = [name for name in self._graph.nodes if self._is_ready(name)]
        rest = iter(self._graph.nodes)
        while True:
            while ready:
                name = ready.pop()
                if name not in self.shape and name not in self._failed:
                    self._infer(name)
                    ready += [item for item in self._after[name] if self._is_ready(item)]
            stuck = next((name for name in rest if name not in self.shape and name not in self._failed
                          and self._own(self._graph.nodes[name]) not in ((), (1,))), None)  # fmt: skip
            stuck = stuck or self._half_known()
            if stuck is None:
                break
            self._infer(stuck)
            ready = [item for item in self._after[stuck] if self._is_ready(item)]
        for name in self._graph.nodes:
            self._late(name)

    def _half_known(self) -> str | None:
        """A population that waits for its own loop only: one of its other inputs tells its shape."""
        waiting = (name for name, node in self._graph.nodes.items() if node.kind in NEURONS)
        return next((name for name in waiting if name not in self.shape and name not in self._failed
                     and any(item in self.shape for item in self._before[name])), None)  # fmt: skip

    def _late(self, name: str) -> None:
        if name in self._failed:
            return
        before = [self.shape[item] for item in self._before[name] if item in self.shape]
        if name not in self.shape and before:
            self._infer(name)
        if name not in self.shape and name not in self._failed and not self._failed:
            self._fail(name, Unfit("E0344", "no input leads here, so its shape is not known"))
        have = self.shape.get(name)
        wrong = [shape for shape in before if have is not None and not self._fits(name, shape)]
        if wrong and name not in self._failed:
            self._fail(name, Unfit("E0345", f"it has shape {have}, an input comes with {wrong[0]}"))

    def _fits(self, name: str, shape: Ints) -> bool:
        want = self.stage[name].source if name in self.stage else self.shape[name]
        return prod(want) == prod(shape)

    def _is_ready(self, name: str) -> bool:
        """Whether everything before a node is known (loops through a neuron are opened later)."""
        node = self._graph.nodes[name]
        return node.kind == "Input" or all(item in self.shape for item in self._before[name])

    def _own(self, node: Node) -> Ints:
        if node.kind not in NEURONS:
            return ()
        try:
            return np.broadcast_shapes(*(node.array(key).shape for key in _PARAMETERS if key in node.fields))
        except ValueError:
            return ()

    def _infer(self, name: str) -> None:
        node = self._graph.nodes[name]
        before = [self.shape[item] for item in self._before[name] if item in self.shape]
        try:
            if node.kind == "Input":
                self.shape[name] = self._input(node)
            elif node.kind in NEURONS:
                self.shape[name] = self._population(node, before)
            elif not before:
                raise Unfit("E0344", "nothing leads into it")
            elif node.kind == "Output":
                self.shape[name] = before[0]
            else:
                self.stage[name] = stage_of(node, before[0])
                self.shape[name] = self.stage[name].shape
            if prod(self.shape[name]) > MAX_SIZE:
                raise Unfit("E0345", f"{prod(self.shape[name]):,} of at most {MAX_SIZE:,} elements")
        except Unfit as error:
            self._fail(name, error)

    def _fail(self, name: str, error: Unfit) -> None:
        self._failed.add(name)
        where = f'{self._file}: node "{name[:200]}"'
        self.problems.append(Diagnostic(error.code, error.message, where=where, hint=error.hint))

    def _input(self, node: Node) -> Ints:
        key = "shape" if "shape" in node.fields else "input_type"
        if key not in node.fields:
            raise Unfit("E0343", "an Input without shape")
        shape = node.ints(key, np.size(node.fields[key]))
        if min(shape) < 1 or len(shape) > 8:
            raise Unfit("E0343", f"a shape of {shape}")
        return shape

    def _population(self, node: Node, before: list[Ints]) -> Ints:
        try:
            own = np.broadcast_shapes(*(node.array(key).shape for key in _PARAMETERS if key in node.fields))
        except ValueError:
            shapes = {key: node.array(key).shape for key in _PARAMETERS if key in node.fields}
            raise Unfit("E0345", f"its parameters differ in shape: {shapes}") from None
        if not before or prod(own) == prod(before[0]) > 1:
            return own or (1,)
        try:
            fits = np.broadcast_shapes(own, before[0]) == before[0]
        except ValueError:
            fits = False
        if not fits:
            raise Unfit("E0345", f"parameters of shape {own} do not fit an input of {before[0]}")
        return before[0]
