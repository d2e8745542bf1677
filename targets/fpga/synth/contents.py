"""What memories hold at first: weights of a program, random ones, files for ``$readmemh``, and what is left to load."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.targets.fpga.image import Image
from nmc.targets.fpga.shape import Memory, Shape
from nmc.targets.fpga.words import Op, Words, decode, seal

Bits = NDArray[np.uint8]
#: Rows of a file are a multiple of this (rtl/nmc_ram.sv).
STEP = 64


def rows_of(memory: Memory) -> int:
    """Rows of a memory with first contents."""
    return -(-memory.rows // STEP) * STEP


def of_program(image: Image) -> list[Bits]:
    """The weights that a program writes, of each core: (rows, bits of a row), zeros where it writes none."""
    memory = image.shape.memories["weights"]
    found = [np.zeros((rows_of(memory), memory.width), np.uint8) for _ in range(image.shape.cores)]
    core, row, weights = 0, 0, False
    for item in decode(image.body()):
        if item.op == Op.SEL:
            core = item.value
        elif item.op == Op.MEM_ADDR:
            weights, row = item.high == memory.space, item.low
        elif item.op == Op.MEM_DATA and weights:
            rows = _unpacked(item.data.reshape(-1, memory.words), memory.width)
            found[core][row : row + len(rows)] = rows
            row += len(rows)
    return found


def _unpacked(rows: Words, width: int) -> Bits:
    octets = np.ascontiguousarray(rows, "<u4").view(np.uint8).reshape(len(rows), -1)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, :width]


def at_random(shape: Shape) -> list[Bits]:
    """Contents by which each column of each block RAM can be told from all others; always the same ones."""
    memory = shape.memories["weights"]
    rng = np.random.default_rng(shape.hash)
    size = (rows_of(memory), memory.width)
    return [rng.integers(0, 2, size, np.uint8) for _ in range(shape.cores)]


def hex_text(bits: Bits) -> str:
    """A file for ``$readmemh``."""
    digits = -(-bits.shape[1] // 4)
    padded = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))
    rows = np.packbits(padded, axis=1, bitorder="little")[:, ::-1]
    return "".join(f"{row.tobytes().hex()[-digits:]}\n" for row in rows)


def without_weights(image: Image) -> bytes:
    """The word stream without what the bitstream holds already."""
    body, space = image.body(), image.shape.memories["weights"].space
    keep, weights = np.ones(len(body), bool), False
    for item in decode(body):
        if item.op == Op.MEM_ADDR:
            weights = item.high == space
        if weights and item.op in (Op.MEM_ADDR, Op.MEM_DATA):
            keep[item.at : item.at + 1 + (len(item.data) if item.op == Op.MEM_DATA else 0)] = False
    return seal(image.shape, body[keep])
