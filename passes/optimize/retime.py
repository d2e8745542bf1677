"""Make every projection's delay one that the hardware has, without changing any spike train but by a shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.passes.base import Pass


@dataclass(frozen=True)
class Edge:
    """A projection between two populations: the delay it has and the least it must get."""

    source: str
    target: str
    projection: str
    delay: int
    least: int


@dataclass(frozen=True)
class Retime(Pass, name="retime", takes="snn"):
    """Give each population a latency so that all projections have a delay of at least `min_delay`.

    With latency r(p) a projection's delay d becomes d + r(target) - r(source): every spike train is the same, r(p)
    steps later, bit for bit (Leiserson and Saxe 1991). Spikes that the host injects may act in the step they come
    in (`input_delay`). The total extra delay is minimal. A loop whose delays are fewer than its hops cannot be
    retimed and is refused.

        before: %2.x = snn.conv(%x, @w) {...} : current<8x28x28>
                %2 = snn.if(%2.x, @b) : spikes<8x28x28>
        after:  %2.x = snn.conv(%x, @w) {..., delay=1} : current<8x28x28>
                %2 = snn.if(%2.x, @b) {start=1} : spikes<8x28x28>
    """

    min_delay: int = 1
    input_delay: int = 0
    max_delay: int = 62

    def run(self, module: Module) -> Module:
        """Choose the latencies and apply them."""
        edges = list(self._edges(module))
        latency = _latencies(module, edges)
        self._check_range(module, edges, latency)
        delays = {e.projection: e.delay + latency[e.target] - latency[e.source] for e in edges}
        steps = module.attr("steps", 0)
        ops = [_retimed(op, latency, delays, steps) for op in module.ops]
        outputs = {op.data.name: latency[op.data.name] for op in module.of_type(snn.Output)}
        return module.with_ops(ops).with_attrs(latency=outputs)

    def _edges(self, module: Module) -> Iterator[Edge]:
        for op in module.ops:
            if not isinstance(op, snn.ProjectionOp):
                continue
            injected = isinstance(module.producers[op.spikes.name], snn.InputOp)
            least = self.input_delay if injected else self.min_delay
            for user in module.users.get(op.out, ()):
                yield Edge(op.spikes.name, user.out, op.out, op.delay, least)

    def _check_range(self, module: Module, edges: list[Edge], latency: dict[str, int]) -> None:
        problems = []
        for edge in edges:
            delay = edge.delay + latency[edge.target] - latency[edge.source]
            if delay > self.max_delay:
                where = str(module.producers[edge.projection].loc or f"%{edge.projection}")
                message = f"projection %{edge.projection} needs a delay of {delay} steps, the target has {self.max_delay}"
                hint = "shorten the path that it skips, or put a population on the skip connection"
                problems.append(Diagnostic("E0211", message, where=where, hint=hint))
        if problems:
            raise NmcError(problems)


def _latencies(module: Module, edges: list[Edge]) -> dict[str, int]:
    """Solve the difference constraints with the least total delay."""
    names = [op.out for op in module.ops if op.out and op.result.type.kind in ("spikes", "graded")]
    longest = _longest(module, names, edges)
    pinned = _pinned(module)
    if any(longest[name] for name in pinned):
        late = next(name for name in pinned if longest[name])
        raise fail(
            "E0212", f"%{late} takes a constant current and spikes of a later step; it cannot be delayed"
        )
    if all(longest[e.target] - longest[e.source] == e.least - e.delay for e in edges):
        return longest
    return _least_total(names, edges, longest, pinned)


def _pinned(module: Module) -> list[str]:
    """Populations that a current of the host drives, which starts at step 0."""
    currents = {op.out for op in module.of_type(snn.InputOp) if op.result.type.kind == "current"}
    return [op.out for op in module.of_type(snn.NeuronOp) if any(v.name in currents for v in op.current)]


def _longest(module: Module, names: list[str], edges: list[Edge]) -> dict[str, int]:
    """Earliest latencies (Bellman-Ford); a positive cycle cannot be retimed."""
    latency = dict.fromkeys(names, 0)
    cause: dict[str, Edge] = {}
    for _ in range(len(names) + 1):
        changed = False
        for edge in edges:
            reached = latency[edge.source] + edge.least - edge.delay
            if reached > latency[edge.target]:
                latency[edge.target], cause[edge.target], changed = reached, edge, True
        if not changed:
            return latency
    raise _cycle_error(module, cause)


def _cycle_error(module: Module, cause: dict[str, Edge]) -> NmcError:
    here = next(iter(cause))
    for _ in range(len(cause)):
        here = cause[here].source if here in cause else here
    trail = [here]
    while True:
        trail.append(cause[trail[-1]].source)
        if trail[-1] == here:
            break
    hops = [f"%{name} ({module.producers[name].loc})" for name in reversed(trail)]
    message = f"a loop has less delay than its {len(trail) - 1} hops need: " + " -> ".join(hops)
    return fail("E0213", message, hint="give the projections of the loop a delay of at least one step each")


def _least_total(
    names: list[str], edges: list[Edge], longest: dict[str, int], pinned: list[str]
) -> dict[str, int]:
    """Minimise the sum of all delays, then of all latencies; a small integer programme, deterministic."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    bound = max(longest.values())
    latency = {name: model.new_int_var(0, 0 if name in pinned else bound, name) for name in names}
    for edge in edges:
        model.add(latency[edge.target] - latency[edge.source] >= edge.least - edge.delay)
    total = sum(latency[edge.target] - latency[edge.source] for edge in edges)
    model.minimize(total * (len(names) * bound + 1) + sum(latency.values()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = 10
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return longest
    return {name: int(solver.value(variable)) for name, variable in latency.items()}


def _retimed(op: Op, latency: dict[str, int], delays: dict[str, int], steps: int) -> Op:
    if isinstance(op, snn.ProjectionOp):
        return replace(op, delay=delays.get(op.out, op.delay))
    if isinstance(op, snn.NeuronOp):
        return replace(op, start=op.start + latency[op.out])
    if isinstance(op, snn.Output) and op.decoder == "last" and steps > latency[op.data.name]:
        return replace(op, scale=op.scale * steps / (steps - latency[op.data.name]))
    return op
