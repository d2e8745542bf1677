"""Fold batch normalisation into the layer before it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Array, Op
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class FoldBatchNorm(Pass, name="fold-batchnorm", takes="ann"):
    """Fold batch normalisation into the convolution or dense layer before it; the rest becomes ann.affine.

    With scale s and offset o of a channel, ``s * (w x + b) + o`` is ``(s w) x + (s b + o)``; computed in
    float64 and rounded once to float32. Groups share nothing across output channels, so they need no care.

    Before::

        %c = ann.conv(%x, @w) {stride=[1], pad=[0, 0], dilation=[1]} : f32<2x3>
        %y = ann.batchnorm(%c, @scale, @bias, @mean, @var) : f32<2x3>

    After::

        %y = ann.conv(%x, @w, @c.b) {stride=[1], pad=[0, 0], dilation=[1]} : f32<2x3>
    """

    tolerance: ClassVar[float] = 1e-4

    def run(self, module: Module) -> Module:
        """Apply both rules everywhere."""
        return rewrite(module, self.name, fold_batchnorm, batchnorm_to_affine)


def fold_batchnorm(norm: ann.BatchNorm, match: Match) -> ann.Conv | ann.Dense:
    """Scale the rows of the weights by the normalisation that follows them."""
    layer = match.made_by(norm.data, ann.Conv, ann.Dense)
    match.single_user(layer)
    return scale_outputs(layer, *factors(norm, match), match)


def batchnorm_to_affine(norm: ann.BatchNorm, match: Match) -> ann.Affine:
    """Keep a normalisation that no layer takes as scale and offset."""
    scale, offset = factors(norm, match)
    shape = (-1, *[1] * (len(norm.data.shape) - 1))
    return ann.Affine(
        out=norm.out,
        data=norm.data,
        scale=Const(norm.scale.name, scale.reshape(shape).astype(np.float32)),
        offset=Const(norm.bias.name, offset.reshape(shape).astype(np.float32)),
    )


def factors(norm: ann.BatchNorm, match: Match) -> tuple[Array, Array]:
    """Give (scale, offset) of each channel, float64; the rule does not apply where they are not finite."""
    for const in norm.consts:
        match.data(const)
    lowest = float(norm.var.array().min(initial=np.inf)) + norm.eps
    match.require(lowest > 0, f"the smallest variance plus eps is {lowest:g}")
    scale, offset = norm.factors()
    match.require(np.isfinite(scale).all() and np.isfinite(offset).all(), "its statistics are not finite")
    return scale, offset


def scale_outputs(
    layer: ann.Conv | ann.Dense, scale: Array, offset: Array, match: Match
) -> ann.Conv | ann.Dense:
    """Give the layer that computes ``scale * layer + offset``.

    Parameters
    ----------
    layer : ann.Conv or ann.Dense
        With weights (C, ...).
    scale, offset : (C,) float64 array
        One element an output channel.
    match : Match
        Where missing data are noted.
    """
    weight = match.data(layer.weight).astype(np.float64)
    weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    shift = offset if layer.bias is None else match.data(layer.bias) * scale + offset
    return with_parameters(layer, weight, shift, match)


def with_parameters(
    layer: ann.Conv | ann.Dense, weight: Array, bias: Array, match: Match
) -> ann.Conv | ann.Dense:
    """Copy of a layer with other weights and bias (float64), rounded to float32."""
    narrow, shift = narrowed((weight, bias), layer, match)
    if layer.bias is None and not shift.any():
        return replace(layer, weight=Const(layer.weight.name, narrow))
    name = layer.bias.name if layer.bias is not None else f"{layer.out}.b"
    return replace(layer, weight=Const(layer.weight.name, narrow), bias=Const(name, shift))


def narrowed(arrays: tuple[Array, Array], op: Op, match: Match) -> tuple[Array, Array]:
    """Round two arrays to float32; the rule does not apply where that is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        first, second = (array.astype(np.float32) for array in arrays)
    finite = np.isfinite(first).all() and np.isfinite(second).all()
    match.require(finite, f"the parameters of %{op.out} would leave the range of float32")
    return first, second
