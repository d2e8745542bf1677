"""Smooth activation functions by name, as numpy computes them and as ONNX defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf as _erf
from math import pi, sqrt
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass

Array = NDArray[Any]


@dataclass(frozen=True)
class Function:
    """A function of one real variable.

    Parameters
    ----------
    law : callable (x, alpha, beta) -> array
        What it computes, in the dtype of x; `alpha` and `beta` are its parameters.
    goes_on : bool
        Whether it becomes a rising straight line far to the right.
    """

    law: Callable[[Array, float, float], Array]
    goes_on: bool = False


def evaluate(name: str, data: Array, alpha: float, beta: float) -> Array:
    """Apply a function of the table; overflow gives infinity, as in floating point.

    Returns
    -------
    ndarray
        Of the shape and dtype of `data`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(FUNCTIONS[name].law(data, alpha, beta)).astype(data.dtype, copy=False)


def _sigmoid(data: Array) -> Array:
    small = np.exp(-np.abs(data))
    return np.where(data >= 0, 1 / (1 + small), small / (1 + small))


def erf(data: Array) -> Array:
    """The error function, element by element."""
    return np.asarray(np.frompyfunc(_erf, 1, 1)(data)).astype(data.dtype)


def _softplus(data: Array) -> Array:
    return np.asarray(np.maximum(data, 0) + np.log1p(np.exp(-np.abs(data))))


def _elu(data: Array, alpha: float) -> Array:
    return np.where(data > 0, data, alpha * np.expm1(np.minimum(data, 0)))


def _gelu_tanh(data: Array) -> Array:
    inner = sqrt(2 / pi) * (data + 0.044715 * data**3)
    return np.asarray(0.5 * data * (1 + np.tanh(inner)))


#: Each by the name that ``ann.activation`` prints; the laws are those of the ONNX operators of that name.
FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "celu": Function(
            lambda x, alpha, beta: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha),
            goes_on=True,
        ),
        "elu": Function(lambda x, alpha, beta: _elu(x, alpha), goes_on=True),
        "erf": Function(lambda x, alpha, beta: erf(x)),
        "exp": Function(lambda x, alpha, beta: np.exp(x)),
        "gelu": Function(lambda x, alpha, beta: 0.5 * x * (1 + erf(x / sqrt(2))), goes_on=True),
        "gelu_tanh": Function(lambda x, alpha, beta: _gelu_tanh(x), goes_on=True),
        "hard_swish": Function(lambda x, alpha, beta: x * np.clip(x / 6 + 0.5, 0, 1), goes_on=True),
        "mish": Function(lambda x, alpha, beta: x * np.tanh(_softplus(x)), goes_on=True),
        "selu": Function(lambda x, alpha, beta: beta * _elu(x, alpha), goes_on=True),
        "sigmoid": Function(lambda x, alpha, beta: _sigmoid(x)),
        "silu": Function(lambda x, alpha, beta: x * _sigmoid(alpha * x), goes_on=True),
        "softplus": Function(lambda x, alpha, beta: _softplus(x), goes_on=True),
        "softsign": Function(lambda x, alpha, beta: x / (1 + np.abs(x))),
        "sqrt": Function(lambda x, alpha, beta: np.sqrt(x)),
        "tanh": Function(lambda x, alpha, beta: np.tanh(x)),
    }
)
