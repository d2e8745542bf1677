"""Logic cells of an iCE40: what of them follows from the RTL alone, and how much of each other part a shape has.

A logic cell is a LUT of four inputs and a flip-flop; a flip-flop whose input is no LUT of its own takes a cell alone.
Most cells of a core are such ones: small tables (the family has no RAM in LUTs), what waits in the pipelines, and the
words of the readback. They are counted here register by register, as are multiplexers, with the names of ``rtl/``.
"""

from __future__ import annotations

from nmc.ir.dataclass import dataclass
from nmc.targets.fpga import bram
from nmc.targets.fpga.shape import Shape, bits_for

#: Least bits of a product that is a multiplier (bram.multipliers_of).
_MULTIPLIED = 11


@dataclass(frozen=True)
class Stored:
    """What memories take: bits in flip-flops, their multiplexers, outputs of RAMs, multiplexers of their banks."""

    bits: int
    chosen: int
    outputs: int
    banks: int


def multiplexer(inputs: int) -> int:
    """LUTs that choose one of some bits: two for each four of them."""
    total = 0
    while inputs > 1:
        fours, left = divmod(inputs, 4)
        total += 2 * fours + max(0, left - 1)
        inputs = fours + (left > 0)
    return total


def stored(shape: Shape) -> Stored:
    """Memories, tables and queues of all cores and the router."""
    from nmc.targets.fpga.devices import large_weights  # which imports this module

    bits = chosen = outputs = banks = 0
    large = large_weights(shape, "ice40")
    for name, rows, width, copies in bram.places(shape, tables=True):
        table = name in bram.TABLES
        if table or not bram.ebr_ice40(rows, width):
            bits += copies * rows * width
            chosen += copies * width * multiplexer(rows)
            outputs += 0 if table else copies * width
            continue
        ram = bram.SPRAM if large and name == "weights" else bram.EBR_ICE40
        parts = ram.best(rows, width)[2]
        banks += copies * width * multiplexer(parts)
        # the last LUT of a multiplexer and the register of the output are one cell
        outputs += copies * width if parts == 1 or ram is bram.SPRAM else 0
    for rows, width in bram.queues(shape):
        if bram.ebr_ice40(rows, width):
            outputs += shape.cores * width
        else:
            bits += shape.cores * rows * width
            chosen += shape.cores * width * multiplexer(rows)
    return Stored(bits, chosen, outputs, banks)


def flip_flops(shape: Shape) -> int:
    """Cells that hold nothing but a flip-flop, but for those that every shape has."""
    core = _of_class(shape) + _of_walks(shape) + _widest(shape)
    found = stored(shape)
    return (
        shape.cores * (core + _read_back(shape) + shape.lanes * _of_lane(shape)) + found.bits + found.outputs
    )


def _read_back(shape: Shape) -> int:
    """Bits of a row of each memory of a core (``taken``)."""
    return sum(item.width for item in shape.memories.values() if not item.shared and item.name != "pointers")


def _widest(shape: Shape) -> int:
    """Bits that the host writes at once (``stage``, and ``bus_wdata`` of each core)."""
    return max(item.width for item in shape.memories.values())


def _of_class(shape: Shape) -> int:
    """Parameters of a class on their way (``class3`` to ``keep7``)."""
    vb = shape.vb
    total = shape.memories["classes"].width + 3 * vb
    if not shape.theta_bits:
        total += 2 * (vb - 1)
    if not shape.bias_bits:
        total += vb
    if shape.leak != "none":
        total += 4 * 13 * (2 if shape.cuba else 1)
    return total + (3 * shape.counter if shape.counter > 1 else 0)


def _of_walks(shape: Shape) -> int:
    """Groups and rows on their way (``n_row``, ``g1`` to ``g5``, ``tg``), and steps of convolutions."""
    group, row = bits_for(shape.groups), bits_for(shape.weight_rows)
    total = 18 * group + row
    if shape.probes:
        total += 2 * group
    if shape.conv:
        total += 4 * group + 4 * row + 12
    return total


def _of_lane(shape: Shape) -> int:
    """Values on their way through a lane (nmc_lane), and through its leaks."""
    vb = shape.vb
    total = 3 * vb + 7 * shape.counter + 2 * shape.weight_bits + 2 * shape.bias_bits + 3 * shape.theta_bits
    if shape.cuba:
        total += 5 * vb
    if shape.late:
        total += 4 * (vb - 1)
    leak = {"multiply": vb + 13, "shift": 3 * vb, "none": 2 * vb}[shape.leak]
    return total + leak * (2 if shape.cuba else 1)


def leak_luts(shape: Shape) -> float:
    """LUTs of one leak: nmc_leak alone, for every width, by ``synth_ice40 -dsp``."""
    vb = shape.vb
    if shape.leak == "multiply":
        return vb + 4 if vb <= 16 else {17: 64, 18: 22}.get(vb, 2 * vb + 40)
    return 5.9 * vb if shape.leak == "shift" else 0.0


def lane_luts(shape: Shape) -> float:
    """LUTs of a lane: nmc_lane alone, in 23 forms, by ``synth_ice40 -dsp``; a sum over its features to some 3 %."""
    vb, counter = shape.vb, shape.counter - 1
    total = 10.2 * vb + 3.3 * counter
    if shape.weight_bits + shape.payload_bits < _MULTIPLIED:
        total += 1.6 * shape.weight_bits * shape.payload_bits
    if shape.stbif:
        total += 2.1 * vb + 5.4 * counter
    if shape.late:
        total += 2.1 * vb
    if shape.cuba:
        total += 1.3 * vb
    return total + leak_luts(shape) * (2 if shape.cuba else 1)


def _of_addresses(shape: Shape) -> int:
    """Counters, comparisons and multiplexers of rows, groups, axons, neurons, targets and the wheel."""
    row, group, axon = bits_for(shape.weight_rows), bits_for(shape.groups), bits_for(shape.axons)
    router = 7 * bits_for(shape.neurons) + 2 * bits_for(shape.targets) + 7 * bits_for(shape.queue) + 2 * axon
    shown = 4 * shape.vb if shape.probes else 0
    return shape.cores * (2 * row + 12 * group + axon) + 3 * group + router + shown


def counted(shape: Shape) -> float:
    """Cells that follow from the RTL, without any that are fitted."""
    found, lanes = stored(shape), shape.cores * shape.lanes
    # words of the readback are joined by OR, three bits a LUT
    joined = shape.cores * _read_back(shape) / 3
    logic = lanes * lane_luts(shape) + joined + _widest(shape) + _of_addresses(shape)
    return flip_flops(shape) + found.chosen + found.banks + logic


def parts(shape: Shape) -> dict[str, float]:
    """How much of each part a shape has.

    ``counted``: as above. ``chip``: machine, router and shell. ``cores``, ``lanes``: logic of all of them beside the
    arithmetic. ``probes``: bits of membranes that are shown. ``walks``: bits of what convolutions count. ``sparse``,
    ``windows``: cores with them. ``wheel``: bits of its fill levels. ``picks``: bits of what the router picks one of.
    """
    cores, lanes = shape.cores, shape.cores * shape.lanes
    group, row = bits_for(shape.groups), bits_for(shape.weight_rows)
    return {
        "counted": counted(shape), "chip": 1, "cores": cores, "lanes": lanes,
        "probes": lanes * shape.vb * shape.probes, "walks": cores * (2 * row + 3 * group) * shape.conv,
        "sparse": cores * shape.sparse, "windows": cores * shape.windows,
        "wheel": (shape.delays > 1) * shape.delays * bits_for(shape.queue),
        "picks": (cores - 1) * (20 + shape.vb * shape.probes),
    }  # fmt: skip
