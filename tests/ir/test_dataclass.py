"""`nmc.ir.dataclass` makes the classes that the standard decorator makes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from nmc.ir.dataclass import _dataclass as ours

Decorator = Callable[..., Any]
STANDARD: Decorator = dataclasses.dataclass


def plain(make: Decorator) -> Any:
    @make(frozen=True)
    class Plain:
        """A class."""

        kind: ClassVar[str] = "plain"
        a: int
        b: tuple[int, ...] = (1, 2)
        c: list[int] = field(default_factory=list, compare=False)
        d: int = field(default=3, repr=False)
        e: int = field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "e", self.a + 1)

    return Plain


def derived(make: Decorator) -> Any:
    @make(frozen=True, kw_only=True)
    class Derived(plain(make)):  # type: ignore[misc]
        """A class with a base."""

        f: str = "f"
        a: int = 7

    return Derived


def mutable(make: Decorator) -> Any:
    @make
    class Mutable:
        """A class that may change."""

        a: int
        b: int = 2

    return Mutable


def by_identity(make: Decorator) -> Any:
    @make(frozen=True, eq=False)
    class ByIdentity:
        """A class whose objects are equal to nothing else."""

        a: int = 0

    return ByIdentity


def own_methods(make: Decorator) -> Any:
    @make(frozen=True)
    class OwnMethods:
        """A class that has its own equality, hash and text."""

        a: int = 0

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 5

        def __repr__(self) -> str:
            return "own"

    return OwnMethods


CLASSES = [plain, derived, mutable, by_identity, own_methods]


@pytest.mark.parametrize("make", CLASSES)
def test_fields_signature_and_match_args_are_those_of_the_standard(make: Callable[[Decorator], Any]) -> None:
    mine, theirs = make(ours), make(STANDARD)
    assert [f.name for f in dataclasses.fields(mine)] == [f.name for f in dataclasses.fields(theirs)]
    assert mine.__match_args__ == theirs.__match_args__
    # The standard names a default that a factory makes by an object of its own.
    names = [(p.name, p.kind, p.default is p.empty) for p in inspect.signature(theirs).parameters.values()]
    assert [
        (p.name, p.kind, p.default is p.empty) for p in inspect.signature(mine).parameters.values()
    ] == names
    mine(a=1)
    assert [
        (p.name, p.kind, p.default is p.empty) for p in inspect.signature(mine).parameters.values()
    ] == names


@pytest.mark.parametrize("make", CLASSES)
def test_objects_print_compare_hash_and_convert_as_those_of_the_standard(
    make: Callable[[Decorator], Any],
) -> None:
    mine, theirs = make(ours), make(STANDARD)
    assert repr(mine(a=4)) == repr(theirs(a=4)).replace(theirs.__qualname__, mine.__qualname__)
    assert (mine(a=4) == mine(a=4)) == (theirs(a=4) == theirs(a=4))
    assert (mine(a=4) == mine(a=5)) == (theirs(a=4) == theirs(a=5))
    assert mine(a=4) != theirs(a=4) or make is own_methods
    assert dataclasses.asdict(mine(a=4)) == dataclasses.asdict(theirs(a=4))
    assert dataclasses.replace(mine(a=4), a=6).a == 6
    if make is mutable:
        assert mine.__hash__ is None and theirs.__hash__ is None
    elif make is not by_identity:
        assert hash(mine(a=4)) == hash(theirs(a=4))


def test_a_frozen_object_refuses_changes_and_a_mutable_one_takes_them() -> None:
    frozen, free = plain(ours)(1), mutable(ours)(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'a'"):
        frozen.a = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'a'"):
        del frozen.a
    free.a = 2
    assert free.a == 2


def test_two_objects_do_not_share_what_a_factory_makes() -> None:
    cls = plain(ours)
    assert cls(1).c is not cls(1).c


def test_either_kind_inherits_from_the_other() -> None:
    @dataclasses.dataclass(frozen=True)
    class Theirs(plain(ours)):  # type: ignore[misc]
        """Standard over ours."""

        z: int = 9

    @ours(frozen=True)
    class Mine(plain(STANDARD)):  # type: ignore[misc]
        """Ours over standard."""

        z: int = 9

    assert (Theirs(1).z, Theirs(1).e, Mine(1).z, Mine(1).e) == (9, 2, 9, 2)


def test_missing_and_unknown_arguments_are_refused_by_name() -> None:
    cls = mutable(ours)
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument: 'a'"):
        cls()
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        cls(a=1, x=2)


def test_a_mutable_default_and_a_mixed_base_are_refused() -> None:
    with pytest.raises(ValueError, match="mutable default"):

        @ours
        class Shared:
            """A class whose objects would share a list."""

            a: list[int] = []

    with pytest.raises(TypeError, match="both be frozen, or neither"):

        @ours
        class Mixed(plain(ours)):  # type: ignore[misc]
            """A mutable class over a frozen one."""

            z: int = 9
