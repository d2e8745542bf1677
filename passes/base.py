"""What a pass is: a frozen dataclass whose fields are its options and whose `run` rewrites a module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, ClassVar

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import LEVELS


class Skip(Exception):
    """Raised by a rewrite rule that does not apply; ``--explain`` prints the message, which is the reason."""


class InternalError(NmcError):
    """A pass failed in a way that is nmc's fault (or the plug-in's): exit code 3.

    Parameters
    ----------
    message : str
        Which pass failed, and how.
    path : Path or None
        The reproducer that was written.
    """

    exit_code = 3

    def __init__(self, message: str, path: Path | None = None) -> None:
        self.path = path
        hint = f"please report it with {path}; its first line is the command that repeats it" if path else ""
        super().__init__(Diagnostic("E0299", message, hint=hint))


@dataclass(frozen=True)
class Pass:
    """Base class of all passes: ``@dataclass(frozen=True) class Prune(Pass, name="prune", takes="snn")``.

    Fields of the subclass are the options on the command line (one with metadata ``{"hidden": True}`` is set
    by programs only), ``str(pass)`` is its pipeline text and its docstring its help.

    Attributes
    ----------
    name : str
        Name in pipeline texts.
    takes : tuple of str
        Levels it accepts; "any" stands for all.
    gives : str or None
        Level of its result, None for the level it was given.
    optional : bool
        Whether the result compiles without it: ``--bisect-limit`` skips only such passes.
    exact : bool
        Whether the results of the network stay the same; ``--check-each`` holds it to that.
    tolerance : float
        How far results of an exact pass may move, relative to the largest one, because floating-point sums
        are rounded in another order; 0 demands equal bits.
    """

    name: ClassVar[str] = ""
    takes: ClassVar[tuple[str, ...]] = LEVELS
    gives: ClassVar[str | None] = None
    optional: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    tolerance: ClassVar[float] = 0.0

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        takes: str | tuple[str, ...] = "",
        gives: str | None = None,
        optional: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        wanted = (takes,) if isinstance(takes, str) else tuple(takes)
        unknown = {*wanted, gives or ""} - {*LEVELS, "any", ""}
        if unknown:
            raise TypeError(f"pass {name}: {', '.join(sorted(unknown))} is none of {', '.join(LEVELS)}, any")
        cls.name = name or cls.name
        if takes:
            cls.takes = LEVELS if "any" in wanted else wanted
        cls.gives = gives or cls.gives
        cls.optional = cls.optional if optional is None else optional

    def run(self, module: Module) -> Module:
        """Rewrite a module; the module given is not changed.

        Raises
        ------
        NmcError
            For everything that is the user's to mend.
        """
        raise TypeError(f"{type(self).__name__} has no run()")

    def __str__(self) -> str:
        return print_pass(self)


def option_fields(cls: type[Pass]) -> tuple[Field[Any], ...]:
    """The fields of a pass class that the command line sets, in declaration order."""
    return tuple(entry for entry in fields(cls) if not entry.metadata.get("hidden") and entry.init)


def default_of(entry: Field[Any]) -> Any:
    """Default of an option, `dataclasses.MISSING` when it must be given."""
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def print_pass(item: Pass) -> str:
    """Give a pass as pipeline text, ``prune{below=0.02}``: options that differ from their default only."""
    from nmc.ir.text.printer import print_attrs

    shown = list(_changed_options(item))
    return item.name + (print_attrs(shown) if shown else "")


def _changed_options(item: Pass) -> Iterator[tuple[str, Any]]:
    for entry in option_fields(type(item)):
        given = getattr(item, entry.name)
        default = default_of(entry)
        if default is MISSING or given != default:
            yield entry.name, given
