"""``--load-pass FILE``: passes from a Python file that is not installed."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from nmc.ir.diagnostics import NmcError, fail
from nmc.passes.base import Pass


def load_pass_file(path: str | Path) -> Mapping[str, type[Pass]]:
    """Run a Python file and give the passes that it defines.

    Parameters
    ----------
    path : str or Path
        A Python file; it runs with all rights, like any program.

    Returns
    -------
    mapping of str to class
        Passes by name; hand it to `nmc.passes.registry.Registry.adding`.

    Raises
    ------
    NmcError
        E0208 when the file cannot be read, fails, or defines no pass or two of one name.
    """
    path = Path(path)
    table: dict[str, type[Pass]] = {}
    for cls in _defined(_module(path)):
        if table.setdefault(cls.name, cls) is not cls:
            raise fail("E0208", f"two passes are named {cls.name}", where=str(path))
    if not table:
        hint = "a pass is a class derived from nmc.passes.base.Pass with a name"
        raise fail("E0208", "the file defines no pass", where=str(path), hint=hint)
    return table


def _defined(module: ModuleType) -> Iterator[type[Pass]]:
    """The named pass classes that a module defines itself, not those that it imports."""
    for item in vars(module).values():
        if (
            isinstance(item, type)
            and issubclass(item, Pass)
            and item.__module__ == module.__name__
            and item.name
        ):
            yield item


def _module_name(path: Path) -> str:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    return f"nmc_pass_file_{digest}"


def _module(path: Path) -> ModuleType:
    """Import the file under a name of its own; dataclasses look their module up in `sys.modules`."""
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path, loader=_loader(name, path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (
        Exception,
        SystemExit,
    ) as error:  # the file is the user's: whatever it raises is told as its fault
        del sys.modules[name]
        raise _told(path, error) from None
    return module


def _loader(name: str, path: Path) -> importlib.machinery.SourceFileLoader:
    return importlib.machinery.SourceFileLoader(name, str(path))


def _told(path: Path, error: BaseException) -> NmcError:
    if isinstance(error, OSError) and error.filename == str(path):
        return fail("E0208", f"cannot read the file: {error.strerror}", where=str(path))
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    where = f"{path}:{line}" if line else str(path)
    return fail("E0208", f"the file does not load: {type(error).__name__}: {error}", where=where)
