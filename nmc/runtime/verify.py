"""The chain of one compiled program: every stage and every engine must do the same, spike for spike.

``legalised`` is the network in the target's own integers in the reference interpreter, ``mapped`` the same one part
at a time along the mapped synapses, and then each engine of the target's emulator, which read the image and nothing
else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import Result, run_snn
from nmc.ir.interp_mapped import run_mapped
from nmc.ir.module import Module
from nmc.ir.op import StatefulOp
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import Neurons, Route, Synapses
from nmc.program import Program, backend_of

Array = NDArray[Any]


@dataclass(frozen=True)
class Stage:
    """One way to run the program.

    Parameters
    ----------
    name : str
        ``legalised``, ``mapped`` or an engine.
    spikes : int
        Events that all populations sent together: a comparison of silence proves little.
    compared, differing : int
        Entries (of spikes and potentials in every step, of outputs, of memories at the end) compared with the stage
        before it, and how many of them differ.
    where : str
        The first recording that differs, empty where none does.
    seconds : float
        CPU time.
    missing : str
        Why the engine cannot run here; empty where it ran.
    """

    name: str
    spikes: int = 0
    compared: int = 0
    differing: int = 0
    where: str = ""
    seconds: float = 0.0
    missing: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        names = ("name", "spikes", "compared", "differing", "where", "seconds", "missing")
        return {name: getattr(self, name) for name in names}


def legal_part(mapped: Module) -> Module:
    """The network of a mapped module without what says where it lives, and when an answer is clear enough."""
    kept = [op for op in mapped.ops if not isinstance(op, Neurons | Synapses | Route)]
    patient = [
        replace(op, margin=0, margins=(), quiescent=False) if isinstance(op, snn.Output) else op
        for op in kept
    ]
    return mapped.with_ops(patient, level="snn")


def random_samples(module: Module, steps: int, count: int, seed: int = 0) -> dict[str, Array]:
    """Data for every input that needs some: uniform numbers, or spikes with a probability of 0.2 a step."""
    rng, found = np.random.default_rng(seed), {}
    for op in module.of_type(snn.InputOp):
        if op.source and op.source not in found:
            shape = (count, steps, *op.shape) if op.in_time else (count, *op.shape)
            draw = rng.random(shape)
            found[op.source] = (draw < 0.2).astype(np.uint8) if op.in_time else draw
    return found


def verify_program(
    program: Program, data: Mapping[str, Array], steps: int, engines: Sequence[str] = ()
) -> list[Stage]:
    """Run all stages on the same data and compare each with the first; a missing engine is told, not run.

    Parameters
    ----------
    program : Program
    data : mapping of str to array
        Samples by data source.
    steps : int
    engines : sequence of str
        Engines to run; all of the target's by default. One that was named and is missing raises.

    Raises
    ------
    NmcError
        E0401 for data that do not fit, E0802 and E0914 for engines.
    """
    backend, legal = backend_of(program.target), legal_part(program.module)
    probes = _probes(legal)
    begin = time.process_time()
    first = run_snn(legal, data, steps, probes=probes)
    stages = [Stage("legalised", _spikes(first), seconds=time.process_time() - begin)]
    begin = time.process_time()
    mapped = run_mapped(program.module, data, steps, probes=probes)
    stages.append(_stage("mapped", first, mapped, begin))
    memories: dict[str, Array] = {}
    for name in engines or backend.ENGINES:
        begin = time.process_time()
        try:
            runner = backend.Runner(program.files, name)
        except NmcError as error:
            if engines or error.diagnostics[0].code != "E0914":
                raise
            stages.append(Stage(name, missing=error.diagnostics[0].message))
            continue
        found, _ = runner.run(data, steps, probes=probes)
        memory = runner.memory() if hasattr(runner, "memory") else {}
        stages.append(
            _stage(name, first, found, begin, {k: (v, memory[k]) for k, v in memories.items() if k in memory})
        )
        memories = {**memory, **memories}
    return stages


def _probes(module: Module) -> list[str]:
    """Spikes of what fires, and potentials."""
    found = []
    for op in module.of_type(StatefulOp):
        if isinstance(op, snn.InputOp):
            continue
        law = getattr(op, "law", None)
        fires = getattr(op, "fires", False) or getattr(law, "fires", False)
        if op.result.type.kind == "spikes" or fires is True:
            found.append(f"{op.out}.spikes")
        if "v" in op.begin(1):
            found.append(f"{op.out}.v")
    return found


def _unequal(want: Array, have: Array) -> Array:
    """Where numbers differ; two that are no number (of a neuron model of one's own) do not."""
    unequal: Array = (want != have) & ((want == want) | (have == have))
    return unequal


def _spikes(found: Result) -> int:
    return sum(
        int(np.count_nonzero(item)) for probe, item in found.probes.items() if probe.endswith(".spikes")
    )


def _stage(
    name: str,
    first: Result,
    found: Result,
    begin: float,
    memories: Mapping[str, tuple[Array, Array]] | None = None,
) -> Stage:
    """Compare with the first stage, and memories with those of an engine before."""
    seconds = time.process_time() - begin
    pairs = [(probe, want, found.probes[probe]) for probe, want in first.probes.items()]
    pairs += [(f"output {out}", want, found.outputs[out]) for out, want in first.outputs.items()]
    pairs += [(f"memory {place}", *pair) for place, pair in (memories or {}).items()]
    compared = differing = 0
    where = ""
    for what, want, have in pairs:
        compared += want.size
        wrong = int(_unequal(want, have).sum()) if want.shape == have.shape else max(want.size, have.size)
        differing += wrong
        where = where or (what if wrong else "")
    return Stage(name, _spikes(found), compared, differing, where, seconds)
