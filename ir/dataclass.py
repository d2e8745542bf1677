"""Dataclasses whose methods are made when they are first needed.

The standard decorator writes up to six methods of every class as text and compiles each of them at
import.  A command of ours imports some 180 dataclasses and makes objects of a third of them: that cost
a quarter of ``nmc check``.  Here the methods that every class can share are closures, and ``__init__`` is
compiled once a class has many objects.  All else is the standard's: the fields are collected by it, ``fields``,
``replace`` and ``asdict`` work, and either kind of class may inherit from the other.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

_ABSENT = dataclasses.MISSING
#: Objects of a class that are filled field by field before its ``__init__`` is worth compiling.
_UNCOMPILED = 16


def _name(function: Any, cls: Any, name: str) -> None:
    """Let tracebacks and ``help`` show a shared function as the method that it is."""
    function.__name__, function.__qualname__, function.__module__ = (
        name,
        f"{cls.__qualname__}.{name}",
        cls.__module__,
    )


def _own_fields(cls: Any, kw_only: bool) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields that this class itself declares, as the standard decorator reads them."""
    names = inspect.get_annotations(cls)
    body = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    scratch = type(
        cls.__name__, (), {"__annotations__": names, "__doc__": "-", "__module__": cls.__module__, **body}
    )
    dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(scratch)
    own: dict[str, dataclasses.Field[Any]] = scratch.__dict__["__dataclass_fields__"]
    for name, value in body.items():
        if isinstance(value, dataclasses.Field):
            if value.default is _ABSENT:
                delattr(cls, name)
            else:
                setattr(cls, name, value.default)
    cls.__dataclass_params__ = scratch.__dict__["__dataclass_params__"]
    return own


def _compiled_init(cls: Any, frozen: bool) -> Callable[..., None]:
    """Write and compile ``__init__`` of one class from its fields."""
    scope: dict[str, Any] = {"_set": object.__setattr__, "_made": object()}
    heads: tuple[list[str], list[str]] = ([], [])
    lines: list[str] = []
    for item in dataclasses.fields(cls):
        name, value, default = item.name, item.name, ""
        if item.default_factory is not _ABSENT:
            scope[f"_new_{name}"] = item.default_factory
            value = f"_new_{name}() if {name} is _made else {name}" if item.init else f"_new_{name}()"
            default = "=_made"
        elif item.default is not _ABSENT:
            scope[f"_default_{name}"] = item.default
            default = f"=_default_{name}"
        if item.init:
            heads[bool(item.kw_only)].append(name + default)
        elif item.default_factory is _ABSENT:
            continue  # set by __post_init__, or the default stays with the class
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    head = ", ".join(["self", *heads[0], *(["*", *heads[1]] if heads[1] else [])])
    exec(f"def __init__({head}):\n " + "\n ".join(lines or ["pass"]), scope)
    made: Callable[..., None] = scope["__init__"]
    _name(made, cls, "__init__")
    made.__annotations__ = {
        name: item.type for name, item in cls.__dict__["__dataclass_fields__"].items() if item.init
    }
    return made


class _Signature:
    """What ``inspect.signature`` and ``help`` ask a class for: the true ``__init__`` is made for them."""

    def __get__(self, _: object, cls: Any) -> Any:
        init = cls.__init__
        made = init.__dict__.get("made")
        whole = inspect.signature(made() if made is not None else init)
        return whole.replace(parameters=list(whole.parameters.values())[1:])


def _filled(self: Any, cls: Any, frozen: bool, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Do what ``__init__`` does, field by field; False where it would refuse the arguments."""
    fields = dataclasses.fields(cls)
    values = dict(zip((item.name for item in fields if item.init and not item.kw_only), args, strict=False))
    known = {item.name for item in fields if item.init}
    if len(values) < len(args) or any(name in values or name not in known for name in named):
        return False
    values |= named
    put = object.__setattr__ if frozen else setattr
    for item in fields:
        if item.name in values:
            put(self, item.name, values[item.name])
        elif item.default_factory is not _ABSENT:
            put(self, item.name, item.default_factory())
        elif item.init:
            if item.default is _ABSENT:
                return False
            put(self, item.name, item.default)
    if hasattr(cls, "__post_init__"):
        self.__post_init__()
    return True


def _add_init(cls: Any, frozen: bool) -> None:
    left = _UNCOMPILED

    def made() -> Callable[..., None]:
        init = _compiled_init(cls, frozen)
        cls.__init__ = init
        return init

    def first(self: Any, /, *args: Any, **named: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 or not _filled(self, cls, frozen, args, named):
            made()(self, *args, **named)

    _name(first, cls, "__init__")
    first.__dict__["made"] = made
    cls.__init__ = first
    cls.__signature__ = _Signature()


def _add_repr(cls: Any, names: tuple[str, ...]) -> None:
    from reprlib import recursive_repr

    @recursive_repr()
    def text(self: Any) -> str:
        return (
            f"{self.__class__.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"
        )

    _name(text, cls, "__repr__")
    cls.__repr__ = text


def _key(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return the function from an object to the tuple of these attributes."""
    if not names:
        return lambda _: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda self: (get(self),)


def _add_equality(cls: Any, names: tuple[str, ...], hashed: tuple[str, ...], frozen: bool) -> None:
    own = cls.__dict__
    explicit = own.get("__hash__", _ABSENT)
    if "__eq__" not in own:
        key = _key(names)

        def equal(self: Any, other: object) -> Any:
            return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

        _name(equal, cls, "__eq__")
        cls.__eq__ = equal
        if explicit is _ABSENT and not frozen:
            cls.__hash__ = None
    if frozen and (explicit is _ABSENT or explicit is None):
        whole = _key(hashed)

        def hashing(self: Any) -> int:
            return hash(whole(self))

        _name(hashing, cls, "__hash__")
        cls.__hash__ = hashing


def _freeze(cls: Any, names: frozenset[str]) -> None:
    def refuse_set(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def refuse_delete(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    _name(refuse_set, cls, "__setattr__")
    _name(refuse_delete, cls, "__delattr__")
    cls.__setattr__, cls.__delattr__ = refuse_set, refuse_delete


def _process(cls: Any, frozen: bool, eq: bool, kw_only: bool) -> Any:
    every: dict[str, dataclasses.Field[Any]] = {}
    for base in cls.__mro__[-1:0:-1]:
        every.update(base.__dict__.get("__dataclass_fields__", {}))
        params = base.__dict__.get("__dataclass_params__")
        if params is not None and params.frozen != frozen:
            raise TypeError(f"{cls.__name__} and its base {base.__name__} must both be frozen, or neither")
    every.update(_own_fields(cls, kw_only))
    params = cls.__dict__["__dataclass_params__"]
    params.init, params.repr, params.eq, params.frozen = True, True, eq, frozen
    cls.__dataclass_fields__ = every
    listed = dataclasses.fields(cls)
    own = cls.__dict__
    if "__match_args__" not in own:
        type.__setattr__(cls, "__match_args__", tuple(f.name for f in listed if f.init and not f.kw_only))
    if "__init__" not in own:
        _add_init(cls, frozen)
    if "__repr__" not in own:
        _add_repr(cls, tuple(f.name for f in listed if f.repr))
    if eq:
        hashed = tuple(f.name for f in listed if (f.compare if f.hash is None else f.hash))
        _add_equality(cls, tuple(f.name for f in listed if f.compare), hashed, frozen)
    if frozen:
        _freeze(cls, frozenset(f.name for f in listed))
    return cls


def _dataclass(cls: Any = None, /, *, frozen: bool = False, eq: bool = True, kw_only: bool = False) -> Any:
    """Make a class a dataclass: ``dataclasses.dataclass`` with the options that this project uses.

    Parameters
    ----------
    cls
        The class; absent where the decorator is called with options.
    frozen, eq, kw_only
        As in the standard library.

    Returns
    -------
    type or callable
        The same class, or the decorator.

    Raises
    ------
    TypeError
        When a class and its base are not both frozen or both mutable, or a default is a list, dict or set.
    """
    if cls is None:
        return lambda given: _process(given, frozen, eq, kw_only)
    return _process(cls, frozen, eq, kw_only)


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    dataclass = _dataclass
