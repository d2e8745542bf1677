"""Check that a module is well-formed; all problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nmc.ir.const import Const
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import LEVELS, Op, VerifyError

#: What may follow the ``%`` or ``@`` of a name (``VALUE`` and ``SYMBOL`` of the grammar).
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./$-]*")


def verify(module: Module) -> tuple[Diagnostic, ...]:
    """List everything that is wrong with a module.

    Returns
    -------
    tuple of Diagnostic
        Empty for a well-formed module. E0110: level, E0111: an op's own rules, E0112: names, E0113: types,
        E0114: order and loops, E0115: constants, E0116: the discretisation record.
    """
    rules = (_levels, _names, _uses, _loops, _consts, _record)
    return tuple(problem for rule in rules for problem in rule(module))


def verify_or_raise(module: Module, context: str = "") -> None:
    """Raise `NmcError` with every problem, if there is one; `context` says who made the module."""
    problems = verify(module)
    if problems:
        head = Diagnostic("E0110", f"the module is not well-formed {context}".rstrip() + ":")
        raise NmcError((head, *problems) if context else problems)


def describe(op: Op) -> str:
    """Name an op and its place for a diagnostic."""
    shown = f"%{op.out} = {op.name}" if op.out else op.name
    return f"{shown} ({op.loc})" if op.loc else shown


def _levels(module: Module) -> Iterator[Diagnostic]:
    if module.level not in LEVELS:
        yield Diagnostic("E0110", f"level {module.level} is none of {', '.join(LEVELS)}")
        return
    for op in module.ops:
        if module.level not in op.belongs:
            where = describe(op)
            yield Diagnostic("E0110", f"{op.name} does not belong into level {module.level}", where=where)


def _names(module: Module) -> Iterator[Diagnostic]:
    seen: set[str] = set()
    for op in module.ops:
        if op.out and not NAME.fullmatch(op.out):
            yield Diagnostic("E0112", f"%{op.out} holds a character that names may not", where=describe(op))
        if op.out in seen:
            yield Diagnostic("E0112", f"%{op.out} is defined twice", where=describe(op))
        if op.out:
            seen.add(op.out)


def _uses(module: Module) -> Iterator[Diagnostic]:
    for op in module.ops:
        wrong_use = False
        for value in op.operands:
            producer = module.producers.get(value.name)
            problem = (
                f"%{value.name} is not defined" if producer is None else _type_problem(value.type, producer)
            )
            if problem:
                wrong_use = True
                yield Diagnostic("E0113", problem, where=describe(op))
        if not wrong_use:
            yield from _own_rules(op)


def _type_problem(used_as: object, producer: Op) -> str:
    try:
        made = producer.result.type if producer.out else producer.infer()
    except (VerifyError, ValueError):
        return ""  # reported where it is produced
    return "" if used_as == made else f"%{producer.out} is {made}, used as {used_as}"


def _own_rules(op: Op) -> Iterator[Diagnostic]:
    try:
        made = op.infer()
        if (made is None) != (not op.out):
            yield Diagnostic("E0111", "an op has a name exactly when it has a result", where=describe(op))
        op.verify()
    except (VerifyError, ValueError) as error:
        yield Diagnostic("E0111", str(error), where=describe(op))


def _loops(module: Module) -> Iterator[Diagnostic]:
    defined: set[str] = set()
    for op in module.ops:
        for value, lag in zip(op.operands, op.lags, strict=True):
            late = value.name not in defined and value.name in module.producers
            if late and lag < 1:
                hops = _hops(module, op, value.name)
                yield Diagnostic(
                    "E0114",
                    f"uses %{value.name} before its definition without a delay{hops}",
                    where=describe(op),
                    hint="give the projection that closes the loop a delay of at least 1",
                )
        defined.add(op.out)


def _hops(module: Module, op: Op, name: str) -> str:
    """Print the way from `op` round to `name`, hop by hop, when there is one."""
    trail: dict[str, str] = {op.out: ""}
    queue = [op.out]
    while queue:
        here = queue.pop(0)
        if here == name:
            hops = [here]
            while trail[hops[-1]]:
                hops.append(trail[hops[-1]])
            return ": " + " -> ".join(f"%{hop}" for hop in [*reversed(hops), op.out])
        for user in module.users.get(here, ()):
            if user.out and user.out not in trail:
                trail[user.out] = here
                queue.append(user.out)
    return ""


def _consts(module: Module) -> Iterator[Diagnostic]:
    by_name: dict[str, Const] = {}
    for const in module.consts:
        other = by_name.setdefault(const.name, const)
        if not NAME.fullmatch(const.name):
            yield Diagnostic("E0112", f"@{const.name} holds a character that names may not")
        if other != const:
            yield Diagnostic("E0115", f"two constants are named @{const.name}")


def _record(module: Module) -> Iterator[Diagnostic]:
    """Text may leave the record out; where there is one, it is one."""
    entries = module.attr("record")
    if entries is None:
        return
    from nmc.ir.record import problems

    for problem in problems(entries):
        yield Diagnostic("E0116", problem, where=f"module @{module.name}")
