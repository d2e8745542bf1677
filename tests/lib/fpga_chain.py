"""The whole way from a spiking module to the FPGA core's engines, and that all stages do the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuron_nets import random_neurons
from nmc.ir.const import Const
from nmc.ir.interp import run_snn
from nmc.ir.interp_mapped import run_mapped
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import exact
from nmc.ir.ops.neurons import Neuron
from nmc.ir.verify import verify_or_raise
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime
from nmc.targets.fpga import backend, dialect
from nmc.targets.fpga.drive import Drive
from nmc.targets.fpga.fit import Fit
from nmc.targets.fpga.legalize import Legalize
from nmc.targets.fpga.pools import Pools

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Chain:
    """All stages of one network."""

    legal: Module
    mapped: Module
    files: dict[str, bytes]

    def differences(
        self, data: Mapping[str, Array], steps: int, engines: Sequence[str] = ("functional",)
    ) -> list[str]:
        """Probes and outputs in which a stage differs from the interpreter."""
        probes = [f"{op.out}.v" for op in self.legal.of_type(dialect.Neuron)]
        probes += [f"{op.out}.spikes" for op in self.legal.of_type(dialect.Neuron) if op.fires]
        first = run_snn(self.legal, data, steps, probes=probes, trace=True)
        results = {"mapped": run_mapped(self.mapped, data, steps, probes=probes)}
        for name in engines:
            results[name] = backend.Runner(self.files, name).run(data, steps, probes=probes, trace=True)[0]
        wrong = []
        for name, other in results.items():
            pairs = [(p, first.probes[p], other.probes[p]) for p in probes]
            pairs += [(out, want, other.outputs[out]) for out, want in first.outputs.items()]
            pairs += [(f"trace {out}", first.traces[out], found) for out, found in other.traces.items()]
            wrong += [f"{name} {what}" for what, want, have in pairs if not np.array_equal(want, have)]
        return wrong


def legalised(module: Module, **options: Any) -> Module:
    """Run the passes of the default pipeline on a spiking network, up to the integers."""
    coded = (Pools(), SpikeCode()) if module.of_type(exact.ExactOp) else ()
    for item in (*coded, Drive(), Retime(max_delay=1000), Legalize(**options)):
        module = item.run(module)
        verify_or_raise(module)
    return module


def compile_legal(legal: Module, target: str = "") -> Chain:
    """Partition and emit."""
    mapped = Fit(target=target).run(legal)
    verify_or_raise(mapped)
    return Chain(legal, mapped, backend.emit(mapped))


def lawful_neurons(seed: int) -> Module:
    """A random network of neurons without what the law lacks."""
    return random_neurons(seed).map_ops(_tame)


def _tame(op: Op) -> Op:
    if not isinstance(op, Neuron):
        return op
    changes: dict[str, Any] = {"late_bias": None, "decay_last": False}
    for name in ("alpha", "beta", "gain", "w_in", "v_reset", "refractory"):
        const = getattr(op, name)
        if const is not None:
            changes[name] = Const(const.name, const.array().reshape(-1)[:1])
    if op.out != "p0":
        changes["v_init"] = None  # what starts from a potential cannot be delayed
    elif op.out == "p0" and op.v_init is None and op.beta is not None:
        changes["v_init"] = Const("p0.v_init", np.array([0.3]))
    if op.alpha is not None or op.order == "membrane-first":
        changes["bias_site"] = "membrane"
    return replace(op, **changes)
