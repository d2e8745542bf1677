"""What a chip can do, as data: filled from a target folder's ``target.toml``, read by the mapping passes.

Passes never import a target; `resolve` finds the one that a module's ``target`` attribute names.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.plugins import plugins

Demand = Mapping[str, int]
Box = tuple[Span, ...]


class Demands(Protocol):
    """How much of each resource of a core the parts of a network take; a target provides it."""

    def populations(self, module: Module) -> Sequence[Op]:
        """Ops whose neurons must be placed on cores, in program order."""
        ...

    def projections(self, module: Module, population: Op) -> Sequence[Op]:
        """Ops that bring synapses onto a population (the population itself for those of its own reset)."""
        ...

    def source_of(self, module: Module, via: Op) -> Op:
        """The population or input whose spikes such an op carries."""
        ...

    def sources(self, module: Module, via: Op, box: Box) -> NDArray[np.bool_]:
        """Which source neurons have synapses onto a box of the target: flat bool array."""
        ...

    def incoming(
        self, module: Module, population: Op, box: Box, slot_base: int = 0, structure: bool = False
    ) -> Demand:
        """Resources of a box, from slot `slot_base` on, for its neurons and the synapses onto them.

        With `structure`, weights that are zero count as synapses (for telling how much is too much).
        """
        ...

    def least(self, module: Module, population: Op, box: Box) -> Demand:
        """Resources that a box takes at least, from whatever slot on: what bounds on the number of cores add up."""
        ...

    def outgoing(
        self, module: Module, population: Op, targets: Sequence[tuple[str, Box]]
    ) -> Mapping[str, NDArray[np.int64]]:
        """Resources that each neuron takes to send to the boxes (population name, box): arrays of its shape."""
        ...

    def shared(self, module: Module, population: Op) -> tuple[tuple[str, int], ...]:
        """Registers that all parts of one core must agree on, by name."""
        ...


@dataclass(frozen=True)
class Target:
    """A chip.

    Parameters
    ----------
    name : str
        Name on the command line.
    description : str
        One line.
    limits : mapping of str to int
        Capacity of one core by resource name.
    tiles : (int, int)
        Mesh of tiles (x, y) of one chip.
    cores_per_tile, chips : int
        Cores of a tile; chips that may be used.
    costs : mapping of str to mapping
        Event costs (energy in joule, time in second) by event name.
    data : mapping
        The whole of ``target.toml``.
    sources : mapping of str to str
        Where each limit comes from.
    combined_by_max : frozenset of str
        Resources of which a core takes the largest of its parts' demands, not their sum.
    demands : Demands
        The demand functions.
    positions : tuple of (int, int)
        Tile (x, y) of each core of a chip that may be used, where they do not fill the mesh.
    """

    name: str
    description: str
    limits: Mapping[str, int]
    tiles: tuple[int, int]
    cores_per_tile: int
    chips: int
    costs: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Any] = field(repr=False)
    sources: Mapping[str, str] = field(repr=False)
    combined_by_max: frozenset[str]
    demands: Demands = field(repr=False)
    positions: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def cores(self) -> int:
        """Cores of all chips."""
        if self.positions:
            return len(self.positions) * self.chips
        return self.tiles[0] * self.tiles[1] * self.cores_per_tile * self.chips


def lowered(
    chip: str,
    entries: Mapping[str, Any],
    limits: Mapping[str, int],
    changes: Mapping[str, Any],
    table: str = "limits",
) -> dict[str, int]:
    """Limits that a chip file makes smaller.

    Parameters
    ----------
    chip : str
        For messages.
    entries : mapping
        The same table of ``target.toml``; an entry that says ``fixed = true`` belongs to the image format.
    limits : mapping of str to int
        What each may be at most.
    changes : mapping
        The chip file.
    table : str
        Which of its tables.

    Raises
    ------
    NmcError
        E0722 for a limit that there is not, one that is fixed, or a value that is not a lower positive integer.
    """
    given = changes.get(table, {})
    if not isinstance(given, dict):
        raise fail("E0722", f"{table} must be a table, like [{table}.{next(iter(limits))}] value = 1")
    found: dict[str, int] = {}
    for name, entry in given.items():
        number = entry.get("value") if isinstance(entry, dict) else entry
        if name not in limits:
            raise fail("E0722", f"{chip} has no limit {name!r}; it has {', '.join(limits)}")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= limits[name]:
            raise fail("E0722", f"limit {name} must be 1..{limits[name]}, not {number!r}")
        if number != limits[name] and entries.get(name, {}).get("fixed"):
            hint = "leave it away; it is what fields of the image have room for, no capacity of a core"
            raise fail("E0722", f"limit {name} of {chip} is fixed at {limits[name]}", hint=hint)
        found[name] = number
    return found


def check_entries(chip: str, changes: Mapping[str, Any], *known: str) -> None:
    """Refuse entries of a chip file that would change nothing.

    Raises
    ------
    NmcError
        E0722 with those that there are.
    """
    every = ("base", "description", *known)
    for name in changes:
        if name not in every:
            raise fail(
                "E0722", f"a chip file for {chip} has no entry {name!r}; it may have {', '.join(every)}"
            )


def resolve(name: str) -> Target:
    """Load a target by name, or a user's own chip from a TOML file with a ``base``.

    Raises
    ------
    NmcError
        E0721 when there is no such target, E0722 for a TOML file that is not one.
    """
    if name.endswith(".toml"):
        data = read_toml(Path(name))
        base = data.get("base")
        if not isinstance(base, str) or not base.isidentifier():
            raise fail("E0722", 'a chip of your own needs a line like base = "loihi"', where=name)
        return _load(base, data, name)
    if not name.isidentifier():
        raise fail("E0721", f"there is no target {name!r}", hint="nmc targets lists them")
    return _load(name, {}, name)


def package_of(name: str) -> str:
    """The Python package of a target: a plug-in's (entry-point group ``nmc.targets``) or one of nmc's own."""
    found = [entry.value for entry in plugins("nmc.targets", name)]
    return found[0] if found else f"nmc.targets.{name}"


def _load(base: str, changes: Mapping[str, Any], where: str) -> Target:
    module = f"{package_of(base)}.target"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            raise fail(
                "E0721", f"there is no target {base!r}", where=where, hint="nmc targets lists them"
            ) from None
        raise
    target: Target = found.load(changes)
    return target


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    NmcError
        E0722 when it is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise fail("E0722", f"cannot read the file: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fail("E0722", f"not a TOML file: {error}", where=str(path)) from None
