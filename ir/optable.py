"""From an op's printed name to its class, without loading what is not used.

The dialect (the part before the dot) names the Python module that holds its ops. A target's ops live in
``nmc.targets.<dialect>.dialect`` or ``.ops``; other packages add dialects under the entry-point group ``nmc.ops``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from functools import cache

from nmc.ir.op import Op
from nmc.ir.plugins import plugins

_BUILT_IN = {
    "ann": "nmc.ir.ops.ann",
    "snn": "nmc.ir.ops.snn",
    "map": "nmc.ir.ops.mapped",
    "image": "nmc.ir.ops.image",
}

#: Dialects whose ops live in several modules of `nmc.ir.ops`.
_ROOMS = {
    "ann": ("ann", "ann_layers", "ann_pointwise"),
    "snn": ("snn", "neurons", "sources", "exact", "plastic", "user"),
}


def find_op(name: str) -> type[Op]:
    """Give the class of the op printed as `name`.

    Raises
    ------
    KeyError
        When there is no such dialect or op; the message suggests the nearest name.
    """
    dialect = name.split(".")[0]
    table = dialect_ops(dialect)
    if name in table:
        return table[name]
    from difflib import get_close_matches

    near = get_close_matches(name, table, 1)
    raise KeyError(f"unknown op {name}" + (f"; did you mean {near[0]}?" if near else ""))


@cache
def dialect_ops(dialect: str) -> Mapping[str, type[Op]]:
    """All ops of a dialect by printed name; empty when nobody provides it."""
    if not dialect.isidentifier():
        return {}
    if dialect in _ROOMS:
        rooms = (_ops_in(f"nmc.ir.ops.{room}", dialect) for room in _ROOMS[dialect])
        return {name: cls for ops in rooms for name, cls in ops.items()}
    target = _BUILT_IN.get(dialect) or _plugin_module(dialect) or _target_module(dialect)
    try:
        module = importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name is not None and target.startswith(error.name):
            return {}
        raise
    return _ops_of(vars(module).values(), dialect)


def _ops_in(module: str, dialect: str) -> Mapping[str, type[Op]]:
    return _ops_of(vars(importlib.import_module(module)).values(), dialect)


def _ops_of(items: Iterable[object], dialect: str) -> Mapping[str, type[Op]]:
    classes = (item for item in items if isinstance(item, type) and issubclass(item, Op))
    return {cls.name: cls for cls in classes if cls.name.startswith(f"{dialect}.")}


def dialects() -> tuple[str, ...]:
    """Names of all dialects that can be found without knowing them."""
    added = (entry.name for entry in plugins("nmc.ops"))
    return tuple(dict.fromkeys([*_BUILT_IN, *_target_dialects(), *added]))


def _target_dialects() -> list[str]:
    from importlib.util import find_spec
    from pkgutil import iter_modules

    spec = find_spec("nmc.targets")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    names = [info.name for info in iter_modules(folders) if info.ispkg]
    return sorted(name for name in names if find_spec(f"nmc.targets.{name}.ops"))


def _target_module(dialect: str) -> str:
    """Where a target has its ops: in ``dialect`` if there is such a module, else in ``ops``."""
    from importlib.util import find_spec

    package = f"nmc.targets.{dialect}"
    own = find_spec(package) is not None and find_spec(f"{package}.dialect") is not None
    return f"{package}.dialect" if own else f"{package}.ops"


def _plugin_module(dialect: str) -> str | None:
    found = [entry.value for entry in plugins("nmc.ops", dialect)]
    return found[0] if found else None
