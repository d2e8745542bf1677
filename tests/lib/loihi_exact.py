"""Random exact integer networks of the form that ``quantize`` gives for Loihi, and their way onto the chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exact_nets import Builder, Finding
from loihi_chain import Chain, compile_legal
from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Array, Value
from nmc.ir.ops import exact, snn
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.join_delays import JoinDelays
from nmc.passes.optimize.relay_delays import RelayDelays
from nmc.passes.optimize.retime import Retime
from nmc.targets.loihi.legalize import Legalize


class LoihiBuilder(Builder):
    """One threshold of 8 significant bits a population, weights of 8 bits, unsigned inputs, no pools."""

    def __init__(self, seed: int, layers: int = 4) -> None:
        super().__init__(np.random.default_rng([seed, 41]), pools=False, signed=False, layers=layers)

    def _const(self, name: str, low: int, high: int, shape: Any, dtype: Any = np.int32) -> Const:
        if not name.endswith(".w"):
            return super()._const(name, low, high, shape, dtype)
        sign = self._pick("mixed", "mixed", "up", "down")
        most = self._pick(9, 127 if sign == "mixed" else 255)
        values = self.rng.integers(0 if sign == "up" else -most, 1 if sign == "down" else most + 1, shape)
        return Const(name, values.astype(np.int16))

    def _population(self, name: str) -> None:
        currents = self._currents(name)
        shape = currents[0].shape
        value = int(self.rng.integers(1, 256)) << int(self._pick(0, 0, 1, 3, 5))
        channel = (shape[0], *[1] * (len(shape) - 1))
        theta = Const(f"{name}.theta", np.full(self._pick((1,), shape), value, np.int32))
        bias = self.rng.integers(-value - 20, value + 21, self._pick((1,), channel, shape))
        offset = Const(f"{name}.offset", (value // 2 + bias).astype(np.int32))
        levels = self._pick(1, 2, 4, 8, 15)
        neurons = exact.Graded(out=name, current=currents, theta=theta, offset=offset, levels=levels)
        self.events.append(self._add(neurons))
        self.reach[name] = levels

    def _projection(self, name: str, source: Value, shape: Any) -> Value:
        made = super()._projection(name, source, shape)
        if isinstance(self.ops[-1], snn.Conv) and not made.type.size:
            raise ValueError("an empty picture")
        return made


def quantised(seed: int, layers: int = 4) -> Module:
    """The network of a seed."""
    return LoihiBuilder(seed, layers).build()


def legalised(module: Module) -> Module:
    """An integer network in registers, as the default pipeline makes it."""
    for step in (
        SpikeCode(code="phased-if", schedule="count"),
        RelayDelays(),
        Retime(),
        JoinDelays(),
        Legalize(),
    ):
        module = step.run(module)
    return module


@dataclass(frozen=True)
class Onchip:
    """A network on the chip, and its populations by their names in the integer network."""

    chain: Chain
    populations: tuple[str, ...]

    @property
    def steps(self) -> int:
        steps = self.chain.legal.attr("steps")
        assert isinstance(steps, int)
        return steps

    def assert_equals(self, wanted: Finding, data: dict[str, Array], steps: int) -> None:
        """Every logit and every count of a run of `steps` steps on the emulator is that of the integer network."""
        found = self.chain.run(data, steps, [f"{name}.spikes" for name in self.populations])
        for name, values in wanted.outputs.items():
            np.testing.assert_array_equal(found.outputs[name], values)
        for name in self.populations:
            counts = found.probes[f"{name}.spikes"].sum(axis=1, dtype=np.int64)
            np.testing.assert_array_equal(counts, wanted.counts[name], err_msg=name)


def on_chip(module: Module, target: str = "", lot: int = -1) -> Onchip:
    """Everything from the integer network to the image."""
    names = tuple(op.out for op in module.of_type(exact.Graded))
    return Onchip(compile_legal(legalised(module), target, lot=lot), names)
