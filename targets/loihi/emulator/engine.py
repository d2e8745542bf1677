"""The Loihi emulator: runs an image on batches of inputs, bit exact (facts 2), and counts events.

In row t a core integrates what the host injected in row t and what other cores sent in row t-1, each plus its
synaptic delay; so a spike of row t arrives in row t+1+delay. Arrays have neurons first and samples last
inside the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.targets.loihi.emulator.corestep import CoreKernels, CoreState
from nmc.targets.loihi.emulator.energy import EventCounts, Tally
from nmc.targets.loihi.emulator.inputs import Injection, bias_mantissas, check_inputs, injections
from nmc.targets.loihi.emulator.kernels import DENSE_BUDGET, Method, as_slice
from nmc.targets.loihi.emulator.load import Program, load
from nmc.targets.loihi.layout import Ints, LoihiImage

Progress = Callable[[int, int], None]
Index = slice | Ints


@dataclass(frozen=True)
class EmulatorResult:
    """What a run gives.

    Attributes
    ----------
    outputs : dict of str to array
        By output table: v and count int64 (samples, *shape), spikes uint8 (samples, steps, *shape).
    probes : dict of str to array
        ``"pop.v"``, ``"pop.u"`` int64 and ``"pop.spikes"`` uint8, (samples, steps, *shape).
    events : EventCounts
    """

    outputs: dict[str, NDArray[np.generic]]
    probes: dict[str, NDArray[np.generic]]
    events: EventCounts


@dataclass(frozen=True, eq=False)
class _Reader:
    """Gathers one quantity of the neurons of a place: (core, positions in the result, compartments)."""

    size: int
    parts: tuple[tuple[int, Index, Index], ...]

    def read(self, states: Sequence[CoreState], what: str, samples: int) -> NDArray[np.generic]:
        """Give the (neurons, samples) array of state attribute `what`."""
        out = np.zeros((self.size, samples), bool if what == "spikes" else np.int64)
        for core, to, cx in self.parts:
            out[to] = getattr(states[core], what)[cx]
        return out


def _reader(core: Ints, cx: Ints) -> _Reader:
    parts = []
    for number in np.unique(core):
        mine = np.flatnonzero(core == number)
        parts.append((int(number), as_slice(mine), as_slice(cx[mine])))
    return _Reader(core.size, tuple(parts))


class Emulator:
    """Runs one image.

    Parameters
    ----------
    image : LoihiImage
    method : {"auto", "gemm", "scatter", "int64"}
        How synaptic sums are taken; every choice gives the same integers, "int64" is the plain reference.

    Raises
    ------
    NmcError
        Whatever `load` finds wrong with the image.
    """

    def __init__(self, image: LoihiImage, *, method: Method = "auto") -> None:
        self.image = image
        self.program: Program = load(image)
        compat = self.program.compat
        self._kernels: list[CoreKernels] = []
        room = DENSE_BUDGET
        for core in self.program.cores:
            self._kernels.append(CoreKernels(core, compat, method, room))
            room -= self._kernels[-1].dense_entries
        self._links = tuple((link, as_slice(link.cx), as_slice(link.row)) for link in self.program.links)

    def run(
        self,
        inputs: Mapping[str, ArrayLike],
        steps: int | None = None,
        *,
        probes: Sequence[str] = (),
        progress: Progress | None = None,
        batch: int = 128,
    ) -> EmulatorResult:
        """Run all samples for `steps` steps, each from the initial state of the image.

        Parameters
        ----------
        inputs : mapping of input table name to array
            Bias inputs float (samples, *shape); spike inputs 0/1 (samples, steps, *shape).
        steps : int, optional
            Default: the header's.
        probes : sequence of str
            ``"population.v"``, ``".u"`` or ``".spikes"``.
        progress : callable (done, total), optional
            Called after each step with sample-steps.
        batch : int
            Samples that run together.

        Raises
        ------
        NmcError
            E0540 for inputs or probes that do not match the image, E0541 for an overflow that only compat
            mode brian2loihi allows.
        """
        count = self.image.header.steps if steps is None else steps
        arrays, samples = check_inputs(self.image, inputs, count)
        wanted = self._probe_readers(probes)
        if batch < 1:
            raise fail("E0540", f"batch {batch} must be at least 1")
        tally = Tally(self.program)
        pieces = []
        for low in range(0, samples, batch):
            part = {name: array[low : low + batch] for name, array in arrays.items()}
            size = min(batch, samples - low)
            report = _reporter(progress, low * count, samples * count)
            pieces.append(_Chunk(self, part, size, count, wanted, tally).run(report))
        outputs = {o.name: _join([p[0][o.name] for p in pieces], o.shape) for o in self.image.outputs}
        shapes = {p.name: p.shape for p in self.image.pops}
        traces = {
            name: _join([p[1][name] for p in pieces], shapes[name.rpartition(".")[0]]) for name in wanted
        }
        return EmulatorResult(outputs, traces, tally.events(samples, count))

    def _probe_readers(self, probes: Sequence[str]) -> dict[str, tuple[str, _Reader]]:
        """Resolve probe names to a state attribute and a reader."""
        readers: dict[str, tuple[str, _Reader]] = {}
        problems = []
        for probe in probes:
            name, _, what = probe.rpartition(".")
            place = self.program.host.pops.get(name)
            if place is None or what not in ("u", "v", "spikes"):
                known = ", ".join(sorted(self.program.host.pops)) or "none"
                text = f"there is no probe {probe!r}"
                problems.append(
                    Diagnostic("E0540", text, hint=f"POPULATION.u, .v or .spikes with POPULATION: {known}")
                )
                continue
            readers[probe] = (what, _reader(place.core, place.cx if what == "spikes" else place.vcx))
        if problems:
            raise NmcError(problems)
        return readers


def _reporter(progress: Progress | None, base: int, total: int) -> Callable[[int], None]:
    if progress is None:
        return lambda done: None
    return lambda done: progress(base + done, total)


def _join(parts: list[NDArray[np.generic]], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Concatenate batches and give the last axis its shape; spikes become uint8."""
    whole = np.concatenate(parts)
    typed = whole.view(np.uint8) if whole.dtype == bool else whole
    return typed.reshape(*typed.shape[:-1], *shape)


class _Chunk:
    """One batch of samples on its way through the steps."""

    def __init__(
        self,
        emulator: Emulator,
        inputs: Mapping[str, NDArray[np.generic]],
        samples: int,
        steps: int,
        probes: Mapping[str, tuple[str, _Reader]],
        tally: Tally,
    ) -> None:
        host = emulator.program.host
        self.emulator = emulator
        self.samples = samples
        self.steps = steps
        self.tally = tally
        self.states = [CoreState(k, samples) for k in emulator._kernels]
        self.spikes: list[Injection] = [i for m in host.spikes for i in injections(m, inputs[m.name])]
        for m in host.biases:
            mantissa = bias_mantissas(m, inputs[m.name])
            for core in np.unique(m.core):
                mine = m.core == core
                self.states[core].set_bias(m.cx[mine], mantissa[mine] << m.exponent)
        self.probes = probes
        self.traces = {
            name: np.zeros((samples, steps, r.size), bool if what == "spikes" else np.int64)
            for name, (what, r) in probes.items()
        }
        self.readers = {
            o.name: _reader(host.outputs[o.name].core, host.outputs[o.name].cx)
            for o in emulator.image.outputs
        }
        self.outputs: dict[str, NDArray[np.generic]] = {
            o.name: np.zeros((samples, steps, r.size), bool)
            if o.kind == "spikes"
            else np.zeros((samples, r.size), np.int64)
            for o, r in zip(emulator.image.outputs, self.readers.values(), strict=True)
        }

    def run(
        self, report: Callable[[int], None]
    ) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
        """Run all steps; gives outputs and probes, samples first."""
        for t in range(self.steps):
            self._send(t)
            for core, state in enumerate(self.states):
                arrivals = state.take_arrivals(t)
                state.advance(t)
                self.tally.count(core, arrivals, state.spikes if state.spiked else None)
            self._record(t)
            report((t + 1) * self.samples)
        for o in self.emulator.image.outputs:
            if o.kind == "v":
                self.outputs[o.name] = self.readers[o.name].read(self.states, "v", self.samples).T.copy()
        return self.outputs, dict(self.traces)

    def _send(self, t: int) -> None:
        """Put the spikes of the step before and the host's of this step into the in-axon rows."""
        states = self.states
        for link, cx, row in self.emulator._links:
            if states[link.source].spiked:
                states[link.target].x[row] += states[link.source].spikes[cx]
                states[link.target].touched = True
        for injection in self.spikes:
            sent = injection.send(states[injection.core].x, t)
            states[injection.core].touched |= sent > 0
            self.tally.host(injection.core, sent)

    def _record(self, t: int) -> None:
        for o in self.emulator.image.outputs:
            if o.kind == "v" or t < o.first_step:
                continue
            spikes = self.readers[o.name].read(self.states, "spikes", self.samples).T
            if o.kind == "spikes":
                self.outputs[o.name][:, t] = spikes
            else:
                self.outputs[o.name] += spikes  # type: ignore[misc]
        for name, (what, reader) in self.probes.items():
            self.traces[name][:, t] = reader.read(self.states, what, self.samples).T
