"""What a shape takes of memories and multipliers: what Yosys will choose, in closed form and without running it.

Yosys (passes/memory/memory_libmap.cc) takes, of all forms that a kind of RAM can have, the one of the least cost:
``each * count + (banks - 1) * width / 2 + banks / 2``, where ``banks = ceil(depth / rows)`` and
``count = ceil(banks * width / unit)``, the width rounded up to whole bytes; then the cheapest kind. Costs and forms
are those of its files lattice/brams_16kd.txt, lattice/lutrams_trellis.txt, ice40/brams.txt and ice40/spram.txt.
`benchmarks/fpga_area.py` and tests/fpga/test_synth_tools.py hold the counts to those of Yosys.
"""

from __future__ import annotations

from nmc.ir.dataclass import dataclass
from nmc.targets.fpga.shape import Memory, Shape, bits_for

#: Read in the same clock: never in block RAMs.
TABLES = ("classes", "geometry")
#: Tables of that many rows are registers (rtl/nmc_table.sv).
_REGISTERS = 2


@dataclass(frozen=True)
class Ram:
    """A kind of RAM: cost of one, its forms (rows, bits of a row, bits of a byte)."""

    each: int
    forms: tuple[tuple[int, int, int], ...]

    def best(self, depth: int, width: int) -> tuple[float, int, int]:
        """Cost and number of what a memory takes of this kind, and banks that its output is chosen from."""
        found = []
        for rows, unit, byte in self.forms:
            banks = -(-depth // rows)
            count = -(-banks * (-(-width // byte) * byte) // unit)
            more = ((banks - 1) * width + banks) / 2 if banks > 1 else 0.0
            found.append((self.each * count + more, count, banks))
        return min(found, key=lambda item: item[0])


#: DP16KD, 512x36 with one port to read and one to write; TRELLIS_DPR16X4.
EBR = Ram(
    128, ((16384, 1, 1), (8192, 2, 2), (4096, 4, 4), (2048, 9, 9), (1024, 18, 9), (512, 36, 9))
)  # fmt: skip
LUTRAM = Ram(4, ((16, 4, 4),))
#: SB_RAM40_4K, SB_SPRAM256KA.
EBR_ICE40 = Ram(64, ((2048, 2, 1), (1024, 4, 1), (512, 8, 1), (256, 16, 1)))
SPRAM = Ram(2048, ((16384, 16, 4),))


def in_block(depth: int, width: int) -> bool:
    """Whether a memory of an ECP5 is put into block RAMs instead of LUTs."""
    return EBR.best(depth, width)[0] <= LUTRAM.best(depth, width)[0]


def ebr_ice40(depth: int, width: int) -> int:
    """Block RAMs of one memory of an iCE40; 0 for one that is cheaper in flip-flops (cost 1 a bit)."""
    cost, count, _ = EBR_ICE40.best(depth, width)
    return count if cost < depth * width else 0


def places(shape: Shape, *, tables: bool = False) -> list[tuple[str, int, int, int]]:
    """Memories as the RTL has them: name, rows, bits of a row, how many. The pointers of all cores are one.

    Tables that are registers are among them where `tables` asks for it.
    """
    found = []
    for name, memory in shape.memories.items():
        if name in TABLES and memory.rows <= _REGISTERS and not tables:
            continue
        rows, copies = _rows(shape, memory), 1 if memory.shared or name == "pointers" else shape.cores
        found.append((name, rows, memory.width, copies))
    return found


def _rows(shape: Shape, memory: Memory) -> int:
    return int(shape.cores << bits_for(shape.neurons)) if memory.name == "pointers" else memory.rows


def queues(shape: Shape) -> tuple[tuple[int, int], ...]:
    """Rows and bits of the queues of a core: events, groups that fired."""
    shown = shape.lanes * shape.vb if shape.probes else 1
    fired = bits_for(shape.groups) + 2 * shape.lanes + 1 + shown
    return (shape.fifo, bits_for(shape.axons) + shape.payload_bits), (16, fired)


# ---------------------------------------------------------------------------------------------------- ECP5
def block_rams(shape: Shape) -> dict[str, int]:
    """EBRs of each memory of a shape, all cores together; 0 for those in LUTs."""
    return dict.fromkeys(shape.memories, 0) | {
        name: copies * EBR.best(rows, width)[1] if name not in TABLES and in_block(rows, width) else 0
        for name, rows, width, copies in places(shape)
    }


def total_ebr(shape: Shape) -> int:
    """EBRs of a shape."""
    return sum(block_rams(shape).values())


def total_lutram(shape: Shape) -> int:
    """16x4 LUT memories of a shape: shallow memories, tables, queues."""
    total = shape.cores * sum(LUTRAM.best(*queue)[1] for queue in queues(shape))
    for name, rows, width, copies in places(shape):
        if name in TABLES or not in_block(rows, width):
            total += copies * LUTRAM.best(rows, width)[1]
    return total


# ---------------------------------------------------------------------------------------------------- iCE40
def total_ice40(shape: Shape, *, large_weights: bool = False) -> int:
    """Block RAMs of a shape with the serial shell (256 words of a frame, 16 of answers)."""
    total = shape.cores * sum(ebr_ice40(*queue) for queue in queues(shape))
    for name, rows, width, copies in places(shape):
        if name not in TABLES and not (large_weights and name == "weights"):
            total += copies * ebr_ice40(rows, width)
    return total + ebr_ice40(256, 32) + ebr_ice40(16, 32)


def spram(depth: int, width: int) -> int:
    """Large RAMs of one memory of an iCE40."""
    return SPRAM.best(depth, width)[1]


# ---------------------------------------------------------------------------------------------------- multipliers
#: Fewest bits of a product for which Yosys takes a multiplier (mul2dsp: DSP_Y_MINWIDTH).
_LEAST = {"ecp5": 9, "ice40": 11}


def multipliers_of(shape: Shape, family: str = "ecp5") -> int:
    """Multipliers: of a lane for payloads, for the leak of membranes, and for that of currents.

    A leak multiplies up to 18 bits at once (rtl/nmc_leak.sv). Of 18 bits an iCE40 with its 16 makes two products; one
    or two bits beyond 16, of 17 bits and of the lower ones of more than 18, are LUTs.
    """
    widest = 17 if family == "ice40" else 18
    leaks = (2 if shape.cuba else 1) * (1 + (shape.vb > widest)) if shape.leak == "multiply" else 0
    payload = shape.weight_bits + shape.payload_bits >= _LEAST[family]
    return shape.cores * shape.lanes * (leaks + int(payload))
