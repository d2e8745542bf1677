"""Ops that exist only during the import: `fuse` makes others of them, or the network is refused."""

from __future__ import annotations

from typing import Literal

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Value, require
from nmc.ir.types import Type


@dataclass(frozen=True, kw_only=True)
class Rounding(Op, name="ann.rounding"):
    """Rounding of each element."""

    data: Value
    mode: Literal["ceil", "floor", "round"]

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type


@dataclass(frozen=True, kw_only=True)
class Product(Op, name="ann.product"):
    """Product of two activations, element by element."""

    left: Value
    right: Value

    def infer(self) -> Type:
        """Type of the operands."""
        require(
            self.left.shape == self.right.shape, f"operands differ: {self.left.shape}, {self.right.shape}"
        )
        return self.left.type
