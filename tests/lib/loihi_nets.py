"""Random legalised networks for Loihi, and data for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.types import Type
from nmc.targets.loihi import ops as loihi

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
RANGES = {"mixed": (-256, 255), "excitatory": (0, 256), "inhibitory": (-255, 1)}
BITS = (1, 2, 3, 4, 5, 6, 8)


class Builder:
    """Draws one network; every choice comes from `rng`."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self.ops: list[Op] = []
        self.sources: dict[str, tuple[Shape, bool]] = {}  # shape, and whether the host injects it
        self.counting: set[str] = set()  # sources that send several spikes a step

    def build(self) -> Module:
        shape = self.shape()
        self.inputs(shape)
        plan = [self.population_shape() for _ in range(int(self.rng.integers(1, 5)))]
        readout = len(plan) - 1 if self.rng.random() < 0.5 else -1
        later = {f"p{n}": shape for n, shape in enumerate(plan) if n != readout}
        driven = f"p{self.rng.integers(0, len(plan))}" if self.rng.random() < 0.4 else ""
        for n, shape in enumerate(plan):
            self.population(f"p{n}", shape, n == readout, f"p{n}" == driven, later)
        last = self.ops[-1]
        assert isinstance(last, loihi.Lif)
        decoder = "last" if last.reset == "none" else "count"
        self.ops.append(snn.Output(data=last.result, decoder=decoder, scale=0.37))  # type: ignore[arg-type]
        attrs = (("target", "loihi"), ("steps", 20))
        return Module("random", "snn", tuple(self.ops), attrs)

    def pick(self, *items: Any) -> Any:
        return items[int(self.rng.integers(0, len(items)))]

    def shape(self) -> Shape:
        sizes = self.rng.integers(1, 7, 3)
        found: Shape = self.pick(
            (int(sizes[0] * 5),), (int(sizes[0]), int(sizes[1]) + 2), tuple(int(s) for s in sizes)
        )
        return found

    def population_shape(self) -> Shape:
        extra = int(self.pick(0, 2))
        return tuple(extent + extra for extent in self.shape())

    def inputs(self, shape: Shape) -> None:
        kind = self.pick("raster", "raster", "rate")
        gain = 0.6 if kind == "rate" else 1.0
        self.emit(
            loihi.Input(
                out="x", source="x", shape=shape, kind=kind, gain=gain, seed=int(self.rng.integers(99))
            )
        )
        self.sources["x"] = (shape, True)
        if self.rng.random() < 0.25:
            mean, seed = float(self.rng.random() * 1.5), int(self.rng.integers(99))
            self.emit(loihi.Input(out="noise", shape=shape, kind="poisson", gain=mean, seed=seed))
            self.sources["noise"] = (shape, True)
            self.counting.add("noise")
        if self.rng.random() < 0.3:
            self.emit(loihi.Input(out="go", shape=(1,), kind="pulse", at=int(self.rng.integers(0, 12))))
            self.sources["go"] = ((1,), True)

    def emit(self, op: Op) -> Value:
        self.ops.append(op)
        return op.result

    def population(
        self, name: str, shape: Shape, readout: bool, driven: bool, later: dict[str, Shape]
    ) -> None:
        rng = self.rng
        known = {**self.sources, **{key: (item, False) for key, item in later.items()}}
        count = int(rng.integers(1, 4))
        currents = [self.projection(f"{name}.{n}", shape, known) for n in range(count)]
        drive = self.drive(name, shape) if driven else None
        reset: Any = "none" if readout else self.pick("hard", "hard", "soft", "split")
        own = reset in ("soft", "split")
        bias, bias_exp = (None, None) if driven else self.bias(name, shape)
        exp = int(rng.integers(0, 5))
        small = (
            Const(f"{name}.v", rng.integers(-5000, 5000, shape).astype(np.int32))
            if rng.random() < 0.3
            else None
        )
        u_init = (
            Const(f"{name}.u", rng.integers(-9000, 9000, shape).astype(np.int32))
            if rng.random() < 0.2
            else None
        )
        decays, each = self.decays(name, shape, reset)
        self.emit(loihi.Lif(
            out=name, drive=drive, current=tuple(currents), bias=bias, bias_exp=bias_exp, v_init=small, u_init=u_init,
            vth=int(rng.integers(1, 1 << int(self.pick(8, 11)))), reset=reset,
            refract=int(rng.integers(1, 5)) if reset == "hard" else 1,
            reset_mant=int(rng.integers(1, 256)) if own else 0,
            reset_exp=exp if own else 0, neg_limit=int(self.pick(23, 23, 12)),
            pos_limit=int(self.pick(7, 7, 3)), **decays, **each,
        ))  # fmt: skip
        if not readout:
            self.sources[name] = (shape, False)

    def decays(self, name: str, shape: Shape, reset: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Decays for all neurons, and for some populations constants of a few kinds that replace parameters."""
        rng = self.rng
        low = 1 if reset == "split" else 0
        decays = {
            "du": int(self.pick(low, 1, 700, 4096, 4096)),
            "dv": int(self.pick(low, low, 3, 1000, 4096)),
        }
        each: dict[str, Any] = {}
        for field, low, high in (("du", 1, 4097), ("dv", 1, 4097), ("refract", 1, 5), ("reset", 0, 256)):
            wanted = {"refract": reset == "hard", "reset": reset in ("soft", "split")}.get(field, True)
            if wanted and rng.random() < 0.2:
                kinds = rng.integers(low, high, 3)
                each[f"{field}_each"] = Const(f"{name}.{field}", rng.choice(kinds, shape).astype(np.int16))
        return decays, each

    def bias(self, name: str, shape: Shape) -> tuple[Const | None, Const | None]:
        if self.rng.random() < 0.4:
            return None, None
        axes = tuple(s if self.rng.random() < 0.6 else 1 for s in shape)
        mantissa = self.rng.integers(-4095, 4096, axes).astype(np.int16) >> np.int16(self.pick(0, 6))
        exponent = Const(f"{name}.exp", self.rng.integers(0, 8, axes).astype(np.uint8))
        return Const(f"{name}.bias", mantissa), exponent if self.rng.random() < 0.7 else None

    def drive(self, name: str, shape: Shape) -> Value:
        return self.emit(loihi.Input(
            out=f"{name}.drive", source=f"{name}.data", shape=shape, kind="bias", gain=900.0,
            exponent=int(self.rng.integers(0, 4)),
        ))  # fmt: skip

    def projection(self, name: str, shape: Shape, known: dict[str, tuple[Shape, bool]]) -> Value:
        source = self.pick(*known)
        have, injected = known[source]
        spikes = Value(source, Type("graded" if source in self.counting else "spikes", have))
        kinds = ["dense", "sparse", "sparse"] + (["one", "one"] if have == shape else [])
        window = self.window(have, shape)
        kinds += ["conv"] * 3 if window else []
        sign: Any = self.pick("mixed", "mixed", "excitatory", "inhibitory")
        low = 0 if injected else 1
        delay = int(self.pick(low, low, low, low + 1, low + int(self.rng.integers(0, 8))))
        common: dict[str, Any] = {
            "out": name, "spikes": spikes, "delay": delay, "exp": int(self.rng.integers(-6, 6)),
            "bits": int(self.pick(*BITS)), "sign": sign,
        }  # fmt: skip
        kind = self.pick(*kinds)
        if kind == "sparse":
            return self.sparse(name, sign, have, shape, common)
        if kind == "dense":
            weight = self.weight(name, sign, (int(np.prod(shape)), int(np.prod(have))))
            return self.emit(loihi.Dense(**common, weight=weight, shape=shape if len(shape) > 1 else ()))
        if kind == "one":
            axes = tuple(s if self.rng.random() < 0.6 else 1 for s in shape)
            return self.emit(loihi.Diagonal(**common, weight=self.weight(name, sign, axes)))
        assert window is not None
        weight = self.weight(name, sign, window.pop("weight"))
        return self.emit(loihi.Conv(**common, weight=weight, **window))

    def sparse(self, name: str, sign: str, have: Shape, shape: Shape, common: dict[str, Any]) -> Value:
        """Some of all pairs, in any order, with delays of their own."""
        pairs = int(np.prod(have)) * int(np.prod(shape))
        chosen = self.rng.permutation(pairs)[: int(self.rng.integers(0, pairs + 1))]
        target, source = np.divmod(chosen, int(np.prod(have)))
        weight = self.weight(name, sign, (len(chosen),) if self.rng.random() < 0.8 and len(chosen) else (1,))
        late = self.rng.integers(0, int(self.pick(1, 4, 9)), len(chosen)).astype(np.uint8)
        return self.emit(loihi.Sparse(
            **common, weight=weight, source=Const(f"{name}.source", source.astype(np.int32)),
            target=Const(f"{name}.target", target.astype(np.int32)), shape=shape,
            late=Const(f"{name}.late", late) if self.rng.random() < 0.6 else None,
        ))  # fmt: skip

    def weight(self, name: str, sign: str, shape: Shape) -> Const:
        low, high = RANGES[sign]
        data = self.rng.integers(low, high, shape)
        style = self.rng.random()
        if style < 0.3:  # sparse
            data = np.where(self.rng.random(shape) < 0.2, data, 0)
        elif style < 0.4:  # all the same
            data = np.full(shape, data.flat[0])
        return Const(f"{name}.w", data.astype(np.int16))

    def window(self, have: Shape, want: Shape) -> dict[str, Any] | None:
        """A kernel, stride, dilation and padding that lead from one shape to the other, if ranks allow."""
        if len(have) != len(want) or len(have) not in (2, 3):
            return None
        rng = self.rng
        common = [g for g in range(1, 5) if have[0] % g == 0 and want[0] % g == 0]
        groups = int(self.pick(*common))
        rows: tuple[list[int], ...] = ([], [], [], [], [])
        for extent, result in zip(have[1:], want[1:], strict=True):
            k, s, d = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 3))
            padded = (result - 1) * s + d * (k - 1) + 1 + int(rng.integers(0, s))
            left = int(rng.integers(-1, 4))
            right = padded - extent - left
            if extent + min(left, 0) + min(right, 0) < 1:
                left, right = 0, padded - extent
            if extent + min(left, 0) + min(right, 0) < 1:
                return None
            for row, item in zip(rows, (k, s, d, left, right), strict=True):
                row.append(item)
        kernel, stride, dilation, before, after = rows
        return {
            "weight": (want[0], have[0] // groups, *kernel), "stride": tuple(stride), "pad": (*before, *after),
            "dilation": tuple(dilation), "groups": groups,
        }  # fmt: skip


def random_network(seed: int) -> Module:
    """The network of a seed."""
    return Builder(np.random.default_rng(seed)).build()


def random_data(module: Module, seed: int, samples: int, steps: int) -> dict[str, Array]:
    """Samples for every input of a network."""
    rng = np.random.default_rng([seed, 1])
    data: dict[str, Array] = {}
    for op in module.of_type(loihi.Input):
        if op.source:
            size = (samples, steps, *op.shape) if op.kind == "raster" else (samples, *op.shape)
            data[op.source] = (
                (rng.random(size) < 0.4).astype(np.uint8) if op.kind == "raster" else rng.random(size)
            )
    return data
