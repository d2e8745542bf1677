"""The rewrite driver: plain functions as rules, applied until none applies any more.

A rule takes an op, of the class that its first annotation names, and a `Match` to look around with::

    def fold(norm: ann.BatchNorm, match: Match) -> ann.Conv:
        conv = match.made_by(norm.data, ann.Conv)
        match.single_user(conv)
        return replace(conv, out=norm.out, weight=...)

It gives the op that takes the matched op's place, a tuple of ops (the last one carries the result's name,
``()`` deletes an op that nobody uses), a `Value` that all users take instead, or None where it does not
apply; it raises `Skip` to say why not. Ops that a replacement leaves without users are removed.

A rule that did not apply is tried again only when something it looked at changes, so that the cost grows with
the number of ops and changes, not with their product.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field, replace
from typing import Any, TypeVar, Union, get_args, get_origin

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, Value
from nmc.ir.types import Type
from nmc.passes.base import Skip
from nmc.passes.explain import current_log
from nmc.passes.graph import (
    dead_code,
    fresh_name,
    is_root,
    refresh,
    replace_uses,
    result_type,
    unique_consts,
    with_operands,
)

__all__ = ["Match", "Rule", "dead_code", "refresh", "replace_uses", "rewrite", "with_operands"]

T = TypeVar("T", bound=Op)
U = TypeVar("U", bound=Op)
Change = Op | tuple[Op, ...] | Value | None
Rule = Callable[..., Change]

#: Replacements allowed for each op of the module before the driver says that the rules never end.
_REPLACEMENTS_PER_OP = 32


def rewrite(module: Module, pass_name: str, *rules: Rule) -> Module:
    """Apply rules everywhere, to a fixed point.

    Parameters
    ----------
    module : Module
        What to rewrite; not changed.
    pass_name : str
        Name in fused locations and explanations.
    *rules : function
        ``rule(op: SomeOp, match: Match)``; tried in this order at each op.

    Returns
    -------
    Module
        The same object when nothing changed.

    Raises
    ------
    NmcError
        E0206 when the rules never come to an end.
    TypeError
        When a rule does not annotate its first parameter with op classes.
    """
    frame = inspect.currentframe()
    names = frame.f_back.f_locals if frame is not None and frame.f_back is not None else {}
    found = [(rule, _matched_classes(rule, names)) for rule in rules]
    driver = _Driver(module, pass_name, found)
    driver.run()
    return module.with_ops(unique_consts(driver.program())) if driver.changed else module


def _matched_classes(rule: Rule, names: dict[str, Any]) -> tuple[type[Op], ...]:
    """The op classes in the first annotation; `names` are those of the function that defines a local rule."""
    first = next(iter(inspect.signature(rule).parameters.values()), None)
    label = getattr(rule, "__name__", str(rule))
    if first is None or first.annotation is inspect.Parameter.empty:
        raise TypeError(f"rule {label} must annotate its first parameter with the op class that it matches")
    bearer = types.SimpleNamespace(__annotations__={"op": first.annotation})
    try:
        closed = inspect.getclosurevars(rule).nonlocals
        hint = typing.get_type_hints(bearer, getattr(rule, "__globals__", {}), {**names, **closed})["op"]
    except NameError as error:
        raise TypeError(f"rule {label}: {error}; import the class where the rule is defined") from None
    classes = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not all(isinstance(cls, type) and issubclass(cls, Op) for cls in classes):
        raise TypeError(f"rule {label}: its first annotation, {hint}, is no op class")
    return classes


def _using(op: Op, name: str, value: Value) -> Op:
    """Copy of an op that uses `value` wherever it used the value `name`."""
    return with_operands(op, lambda used: value if used.name == name else used)


def _settled(change: Change, old: Op) -> Change:
    """Bring a rule's answer to one form: one op is no tuple, and carries the old result's name."""
    if isinstance(change, tuple) and len(change) == 1:
        change = change[0]
    if isinstance(change, Op) and change.out != old.out:
        return replace(change, out=old.out)
    return change


@dataclass(eq=False)
class _Node:
    """A place in the program; a doubly linked list keeps order while ops come and go."""

    op: Op
    before: _Node | None = None
    after: _Node | None = None
    alive: bool = True


class Match:
    """What a rule may ask about the surroundings of its op; every answer is noted for locations."""

    def __init__(self, driver: _Driver, op: Op) -> None:
        self._driver = driver
        self._root = op
        self._made: dict[str, Op] = {}
        self._used_by: list[Op] = []
        self.watched: dict[str, None] = {}

    def producer(self, value: Value) -> Op:
        """Give the op that makes a value."""
        node = self._driver.producers.get(value.name)
        self.watched[value.name] = None
        if node is None:
            raise Skip(f"%{value.name} is not defined")
        self._made[value.name] = node.op
        return node.op

    @typing.overload
    def made_by(self, value: Value, cls: type[T], /) -> T: ...

    @typing.overload
    def made_by(self, value: Value, one: type[T], other: type[U], /) -> T | U: ...

    def made_by(self, value: Value, *classes: type[Op]) -> Op:
        """Give the op that makes a value, which must be of one of one or two classes.

        Raises
        ------
        Skip
            "%relu2.pre is made by ann.relu, not ann.conv".
        """
        op = self.producer(value)
        if isinstance(op, classes):
            return op
        wanted = " or ".join(cls.name for cls in classes)
        raise Skip(f"%{value.name} is made by {op.name}, not {wanted}")

    def users(self, op: Op) -> tuple[Op, ...]:
        """Give the ops that use an op's result."""
        self.watched[op.out] = None
        found = tuple(node.op for node in self._driver.users.get(op.out, ()))
        self._used_by += [user for user in found if user is not self._root]
        return found

    def single_user(self, op: Op) -> Op:
        """Give the only op that uses an op's result.

        Raises
        ------
        Skip
            When there is not exactly one.
        """
        self.watched[op.out] = None
        count = len(self._driver.users.get(op.out, ()))
        self.require(count == 1, f"%{op.out} has {count} users, not one")
        return self.users(op)[0]

    def require(self, condition: object, reason: str) -> None:
        """Raise `Skip` with `reason` unless `condition` holds."""
        if not condition:
            raise Skip(reason)

    def data(self, const: Const) -> Array:
        """Give the elements of a constant; the rule does not apply when the dump lacks them."""
        if const.data is None:
            raise Skip(f"the data of constant @{const.name} are missing")
        return const.data

    def fresh(self, stem: str) -> str:
        """Give a value name that is not taken: `stem`, else ``stem.1`` and so on."""
        return fresh_name(stem, self._driver.producers)

    def locs(self) -> Iterator[Loc | None]:
        """Locations of everything looked at: producers, the matched op, users."""
        yield from (op.loc for op in reversed(self._made.values()))
        yield self._root.loc
        yield from (op.loc for op in self._used_by)


@dataclass
class _Driver:
    """The program while it is rewritten."""

    module: Module
    pass_name: str
    rules: list[tuple[Rule, tuple[type[Op], ...]]]
    changed: bool = False
    producers: dict[str, _Node] = field(default_factory=dict)
    users: dict[str, dict[_Node, None]] = field(default_factory=dict)
    watchers: dict[str, dict[_Node, None]] = field(default_factory=dict)
    _by_class: dict[type[Op], list[Rule]] = field(default_factory=dict)
    _queue: deque[_Node] = field(default_factory=deque)
    _queued: set[_Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._head = _Node(Op())
        last = self._head
        for op in self.module.ops:
            last = self._insert(op, last)
        self._left = _REPLACEMENTS_PER_OP * (len(self.module.ops) + 2)

    def run(self) -> None:
        """Try rules until nothing is left to try."""
        while self._queue:
            node = self._queue.popleft()
            self._queued.discard(node)
            if node.alive:
                self._visit(node)

    def program(self) -> Iterator[Op]:
        """All ops, in order."""
        node = self._head.after
        while node is not None:
            yield node.op
            node = node.after

    def _visit(self, node: _Node) -> None:
        for rule in self._rules_for(type(node.op)):
            match = Match(self, node.op)
            change = self._try(rule, node, match)
            for name in match.watched:
                self.watchers.setdefault(name, {})[node] = None
            if change is not None:
                self._count(rule, node.op)
                self._apply(node, change, match)
                return

    def _rules_for(self, cls: type[Op]) -> list[Rule]:
        if cls not in self._by_class:
            self._by_class[cls] = [rule for rule, classes in self.rules if issubclass(cls, classes)]
        return self._by_class[cls]

    def _try(self, rule: Rule, node: _Node, match: Match) -> Change:
        try:
            change = rule(node.op, match)
        except Skip as skip:
            return self._note(rule, node.op, None, str(skip))
        change = _settled(change, node.op)
        return self._note(rule, node.op, None if change == node.op else change, "nothing to change")

    def _note(self, rule: Rule, op: Op, change: Change, reason: str) -> Change:
        log = current_log()
        if log is not None:
            label = getattr(rule, "__name__", str(rule)).replace("_", "-")
            log.note(self.pass_name, label, op, reason if change is None else "")
        return change

    def _count(self, rule: Rule, op: Op) -> None:
        self.changed = True
        self._left -= 1
        if self._left < 0:
            label = getattr(rule, "__name__", str(rule))
            raise fail(
                "E0206",
                f"the rules of {self.pass_name} never end: over {_REPLACEMENTS_PER_OP} replacements an op, "
                f"the last by {label} at %{op.out or op.name}",
                hint="a rule must give an equal op, None or Skip once its work is done",
            )

    def _apply(self, node: _Node, change: Op | tuple[Op, ...] | Value, match: Match) -> None:
        old = node.op
        if isinstance(change, Value):
            self._replace_uses(old, change)
            made: tuple[Op, ...] = ()
        else:
            made = self._named(old, change if isinstance(change, tuple) else (change,), match)
        place = node.before
        assert place is not None
        self._remove(node)
        for op in made:
            place = self._insert(op, place)
        self._touch(old)
        if made and old.out:
            self._retype(made[-1], result_type(old))
        self._sweep(value.name for value in old.operands)

    def _named(self, old: Op, made: tuple[Op, ...], match: Match) -> tuple[Op, ...]:
        """Give the last op the old result's name, and all of them their locations."""
        if not made and self.users.get(old.out):
            raise TypeError(f"a rule of {self.pass_name} deletes %{old.out}, which is used")
        locs = tuple(match.locs())
        fused = self._fuse(locs)
        last = len(made) - 1
        return tuple(
            replace(
                op,
                out=old.out if index == last else op.out,
                loc=fused if op.loc is None or op.loc in locs else op.loc,
            )
            for index, op in enumerate(made)
        )

    def _fuse(self, locs: Iterable[Loc | None]) -> Loc | None:
        """Fuse without nesting what this pass fused before: long chains would nest as deep."""
        flat: list[Loc] = []
        for loc in locs:
            if loc is not None:
                flat += loc.parts if loc.parts and loc.name == self.pass_name else (loc,)
        return fuse(self.pass_name, flat)

    def _insert(self, op: Op, place: _Node) -> _Node:
        """Link an op into the program behind `place` and queue it and those that look at it."""
        node = _Node(op, place, place.after)
        if place.after is not None:
            place.after.before = node
        place.after = node
        if op.out:
            self.producers[op.out] = node
        for value in op.operands:
            self.users.setdefault(value.name, {})[node] = None
        self._push(node)
        self._touch(op)
        return node

    def _remove(self, node: _Node) -> None:
        assert node.before is not None
        node.alive = False
        node.before.after = node.after
        if node.after is not None:
            node.after.before = node.before
        if self.producers.get(node.op.out) is node:
            del self.producers[node.op.out]
        for value in node.op.operands:
            self.users[value.name].pop(node, None)

    def _swap(self, node: _Node, op: Op) -> None:
        """Put a version with other operands in a node's place."""
        for value in node.op.operands:
            self.users[value.name].pop(node, None)
        for value in op.operands:
            self.users.setdefault(value.name, {})[node] = None
        self._touch(node.op)
        node.op = op
        self._push(node)
        self._touch(op)

    def _push(self, node: _Node) -> None:
        if node not in self._queued:
            self._queued.add(node)
            self._queue.append(node)

    def _touch(self, op: Op) -> None:
        """Queue every op whose rules looked at this one."""
        for name in (op.out, *(value.name for value in op.operands)):
            for node in self.watchers.pop(name, ()):
                if node.alive:
                    self._push(node)

    def _replace_uses(self, old: Op, value: Value) -> None:
        for user in list(self.users.get(old.out, ())):
            before = result_type(user.op)
            made = _using(user.op, old.out, value)
            self._swap(user, made)
            self._retype(made, before)

    def _retype(self, op: Op, before: Type | None) -> None:
        """Refresh the operands of everything downstream of a result whose type is not `before` any more."""
        queue = deque([(op, before)])
        visits = 4 * len(self.producers) + 8
        while queue and visits:
            changed, former = queue.popleft()
            kind = result_type(changed)
            if not changed.out or kind is None or kind == former:
                continue
            value = Value(changed.out, kind)
            for user in list(self.users.get(changed.out, ())):
                visits -= 1
                former = result_type(user.op)
                made = _using(user.op, value.name, value)
                if made is not user.op:
                    self._swap(user, made)
                    queue.append((made, former))

    def _sweep(self, names: Iterable[str]) -> None:
        """Remove the producers of `names` that nobody uses any more, and what only they used."""
        stack = list(names)
        while stack:
            node = self.producers.get(stack.pop())
            if node is None or self.users.get(node.op.out) or is_root(node.op):
                continue
            self._remove(node)
            self._touch(node.op)
            stack += [value.name for value in node.op.operands]
