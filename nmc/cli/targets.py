"""Which chips there are."""

from __future__ import annotations

from importlib.util import find_spec
from pkgutil import iter_modules

from nmc.ir.plugins import plugins

GROUP = "nmc.targets"


def target_names() -> tuple[str, ...]:
    """Names of the built-in targets (packages with a ``target.py``) and of plug-ins, without loading them."""
    spec = find_spec("nmc.targets")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    packages = sorted(info.name for info in iter_modules(folders) if info.ispkg)
    built_in = [name for name in packages if find_spec(f"nmc.targets.{name}.target")]
    return tuple(dict.fromkeys([*built_in, *sorted(point.name for point in plugins(GROUP))]))
