"""The operators that can be imported, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from nmc.frontends.onnx.call import Call, Result
from nmc.frontends.onnx.fold import FOLDABLE
from nmc.ir.dataclass import dataclass


@dataclass(frozen=True)
class Handler:
    """How an operator is converted.

    Parameters
    ----------
    op_type : str
        The operator.
    convert : callable (Call) -> Result
        Converts one node; raises `Unsupported`.
    inputs : (int, int)
        Fewest and most inputs.
    attrs : str
        The attributes that `convert` heeds (or may ignore), separated by spaces; others are refused.
    remark : str
        What is supported, for the documentation.
    """

    op_type: str
    convert: Callable[[Call], Result]
    inputs: tuple[int, int]
    attrs: str
    remark: str


@cache
def handlers() -> Mapping[str, Handler]:
    """All handlers by operator."""
    from nmc.frontends.onnx import (
        handlers_activation,
        handlers_index,
        handlers_linear,
        handlers_pointwise,
        handlers_pool,
        handlers_quantize,
        handlers_recurrent,
        handlers_shape,
    )

    families = (
        handlers_linear, handlers_pool, handlers_pointwise, handlers_activation, handlers_quantize, handlers_shape,
        handlers_index, handlers_recurrent,
    )  # fmt: skip
    return {handler.op_type: handler for family in families for handler in family.HANDLERS}


def supported_ops() -> tuple[tuple[str, str], ...]:
    """Operators that `load_onnx` takes.

    Returns
    -------
    tuple of (op_type, remark)
        Sorted by name.
    """
    remarks = dict.fromkeys(FOLDABLE, "On constants only, folded.")
    remarks.update({name: handler.remark for name, handler in handlers().items()})
    return tuple(sorted(remarks.items()))
