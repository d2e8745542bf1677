"""What passes share on lists of ops: new operands, types after a change, dead ops, names of constants."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from itertools import chain, count
from typing import Any

from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op, Value, VerifyError, op_fields
from nmc.ir.ops import ann, snn
from nmc.ir.types import Type

#: An op in an ill-formed loop could change its type for ever; `refresh` looks at each op this often at most.
_MAX_VISITS = 8


def with_operands(op: Op, change: Callable[[Value], Value]) -> Op:
    """Copy of `op` whose operand values are ``change(value)``; `op` itself when none changes."""
    changes: dict[str, Any] = {}
    for spec in op_fields(type(op)):
        item = getattr(op, spec.name)
        if spec.role == "values":
            made: Any = tuple(change(value) for value in item)
        elif spec.role == "value" and item is not None:
            made = change(item)
        else:
            continue
        if made != item:
            changes[spec.name] = made
    return replace(op, **changes) if changes else op


def with_consts(op: Op, change: Callable[[Const], Const]) -> Op:
    """Copy of `op` whose constants are ``change(const)``; `op` itself when none changes."""
    changes: dict[str, Any] = {}
    for spec in op_fields(type(op)):
        item = getattr(op, spec.name)
        if spec.role == "const" and item is not None and (made := change(item)) is not item:
            changes[spec.name] = made
    return replace(op, **changes) if changes else op


def result_type(op: Op) -> Type | None:
    """Type of the op's result, None when it has none or its operands do not allow one."""
    try:
        return op.infer()
    except (VerifyError, ValueError):
        return None


def refresh(ops: Iterable[Op]) -> tuple[Op, ...]:
    """Give every operand the type that its producer has now; what does not fit is left to the verifier."""
    current = list(ops)
    place = {op.out: index for index, op in enumerate(current) if op.out}
    types = {op.out: kind for op in current if op.out and (kind := result_type(op)) is not None}
    users: dict[str, list[int]] = {}
    for index, op in enumerate(current):
        for value in op.operands:
            users.setdefault(value.name, []).append(index)
    queue, visits = deque(range(len(current))), [0] * len(current)

    def retyped(value: Value) -> Value:
        return Value(value.name, types.get(value.name, value.type))

    while queue:
        index = queue.popleft()
        made = with_operands(current[index], retyped)
        if made is current[index] or visits[index] >= _MAX_VISITS:
            continue
        visits[index] += 1
        current[index] = made
        kind = result_type(made)
        if made.out and kind is not None and types.get(made.out) != kind and place[made.out] == index:
            types[made.out] = kind
            queue.extend(users.get(made.out, ()))
    return tuple(current)


def replace_uses(ops: Iterable[Op], values: Mapping[str, Value]) -> tuple[Op, ...]:
    """Let every use of a name in `values` use the value given there instead."""
    return tuple(with_operands(op, lambda value: values.get(value.name, value)) for op in ops)


def is_root(op: Op) -> bool:
    """Whether an op counts without being used: it has no result, or it is an input of the network."""
    return not op.out or isinstance(op, ann.Input | snn.InputOp)


def dead_code(module: Module) -> Module:
    """Remove the ops that nothing with an effect depends on, rings of populations included."""
    live = {op.out for op in module.ops if is_root(op)}
    stack = [value.name for op in module.ops if is_root(op) for value in op.operands]
    while stack:
        name = stack.pop()
        if name not in live and name in module.producers:
            live.add(name)
            stack.extend(value.name for value in module.producers[name].operands)
    kept = tuple(op for op in module.ops if op.out in live or not op.out)
    return module if len(kept) == len(module.ops) else module.with_ops(kept)


def unique_consts(ops: Iterable[Op]) -> tuple[Op, ...]:
    """Rename constants that share their name with another content: ``w``, ``w.1``, ... in program order."""
    given = tuple(ops)
    names = _ConstNames({const.name for op in given for const in op.consts})
    return tuple(with_consts(op, names.settle) for op in given)


class _ConstNames:
    """Gives each content its own name."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._by_name: dict[str, list[Const]] = {}
        self._settled: dict[int, tuple[Const, Const]] = {}

    def settle(self, const: Const) -> Const:
        """The constant to use instead of `const`."""
        if id(const) not in self._settled:
            self._settled[id(const)] = (const, self._choose(const))
        return self._settled[id(const)][1]

    def _choose(self, const: Const) -> Const:
        known = self._by_name.setdefault(const.name, [])
        for other in known:
            if other.digest == const.digest and other.type == const.type:
                return other
        chosen = const if not known else Const(self._fresh(const.name), const.data, const.known)
        known.append(chosen)
        return chosen

    def _fresh(self, stem: str) -> str:
        name = fresh_name(stem, self._taken)
        self._taken.add(name)
        return name


def fresh_name(stem: str, taken: Container[str]) -> str:
    """Give `stem`, or the first of ``stem.1``, ``stem.2``, ... that is not taken."""
    names = chain((stem,), (f"{stem}.{number}" for number in count(1)))
    return next(name for name in names if name not in taken)
