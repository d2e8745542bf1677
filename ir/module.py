"""A program at one level: an immutable list of ops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op

T = TypeVar("T", bound=Op)
Attrs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Module:
    """A program at one level.

    Parameters
    ----------
    name : str
        Name without the ``@``.
    level : {"ann", "snn", "mapped", "image"}
        Which ops it may hold.
    ops : tuple of Op
        In order of definition; a use before the definition needs a delay.
    attrs : tuple of (str, value)
        Facts about the whole program (steps, dt, target, certificates), in printed order.
    """

    name: str
    level: str
    ops: tuple[Op, ...] = ()
    attrs: Attrs = ()

    @cached_property
    def producers(self) -> dict[str, Op]:
        """The op that defines each value name."""
        return {op.out: op for op in self.ops if op.out}

    @cached_property
    def users(self) -> dict[str, tuple[Op, ...]]:
        """The ops that use each value name, in program order."""
        table: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys(value.name for value in op.operands):
                table.setdefault(name, []).append(op)
        return {name: tuple(ops) for name, ops in table.items()}

    @cached_property
    def consts(self) -> tuple[Const, ...]:
        """The distinct constants, in order of first use."""
        return tuple(dict.fromkeys(const for op in self.ops for const in op.consts))

    def attr(self, key: str, default: Any = None) -> Any:
        """Give a module attribute, or `default`."""
        return dict(self.attrs).get(key, default)

    def with_attrs(self, **changes: Any) -> Module:
        """Copy with some attributes set (None removes one)."""
        merged = {**dict(self.attrs), **changes}
        return replace(self, attrs=tuple((key, item) for key, item in merged.items() if item is not None))

    def with_ops(self, ops: list[Op] | tuple[Op, ...], *, level: str | None = None) -> Module:
        """Copy with other ops."""
        return replace(self, ops=tuple(ops), level=level or self.level)

    def of_type(self, cls: type[T]) -> tuple[T, ...]:
        """All ops of a class, in program order."""
        return tuple(op for op in self.ops if isinstance(op, cls))

    def map_ops(self, change: Callable[[Op], Op]) -> Module:
        """Copy with each op replaced by ``change(op)``."""
        return self.with_ops([change(op) for op in self.ops])

    def __str__(self) -> str:
        from nmc.ir.text.printer import print_module

        return print_module(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"
