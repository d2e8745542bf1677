"""Straight lines in place of smooth activations, with the worst error as a certificate."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.interp import run_ann
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_pointwise import Activation, Quantize
from nmc.passes.base import Pass
from nmc.passes.convert.lines import Lines, fit_lines
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.graph import fresh_name, replace_uses

#: Range of a function's operand where no sample data tell it.
_GUESS = (-8.0, 8.0)
_BATCH = 64
_MOST = 32


@dataclass(frozen=True)
class Approximate(Pass, name="approximate", takes="ann"):
    """Replace smooth activations by a sum of relus with limits, and drop rounding that is no relu.

    f(x) becomes c + the sum of slope_k * clip(x - x_k, 0, w_k), `segments` lines chosen for the least worst error on
    the range that the function's operand takes on the sample `data` ([-8, 8] without data). The module attribute
    ``approximations`` says for every function the range and the worst error on it. A rounding to a signed grid
    (``ann.quantize``) is left out, with an error of half a step.

    Before::

        %y = ann.activation(%x) {fn=sigmoid} : f32<4>

    After::

        %y.in0 = ann.affine(%x, @y.one, @y.start0) : f32<4>
        %y.line0 = ann.relu(%y.in0) {limit=2.0} : f32<4>
        %y.out0 = ann.affine(%y.line0, @y.slope0, @y.offset0) : f32<4>
        %y = ann.add(%y.out0, ...) : f32<4>
    """

    exact = False  # that is what it says

    segments: int = 8
    data: str = ""
    limit: int = 256
    raw: bool = False
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})

    def __post_init__(self) -> None:
        if not 1 <= self.segments <= _MOST:
            raise ValueError(f"{self.segments} segments; 1 to {_MOST} are possible")

    def run(self, module: Module) -> Module:
        """Replace every smooth activation, or say why one cannot be."""
        work = _Work(self, self._ranges(module), {op.out for op in module.ops if op.out})
        for op in module.ops:
            work.convert(op)
        if work.problems:
            raise NmcError(work.problems)
        if not work.certificate:
            return module
        told = {**module.attr("approximations", {}), **work.certificate}
        return module.with_ops(replace_uses(work.ops, work.dropped)).with_attrs(approximations=told)

    def _ranges(self, module: Module) -> dict[str, tuple[float, float]]:
        """Smallest and largest operand of each smooth activation on the sample data; empty without data."""
        inputs = module.of_type(ann.Input)
        names = [op.data.name for op in module.ops if isinstance(op, Activation | Quantize)]
        if not names or (not self.data and self.samples is None):
            return {}
        if len(inputs) != 1:
            raise fail("E0404", f"sample data need a network with one input, this one has {len(inputs)}")
        given = self.samples
        if given is None:
            given, _ = load_samples(self.data, limit=self.limit, raw=self.raw)
        samples = fit_shape(np.asarray(given), inputs[0].shape)
        found: dict[str, tuple[float, float]] = {}
        for start in range(0, len(samples), _BATCH):
            part = {inputs[0].out: samples[start : start + _BATCH]}
            values = run_ann(module, part, keep=names, dtype=np.float64)
            for name in names:
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = min(low, float(values[name].min())), max(high, float(values[name].max()))
        return found


@dataclass
class _Work:
    """The state of one run of the pass."""

    options: Approximate
    ranges: dict[str, tuple[float, float]]
    taken: set[str]
    ops: list[Op] = field(default_factory=list)
    dropped: dict[str, Value] = field(default_factory=dict)
    certificate: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def convert(self, op: Op) -> None:
        """Replace one op where it is smooth."""
        if isinstance(op, Activation):
            self._activation(op)
        elif isinstance(op, Quantize):
            self._quantize(op)
        else:
            self.ops.append(op)

    def _activation(self, op: Activation) -> None:
        low, high = self.ranges.get(op.data.name, _GUESS)
        if not (np.isfinite([low, high]).all() and low < high):
            low, high = (low - 0.5, low + 0.5) if np.isfinite(low) and low == high else _GUESS
        try:
            lines = fit_lines(op.fn, op.alpha, op.beta, low, high, self.options.segments)
        except ValueError as error:
            where = str(op.loc or f"%{op.out}")
            hint = "give sample data (--calib FILE.npz) that keep its operand in range"
            self.problems.append(Diagnostic("E0604", str(error), where=where, hint=hint))
            return
        self._put_lines(op, lines)
        self._certify(op, op.fn, lines.low, lines.high, lines.error, len(lines.pieces))

    def _certify(self, op: Op, fn: str, low: float, high: float, error: float, count: int) -> None:
        # rounded up: parameters in float32 and the last digits printed count as error too
        numbers = {"low": low, "high": high, "error": error * (1 + 1e-5) + 1e-7 * max(abs(low), abs(high))}
        rounded = {key: float(f"{number:.6g}") for key, number in numbers.items()}
        self.certificate[op.out] = {"fn": fn, "lines": count, **rounded}

    def _quantize(self, op: Quantize) -> None:
        scale, zero = (const.array().astype(np.float64) for const in op.consts)
        least, most = float(((op.low - zero) * scale).min()), float(((op.high - zero) * scale).max())
        low, high = self.ranges.get(op.data.name, (least, most))
        error = max(float(scale.max()) / 2, least - low, high - most)
        self.dropped[op.out] = self.dropped.get(op.data.name, op.data)
        self._certify(op, "quantize", low, high, error, 0)

    def _put_lines(self, op: Activation, lines: Lines) -> None:
        loc, terms = fuse(self.options.name, [op.loc]), []
        if not lines.pieces:
            self._affine(op, op.data, 0.0, lines.offset, "", loc)
            return
        last = len(lines.pieces) - 1
        for index, (start, width, slope) in enumerate(lines.pieces):
            moved = self._affine(op, op.data, 1.0, 0.0 - start, f"in{index}", loc)
            name = self._fresh(f"{op.out}.line{index}")
            cut = ann.Relu(out=name, data=moved, limit=width, loc=loc)
            self.ops.append(cut)
            offset = lines.offset if index == 0 else 0.0
            terms.append(self._affine(op, cut.result, slope, offset, "" if last == 0 else f"out{index}", loc))
        if last:
            self.ops.append(ann.Add(out=op.out, data=tuple(terms), loc=loc))

    def _affine(self, op: Op, data: Value, scale: float, offset: float, suffix: str, loc: Any) -> Value:
        name = self._fresh(f"{op.out}.{suffix}") if suffix else op.out
        factor = Const(f"{name}.scale", np.asarray(scale, np.float32))
        addend = Const(f"{name}.offset", np.asarray(offset, np.float32))
        made = ann.Affine(out=name, data=data, scale=factor, offset=addend, loc=loc)
        self.ops.append(made)
        return made.result

    def _fresh(self, stem: str) -> str:
        name = fresh_name(stem, self.taken)
        self.taken.add(name)
        return name
