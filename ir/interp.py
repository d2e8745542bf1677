"""The reference interpreter: what a module computes, at every level that computes.

`run()`, `begin()` and `step()` of the ops are the law; the interpreter only brings values from op to op and
keeps the spikes that are still under way. It is vectorised over samples and never looks at a target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.op import Op, State, StatefulOp
from nmc.ir.ops import ann, snn

Array = NDArray[Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Result:
    """What a run gives.

    Parameters
    ----------
    outputs : dict of str to (B, ...) array
        Decoded outputs by name of the value they decode.
    probes : dict of str to (B, T, ...) array
        Recorded values by probe name (``population.spikes``, ``population.v``, ...).
    spikes : dict of str to (...) int64 array
        Spikes of each neuron of every population, summed over samples and steps.
    """

    outputs: dict[str, Array]
    probes: dict[str, Array] = field(default_factory=dict)
    spikes: dict[str, Array] = field(default_factory=dict)


def run_ann(
    module: Module, inputs: Mapping[str, Array], *, keep: Iterable[str] = (), dtype: Any = np.float32
) -> dict[str, Array]:
    """Execute an ``ann`` module on a batch.

    Parameters
    ----------
    module : Module
        A module of level ``ann`` that verifies.
    inputs : mapping of str to (B, *shape) array
        Data by input name.
    keep : iterable of str
        Names of inner values to give back too.
    dtype : numpy dtype
        Floating type to compute in.

    Returns
    -------
    dict of str to (B, ...) array
        The outputs, by the name of the value that each gives out, and the values of `keep`.
    """
    env: dict[str, Array] = {}
    last_use = {value.name: index for index, op in enumerate(module.ops) for value in op.operands}
    wanted = set(keep) | {op.data.name for op in module.of_type(ann.Output)}
    for index, op in enumerate(module.ops):
        if isinstance(op, ann.Input):
            env[op.out] = _batch(op.out, op.shape, inputs).astype(dtype)
        elif not isinstance(op, ann.Output):
            env[op.out] = op.run(*(env[value.name] for value in op.operands))
        for value in op.operands:
            if last_use[value.name] == index and value.name not in wanted:
                env.pop(value.name, None)
    return {name: env[name] for name in env if name in wanted}


def _batch(name: str, shape: tuple[int, ...], inputs: Mapping[str, Array], lead: int = 1) -> Array:
    if name not in inputs:
        raise fail("E0401", f"no data for input {name}; there is {', '.join(inputs) or 'nothing'}")
    data = np.asarray(inputs[name])
    if data.ndim < lead or data.shape[lead:] != shape:
        raise fail(
            "E0401",
            f"data for input {name} has shape {data.shape[lead:]} a sample, the network takes {shape}",
        )
    return data


def run_snn(
    module: Module,
    inputs: Mapping[str, Array],
    steps: int,
    *,
    probes: Sequence[str] = (),
    first_sample: int = 0,
    batch: int = 128,
    progress: Progress | None = None,
) -> Result:
    """Execute an ``snn`` module (converted or legalised) for `steps` time steps.

    Parameters
    ----------
    module : Module
        A module of level ``snn`` that verifies.
    inputs : mapping of str to array
        Data by the `source` of each input: (B, *shape), or (B, T, *shape) for the raster encoder.
    steps : int
        Number of time steps.
    probes : sequence of str
        ``population.spikes`` records the output of a population; ``population.v`` and other names record
        state.
    first_sample : int
        Data-set number of the first sample (keys the random encoder).
    batch : int
        Samples computed at once; does not change the result.
    progress : callable
        Called with (samples done, samples in all).

    Raises
    ------
    NmcError
        E0401 for missing or misshapen data, E0402 for a probe of something that is not there.
    """
    _check_probes(module, probes)
    if steps < 1 or batch < 1:
        raise fail("E0401", f"cannot run {steps} steps in batches of {batch}; both must be at least 1")
    return in_batches(
        lambda part, first: _run_batch(module, part, steps, probes, first),
        inputs,
        first_sample,
        batch,
        progress,
    )


def in_batches(
    run: Callable[[dict[str, Array], int], Result],
    inputs: Mapping[str, Array],
    first_sample: int,
    batch: int,
    progress: Progress | None,
) -> Result:
    """Run samples in batches and join the results."""
    total = min((len(data) for data in inputs.values()), default=1)
    parts = []
    for start in range(0, total, batch):
        part = {name: np.asarray(data)[start : start + batch] for name, data in inputs.items()}
        parts.append(run(part, first_sample + start))
        if progress:
            progress(min(start + batch, total), total)
    if not parts:
        raise fail("E0401", "there are no samples to run")
    return join_results(parts)


def join_results(parts: Sequence[Result]) -> Result:
    """Join the results of successive batches."""
    first = parts[0]
    return Result(
        {name: np.concatenate([part.outputs[name] for part in parts]) for name in first.outputs},
        {name: np.concatenate([part.probes[name] for part in parts]) for name in first.probes},
        {name: sum((part.spikes[name] for part in parts[1:]), first.spikes[name]) for name in first.spikes},
    )


def _check_probes(module: Module, probes: Sequence[str]) -> None:
    for probe in probes:
        name = probe.rpartition(".")[0]
        if not isinstance(module.producers.get(name), StatefulOp):
            known = [op.out for op in module.of_type(StatefulOp)]
            raise fail("E0402", f"no population for probe {probe}", hint=f"populations: {', '.join(known)}")


class _Wires:
    """Values of the current step and of the steps that are still under way, in one ring a value."""

    def __init__(self, ops: Iterable[Op]) -> None:
        self._depth: dict[str, int] = {}
        for op in ops:
            for value in op.operands:
                self._depth[value.name] = max(self._depth.get(value.name, 0), getattr(op, "delay", 0))
        self._rings: dict[str, dict[int, Array]] = {}

    def put(self, name: str, t: int, item: Array) -> None:
        """Keep the value of step `t` as long as somebody may ask for it."""
        self._rings.setdefault(name, {})[t % (self._depth.get(name, 0) + 1)] = item

    def get(self, name: str, t: int) -> Array | None:
        """The value of step `t`, None before the first step."""
        return None if t < 0 else self._rings[name][t % (self._depth[name] + 1)]


def _run_batch(
    module: Module, inputs: dict[str, Array], steps: int, probes: Sequence[str], first: int
) -> Result:
    size = min((len(data) for data in inputs.values()), default=1)
    states = {op.out: op.begin(size) for op in module.of_type(StatefulOp)}
    recorder = Recorder(module, probes)
    wires = _Wires(module.ops)
    for t in range(steps):
        for op in module.ops:
            item = _evaluate(op, wires, states, inputs, t, first, size)
            if item is not None:
                wires.put(op.out, t, item)
                recorder.record(op, item, states.get(op.out, {}))
    return recorder.result()


def _evaluate(
    op: Op, wires: _Wires, states: dict[str, State], inputs: dict[str, Array], t: int, first: int, size: int
) -> Array | None:
    if isinstance(op, snn.Output):
        return None
    if isinstance(op, snn.InputOp):
        return encode_input(op, inputs, first, t, size)
    args = [wires.get(value.name, t - getattr(op, "delay", 0)) for value in op.operands]
    if isinstance(op, StatefulOp):
        return op.step(states[op.out], t, *args)
    if any(arg is None for arg in args):
        silent = [np.zeros((size, *value.shape), np.uint8) for value in op.operands]
        return op.run(*silent)
    return op.run(*args)


def encode_input(op: snn.InputOp, inputs: Mapping[str, Array], first: int, t: int, size: int) -> Array:
    """What an input op brings in at step `t` for `size` samples, the first of which has number `first`."""
    if not op.source:
        return op.encode(np.zeros((size, *op.shape)), first, t)
    return op.encode(_batch(op.source, op.shape, inputs, 2 if op.in_time else 1), first, t)


class Recorder:
    """Collects outputs, probes and spike counts while a network runs."""

    def __init__(self, module: Module, probes: Sequence[str]) -> None:
        self._outputs = module.of_type(snn.Output)
        self._decoded = {op.data.name for op in self._outputs}
        self._probes = [(probe, *probe.rpartition(".")[::2]) for probe in probes]
        self._values: dict[str, list[Array]] = {name: [] for name in self._decoded}
        self._records: dict[str, list[Array]] = {probe: [] for probe in probes}
        self._spikes: dict[str, Array] = {}

    def record(self, op: Op, item: Array, state: State) -> None:
        """Note the output `item` of `op` and its state after a step."""
        if op.out in self._decoded:
            self._values[op.out].append(item)
        if isinstance(op, StatefulOp) and op.result.type.kind == "spikes":
            count = item.sum(axis=0, dtype=np.int64)
            self._spikes[op.out] = self._spikes[op.out] + count if op.out in self._spikes else count
        for probe, name, what in self._probes:
            if name == op.out:
                if what != "spikes" and what not in state:
                    raise fail("E0402", f"{op.name} has no state {what} for probe {probe}")
                self._records[probe].append((item if what == "spikes" else state[what]).copy())

    def result(self) -> Result:
        """Decode the outputs and stack the probes."""
        outputs = {op.data.name: op.decode(self._values[op.data.name]) for op in self._outputs}
        probes = {probe: np.stack(items, axis=1) for probe, items in self._records.items()}
        return Result(outputs, probes, self._spikes)
