"""What a shape takes of memories and multipliers, in closed form and without a tool.

Block RAM (facts/fpga.md 2.4): an EBR (DP16KD) is 16384x1, 8192x2, 4096x4, 2048x9 or 1024x18, and 512x36 with a port to
read and one to write; a memory takes the least ``ceil(depth / d) * ceil(width / w)`` of these. Yosys puts a memory into
LUTs (TRELLIS_DPR16X4) where their cost, 4 each, is below 128 an EBR (lattice/brams_16kd.txt, lutrams_trellis.txt).
An iCE40 has block RAMs of 4 kbit and large ones of 256 kbit with one port, and no RAM in LUTs.
`benchmarks/fpga_area.py` holds the counts to those of Yosys, shape by shape.
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


# ---------------------------------------------------------------------------------------------------- multipliers
def multipliers_of(shape: Shape, family: str = "ecp5") -> int:
    """Multipliers: one a lane for payloads, one where membranes leak, one more for currents; two beyond a width."""
    wide = 18 if family == "ecp5" else 16
    leaks = (2 if shape.cuba else 1) * (2 if shape.vb > wide else 1) if shape.leak == "multiply" else 0
    return shape.cores * shape.lanes * (leaks + (1 if shape.payload_bits > 2 else 0))


# ---------------------------------------------------------------------------------------------------- iCE40
#: Depth and width a block RAM of 4 kbit can have, rows and bits of a large one.
EBR_ICE40 = ((256, 16), (512, 8), (1024, 4), (2048, 2))
SPRAM = (16384, 16)
#: Bits up to which Yosys takes flip-flops instead of a block RAM (techlibs/ice40/brams.txt: a block RAM costs 64).
FEW_BITS = 64


def ebr_ice40(depth: int, width: int) -> int:
    """Block RAMs of 4 kbit of one memory; 0 for one that is put into flip-flops."""
    if depth * width <= FEW_BITS:
        return 0
    return min(-(-depth // rows) * -(-width // bits) for rows, bits in EBR_ICE40)


def spram(depth: int, width: int) -> int:
    """Large RAMs of one memory."""
    return -(-depth // SPRAM[0]) * -(-width // SPRAM[1])


def total_ice40(shape: Shape, *, large_weights: bool = False) -> int:
    """Block RAMs of a shape with the serial shell (two for its frames, two for its answers)."""
    fires = bits_for(shape.groups) + 2 * shape.lanes + 1 + (shape.lanes * shape.vb if shape.probes else 1)
    total = shape.cores * (
        ebr_ice40(shape.fifo, bits_for(shape.axons) + shape.payload_bits) + ebr_ice40(16, fires)
    )
    for name, memory in shape.memories.items():
        depth, copies = _depth(shape, memory), 1 if memory.shared or name == "pointers" else shape.cores
        if name not in TABLES and not (large_weights and name == "weights"):
            total += copies * ebr_ice40(depth, memory.width)
    return total + ebr_ice40(256, 32) + ebr_ice40(16, 32)
