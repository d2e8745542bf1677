"""Values between two populations as sums of linear terms and a constant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.loc import Loc
from nmc.ir.op import Array, Op, Value
from nmc.ir.ops import ann
from nmc.passes.convert.linear import MOVING, Term, without_bias

#: Ops that map their operand linearly, but for a constant.
LINEAR = (ann.Conv, ann.Dense, ann.BatchNorm, ann.Affine, ann.AvgPool, ann.SumPool, *MOVING)


@dataclass(frozen=True)
class Expr:
    """A value as a sum of linear terms and a constant, with the locations that made it.

    Parameters
    ----------
    terms : tuple of Term
        The linear parts, each from one population.
    const : (1, *shape) array
        What the value is when no population is active, float64.
    locs : tuple of Loc or None
        Where it comes from.
    """

    terms: tuple[Term, ...]
    const: Array
    locs: tuple[Loc | None, ...] = ()


def followed(term: Term, op: Op) -> Term:
    """Put the linear part of `op` behind a term."""
    data = term.chain[-1].result if term.chain else Value(term.source.spikes.name, term.source.spikes.type)
    return Term(term.source, (*term.chain, without_bias(op, data)))


def summed(parts: Sequence[Expr], loc: Loc | None) -> Expr:
    """Add expressions of one shape."""
    const = parts[0].const
    for part in parts[1:]:
        const = const + part.const
    locs = tuple(found for part in parts for found in part.locs)
    return Expr(tuple(term for part in parts for term in part.terms), const, (*locs, loc))


def concatenated(op: ann.Concat, exprs: Sequence[Expr]) -> Expr:
    """Put expressions beside each other along an axis: each gets a border of zeros, then they are added."""
    shape, offset, parts = op.result.shape, 0, []
    for value, expr in zip(op.data, exprs, strict=True):
        extent = value.shape[op.axis]
        border = [0] * (2 * len(shape))
        border[op.axis], border[len(shape) + op.axis] = offset, shape[op.axis] - offset - extent
        pad = ann.Pad(out=f"{op.out}.{offset}", data=value, pad=tuple(border), loc=op.loc)
        terms = tuple(followed(term, pad) for term in expr.terms)
        parts.append(Expr(terms, pad.run(expr.const), expr.locs))
        offset += extent
    return summed(parts, op.loc)


def relu_scale(op: ann.Relu) -> Array:
    """The threshold of each channel of a relu, (C, 1, ...) or (1, 1, ...) float64.

    Raises
    ------
    ValueError
        When it has none, or none that a population can have; the message says why.
    """
    rank = len(op.data.shape)
    if op.threshold is None:
        raise ValueError("a relu has no threshold")
    given = op.threshold.array().astype(np.float64)
    scale: Array = np.minimum(given.reshape((1,) * (rank - given.ndim) + given.shape), op.limit)
    if scale.shape not in ((1,) * rank, (op.data.shape[0], *[1] * (rank - 1))):
        raise ValueError(f"threshold of shape {given.shape}, not one a channel of {op.data.shape}")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError("a threshold is not a positive number")
    return scale
