"""From a pass's name to its class: the built-in table, the targets' tables, plug-ins and files, found lazily.

A plug-in that does not load is listed with its reason and affects nobody who does not ask for it; a name that
two provide is an error when it is used, naming both.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.plugins import plugins
from nmc.passes.base import Pass
from nmc.passes.table import ALIASES, PASSES

GROUP = "nmc.passes"


@dataclass(frozen=True)
class Entry:
    """A pass that somebody provides.

    Parameters
    ----------
    name : str
        Name in pipeline texts.
    target : str or class
        ``"module:Class"``, or the class itself.
    origin : str
        Who provides it, for diagnostics.
    """

    name: str
    target: str | type[Pass]
    origin: str

    def load(self) -> type[Pass]:
        """Import the class.

        Raises
        ------
        NmcError
            E0210 when it does not load, with the reason.
        """
        try:
            return self._checked(self._imported())
        except (Exception, SystemExit) as error:  # a plug-in may fail in any way it likes
            reason = str(error) or type(error).__name__
            if not isinstance(error, TypeError | AttributeError):
                reason = f"{type(error).__name__}: {reason}"
            raise fail(
                "E0210",
                f"pass {self.name} of {self.origin} does not load: {reason}",
                hint=f"mend or uninstall what provides {self.target}",
            ) from None

    def _imported(self) -> Any:
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def _checked(self, found: Any) -> type[Pass]:
        if not (isinstance(found, type) and issubclass(found, Pass)):
            raise TypeError(f"{self.target} is no pass class")
        if found.name != self.name:
            raise TypeError(f"{self.target} calls itself {found.name}")
        return found


@dataclass(frozen=True)
class Registry:
    """All passes that can be named, and all aliases.

    Parameters
    ----------
    entries : mapping of str to tuple of Entry
        Who provides each name; more than one is a conflict.
    aliases : mapping of str to str
        Pipeline text by name without the ``@``.
    broken : tuple of Diagnostic
        Tables that could not be read.
    """

    entries: Mapping[str, tuple[Entry, ...]]
    aliases: Mapping[str, str] = field(default_factory=dict)
    broken: tuple[Diagnostic, ...] = ()

    def find(self, name: str) -> type[Pass]:
        """Give the class of a pass.

        Raises
        ------
        NmcError
            E0201 unknown, E0209 provided twice, E0210 does not load.
        """
        found = self.entries.get(name, ())
        if not found:
            raise fail("E0201", f"unknown pass {name}", hint=did_you_mean(name, self.entries))
        if len(found) > 1:
            origins = " and ".join(entry.origin for entry in found)
            raise fail(
                "E0209", f"pass {name} is provided by {origins}", hint="uninstall or rename one of them"
            )
        return found[0].load()

    def alias(self, name: str) -> str:
        """Give the text of an alias.

        Raises
        ------
        NmcError
            E0201 when there is none of that name.
        """
        if name not in self.aliases:
            hint = did_you_mean(name, self.aliases, "@")
            raise fail("E0201", f"unknown pipeline @{name}", hint=hint)
        return self.aliases[name]

    def problems(self) -> Iterator[Diagnostic]:
        """Load everything and tell what is broken or provided twice; for listings."""
        yield from self.broken
        for name in self.entries:
            try:
                self.find(name)
            except NmcError as error:
                yield from error.diagnostics

    def adding(self, passes: Mapping[str, type[Pass]], origin: str) -> Registry:
        """Copy with more passes, such as those of ``--load-pass``."""
        new = [Entry(name, cls, origin) for name, cls in passes.items()]
        return Registry(_merged([*_flat(self.entries), *new]), self.aliases, self.broken)


def did_you_mean(name: str, known: Iterable[str], mark: str = "") -> str:
    """Make the hint for an unknown name: the nearest one, else all of them."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(name, names, 1)
    if near:
        return f"did you mean {mark}{near[0]}?"
    return f"there is {', '.join(mark + item for item in names)}" if names else "there is none"


def standard_registry() -> Registry:
    """Everything installed: built-in passes, those of all targets, and plug-ins."""
    entries = [Entry(name, target, "nmc") for name, target in PASSES.items()]
    aliases, broken = dict(ALIASES), []
    for target in _targets():
        try:
            if find_spec(f"nmc.targets.{target}.pipeline") is None:
                continue
            table = importlib.import_module(f"nmc.targets.{target}.pipeline")
            entries += [Entry(name, where, f"target {target}") for name, where in table.PASSES.items()]
            aliases[f"default:{target}"] = table.DEFAULT
            aliases |= {f"{mode}:{target}": text for mode, text in getattr(table, "MODES", {}).items()}
        except Exception as error:  # one target's mistake must not stop the others
            reason = f"{type(error).__name__}: {error}"
            broken.append(Diagnostic("E0210", f"target {target} has a broken pass table: {reason}"))
    entries += [Entry(point.name, point.value, _origin(point)) for point in plugins(GROUP)]
    return Registry(_merged(entries), aliases, tuple(broken))


def _origin(point: Any) -> str:
    return f"plug-in {point.dist.name} {point.dist.version}" if point.dist else f"plug-in {point.value}"


def _targets() -> list[str]:
    """Names of the target packages, without loading them."""
    spec = find_spec("nmc.targets")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return sorted(info.name for info in iter_modules(folders) if info.ispkg)


def _flat(entries: Mapping[str, tuple[Entry, ...]]) -> Iterator[Entry]:
    for found in entries.values():
        yield from found


def _merged(entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Group by name; the same class found twice (a distribution listed twice) counts once."""
    table: dict[str, tuple[Entry, ...]] = {}
    for entry in entries:
        known = table.get(entry.name, ())
        if all(entry.target != other.target for other in known):
            table[entry.name] = (*known, entry)
    return table
