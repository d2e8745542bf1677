"""LUTs of a shape, by a model that is linear in its parts.

`parts` says how much of each part a shape has; ``area.toml`` how many LUTs one of it takes. ``benchmarks/fpga_area.py``
fits the latter to what Yosys makes of a set of shapes, tests it on others, and writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nmc.targets.fpga import cells
from nmc.targets.fpga.bram import TABLES, total_lutram
from nmc.targets.fpga.shape import Shape, bits_for


@cache
def coefficients() -> Mapping[str, Mapping[str, Any]]:
    """``area.toml``: LUTs of a part, by family."""
    import tomllib

    return tomllib.loads(Path(__file__).with_name("area.toml").read_text(encoding="utf-8"))


def parts(shape: Shape, family: str = "ecp5") -> dict[str, float]:
    """How much of each part a shape has; those of an iCE40 are in `nmc.targets.fpga.cells`."""
    return cells.parts(shape) if family == "ice40" else _parts(shape)


def _parts(shape: Shape) -> dict[str, float]:
    """Of an ECP5.

    ``chip``: machine, router and shell. ``cores``, ``lanes``, ``bits`` (of membranes): logic of all of them. ``words``:
    of rows, which are read back through a multiplexer. ``counters``, ``currents``, ``probes``, ``shifts``, ``own``,
    ``late``, ``windows``: bits of these features. ``walks``: bits of what conv and sparse rows count. ``payloads``:
    bits of products without a multiplier. ``registers``: bits of tables of two rows. ``wheel``: bits of its fill
    levels. ``memory``: RAMs of 16x4 bits.
    """
    cores, lanes = shape.cores, shape.cores * shape.lanes
    group, row = bits_for(shape.groups), bits_for(shape.weight_rows)
    tables = [shape.memories[name] for name in TABLES]
    small = sum(item.rows * item.width for item in tables if item.rows <= 2)
    core_words = sum(item.words for name, item in shape.memories.items() if not item.shared)
    return {
        "chip": 1, "cores": cores, "lanes": lanes, "bits": lanes * shape.vb, "words": cores * core_words,
        "counters": lanes * shape.vb * shape.stbif, "currents": lanes * shape.vb * shape.cuba,
        "probes": lanes * shape.vb * shape.probes, "shifts": lanes * shape.vb * (shape.leak == "shift"),
        "own": lanes * (shape.bias_bits + shape.theta_bits),
        "walks": cores * ((group + row) * shape.conv + group * shape.sparse),
        "payloads": lanes * shape.weight_bits * (shape.payload_bits == 2),
        "late": lanes * shape.vb * shape.late, "windows": cores * shape.windows, "registers": cores * small,
        "wheel": (shape.delays > 1) * shape.delays * bits_for(shape.queue),
        "memory": total_lutram(shape),
    }  # fmt: skip


def luts(shape: Shape, family: str = "ecp5") -> int:
    """LUTs after packing (TRELLIS_COMB) of a shape with the word interface; on an iCE40 logic cells, with the UART."""
    each = coefficients()[family]
    return int(round(sum(each.get(name, 0.0) * amount for name, amount in parts(shape, family).items())))
