"""Two networks on the same data: where their spikes part, and how alike their layers are.

Anything that runs can be a side: a trained network (activations), a spiking module before or after a target's own
arithmetic, a mapped one, or a compiled program on its emulator. Populations are matched by name, and where names
differ by the place in the user's file that they come from. A population whose spikes are known to come later (delays
that retiming or an output delay added) is compared that many steps later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.interp import Result, run_ann, run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, StatefulOp
from nmc.ir.ops import ann, snn
from nmc.ir.ops.plastic import Plastic
from nmc.program import Program

Array = NDArray[Any]


@dataclass(frozen=True)
class Population:
    """What a population did.

    Parameters
    ----------
    name : str
        In its module.
    kind : {"spikes", "graded", "activation"}
        What `values` are: spikes or potentials of each step, or an activation for each sample.
    values : (B, T, *shape) or (B, *shape) array
        As `kind` says.
    v : (B, T, *shape) array or None
        Potentials after each step, where they were recorded.
    unit : str
        Potentials are comparable where it is the same.
    latency : int
        Steps from an input to the first effect on the population, by the delays in between.
    places : frozenset of str
        Where it comes from.
    """

    name: str
    kind: str
    values: Array = field(repr=False)
    v: Array | None = field(default=None, repr=False)
    unit: str = "float"
    latency: int = 0
    places: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Trace:
    """What one side did: `populations` by name, `outputs` in program order."""

    name: str
    populations: dict[str, Population]
    outputs: tuple[tuple[str, Array], ...] = ()


@dataclass(frozen=True)
class Layer:
    """How a population of A compares to one of B.

    Parameters
    ----------
    a, b : Population
        The two.
    shift : int
        Steps that B comes later than A, taken out before comparing.
    steps : int
        Steps compared; 0 for activations.
    first : (step, sample, neuron) or None
        The first difference, the step counted in A; the neuron as a tuple of indices.
    differing : int
        Entries (steps x samples x neurons) that differ.
    facts : dict
        Similarity: see `similarity`.
    """

    a: Population
    b: Population
    shift: int
    steps: int
    first: tuple[int, int, tuple[int, ...]] | None
    differing: int
    facts: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Everything but the recordings."""
        first = None
        if self.first is not None:
            step, sample, neuron = self.first
            first = {"step": step, "step_b": step + self.shift, "sample": sample, "neuron": list(neuron)}
        return {
            "a": self.a.name, "b": self.b.name, "kind": self.a.kind, "neurons": int(np.prod(_shape(self.a))),
            "shift": self.shift, "steps": self.steps, "first": first, "differing": self.differing, **self.facts,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Everything that was found.

    Parameters
    ----------
    layers : tuple of Layer
        In the order of A.
    only_a, only_b : tuple of str
        Populations without a counterpart.
    outputs : tuple of (str, str, float)
        Names of the decoded outputs and their largest difference; infinite where shapes differ.
    """

    layers: tuple[Layer, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    outputs: tuple[tuple[str, str, float], ...]

    @property
    def equal(self) -> bool:
        """Nothing differs that can be compared, and everything has a counterpart."""
        return not (self.only_a or self.only_b or any(layer.differing for layer in self.layers))

    @property
    def first(self) -> Layer | None:
        """The layer in which the two part first (in A's steps); the earlier one in the program of several."""
        parted = [layer for layer in self.layers if layer.first is not None]
        return min(parted, key=lambda layer: layer.first[0] if layer.first else 0, default=None)


def record(name: str, side: Module | Program, data: Mapping[str, Array], steps: int) -> Trace:
    """Run one side and keep what its populations do.

    Parameters
    ----------
    name : str
        For people.
    side : Module or Program
        What to run: a module of level ann, snn or mapped, or a compiled program on its emulator.
    data : mapping of str to array
        By name of the data source; see `nmc.ir.interp.run_snn`.
    steps : int
        Time steps.

    Raises
    ------
    NmcError
        E0401 for data that do not fit, and for a module that does not compute.
    """
    module = side if isinstance(side, Module) else side.module
    if module.level == "ann":
        return _record_ann(name, module, data)
    if module.level == "image":
        raise fail("E0401", "an image alone cannot be run; give the .nmx", where=name)
    ops = [op for op in module.of_type(StatefulOp) if not isinstance(op, snn.InputOp | Plastic)]
    probes = _probes(ops, isinstance(side, Program))
    try:
        result = _run(side, data, steps, list(probes))
    except ValueError as error:  # a dump without its constants, a wrong attribute
        raise fail("E0401", f"cannot run: {error}", where=name) from None
    latency = latencies(module)
    found = {op.out: _population(op, result, latency.get(op.out, 0)) for op in ops}
    outputs = [(op.data.name, result.outputs[op.data.name]) for op in module.of_type(snn.Output)]
    return Trace(name, found, tuple(outputs))


def _probes(ops: Sequence[StatefulOp], emulated: bool) -> list[str]:
    probes = []
    for op in ops:
        spiking = _spiking(op)
        if spiking or not emulated:
            probes.append(f"{op.out}.spikes")
        if "v" in op.begin(1) or (emulated and not spiking):
            probes.append(f"{op.out}.v")
    return probes


def _spiking(op: StatefulOp) -> bool:
    """Whether a population fires; several spikes a step are graded in type."""
    fires = getattr(op, "threshold", None) is not None and getattr(op, "reset", "none") != "none"
    return op.result.type.kind == "spikes" or fires


def _run(side: Module | Program, data: Mapping[str, Array], steps: int, probes: list[str]) -> Result:
    if isinstance(side, Program):
        result: Result = side.runner().run(data, steps, probes=probes)[0]
        return result
    if side.level == "mapped":
        from nmc.ir.interp_mapped import run_mapped

        return run_mapped(side, data, steps, probes=probes)
    return run_snn(side, data, steps, probes=probes)


def _population(op: StatefulOp, result: Result, latency: int) -> Population:
    v = result.probes.get(f"{op.out}.v")
    values = result.probes.get(f"{op.out}.spikes", v)
    assert values is not None, "every population has a probe"
    kind = "spikes" if _spiking(op) else "graded"
    unit = "float" if op.name.startswith("snn.") else op.name.partition(".")[0]
    return Population(op.out, kind, values, v, unit, latency, _places(op))


def _places(op: Op) -> frozenset[str]:
    return frozenset() if op.loc is None else frozenset(str(leaf) for leaf in op.loc.leaves())


def _record_ann(name: str, module: Module, data: Mapping[str, Array]) -> Trace:
    """Activations of a trained network: its relus are what becomes populations."""
    relus = module.of_type(ann.Relu)
    values = run_ann(module, data, keep=[op.out for op in relus])
    found = {op.out: Population(op.out, "activation", values[op.out], places=_places(op)) for op in relus}
    outputs = [(op.data.name, values[op.data.name]) for op in module.of_type(ann.Output)]
    for op in module.of_type(ann.Output):
        value = module.producers[op.data.name]
        plain = Population(value.out, "activation", values[value.out], places=_places(value))
        found.setdefault(value.out, plain)
    return Trace(name, found, tuple(outputs))


def latencies(module: Module) -> dict[str, int]:
    """Steps from any input to each population, by the least sum of delays; its `start` where no input leads there."""
    edges: dict[str, list[tuple[str, int]]] = {}
    delayed = {op.out: op for op in module.ops if op.out and hasattr(op, "delay")}
    names = {op.out for op in module.of_type(StatefulOp)}
    for op in module.of_type(StatefulOp):
        for value in op.operands:
            via = delayed.get(value.name)
            source = via.operands[0].name if via is not None and via.operands else value.name
            if source in names:
                edges.setdefault(source, []).append((op.out, int(getattr(via, "delay", 0))))
    known = {op.out: 0 for op in module.of_type(snn.InputOp) if op.source}
    reached = list(known)
    while reached:
        here = reached.pop(0)
        for target, delay in edges.get(here, []):
            if known[here] + delay < known.get(target, 1 << 30):
                known[target] = known[here] + delay
                reached.append(target)
    alone = {op.out: int(getattr(op, "start", 0)) for op in module.of_type(StatefulOp) if op.out not in known}
    return {**known, **alone}


def matched(a: Trace, b: Trace) -> list[tuple[Population, Population]]:
    """Pairs of populations: of one name and size, else of one size that alone share places in the user's files."""
    pairs = {
        name: name for name in a.populations
        if name in b.populations and _size(a.populations[name]) == _size(b.populations[name])
    }  # fmt: skip
    rest_a = [item for name, item in a.populations.items() if name not in pairs]
    rest_b = [item for name, item in b.populations.items() if name not in pairs.values()]
    for one in rest_a:
        near = [other for other in rest_b if one.places & other.places and _size(one) == _size(other)]
        back = [
            other for other in rest_a if near and near[0].places & other.places and _size(one) == _size(other)
        ]
        if len(near) == len(back) == 1:
            pairs[one.name] = near[0].name
    return [(a.populations[x], b.populations[pairs[x]]) for x in a.populations if x in pairs]


def _shape(item: Population) -> tuple[int, ...]:
    return item.values.shape[1 if item.kind == "activation" else 2 :]


def _size(item: Population) -> int:
    return int(np.prod(_shape(item), dtype=np.int64))


def compare(a: Trace, b: Trace) -> Comparison:
    """Compare two recordings of the same data.

    Raises
    ------
    NmcError
        E0408 when no population of one has a counterpart in the other.
    """
    pairs = matched(a, b)
    if not pairs:
        names = [", ".join(list(side.populations)[:8]) or "none" for side in (a, b)]
        raise fail(
            "E0408", f"no population of {a.name} ({names[0]}) has a counterpart in {b.name} ({names[1]})",
            hint="populations are matched by name and size, or by the node of the user's file they come from",
        )  # fmt: skip
    seen_a, seen_b = {one.name for one, _ in pairs}, {other.name for _, other in pairs}
    outputs = tuple(
        (one, other, _difference(x, y)) for (one, x), (other, y) in zip(a.outputs, b.outputs, strict=False)
    )
    return Comparison(
        tuple(_layer(one, other) for one, other in pairs),
        tuple(name for name in a.populations if name not in seen_a),
        tuple(name for name in b.populations if name not in seen_b),
        outputs,
    )


def _difference(x: Array, y: Array) -> float:
    if x.size != y.size or not x.size:
        return float("inf")
    return float(np.abs(x.reshape(-1).astype(np.float64) - y.reshape(-1)).max())


def _layer(a: Population, b: Population) -> Layer:
    if "activation" in (a.kind, b.kind):
        return _activations(a, b)
    shift = b.latency - a.latency
    steps = a.values.shape[1] - abs(shift)
    if steps < 1:
        return Layer(a, b, shift, 0, None, 0, similarity(a.values[:, :0], b.values[:, :0], a.kind))
    x, y = _aligned(a.values, b.values, shift)
    comparable = a.kind == b.kind and (a.kind == "spikes" or a.unit == b.unit)
    wrong = x != y if comparable else np.zeros(x.shape, bool)
    facts = similarity(x, y, "spikes" if a.kind == b.kind == "spikes" else "graded")
    facts["v_max_difference"] = None
    if a.v is not None and b.v is not None and a.unit == b.unit:
        va, vb = _aligned(a.v, b.v, shift)
        facts["v_max_difference"] = float(np.abs(va.astype(np.float64) - vb).max(initial=0.0))
    return Layer(a, b, shift, steps, _first(wrong, max(0, -shift), _shape(a)), int(wrong.sum()), facts)


def _aligned(a: Array, b: Array, shift: int) -> tuple[Array, Array]:
    """The steps that both have, flat over neurons: step t of A is step t + shift of B."""
    steps = a.shape[1] - abs(shift)
    x = a[:, max(0, -shift) :][:, :steps]
    y = b[:, max(0, shift) :][:, :steps]
    return x.reshape(len(a), steps, -1), y.reshape(len(b), steps, -1)


def _first(wrong: Array, offset: int, shape: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]] | None:
    when = wrong.any(axis=(0, 2))
    if not when.any():
        return None
    step = int(when.argmax())
    sample, neuron = (int(item) for item in np.argwhere(wrong[:, step])[0])
    return step + offset, sample, tuple(int(i) for i in np.unravel_index(neuron, shape or (1,)))


def _activations(a: Population, b: Population) -> Layer:
    """An activation is compared to spike counts or final potentials, in direction only, or to another activation."""
    x, y = (_per_sample(item) for item in (a, b))
    both = a.kind == b.kind
    wrong = (x != y) if both else np.ones(1, bool)
    facts: dict[str, float | None] = {"cosine_counts": cosine(x, y)}
    facts |= dict.fromkeys(("cosine_trains", "rate_a", "rate_b", "v_max_difference"))
    if both:
        facts["v_max_difference"] = float(np.abs(x - y).max(initial=0.0))
    return Layer(a, b, 0, 0, None, int(wrong.sum()), facts)


def _per_sample(item: Population) -> Array:
    if item.kind == "activation":
        return np.asarray(item.values.reshape(len(item.values), -1), np.float64)
    values = item.values.sum(axis=1, dtype=np.float64) if item.kind == "spikes" else item.values[:, -1]
    return np.asarray(values.reshape(len(values), -1), np.float64)


def similarity(x: Array, y: Array, kind: str) -> dict[str, float | None]:
    """How alike two recordings (B, T, N) are.

    Returns
    -------
    dict
        ``cosine_counts``: of spike counts (final potentials) of all samples and neurons, ``cosine_trains``: of the
        trains themselves, ``rate_a``, ``rate_b``: spikes a neuron and step; None where it has no meaning.
    """
    spiking = kind == "spikes"
    ends = (
        (x.sum(axis=1, dtype=np.float64), y.sum(axis=1, dtype=np.float64))
        if spiking
        else (x[:, -1:], y[:, -1:])
    )
    return {
        "cosine_counts": cosine(*ends),
        "cosine_trains": cosine(x, y),
        "rate_a": float(x.mean()) if spiking and x.size else None,
        "rate_b": float(y.mean()) if spiking and y.size else None,
    }


def cosine(x: Array, y: Array) -> float | None:
    """Cosine of the angle between two arrays as vectors: 1 for two that are zero, 0 for one that is."""
    a, b = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
    if not a.size:
        return None
    size = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    if size == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return 1.0 if np.array_equal(a, b) else float(a @ b) / size
