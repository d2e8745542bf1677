"""nmc, the neuromorphic compiler: trained networks in, checkable images for neuromorphic chips out.

The public API is loaded when it is first used: `load`, `compile`, `opt`, `Module`, `Program`, `CompileOptions`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nmc.driver import CompileOptions, compile, load, opt
    from nmc.ir.module import Module
    from nmc.program import Program

_PUBLIC = {
    "CompileOptions": "nmc.driver",
    "Module": "nmc.ir.module",
    "Program": "nmc.program",
    "compile": "nmc.driver",
    "load": "nmc.driver",
    "opt": "nmc.driver",
}
__all__ = ["CompileOptions", "Module", "Program", "compile", "load", "opt"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'nmc' has no attribute {name!r}")
