"""The smallest shape that holds a mapped network, around the fields that the user has fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import Diagnostic, DoesNotFit
from nmc.ir.module import Module
from nmc.targets.fpga import dialect
from nmc.targets.fpga.image import MAX_BITS, memory_bits
from nmc.targets.fpga.layout import Layout, inputs_of, uniform
from nmc.targets.fpga.ops import FOREVER
from nmc.targets.fpga.shape import WEIGHTS, Shape

Array = NDArray[Any]
#: Weight types from the narrowest on.
_TYPES = ("ternary", "int2", "int4", "int8")
_LEAKS = {"none": 0, "shift": 1, "multiply": 2}


def power(value: int, least: int = 2) -> int:
    """The least power of two that is at least `value` and `least`."""
    return max(least, 1 << max(0, value - 1).bit_length())


def fit_shape(module: Module, layout: Layout, given: Mapping[str, Any], lanes: int) -> Shape:
    """Choose the shape.

    Parameters
    ----------
    module : Module
        Mapped.
    layout : Layout
    given : mapping of str to value
        Fields that are fixed.
    lanes : int

    Raises
    ------
    NmcError
        E0946 (`DoesNotFit`) for every field that is too small.
    """
    need = _need(module, layout, lanes)
    wrong = [text for name, value in given.items() if (text := _lacks(name, value, need))]
    if need["targets"] > 1 << 18:
        wrong.append(f"{need['targets']:,} destinations of spikes, the table has {1 << 18:,}")
    _, slots, _ = layout.routes()
    most = _fanout(layout)
    if most > 4095:
        wrong.append(f"a neuron has {most:,} destinations, a pointer counts to 4,095")
    if wrong:
        hint = "leave fields of the shape away, or take smaller layers or more lanes"
        raise DoesNotFit(Diagnostic("E0946", text, where="shape", hint=hint) for text in wrong)
    shape = Shape(**{**need, "queue": min(need["queue"], 1 << 16), **given})
    if memory_bits(shape) > MAX_BITS:
        text = f"the network takes {memory_bits(shape):,} bits of memory, engines hold {MAX_BITS:,}"
        raise DoesNotFit(Diagnostic("E0946", text, where="shape", hint="fewer weight bits or smaller layers"))
    return shape


def _lacks(name: str, value: Any, need: Mapping[str, Any]) -> str:
    """What a fixed field is too small for; empty where it is not."""
    wanted = need.get(name)
    if wanted is None or name in ("queue", "lanes", "fifo"):
        return ""  # too short a queue is told by the core itself, in its sticky errors
    if name == "weights":
        short = WEIGHTS[value][1] > WEIGHTS[wanted][1] or WEIGHTS[value][2] < WEIGHTS[wanted][2]
    elif name == "leak":
        short = _LEAKS[value] != _LEAKS[wanted] and wanted != "none"
    elif name == "weight_rows" and value == 0:
        return ""
    else:
        short = bool(value < wanted)
    return f"{name} = {value}, the network needs {wanted}" if short else ""


def _fanout(layout: Layout) -> int:
    core, slot, _ = layout.routes()
    if not len(core):
        return 0
    return int(np.unique(core << 20 | slot, return_counts=True)[1].max())


def _need(module: Module, layout: Layout, lanes: int) -> dict[str, Any]:
    """Every field as the network needs it."""
    populations = module.of_type(dialect.Neuron)
    cores = layout.cores
    _, _, links = layout.routes()
    first = populations[0]
    delays = int(links.delay.max(initial=1))
    graded = any(op.result.type.kind == "graded" for op in inputs_of(module))
    walks = [geometry for core in cores for geometry in core.geometries if geometry[1]]
    rows = max(1, *(core.rows for core in cores)) if len(cores) > 1 else max(1, cores[0].rows)
    return {
        "cores": len(cores), "lanes": lanes, "neurons": max(core.groups for core in cores) * lanes,
        "axons": max(1, max(core.count for core in cores)), "weight_rows": rows, "weights": _weights(layout),
        "vb": first.vb, "counter": max(1, max(op.limit for op in populations).bit_length()),
        "classes": power(1 + max(len(core.parts) for core in cores)),
        "geometries": power(max(len(core.geometries) for core in cores)),
        "bias_bits": _bits([op.bias.array() for op in populations], signed=True),
        "theta_bits": _bits([op.theta.array() for op in populations], signed=False),
        "payload_bits": 8 if graded else 2, "leak": first.leak,
        "sparse": any(bool(core.column("sparse").any()) for core in cores),
        "conv": bool(walks) or any(int(core.column("ny").max(initial=0)) > 1 for core in cores),
        "stbif": any(op.signed for op in populations), "cuba": first.cuba, "late": any(op.late for op in populations),
        "windows": any((op.open, op.close) != (0, FOREVER) for op in populations), "delays": power(delays, 1),
        "queue": power(len(links.core), 4), "targets": max(2, len(links.core)),
    }  # fmt: skip


def _weights(layout: Layout) -> str:
    """The narrowest type that holds all weights."""
    rows = [item for core in layout.cores for item in core.weights if item.size]
    low, high = (
        min((int(item.min()) for item in rows), default=0),
        max((int(item.max()) for item in rows), default=0),
    )
    return next(name for name in _TYPES if WEIGHTS[name][1] <= low and high <= WEIGHTS[name][2])


def _bits(values: list[Array], *, signed: bool) -> int:
    """Bits of each neuron's own parameter; 0 where populations are uniform and classes hold it."""
    if all(map(uniform, values)):
        return 0
    most = max(int(np.abs(item).max()) for item in values)
    return most.bit_length() + 1 if signed else max(1, most.bit_length())
