"""What a shape takes on an ECP5, without a tool: block RAMs in closed form, LUTs by a fitted model.

Block RAM (facts/fpga.md 2.4): an EBR (DP16KD) is 16384x1, 8192x2, 4096x4, 2048x9 or 1024x18, and 512x36 with a port to
read and one to write; a memory takes the least ``ceil(depth / d) * ceil(width / w)`` of these. Yosys puts a memory into
LUTs (TRELLIS_DPR16X4) where their cost, 4 each, is below 128 an EBR (lattice/brams_16kd.txt, lutrams_trellis.txt).
Both counts were exact on the four shapes of tests/fpga/test_bram.py.

LUTs: fitted to those shapes (vb = 18, all but `cuba` and `stdp` built): within 3 % there. Without sparse rows,
convolutions, signed spikes and probes a shape of four lanes takes about 850 fewer.
"""

from __future__ import annotations

from nmc.targets.fpga.shape import Memory, Shape, bits_for

#: Depth and width an EBR can have.
EBR = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
#: Costs in Yosys' tables.
EBR_COST, LUTRAM_COST = 128, 4
#: Read in the same clock, so always in LUTs.
TABLES = ("classes", "geometry")


def ebr(depth: int, width: int) -> int:
    """EBRs of one memory, if it is put into EBRs."""
    return min(-(-depth // rows) * -(-width // bits) for rows, bits in EBR)


def lutram(depth: int, width: int) -> int:
    """16x4 LUT memories of one memory, if it is put into LUTs."""
    return -(-depth // 16) * -(-width // 4)


def in_block(depth: int, width: int) -> bool:
    """Whether Yosys chooses EBRs."""
    return LUTRAM_COST * lutram(depth, width) >= EBR_COST * ebr(depth, width)


def _depth(shape: Shape, memory: Memory) -> int:
    """Rows as the RTL has them: the pointers of all cores are one memory."""
    if memory.name == "pointers":
        return int(shape.cores << bits_for(shape.neurons))
    return memory.rows


def block_rams(shape: Shape) -> dict[str, int]:
    """EBRs of each memory of a shape, all cores together; 0 for those in LUTs."""
    found = {}
    for name, memory in shape.memories.items():
        depth, copies = _depth(shape, memory), 1 if memory.shared or name == "pointers" else shape.cores
        block = name not in TABLES and in_block(depth, memory.width)
        found[name] = copies * ebr(depth, memory.width) if block else 0
    return found


def total_ebr(shape: Shape) -> int:
    """EBRs of a shape."""
    return sum(block_rams(shape).values())


def total_lutram(shape: Shape) -> int:
    """16x4 LUT memories of a shape: shallow memories, tables, queues of events and of groups that fired."""
    core = lutram(shape.fifo, bits_for(shape.axons) + shape.payload_bits)
    shown = shape.lanes * shape.vb if shape.probes else 1
    core += lutram(16, bits_for(shape.groups) + 2 * shape.lanes + 1 + shown)
    total = core * shape.cores
    for name, memory in shape.memories.items():
        depth, copies = _depth(shape, memory), 1 if memory.shared or name == "pointers" else shape.cores
        if name in TABLES or not in_block(depth, memory.width):
            total += copies * lutram(depth, memory.width)
    return total


#: Fit: LUTs of the machine and router, of a core, of a lane, of a 16x4 memory, and what packing adds.
CHIP, CORE, LANE, LUTRAM, PACKING = 1710, 630, 430, 8, 1.04


def luts(shape: Shape) -> int:
    """LUTs (TRELLIS_COMB after packing) of a shape, by the fitted model."""
    logic = CHIP + shape.cores * (CORE + LANE * shape.lanes) + LUTRAM * total_lutram(shape)
    return round(PACKING * logic)
