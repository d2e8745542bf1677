"""The graph as a graph: what defines what, what is needed, in which order; its own errors (E0305)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from heapq import heappop, heappush

from nmc.frontends.onnx.node import Node
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic


@dataclass(frozen=True)
class Graph:
    """Nodes and the tensors that exist without them.

    Parameters
    ----------
    file : str
        File name, for diagnostics.
    nodes : tuple of Node
        In file order.
    given : tuple of str
        Inputs and initializers, each once.
    outputs : tuple of str
        Graph outputs.
    """

    file: str
    nodes: tuple[Node, ...]
    given: tuple[str, ...]
    outputs: tuple[str, ...]

    def where(self, node: Node) -> str:
        """The place of a node as diagnostics have it."""
        return f'{self.file}: node "{node.name}" ({node.kind})'

    @cached_property
    def producer(self) -> Mapping[str, Node]:
        """The node that defines each tensor; the first one when several do."""
        table: dict[str, Node] = {}
        for node in self.nodes:
            for name in filter(None, node.outputs):
                table.setdefault(name, node)
        return table

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The live nodes that read each tensor, once a use."""
        table: dict[str, list[Node]] = {}
        for node in self.live:
            for name in filter(None, node.inputs):
                table.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in table.items()}

    @cached_property
    def live(self) -> tuple[Node, ...]:
        """The nodes that an output depends on, in file order."""
        seen: set[int] = set()
        stack = [self.producer[name] for name in self.outputs if name in self.producer]
        while stack:
            node = stack.pop()
            if node.index not in seen:
                seen.add(node.index)
                stack.extend(self.producer[name] for name in node.inputs if name in self.producer)
        return tuple(node for node in self.nodes if node.index in seen)

    def uses(self, name: str) -> int:
        """How often a tensor is read, as a graph output too."""
        return len(self.readers.get(name, ())) + self._asked[name]

    @cached_property
    def _asked(self) -> Counter[str]:
        return Counter(self.outputs)

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """The live nodes, producers first, else in file order; without those on or behind a cycle."""
        waiting = {node.index: self._missing(node) for node in self.live}
        ready = [node.index for node in self.live if not waiting[node.index]]
        order: list[Node] = []
        while ready:
            node = self.nodes[heappop(ready)]
            order.append(node)
            for name in dict.fromkeys(filter(None, node.outputs)):
                for reader in dict.fromkeys(item.index for item in self.readers.get(name, ())):
                    if name in waiting[reader]:
                        waiting[reader].discard(name)
                        if not waiting[reader]:
                            heappush(ready, reader)
        return tuple(order)

    def _missing(self, node: Node) -> set[str]:
        return {name for name in node.inputs if name in self.producer and name not in self._given}

    @cached_property
    def _given(self) -> frozenset[str]:
        return frozenset(self.given)

    def problems(self) -> Iterator[Diagnostic]:
        """Yield what is wrong with the graph as such."""
        yield from self._duplicates()
        yield from self._undefined()
        yield from self._cycles()

    def _duplicates(self) -> Iterator[Diagnostic]:
        produced = (name for node in self.nodes for name in node.outputs if name)
        for name, count in Counter([*self.given, *produced]).items():
            if count > 1:
                yield _problem(
                    f"tensor {name!r} is defined {count} times", self.file, "give each tensor one definition"
                )
        if not self.outputs:
            yield _problem("the graph has no output", self.file, "export the model with its outputs")

    def _undefined(self) -> Iterator[Diagnostic]:
        hint = "export the model again; onnx.checker.check_model shows where it broke"
        for node in self.live:
            lost = [name for name in node.inputs if name and not self.defines(name)]
            if lost:
                yield _problem(f"nothing defines its input {_quoted(lost)}", self.where(node), hint)
        lost = [name for name in self.outputs if not self.defines(name)]
        if lost:
            yield _problem(f"nothing defines the output {_quoted(lost)}", self.file, hint)

    def defines(self, name: str) -> bool:
        """Tell whether a tensor has a definition."""
        return name in self._given or name in self.producer

    def _cycles(self) -> Iterator[Diagnostic]:
        done = {node.index for node in self.order}
        stuck = [node for node in self.live if node.index not in done]
        if stuck:
            names = _quoted(node.name for node in stuck[:5])
            more = f" and {len(stuck) - 5} more" if len(stuck) > 5 else ""
            yield _problem(
                f"{len(stuck)} nodes wait for each other in a cycle: {names}{more}",
                self.where(stuck[0]),
                "ONNX graphs have no cycles; unroll the recurrence over time",
            )


def _problem(message: str, where: str, hint: str) -> Diagnostic:
    return Diagnostic("E0305", message, where=where, hint=hint)


def _quoted(names: Iterable[str] | Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
