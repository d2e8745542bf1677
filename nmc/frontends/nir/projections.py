"""From a chain of linear nodes to projections: one op where one has its meaning, a matrix otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from nmc.frontends.nir.paths import Path, matrix
from nmc.frontends.nir.primitives import Array, Ints, Unfit
from nmc.frontends.nir.stages import Stage, compose
from nmc.frontends.onnx.names import Names
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import Loc, fuse
from nmc.ir.op import Value
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Sparse

MAX_WEIGHTS = 1 << 26
MAX_DELAYS = 64
MAX_STEPS = 1 << 20


@dataclass
class Weaver:
    """Makes projections; `names` keeps their names apart."""

    file: str
    dt: float
    names: Names

    def weave(self, path: Path, source: Value, shape: Ints, delay: int) -> list[snn.ProjectionOp]:
        """Turn a path into projections of a total of its delays and `delay`."""
        found = []
        for extra, stages in self._delays(path.stages):
            loc = fuse("nir", [Loc(self.file, stage.node.name) for stage in path.stages])
            loc = loc or Loc(self.file, path.target)
            last = path.stages[-1].node.name if path.stages else f"{path.target}.in"
            out = self.names.fresh(last if last != path.target else f"{last}.i")
            op = _project(stages, source, shape, out)
            found.append(replace(op, loc=loc, delay=delay + extra))
        return found

    def _delays(self, stages: tuple[Stage, ...]) -> Iterator[tuple[int, tuple[Stage, ...]]]:
        """Split a chain by the delays in it: each distinct one becomes a chain of its own, masked."""
        place = next((i for i, stage in enumerate(stages) if stage.node.kind == "Delay"), None)
        if place is None:
            yield 0, stages
            return
        stage = stages[place]
        steps = self._steps(stage)
        values = np.unique(steps)
        if values.size > MAX_DELAYS:
            raise Unfit("E0348", f"{values.size} distinct delays of at most {MAX_DELAYS}")
        for value in values:
            mask = (steps == value).astype(np.float64)
            middle = () if values.size == 1 else (_masked(stage, mask),)
            for more, rest in self._delays(stages[place + 1 :]):
                yield int(value) + more, (*stages[:place], *middle, *rest)

    def _steps(self, stage: Stage) -> Array:
        exact = stage.node.array("delay").astype(np.float64) / self.dt
        try:
            exact = np.broadcast_to(exact, stage.shape)
        except ValueError:
            raise Unfit("E0345", f"delays of shape {exact.shape} do not fit {stage.shape}") from None
        steps = np.round(exact)
        if float(np.abs(steps - exact).max()) > 1e-3 or float(steps.max()) > MAX_STEPS:
            raise Unfit("E0343", f"a delay of {float(exact.max()):.6g} steps of dt = {self.dt:.6g}",
                        f"delays must be whole numbers of steps, at most {MAX_STEPS:,}")  # fmt: skip
        return steps.astype(np.int64)


def _masked(stage: Stage, mask: Array) -> Stage:
    node = replace(stage.node, kind="Scale", fields={"scale": mask})
    return Stage(node, stage.source, stage.shape, mask)


def _project(stages: tuple[Stage, ...], source: Value, shape: Ints, out: str) -> snn.ProjectionOp:
    work = [stage for stage in stages if stage.weight is not None]
    if len(work) == 2 and work[0].is_conv and work[1].is_conv and work[0].shape == work[1].source:
        merged = compose(*work)
        work = work if merged is None else [merged]
    if not work and source.shape == shape:
        return snn.OneToOne(out=out, spikes=source, weight=Const(f"{out}.w", np.ones(1, np.float32)))
    if not work:
        index = np.arange(prod(shape), dtype=np.int64)
        weight = Const(f"{out}.w", np.ones(1, np.float32))
        src, dst = Const(f"{out}.src", index), Const(f"{out}.dst", index)
        return Sparse(out=out, spikes=source, weight=weight, source=src, target=dst, shape=shape)
    if len(work) == 1 and (op := _single(work[0], source, shape, out)) is not None:
        return op
    return _general(tuple(stages), source, shape, out)


def _single(stage: Stage, source: Value, shape: Ints, out: str) -> snn.ProjectionOp | None:
    """One linear node as one op, None where it takes a matrix."""
    assert stage.weight is not None
    weight = Const(f"{out}.w", stage.weight)
    if stage.is_conv and stage.source == source.shape and stage.shape == shape:
        return snn.Conv(out=out, spikes=source, weight=weight, stride=stage.stride, pad=stage.pad,
                        dilation=stage.dilation, groups=stage.groups)  # fmt: skip
    if stage.node.kind == "Scale" and source.shape == shape == stage.shape:
        return snn.OneToOne(out=out, spikes=source, weight=weight)
    plain = stage.node.kind in ("Affine", "Linear") and stage.weight.ndim == 2
    if plain and stage.weight.shape == (prod(shape), source.type.size):
        return snn.Dense(out=out, spikes=source, weight=weight, shape=() if len(shape) == 1 else shape)
    return None


def _general(stages: tuple[Stage, ...], source: Value, shape: Ints, out: str) -> snn.ProjectionOp:
    full = matrix(stages, source.type.size, prod(shape), MAX_WEIGHTS)
    narrow = full.astype(np.float32)
    weights = narrow if bool((narrow == full).all()) else full
    if np.count_nonzero(weights) * 4 > weights.size:
        const = Const(f"{out}.w", weights)
        return snn.Dense(out=out, spikes=source, weight=const, shape=() if len(shape) == 1 else shape)
    target, origin = np.nonzero(weights)
    return Sparse(
        out=out,
        spikes=source,
        weight=Const(f"{out}.w", weights[target, origin]),
        source=Const(f"{out}.src", origin.astype(np.int64)),
        target=Const(f"{out}.dst", target.astype(np.int64)),
        shape=shape,
    )


def quantise(ops: list[snn.ProjectionOp]) -> tuple[list[snn.ProjectionOp], float]:
    """Weights into one population as trunc(127 w / max|w|) (facts/nir.md 1.5), and the factor that this leaves."""
    largest = max((float(np.abs(op.weight.array()).max(initial=0.0)) for op in ops), default=0.0)
    if largest == 0.0:
        return ops, 1.0
    changed = []
    for op in ops:
        whole = np.trunc(op.weight.array().astype(np.float64) * 127.0 / largest).astype(np.float32)
        changed.append(replace(op, weight=Const(op.weight.name, whole)))
    return changed, largest / 127.0
