"""Named tuples at a tenth of the price: ``typing.NamedTuple`` compiles each of the tree's 390 annotations at import."""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any


class _Nodes(type):
    """Makes the tuple class of a class body: its annotations are the fields, its values their defaults."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        """Return the base itself for the base, and a tuple class for what derives from it."""
        if not bases:
            return super().__new__(cls, name, bases, body)
        names = tuple(body.get("__annotations__", ()))
        defaults = [body[field] for field in names if field in body]
        made = namedtuple(name, names, defaults=defaults, module=body["__module__"])  # type: ignore[misc]
        for key, value in body.items():
            if key not in names and key not in ("__module__", "__qualname__", "__annotations__"):
                setattr(made, key, value)
        return made


class _Node(metaclass=_Nodes):
    """Base of the classes, in their text only."""


if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    NamedTuple = _Node
