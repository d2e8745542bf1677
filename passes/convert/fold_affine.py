"""Fold scales and offsets into the layers around them."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import ClassVar

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Array
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.convert.fold_batchnorm import narrowed, scale_outputs, with_parameters
from nmc.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class FoldAffine(Pass, name="fold-affine", takes="ann"):
    """Fold ann.affine into the convolution or dense layer before or after it, and into another ann.affine.

    After a layer, scale and offset must be the same everywhere in a channel. Before a convolution they must
    be too, and an offset needs one without padding: the border is zero after the offset, not before.

    Before::

        %s = ann.affine(%x, @scale, @offset) : f32<4>
        %y = ann.dense(%s, @w, @b) : f32<2>

    After::

        %y = ann.dense(%x, @w, @b) : f32<2>
    """

    tolerance: ClassVar[float] = 1e-4

    def run(self, module: Module) -> Module:
        """Apply all rules everywhere."""
        return rewrite(module, self.name, fold_into_producer, merge_affines, fold_into_dense, fold_into_conv)


def fold_into_producer(affine: ann.Affine, match: Match) -> ann.Conv | ann.Dense:
    """Scale the rows of the weights by the affine op that follows them."""
    layer = match.made_by(affine.data, ann.Conv, ann.Dense)
    match.single_user(layer)
    return scale_outputs(layer, *per_channel(affine, match), match)


def merge_affines(second: ann.Affine, match: Match) -> ann.Affine:
    """Make one affine op of two that follow each other."""
    first = match.made_by(second.data, ann.Affine)
    match.single_user(first)
    s1, o1, s2, o2 = (match.data(const).astype(np.float64) for const in (*first.consts, *second.consts))
    scale, offset = narrowed((s1 * s2, o1 * s2 + o2), second, match)
    scale_const, offset_const = Const(second.scale.name, scale), Const(second.offset.name, offset)
    return replace(second, data=first.data, scale=scale_const, offset=offset_const)


def fold_into_dense(dense: ann.Dense, match: Match) -> ann.Dense | ann.Conv:
    """Scale the columns of the weights by the affine op before them."""
    affine = match.made_by(dense.data, ann.Affine)
    match.single_user(affine)
    scale, offset = (np.broadcast_to(part, affine.data.shape) for part in _parts(affine, match))
    weight = match.data(dense.weight).astype(np.float64)
    bias = weight @ offset + (0 if dense.bias is None else match.data(dense.bias))
    return with_parameters(replace(dense, data=affine.data), weight * scale, bias, match)


def fold_into_conv(conv: ann.Conv, match: Match) -> ann.Conv | ann.Dense:
    """Scale the input channels of the kernel by the affine op before it."""
    affine = match.made_by(conv.data, ann.Affine)
    match.single_user(affine)
    scale, offset = per_channel(affine, match)
    match.require(
        not any(conv.pad) or not offset.any(),
        f"%{affine.out} has an offset, and the convolution pads with zeros behind it",
    )
    weight = match.data(conv.weight).astype(np.float64)
    spread = (-1, *[1] * (weight.ndim - 2))
    scales, offsets = (_for_outputs(part, conv).reshape(len(weight), *spread) for part in (scale, offset))
    shift = (weight * offsets).reshape(len(weight), -1).sum(axis=1)
    bias = shift + (0 if conv.bias is None else match.data(conv.bias))
    return with_parameters(replace(conv, data=affine.data), weight * scales, bias, match)


def per_channel(affine: ann.Affine, match: Match) -> tuple[Array, Array]:
    """Give (scale, offset) of each channel, (C,) float64; Skip where they differ inside a channel."""
    channels, rank = affine.data.shape[0], len(affine.data.shape)
    found = []
    for const, part in zip(affine.consts, _parts(affine, match), strict=True):
        full = part.reshape(*[1] * (rank - part.ndim), *part.shape)
        one = prod(full.shape[1:]) == 1
        match.require(one, f"@{const.name} of shape {const.shape} is not one number a channel")
        found.append(np.broadcast_to(full.reshape(-1), (channels,)))
    return found[0], found[1]


def _parts(affine: ann.Affine, match: Match) -> tuple[Array, Array]:
    scale, offset = (match.data(const).astype(np.float64) for const in affine.consts)
    return scale, offset


def _for_outputs(part: Array, conv: ann.Conv) -> Array:
    """Spread numbers of input channels to (C_out, C_in / groups): what the group of each output reads."""
    grouped = part.reshape(conv.groups, -1)
    return np.repeat(grouped, conv.weight.shape[0] // conv.groups, axis=0)
