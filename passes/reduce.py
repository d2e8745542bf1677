"""Make a failing module small: drop ops, halve inputs and zero constants while a predicate still holds.

The candidates of each round are tried in a fixed order, long runs of ops first as in delta debugging (Zeller
and Hildebrandt 2002), so that the same module and predicate always give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann, snn
from nmc.ir.verify import verify
from nmc.passes.graph import dead_code, refresh, replace_uses, with_consts

Predicate = Callable[[Module], bool]


def reduce_module(module: Module, fails: Predicate, *, max_tests: int = 2000) -> Module:
    """Give a small module for which `fails` is still true.

    Parameters
    ----------
    module : Module
        A well-formed module for which `fails` is true.
    fails : callable
        Whether the failure that is looked for still shows; only asked about well-formed modules.
    max_tests : int
        How often `fails` is asked at most.

    Returns
    -------
    Module
        No further single step of the reducer keeps the failure, unless `max_tests` ran out.

    Raises
    ------
    ValueError
        When `fails` is not true for `module` itself.
    """
    if not fails(module):
        raise ValueError("the module does not fail to begin with")
    search = _Search(module, fails, max_tests)
    while search.round():
        pass
    return search.best


class _Search:
    """The smallest failing module so far."""

    def __init__(self, module: Module, fails: Predicate, max_tests: int) -> None:
        self.best = module
        self._fails, self._left = fails, max_tests

    def round(self) -> bool:
        """Try every kind of step once; tell whether one helped."""
        before = self.best
        self._accept(dead_code(self.best))
        self._drop()
        for variants in (_bypassed, _shrunk, _zeroed):
            self._each(variants)
        return self.best is not before and self._left > 0

    def _accept(self, candidate: Module) -> bool:
        """Keep a candidate that differs, is well-formed and still fails."""
        if candidate is self.best or candidate == self.best or self._left <= 0 or verify(candidate):
            return False
        self._left -= 1
        if not self._fails(candidate):
            return False
        self.best = candidate
        return True

    def _drop(self) -> None:
        """Drop runs of ops that nobody needs, long runs first."""
        size = len(self.best.ops)
        while size and self._left > 0:
            start = 0
            while start < len(self.best.ops):
                ops = self.best.ops
                kept = self.best.with_ops(_closed([*ops[:start], *ops[start + size :]]))
                if not self._accept(kept):
                    start += size
            size //= 2

    def _each(self, variants: Callable[[Module, int], Iterator[Module]]) -> None:
        """Try the variants of each op, from the last on."""
        for index in reversed(range(len(self.best.ops))):
            if index < len(self.best.ops) and self._left > 0:
                any(self._accept(candidate) for candidate in variants(self.best, index))


def _closed(ops: Sequence[Op]) -> list[Op]:
    """Drop the ops that use what is not there any more, and those that use them."""
    kept = list(ops)
    while True:
        defined = {op.out for op in kept}
        left = [op for op in kept if all(value.name in defined for value in op.operands)]
        if len(left) == len(kept):
            return left
        kept = left


def _bypassed(module: Module, index: int) -> Iterator[Module]:
    """Let the users of an op use one of its operands instead."""
    op = module.ops[index]
    if op.out:
        others = [*module.ops[:index], *module.ops[index + 1 :]]
        for value in op.operands:
            if value.name != op.out:
                yield module.with_ops(refresh(replace_uses(others, {op.out: value})))


def _shrunk(module: Module, index: int) -> Iterator[Module]:
    """Halve the extents of an input."""
    op = module.ops[index]
    if isinstance(op, ann.Input | snn.Input):
        for axis, extent in enumerate(op.shape):
            if extent > 1:
                shape = (*op.shape[:axis], extent // 2, *op.shape[axis + 1 :])
                yield module.with_ops(refresh(_with_op(module, index, replace(op, shape=shape))))


def _zeroed(module: Module, index: int) -> Iterator[Module]:
    """Replace each constant of an op by zeros."""
    op = module.ops[index]
    for const in op.consts:
        if const.data is None or not const.data.any():
            continue
        zeros = Const(const.name, np.broadcast_to(np.zeros((), const.data.dtype), const.shape))
        yield _with_const(module, zeros)


def _with_const(module: Module, new: Const) -> Module:
    """Copy of a module whose constant of the same name is `new`."""

    def change(const: Const) -> Const:
        return new if const.name == new.name else const

    return module.map_ops(lambda op: with_consts(op, change))


def _with_op(module: Module, index: int, op: Op) -> list[Op]:
    return [*module.ops[:index], op, *module.ops[index + 1 :]]
