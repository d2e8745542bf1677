"""Names of the program text for tensors of a model."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

import numpy as np

from nmc.frontends.onnx.fold import Array, as_float32
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass

_OUTSIDE = re.compile(r"[^A-Za-z0-9_./$-]")
_LONGEST = 200


def sanitise(name: str) -> str:
    """Make a name that the text form can hold: other characters become underscores."""
    clean = _OUTSIDE.sub("_", name)[:_LONGEST]
    return clean if clean and (clean[0].isalnum() or clean[0] == "_") else f"_{clean}"


@dataclass
class Names:
    """Gives each thing a sanitised name of its own."""

    _taken: set[str] = field(default_factory=set)
    _tries: dict[str, int] = field(default_factory=dict)

    def fresh(self, wanted: str) -> str:
        """Give `wanted`, or ``wanted.2``, ``wanted.3``, ... when it is taken."""
        clean = sanitise(wanted)
        name = clean
        while name in self._taken:
            self._tries[clean] = self._tries.get(clean, 1) + 1
            name = f"{clean}.{self._tries[clean]}"
        self._taken.add(name)
        return name


@dataclass
class Consts:
    """The constants of a module; equal arrays asked for under one name become one constant."""

    _names: Names = field(default_factory=Names)
    _made: dict[str, list[Const]] = field(default_factory=dict)

    def fresh(self, wanted: str) -> str:
        """Give a name that no constant has, for one that the caller makes."""
        return self._names.fresh(wanted)

    def get(self, wanted: str, array: Array, dtype: Any = np.float32) -> Const:
        """Give the constant of this name and content, of the type `dtype`."""
        data = as_float32(array) if dtype is np.float32 else np.asarray(array, dtype)
        same_name = self._made.setdefault(wanted, [])
        if same_name:
            candidate = Const(wanted, data)
            for const in same_name:
                if const.type == candidate.type and const.digest == candidate.digest:
                    return const
        same_name.append(Const(self._names.fresh(wanted), data))
        return same_name[-1]
