"""Patterns that exporters write for one op: quantised activations, and products such as x * sigmoid(x).

before: affine (scale a, offset b) -> floor -> relu (limit L) -> affine (scale d)
after:  affine (only where a d is not 1) -> relu {levels=L} of threshold L d
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from math import inf, sqrt
from types import MappingProxyType
from typing import Any

import numpy as np

from nmc.frontends.onnx.call import Net
from nmc.frontends.onnx.fold import Array
from nmc.frontends.onnx.private import Product, Rounding
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse as fused
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann, ann_pointwise

#: Factors that differ by less come from float32 arithmetic on one number.
_SAME = 1e-5
#: What is taken off before rounding to the nearest does the same. Whole numbers stay what they are when they are
#: rounded up, zero above all, which is why a thousandth of a step is left.
_SHIFTS = MappingProxyType({"floor": 0.5, "round": 0.0, "ceil": -0.5 + 2.0**-10})
#: Affine ops in a row that are looked through.
_LONGEST = 16


def fuse(net: Net, outputs: Sequence[str]) -> None:
    """Replace patterns in `net.ops`, then remove what nobody uses; `outputs` are names of values to keep."""
    if not net.pending:
        return
    work = _Fusion(net, frozenset(outputs))
    for name in list(net.ops):
        op = net.ops.get(name)
        if isinstance(op, Rounding):
            work.staircase(op)
        elif isinstance(op, Product):
            work.product(op)
    work.finish()
    _drop_unused(net, outputs)


def _drop_unused(net: Net, outputs: Sequence[str]) -> None:
    live, stack = set(), list(outputs)
    while stack:
        name = stack.pop()
        if name not in live and name in net.ops:
            live.add(name)
            stack.extend(value.name for value in net.ops[name].operands)
    for name in [key for key, op in net.ops.items() if key not in live and not isinstance(op, ann.Input)]:
        del net.ops[name]


@dataclass(frozen=True)
class _Line:
    """scale * root + offset."""

    root: Value
    scale: Array = field(default_factory=lambda: np.ones(()))
    offset: Array = field(default_factory=lambda: np.zeros(()))


@dataclass(frozen=True)
class _Steps:
    """What becomes of rounded numbers: they are cut to [low, high] and multiplied by `scale`, up to the op `last`."""

    low: float
    high: float
    scale: Array
    last: Op


def _near(found: Array, wanted: float) -> bool:
    return bool(np.allclose(found, wanted, rtol=_SAME, atol=_SAME))


def _joined(cuts: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """What cuts one after the other cut to, None where nothing is left between them."""
    low, high = max(cut[0] for cut in cuts), min(cut[1] for cut in cuts)
    return (low, high) if low < high else None


def _bounds(op: Op | None) -> tuple[float, float] | None:
    """What an op cuts to, None where it is no plain cut."""
    if isinstance(op, ann.Relu) and not op.levels:
        return 0.0, op.limit
    return (op.low, op.high) if isinstance(op, ann.Clip) else None


class _Fusion:
    """The ops while patterns are replaced."""

    def __init__(self, net: Net, outputs: frozenset[str]) -> None:
        self.net = net
        self.outputs = outputs
        self.uses = Counter(value.name for op in net.ops.values() for value in op.operands)
        self.reader = {value.name: op.out for op in net.ops.values() for value in op.operands}
        self.inner: dict[str, Op] = {}
        self.before: dict[str, list[Op]] = {}

    def line(self, value: Value) -> _Line:
        """Follow affine ops upwards; more in a row than any exporter writes are left alone."""
        found = _Line(value)
        for _ in range(_LONGEST):
            op = self.find(found.root.name)
            if not isinstance(op, ann.Affine):
                break
            scale, offset = (const.array().astype(np.float64) for const in op.consts)
            found = _Line(op.data, found.scale * scale, found.scale * offset + found.offset)
        return found

    def find(self, name: str) -> Op | None:
        """The op that makes a value."""
        return self.inner.get(name) or self.net.ops.get(name)

    def sole_reader(self, op: Op) -> Op | None:
        """The op that alone uses a result, None where it is an output or has several users."""
        alone = self.uses[op.out] == 1 and op.out not in self.outputs
        return self.find(self.reader[op.out]) if alone else None

    def staircase(self, rounding: Rounding) -> None:
        """Make a relu with levels, or a quantisation to a signed grid, of a rounding between affine ops and cuts."""
        shift = _SHIFTS[rounding.mode]
        source, low, high = self._cut_before(rounding, shift)
        steps = self._downwards(rounding, low, high)
        if not (-inf < steps.low < steps.high < inf and (steps.scale > 0).all()):
            return
        if max(abs(steps.low), steps.high) >= 1 << 24 or steps.low > 0:
            return
        step = steps.scale.reshape(()) if steps.scale.size == 1 else steps.scale
        scale, offset = source.scale * step, (source.offset - shift) * step
        data = source.root
        made: list[Op] = []
        if not (_near(scale, 1.0) and _near(offset, 0.0)):
            data = self._shifted(data, scale, offset, steps.last, made)
        made.append(self._rounded(data, step, round(steps.low), round(steps.high), steps.last))
        self._replace(steps.last, made)

    def _cut_before(self, rounding: Rounding, shift: float) -> tuple[_Line, float, float]:
        """The operand as a line, and bounds of the rounded numbers where a cut comes before the rounding."""
        line = self.line(rounding.data)
        cut, bounds = self._cuts_upwards(line.root)
        plain = line.scale.size == 1 and line.offset.size == 1 and float(line.scale.reshape(-1)[0]) > 0
        if cut is None or bounds is None or not plain:
            return line, -inf, inf
        scale, offset = float(line.scale.reshape(-1)[0]), float(line.offset.reshape(-1)[0])
        low, high = (float(np.floor(scale * bound + offset - shift + 0.5 + _SAME)) for bound in bounds)
        before = self.line(cut.operands[0])
        return _Line(before.root, scale * before.scale, scale * before.offset + offset), low, high

    def _cuts_upwards(self, value: Value) -> tuple[Op | None, tuple[float, float] | None]:
        """The first of the cuts in a row that end with a value, and what they cut to (Max and Min are two)."""
        cut, found = self.find(value.name), list[tuple[float, float]]()
        first = None
        while (bounds := _bounds(cut)) is not None and len(found) < _LONGEST:
            assert cut is not None
            first, cut = cut, self.find(cut.operands[0].name)
            found.append(bounds)
        return first, _joined(found) if found else None

    def _downwards(self, rounding: Rounding, low: float, high: float) -> _Steps:
        """Follow positive factors and one cut downwards."""
        last: Op = rounding
        scale: Array = np.ones(())
        cuts = 0
        while (op := self.sole_reader(last)) is not None:
            bounds = _bounds(op)
            if isinstance(op, ann.Affine):
                factor, offset = (const.array().astype(np.float64) for const in op.consts)
                if offset.any() or not (factor > 0).all():
                    break
                scale = scale * factor
            elif bounds is not None and cuts < 2 and scale.size == 1:
                lowest, highest = (bound / float(scale.reshape(-1)[0]) for bound in bounds)
                if not all(_whole(bound) for bound in (lowest, highest)):
                    break
                low, high, cuts = max(low, lowest), min(high, highest), cuts + 1
            else:
                break
            last = op
        return _Steps(low, high, scale, last)

    def _shifted(self, data: Value, scale: Array, offset: Array, last: Op, made: list[Op]) -> Value:
        consts, loc = self.net.consts, last.loc
        name = self.net.names.fresh(f"{last.out}.scaled")
        factor, addend = consts.get(f"{name}.scale", scale), consts.get(f"{name}.offset", offset)
        op = ann.Affine(out=name, data=data, scale=factor, offset=addend, loc=loc)
        made.append(op)
        return op.result

    def _rounded(self, data: Value, step: Array, low: int, high: int, last: Op) -> Op:
        fields: dict[str, Any] = {"out": last.out, "data": data, "loc": fused("onnx", [last.loc])}
        if low == 0:
            threshold = Const(self.net.consts.fresh(f"{last.out}.threshold"), step * high)
            return ann.Relu(threshold=threshold, levels=high, **fields)
        scale = self.net.consts.get(f"{last.out}.step", step)
        zero = self.net.consts.get("zero_point", np.zeros((), np.int32), np.int32)
        return ann_pointwise.Quantize(scale=scale, zero_point=zero, low=low, high=high, **fields)

    def product(self, op: Product) -> None:
        """Make one function of x and a function of x that are multiplied."""
        for one, other in ((op.left, op.right), (op.right, op.left)):
            factor, gate = self.line(one), self.line(other)
            numbers = [factor.scale, factor.offset, gate.scale, gate.offset]
            if any(number.size != 1 for number in numbers) or not _near(factor.offset, 0.0):
                continue
            found = self._gated(factor.root, gate)
            if found is None:
                continue
            fn, alpha, gain = found
            gain *= float(factor.scale.reshape(-1)[0])
            self._put_function(op, factor.root, fn, alpha, gain)
            return

    def _gated(self, root: Value, gate: _Line) -> tuple[str, float, float] | None:
        """Name, alpha and gain of root * gate as gain * fn(root); None where it is no function of the table."""
        op = self.find(gate.root.name)
        scale, offset = float(gate.scale.reshape(-1)[0]), float(gate.offset.reshape(-1)[0])
        if op is None or len(op.operands) != 1:
            return None
        inner = self.line(op.operands[0])
        if inner.scale.size != 1 or inner.offset.size != 1:
            return None
        a, b = float(inner.scale.reshape(-1)[0]), float(inner.offset.reshape(-1)[0])
        if isinstance(op, ann.Relu) and inner.root.name == root.name:
            top = scale * op.limit
            parts = np.asarray([offset, scale * a / top, scale * b / top])
            return ("hard_swish", 1.0, top) if np.allclose(parts, [0, 1 / 6, 0.5], atol=_SAME) else None
        if not isinstance(op, ann_pointwise.Activation) or abs(b) > _SAME:
            return None
        if op.fn == "tanh" and abs(offset) <= _SAME and a == 1:
            return ("mish", 1.0, scale) if self._is_softplus_of(inner.root, root) else None
        if inner.root.name != root.name:
            return None
        if op.fn == "sigmoid" and abs(offset) <= _SAME:
            return "silu", a, scale
        erf = op.fn == "erf" and abs(a * sqrt(2) - 1) <= _SAME and abs(offset - scale) <= _SAME
        return ("gelu", 1.0, 2 * scale) if erf else None

    def _is_softplus_of(self, value: Value, root: Value) -> bool:
        op = self.find(value.name)
        return isinstance(op, ann_pointwise.Activation) and op.fn == "softplus" and op.data.name == root.name

    def _put_function(self, op: Product, root: Value, fn: Any, alpha: float, gain: float) -> None:
        plain = abs(gain - 1) <= _SAME
        name = op.out if plain else self.net.names.fresh(f"{op.out}.{fn}")
        function = ann_pointwise.Activation(out=name, data=root, fn=fn, alpha=alpha, loc=op.loc)
        made: list[Op] = [function]
        if not plain:
            scale = self.net.consts.get(f"{op.out}.gain", np.asarray(gain))
            zero = self.net.consts.get("zero", np.zeros((), np.float32))
            made.append(ann.Affine(out=op.out, data=function.result, scale=scale, offset=zero, loc=op.loc))
        self._replace(op, made)

    def _replace(self, old: Op, made: Sequence[Op]) -> None:
        """Put ops in the place of one whose name the last of them carries."""
        self.net.ops[old.out] = made[-1]
        self.before[old.out] = list(made[:-1])
        self.inner.update((item.out, item) for item in made[:-1])
        self.net.pending.pop(old.out, None)
        for item in made:
            for value in item.operands:
                self.uses[value.name] += 1
                self.reader[value.name] = item.out

    def finish(self) -> None:
        """Put the ops that replacements need into the program, before those."""
        ops: dict[str, Op] = {}
        for name, op in self.net.ops.items():
            ops.update((item.out, item) for item in self.before.get(name, ()))
            ops[name] = op
        self.net.ops = ops


def _whole(bound: float) -> bool:
    return np.isinf(bound) or abs(bound - round(bound)) <= _SAME * max(1.0, abs(bound))
