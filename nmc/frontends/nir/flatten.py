"""Subgraphs are dissolved: their nodes get a path as name, their inputs and outputs disappear."""

from __future__ import annotations

from dataclasses import field

from nmc.frontends.nir.hdf5 import Raw
from nmc.frontends.nir.primitives import Graph, Node, Unfit, check
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic

Edge = tuple[str, str]


@dataclass
class Flattener:
    """Collects the flat graph, and every problem on the way."""

    file: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    ports: set[str] = field(default_factory=set)

    def run(self, raw: Raw, version: str) -> Graph:
        """Dissolve the graph `raw`; look at `problems` afterwards."""
        self._graph(raw, "", 0)
        edges = self.edges
        for port in sorted(self.ports):
            before = [src for src, dst in edges if dst == port]
            after = [dst for src, dst in edges if src == port]
            if len(before) * len(after) + len(edges) > 1_000_000:
                self._problem(Unfit("E0344", "more than a million edges after dissolving subgraphs"), port)
                break
            edges = [edge for edge in edges if port not in edge] + [(a, b) for a in before for b in after]
        kept = {name: node for name, node in self.nodes.items() if name not in self.ports}
        return Graph(kept, tuple(edges), version, tuple(self.notes), raw.meta)

    def _problem(self, error: Unfit, node: str) -> None:
        where = f'{self.file}: node "{node[:200]}"' if node else self.file
        self.problems.append(Diagnostic(error.code, error.message, where=where, hint=error.hint))

    def _graph(self, raw: Raw, prefix: str, depth: int) -> None:
        named = {name for edge in raw.edges for name in edge}
        for name in sorted(named & {"input", "output"} - set(raw.nodes)):
            if depth:  # files of NIR 0.1 leave the ports of a subgraph away
                raw.nodes[name] = Raw("Input" if name == "input" else "Output")
        for name, inner in raw.nodes.items():
            path = prefix + name
            if inner.kind == "NIRGraph":
                self._graph(inner, f"{path}.", depth + 1)
            elif path in self.nodes:
                self._problem(Unfit("E0344", "two nodes have this name"), path)
            else:
                self._add(Node(path, inner.kind, inner.fields, inner.meta), bool(depth))
        for source, target in raw.edges:
            try:
                self.edges.append(
                    (prefix + self._end(raw, source, "Output"), prefix + self._end(raw, target, "Input"))
                )
            except Unfit as error:
                self._problem(error, prefix.rstrip("."))

    def _add(self, node: Node, inside: bool) -> None:
        try:
            strange = check(node)
        except Unfit as error:
            self._problem(error, node.name)
            return
        if strange:
            self.notes.append(f"{node.name}: unknown field {', '.join(strange)[:100]} ignored")
        self.nodes[node.name] = node
        if inside and node.kind in ("Input", "Output"):
            self.ports.add(node.name)

    def _end(self, raw: Raw, name: str, port: str) -> str:
        """The node that an edge means: the port of a subgraph where it names one."""
        if name not in raw.nodes:
            head, dot, tail = name.partition(".")
            if dot and head in raw.nodes and raw.nodes[head].kind == "NIRGraph":
                return f"{head}.{self._end(raw.nodes[head], tail, port)}"
            raise Unfit("E0344", f"an edge names {name[:80]!r}, which is no node")
        inner = raw.nodes[name]
        if inner.kind != "NIRGraph":
            return name
        ports = [key for key, item in inner.nodes.items() if item.kind == port]
        if len(ports) != 1:
            hint = f"name one of them: {name}.{ports[0]}" if ports else ""
            raise Unfit("E0344", f"the subgraph {name[:80]!r} has {len(ports)} nodes {port}, not one", hint)
        return f"{name}.{ports[0]}"
