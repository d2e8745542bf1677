"""Random networks of general neurons, before they are legalised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.types import Type

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
RESETS = ("zero", "to-value", "subtract", "subtract-late", "none")


def neuron(out: str, *currents: Value, **fields: Any) -> Neuron:
    """A population; arrays and numbers among its parameters become constants."""
    names = {"alpha", "beta", "gain", "leak", "threshold", "v_reset", "w_in", "bias", "v_init", "refractory",
             "feed", "late_bias"}  # fmt: skip
    for name in names & fields.keys():
        if fields[name] is not None:
            fields[name] = Const(f"{out}.{name}", np.atleast_1d(np.asarray(fields[name])))
    return Neuron(out=out, current=currents, **fields)


class NeuronNets:
    """Draws one network; every choice comes from `rng`."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self.ops: list[Op] = []

    def pick(self, *items: Any) -> Any:
        return items[int(self.rng.integers(0, len(items)))]

    def build(self) -> Module:
        """One to three populations behind an input, the last of them an output."""
        x = snn.Input(out="x", source="x", shape=self.pick((6,), (2, 3), (2, 3, 4)), encoder="raster")
        self.ops.append(x)
        last: Op = x
        count = int(self.rng.integers(1, 4))
        for number in range(count):
            last = self.population(f"p{number}", last, number == count - 1)
        kind: Any = "last" if last.result.type.kind == "graded" else "count"
        self.ops.append(snn.Output(data=last.result, decoder=kind))
        return Module("random", "snn", tuple(self.ops), (("steps", 20),))

    def population(self, name: str, source: Op, final: bool) -> Neuron:
        """A population with one or two projections, a loop among them at times."""
        rng, shape = self.rng, self.pick((5,), (3, 4), source.result.shape)
        fields = self.parameters(shape, final)
        currents = [self.projection(f"{name}.x", source.result, shape, 0)]
        if fields["reset"] != "none" and rng.random() < 0.4:
            loop = Value(name, Type("spikes", shape))
            currents.append(self.projection(f"{name}.r", loop, shape, int(rng.integers(1, 4))))
        op = neuron(name, *currents, **fields)
        self.ops.append(op)
        return op

    def projection(self, name: str, source: Value, shape: Shape, delay: int) -> Value:
        rng = self.rng
        sizes = int(np.prod(shape)), int(np.prod(source.shape))
        kind = self.pick("dense", "dense", "sparse", *(["one", "one"] if source.shape == shape else []))
        made: Op
        if kind == "one":
            made = snn.OneToOne(out=name, spikes=source, weight=Const(f"{name}.w", rng.normal(0.5, 0.5, shape)),
                                delay=delay)  # fmt: skip
        elif kind == "dense":
            weight = Const(f"{name}.w", rng.normal(0.2, 0.5, sizes))
            made = snn.Dense(out=name, spikes=source, weight=weight, delay=delay, shape=shape)
        else:
            count = int(rng.integers(1, min(30, sizes[0] * sizes[1] + 1)))
            pairs = rng.choice(sizes[0] * sizes[1], count, replace=False)
            lists = [Const(f"{name}.{end}", index.astype(np.int32))
                     for end, index in zip("ts", np.divmod(pairs, sizes[1]), strict=True)]  # fmt: skip
            made = Sparse(out=name, spikes=source, weight=Const(f"{name}.w", rng.normal(0.5, 0.5, count)),
                          target=lists[0], source=lists[1], shape=shape, delay=delay)  # fmt: skip
        self.ops.append(made)
        return made.result

    def each(self, shape: Shape, *choices: float) -> Any:
        """One of the numbers for all neurons, or one for each."""
        if self.rng.random() < 0.5:
            return float(self.pick(*choices))
        return self.rng.choice(np.array(choices, np.float64), shape)

    def parameters(self, shape: Shape, final: bool) -> dict[str, Any]:
        rng = self.rng
        reset = self.pick(*RESETS) if final else self.pick(*RESETS[:4])
        some = {name: rng.random() < 0.3 for name in ("gain", "leak", "w_in", "bias", "late_bias", "v_init")}
        found: dict[str, Any] = {
            "reset": reset, "order": self.pick("synapse-first", "synapse-first", "membrane-first"),
            "bias_site": self.pick("current", "membrane"), "decay_last": bool(rng.random() < 0.2),
            "alpha": self.each(shape, 0.5, 0.81, 0.9) if rng.random() < 0.5 else None,
            "beta": self.each(shape, 0.3, 0.9, 0.97) if rng.random() < 0.8 else None,
            "gain": self.each(shape, 0.5, 0.9) if some["gain"] else None,
            "w_in": self.each(shape, 1.5, 0.9) if some["w_in"] else None,
            "leak": self.each(shape, 0.05, -0.05) if some["leak"] else None,
            "bias": self.each(shape, 0.1, -0.1) if some["bias"] else None,
            "late_bias": self.each(shape, 0.1, 0.02) if some["late_bias"] else None,
            "v_init": self.each(shape, 0.1, -0.2) if some["v_init"] and final else None,
        }  # fmt: skip
        if reset != "none":
            found["threshold"] = self.each(shape, 1.0, 0.7)
            found["v_reset"] = self.each(shape, -0.3, 0.2) if reset == "to-value" else None
            rests = reset in ("zero", "to-value") and rng.random() < 0.4
            found["refractory"] = np.asarray(self.each(shape, 1, 3)).astype(np.int32) if rests else None
        return found


def random_neurons(seed: int) -> Module:
    """The network of a seed."""
    return NeuronNets(np.random.default_rng(seed)).build()
