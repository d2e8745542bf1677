"""A small shape, and programs for it that are little but weights."""

from __future__ import annotations

import numpy as np

from nmc.targets.fpga import words
from nmc.targets.fpga.image import Image
from nmc.targets.fpga.shape import Shape

SMALL = Shape(
    lanes=2, neurons=64, axons=64, vb=14, classes=2, geometries=2, queue=256, targets=256, probes=False,
    sparse=False, conv=False, stbif=False, late=False, windows=False, counter=1,
)  # fmt: skip


def program(shape: Shape, seed: int) -> Image:
    """A program that only writes weights, and a register after them."""
    rng, writer = np.random.default_rng(seed), words.Writer(shape)
    for core in range(shape.cores):
        writer.memory("weights", {"w": rng.integers(-128, 128, (shape.weight_rows, shape.lanes))}, core=core)
        writer.register(words.Register.GROUPS, shape.groups)
        writer.memory("weights", {"w": rng.integers(-128, 128, (3, shape.lanes))}, core=core, row=5)
    return Image(shape, writer.file(), (), (), (), 1, 0)
