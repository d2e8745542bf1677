"""Make every projection's delay one that the hardware has, without changing any spike train but by a shift."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.ir.ops.neurons import Neuron
from nmc.ir.ops.plastic import Plastic
from nmc.ir.ops.user import User
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
    in (`input_delay`). The last population is as early as it can be, and of all such latencies those with the least
    total delay are taken. A projection with several targets becomes one for each delay that they need. A loop
    whose delays are fewer than its hops cannot be retimed and is refused.

        before: %2.x = snn.conv(%x, @w) {...} : current<8x28x28>
                %2 = snn.if(%2.x, @b) : spikes<8x28x28>
        after:  %2.x = snn.conv(%x, @w) {..., delay=1} : current<8x28x28>
                %2 = snn.if(%2.x, @b) {start=1} : spikes<8x28x28>
    """

    exact = False  # the same trains, later: a run of as many steps sees less of their end

    min_delay: int = 1
    input_delay: int = 0
    max_delay: int = 62

    def run(self, module: Module) -> Module:
        """Choose the latencies and apply them."""
        edges = list(self._edges(module))
        latency = _latencies(module, edges, self.max_delay)
        self._check_range(module, edges, latency)
        _check_movable(module, latency)
        _check_steps(module, latency)
        delays = {(e.projection, e.target): e.delay + latency[e.target] - latency[e.source] for e in edges}
        outputs = {op.data.name: latency.get(op.data.name, 0) for op in module.of_type(snn.Output)}
        made = module.with_ops(_Rewriter(module, latency, delays).ops()).with_attrs(latency=outputs)
        if module.of_type(exact.Readout) and _steps(module):  # their answer is there after a known time
            made = made.with_attrs(steps=_steps(module) + max(latency.values(), default=0))
        return made

    def _edges(self, module: Module) -> Iterator[Edge]:
        for op in module.ops:
            if not isinstance(op, snn.ProjectionOp):
                continue
            source = _sender(module, op.spikes.name)
            sender = module.producers[source]
            least = self.input_delay if isinstance(sender, snn.InputOp) else self.min_delay
            empty = isinstance(sender, snn.Input) and sender.empty
            delay = max(op.delay, least) if empty else op.delay  # nothing comes, however late
            for user in module.users.get(op.out, ()):
                yield Edge(source, user.out, op.out, delay, least)

    def _check_range(self, module: Module, edges: list[Edge], latency: dict[str, int]) -> None:
        problems = []
        for edge in edges:
            delay = edge.delay + latency[edge.target] - latency[edge.source]
            if delay > self.max_delay:
                where = str(module.producers[edge.projection].loc or f"%{edge.projection}")
                message = (
                    f"%{edge.projection} needs a delay of {delay} steps, the target has {self.max_delay}"
                )
                hint = "shorten the path that it skips, or put a population on the skip connection"
                problems.append(Diagnostic("E0211", message, where=where, hint=hint))
        if problems:
            raise NmcError(problems)


def _sender(module: Module, name: str) -> str:
    """The population whose events a value brings; poolings of counts pass them on within the step."""
    while isinstance(op := module.producers[name], exact.MaxPool):
        name = op.events.name
    return name


def _exact(module: Module, output: snn.Output) -> bool:
    return isinstance(module.producers[output.data.name], exact.Readout)


def _steps(module: Module) -> int:
    """Steps of a run, 0 where the module does not say."""
    steps = module.attr("steps")
    return steps if isinstance(steps, int) and steps > 0 else 0


def _check_movable(module: Module, latency: dict[str, int]) -> None:
    """Populations cannot be moved in time where synapses learn from them."""
    fixed = [op for op in module.ops if isinstance(op, Plastic)] if any(latency.values()) else []
    if fixed:
        raise NmcError(
            Diagnostic("E0212", f"%{op.out} = {op.name} cannot be moved in time, and some populations must be",
                       where=str(op.loc or f"%{op.out}"), hint=op.advice)
            for op in fixed
        )  # fmt: skip


def _check_steps(module: Module, latency: dict[str, int]) -> None:
    """An output that comes after the last step would be silent."""
    steps = _steps(module)
    outputs = [op for op in module.of_type(snn.Output) if not _exact(module, op)]
    late = [op for op in outputs if 0 < steps <= latency.get(op.data.name, 0)]
    if late:
        hint = (
            f"run at least {max(latency[op.data.name] for op in late) + 1} steps, better several times that"
        )
        raise NmcError(
            Diagnostic(
                "E0401",
                f"output %{op.data.name} comes {latency[op.data.name]} steps late, but a run has {steps} steps",
                where=str(op.loc or f"%{op.data.name}"),
                hint=hint,
            )
            for op in late
        )


def _latencies(module: Module, edges: list[Edge], max_delay: int) -> dict[str, int]:
    """Solve the difference constraints with the least total delay."""
    events = (op for op in module.ops if op.out and op.result.type.kind in ("spikes", "graded"))
    names = [op.out for op in events if not isinstance(op, exact.MaxPool)]
    longest = _longest(module, names, edges)
    pinned = _pinned(module)
    late = [name for name in pinned if longest.get(name)]
    if late:
        raise NmcError(
            Diagnostic("E0212", f"%{name} {pinned[name]}, but needs spikes of a later step; it cannot be delayed",
                       where=str(module.producers[name].loc or f"%{name}"))
            for name in late
        )  # fmt: skip
    if not any(longest.values()) or all(
        longest[e.target] - longest[e.source] == e.least - e.delay for e in edges
    ):
        return longest
    return _least_total(edges, longest, pinned, max_delay)


def _pinned(module: Module) -> dict[str, str]:
    """What cannot start later, and why: all that the host drives, and neurons that fire by themselves."""
    inputs = {op.out for op in module.of_type(snn.InputOp)}
    driven = inputs - {op.out for op in module.of_type(snn.Input) if op.empty}
    found = dict.fromkeys(inputs, "comes from the host")
    for op in module.ops:
        if not isinstance(op, snn.NeuronOp | Neuron | User):
            continue
        if any(value.name in driven for value in op.current):
            found[op.out] = "takes a constant current"
        elif isinstance(op, snn.If) and _fires_alone(op):
            found[op.out] = "fires before anything reaches it"
        elif isinstance(op, Neuron) and _cannot_wait(op):
            found[op.out] = "starts from a potential that would decay, or fires, while it waits"
    return found


def _cannot_wait(op: Neuron) -> bool:
    if op.v_init is None or not op.v_init.array().any():
        return False
    high = op.threshold is not None and bool((op.v_init.array() >= op.threshold.array()).any())
    return high or op.beta is not None


def _fires_alone(op: snn.If) -> bool:
    return op.v_init > op.threshold or (op.compare == "ge" and op.v_init == op.threshold)


def _longest(module: Module, names: list[str], edges: list[Edge]) -> dict[str, int]:
    """Earliest latencies (Bellman-Ford); a positive cycle cannot be retimed."""
    latency = dict.fromkeys(names, 0)
    cause: dict[str, Edge] = {}
    changed = ""
    for _ in range(len(names) + 1):
        changed = ""
        for edge in edges:
            reached = latency[edge.source] + edge.least - edge.delay
            if reached > latency[edge.target]:
                latency[edge.target], cause[edge.target], changed = reached, edge, edge.target
        if not changed:
            return latency
    raise _cycle_error(module, cause, changed)


def _cycle_error(module: Module, cause: dict[str, Edge], here: str) -> NmcError:
    """Tell the loop that `here`, which still changed after as many rounds as there are populations, hangs on."""
    for _ in range(len(cause)):
        here = cause[here].source
    trail = [here]
    while len(trail) == 1 or trail[-1] != here:
        trail.append(cause[trail[-1]].source)
    loop = [cause[name] for name in trail[:-1]]
    have, need = sum(edge.delay for edge in loop), sum(edge.least for edge in loop)
    hops = " -> ".join(_described(module, name) for name in reversed(trail))
    message = (
        f"a loop of {len(loop)} projections has a delay of {have} steps, the target needs {need}: {hops}"
    )
    return fail("E0213", message, hint="give the projections of the loop longer delays")


def _described(module: Module, name: str) -> str:
    loc = module.producers[name].loc
    return f"%{name} ({loc})" if loc else f"%{name}"


def _least_total(
    edges: list[Edge], longest: dict[str, int], pinned: Iterable[str], max_delay: int
) -> dict[str, int]:
    """Minimise the sum of all delays, then of all latencies; a small integer programme, deterministic.

    Where no latencies keep `max_delay`, those that need the least delay in all are given.
    """
    return _solved(edges, longest, pinned, max_delay) or _solved(edges, longest, pinned, None) or longest


def _solved(
    edges: list[Edge], longest: dict[str, int], pinned: Iterable[str], max_delay: int | None
) -> dict[str, int] | None:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    bound, fixed = max(longest.values()), frozenset(pinned)
    latency = {name: model.new_int_var(0, 0 if name in fixed else bound, name) for name in longest}
    for edge in edges:
        added = latency[edge.target] - latency[edge.source]
        model.add(added >= edge.least - edge.delay)
        if max_delay is not None:
            model.add(added <= max_delay - edge.delay)
    total = sum(latency[edge.target] - latency[edge.source] for edge in edges)
    model.minimize(total * (len(longest) * bound + 1) + sum(latency.values()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = 10
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return {name: int(solver.value(variable)) for name, variable in latency.items()}


class _Rewriter:
    """Writes latencies and delays into the ops."""

    def __init__(self, module: Module, latency: dict[str, int], delays: dict[tuple[str, str], int]) -> None:
        self._module, self._latency, self._delays = module, latency, delays
        self._taken = set(module.producers)
        self._copies: dict[tuple[str, int], str] = {}

    def ops(self) -> list[Op]:
        """All ops with their new delays and starts; projections with several delays once for each."""
        made = []
        for op in self._module.ops:
            made += self._projections(op) if isinstance(op, snn.ProjectionOp) else [self._retimed(op)]
        return made

    def _projections(self, op: snn.ProjectionOp) -> list[Op]:
        delays = list(dict.fromkeys(delay for (name, _), delay in self._delays.items() if name == op.out))
        for number, delay in enumerate(delays):
            self._copies[op.out, delay] = self._fresh(f"{op.out}.d{delay}") if number else op.out
        return [replace(op, out=self._copies[op.out, delay], delay=delay) for delay in delays] or [op]

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _retimed(self, op: Op) -> Op:
        if isinstance(op, exact.AnyOf):
            return replace(op, current=tuple(self._current(op, value) for value in op.current))
        if isinstance(op, snn.NeuronOp | Neuron | User | exact.ExactNeuron | exact.Readout):
            current = tuple(self._current(op, value) for value in op.current)
            return replace(op, current=current, start=op.start + self._latency[op.out])
        if isinstance(op, snn.Output) and op.margin:
            return replace(op, delay=op.delay + self._latency[op.data.name])
        steps = _steps(self._module)
        sums = isinstance(op, snn.Output) and isinstance(self._module.producers[op.data.name], snn.Integrator)
        if isinstance(op, snn.Output) and op.decoder == "last" and steps and sums:
            return replace(op, scale=op.scale * steps / (steps - self._latency.get(op.data.name, 0)))
        return op

    def _current(self, op: Op, value: Value) -> Value:
        if (value.name, op.out) not in self._delays:
            return value
        return replace(value, name=self._copies[value.name, self._delays[value.name, op.out]])
