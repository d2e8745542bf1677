"""The reference interpreter: what a module computes, at every level that computes.

`run()`, `begin()` and `step()` of the ops are the law; the interpreter only brings values from op to op and
keeps the spikes that are still under way. It is vectorised over samples and never looks at a target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import NmcError, fail
from nmc.ir.module import Module
from nmc.ir.op import Op, State, StatefulOp
from nmc.ir.ops import ann, exact, kernels, snn
from nmc.ir.rest import Exit, Rest, settle_bound
from nmc.ir.results import Recorder as Recorder
from nmc.ir.results import Result as Result
from nmc.ir.results import join_results as join_results
from nmc.ir.results import stack_frames
from nmc.ir.small import small_populations

Array = NDArray[Any]
Progress = Callable[[int, int], None]
#: Is told (step, op, output, state) after every op.
Observer = Callable[[int, Op, Array, State], None]


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
    steps: int | None = None,
    *,
    probes: Sequence[str] = (),
    first_sample: int = 0,
    batch: int | None = None,
    progress: Progress | None = None,
    recorder: Observer | None = None,
    until_quiescent: bool = False,
    trace: bool = False,
) -> Result:
    """Execute an ``snn`` module (converted or legalised) for `steps` time steps.

    An output with a margin, or with the attribute `quiescent`, may end the run of a sample (of a frame) earlier.

    Parameters
    ----------
    module : Module
        A module of level ``snn`` that verifies.
    inputs : mapping of str to array
        Data by the `source` of each input: (B, *shape); (B, T, *shape) for the raster encoder; (B, F, *shape) for
        streams of F frames.
    steps : int, optional
        Number of time steps (a frame), by default the module's attribute `steps`; with `until_quiescent` the most
        that are run, by default as many as the network can need.
    probes : sequence of str
        ``population.spikes`` records the output of a population; ``population.v`` and other names record
        state.
    first_sample : int
        Data-set number of the first sample (keys the random encoder).
    batch : int, optional
        Samples computed at once; does not change the result. By default so many that a population fits into a cache.
    progress : callable
        Called with (samples done, samples in all).
    recorder : callable
        Called with (step, op, its output, its state) after every op of every step; must not change them.
    until_quiescent : bool
        Run until the network is at rest, whatever the outputs say.
    trace : bool
        Record the decoded outputs after every step.

    Raises
    ------
    NmcError
        E0401 for missing or misshapen data, E0402 for a probe of something that is not there, E0406 for a network
        that does not come to rest within `steps`.
    """
    _check_probes(module, probes)
    most = _most_steps(module, steps, until_quiescent)
    batch = _samples_at_once(module) if batch is None else batch
    if most < 1 or batch < 1:
        raise fail("E0401", f"cannot run {most} steps in batches of {batch}; both must be at least 1")
    plan = _Plan(most, tuple(probes), recorder, until_quiescent, trace)
    return in_batches(
        lambda part, first: _run_batch(module, part, plan, first), inputs, first_sample, batch, progress
    )


@dataclass(frozen=True)
class _Plan:
    """What `run_snn` was asked for."""

    steps: int
    probes: tuple[str, ...]
    recorder: Observer | None
    until_quiescent: bool
    trace: bool


def _samples_at_once(module: Module) -> int:
    """Samples of a batch where nobody says: what caches like, of exact networks, whose sums do not depend on it."""
    if not module.of_type(exact.ExactOp):
        return 128
    largest = max(op.result.type.size for op in module.of_type(StatefulOp))
    return min(512, max(16, (1 << 20) // max(largest, 1)))


def _most_steps(module: Module, steps: int | None, until_quiescent: bool) -> int:
    if steps is not None:
        return steps
    bound = settle_bound(module) if until_quiescent else None
    found = module.attr("steps") if bound is None else bound
    if not isinstance(found, int):
        raise fail("E0401", "the network does not say how many steps a run takes", hint="give their number")
    return found


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
            for tap in op.taps:
                for value, lag in zip(tap.operands, tap.lags, strict=True):
                    self._depth[value.name] = max(self._depth.get(value.name, 0), lag)
        self._rings: dict[str, dict[int, Array]] = {}

    def put(self, name: str, t: int, item: Array) -> None:
        """Keep the value of step `t` as long as somebody may ask for it."""
        self._rings.setdefault(name, {})[t % (self._depth.get(name, 0) + 1)] = item

    def get(self, name: str, t: int) -> Array | None:
        """The value of step `t`, None before the first step."""
        return None if t < 0 else self._rings[name][t % (self._depth[name] + 1)]


def _run_batch(module: Module, inputs: dict[str, Array], plan: _Plan, first: int) -> Result:
    """Run one batch of samples, frame after frame where the inputs are streams."""
    network = _Network(module, inputs, first, watched=plan.recorder is not None or bool(plan.probes))
    if network.frames is None:
        return network.run(plan, 0)
    return stack_frames([network.run(plan, frame) for frame in range(network.frames)])


class _Network:
    """A batch of samples in a network; state and time go on from frame to frame."""

    def __init__(self, module: Module, inputs: dict[str, Array], first: int, *, watched: bool) -> None:
        self._module, self._inputs, self._first = module, inputs, first
        self._size = min((len(data) for data in inputs.values()), default=1)
        self._small = {} if watched else small_populations(module, self._size)
        self._large = {
            op.out: op.begin(self._size) for op in module.of_type(StatefulOp) if op.out not in self._small
        }
        self._wires = _Wires(module.ops)
        self._time = 0
        self.frames = _frames(module, inputs)

    def run(self, plan: _Plan, frame: int) -> Result:
        """Run the steps of a frame (or of the samples, which are one)."""
        begin, outputs = self._time, self._module.of_type(snn.Output)
        settling = plan.until_quiescent or any(op.quiescent for op in outputs)
        rest = Rest(self._module, self._size, begin) if settling else None
        leaving = Exit(outputs, self._size) if _early(plan, outputs) else None
        collected, numbers = Recorder(self._module, plan.probes), self._numbers(frame)
        for t in range(begin, begin + plan.steps):
            self._step(t, begin, numbers, collected, plan.recorder, (rest, leaving))
            if leaving is not None:
                leaving.look(collected.latest(), t - begin)
                if leaving.done.all():
                    break
            if rest is not None and rest.reached(self._states(), t):
                break
        else:
            if rest is not None:
                raise _no_rest(plan.steps)
        self._time = t + 1
        taken = leaving.values if leaving is not None else None
        return collected.result(trace=plan.trace, taken=taken, settled=_settled(rest, leaving))

    def _step(
        self,
        t: int,
        begin: int,
        numbers: Mapping[str, Array],
        collected: Recorder,
        observer: Observer | None,
        watch: tuple[Rest | None, Exit | None],
    ) -> None:
        rest, leaving = watch
        running = ~leaving.done if leaving is not None and leaving.done.any() else None
        for op in self._module.ops:
            if isinstance(op, snn.Input) and op.out in numbers:
                item: Array | None = op.schedule(numbers[op.out], t - begin)
            elif op.out in self._small:
                item = self._small[op.out].step(t, *_taken(op, self._wires, t, self._size))
            else:
                item = _evaluate(op, self._wires, self._large, self._inputs, t, self._first, self._size)
            if item is None:
                continue
            self._wires.put(op.out, t, item)
            collected.record(op, item, self._large.get(op.out, {}), running)
            if rest is not None:
                rest.note(op, item, t)
            if observer is not None:
                observer(t, op, item, self._large.get(op.out, {}))

    def _states(self) -> dict[str, State]:
        return {**self._large, **{name: item.state for name, item in self._small.items()}}

    def _numbers(self, frame: int) -> dict[str, Array]:
        """What enters through the exact inputs in a frame, computed once."""
        found = {}
        for op in self._module.of_type(snn.Input):
            if op.rests and op.source:
                data = _batch(op.source, op.shape, self._inputs, 2 if op.stream else 1)
                found[op.out] = op.difference(data, frame) if op.stream else op.integers(data)
                if self._small and not op.stream:
                    found[op.out] = _laid_out(found[op.out], op)
        return found


def _laid_out(numbers: Array, op: snn.Input) -> Array:
    """Numbers of an input in a type that holds their schedule, in the order that convolutions take."""
    small = max(op.high, -op.low) * (op.over + 1) < 1 << 31
    made = kernels.batch_inner(numbers.shape, np.int32 if small else np.int64)
    made[...] = numbers
    return made


def _frames(module: Module, inputs: Mapping[str, Array]) -> int | None:
    """Number of frames of a stream, None where the inputs are single samples."""
    ops = module.of_type(snn.InputOp)
    streams = [op for op in ops if isinstance(op, snn.Input) and op.stream]
    if not streams:
        return None
    counts = {int(_batch(op.source, op.shape, inputs, 2).shape[1]) for op in streams}
    if len(streams) < len(ops) or len(counts) > 1 or not min(counts):
        raise fail("E0401", "all inputs of a network must be streams with the same number of frames, or none")
    return counts.pop()


def _early(plan: _Plan, outputs: Sequence[snn.Output]) -> bool:
    return not plan.until_quiescent and any(op.margin for op in outputs)


def _settled(rest: Rest | None, leaving: Exit | None) -> Array | None:
    if rest is None or leaving is None:
        return leaving.steps if leaving is not None else rest.settled if rest is not None else None
    return np.where(leaving.done, leaving.steps, rest.settled)


def _no_rest(steps: int) -> NmcError:
    hint = "run more steps; a loop of signed spikes may never come to rest"
    return fail("E0406", f"the network is not at rest after {steps} steps", hint=hint)


def _evaluate(
    op: Op, wires: _Wires, states: dict[str, State], inputs: dict[str, Array], t: int, first: int, size: int
) -> Array | None:
    if isinstance(op, snn.Output):
        return None
    if isinstance(op, snn.InputOp):
        return encode_input(op, inputs, first, t, size)
    if isinstance(op, StatefulOp):
        return op.step(states[op.out], t, *_taken(op, wires, t, size))
    if isinstance(op, snn.ProjectionOp) and len(op.taps) == 1:
        return op.sums(*_taken(op, wires, t, size))
    total = _delayed(op.taps[0], wires, t, size)
    for tap in op.taps[1:]:
        total = total + _delayed(tap, wires, t, size)
    return total


def _delayed(op: Op, wires: _Wires, t: int, size: int) -> Array:
    """Run an op on what its operands were `delay` steps ago."""
    return op.run(*_taken(op, wires, t, size))


def _taken(op: Op, wires: _Wires, t: int, size: int) -> list[Array]:
    """What an op takes in step `t`, each operand its own lag ago; nothing had happened before the first step."""
    args = [wires.get(value.name, t - lag) for value, lag in zip(op.operands, op.lags, strict=True)]
    return [
        np.zeros((size, *value.shape), np.uint8) if arg is None else arg
        for arg, value in zip(args, op.operands, strict=True)
    ]


def encode_input(op: snn.InputOp, inputs: Mapping[str, Array], first: int, t: int, size: int) -> Array:
    """What an input op brings in at step `t` for `size` samples, the first of which has number `first`."""
    if not op.source:
        return op.encode(np.zeros((size, *op.shape)), first, t)
    return op.encode(_batch(op.source, op.shape, inputs, 2 if op.in_time else 1), first, t)
