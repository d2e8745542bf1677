"""Other contents for the block RAMs of a routed design: no synthesis, no place and route.

A routed design is text: ``.config`` of nextpnr-ecp5, ``.asc`` of nextpnr-ice40. Both list what each block RAM holds at
first, but not which bit of which memory that is. It is found by content: the design was built with random bits, so that
the bits of one column of a memory in a run of rows (512 of an ECP5 block RAM, 256 of an iCE40) are there exactly once.
`exchange` checks this for every such run and refuses otherwise. On an iCE40 a run takes each row, or each second,
fourth or eighth one, as the low bits of an address choose within a word of 16 bits: which of these is found out too.

Idea: ecpbram of Project Trellis and icebram of Project IceStorm. The forms of a block RAM are those of Lattice's DP16KD
(FPGA-TN-02204: 1, 2 and 4 bits a row use 8 of 9 bits of a word, 9, 18 and 36 all of them) and SB_RAM40_4K.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
#: Rows in a run, and their distances, by family.
RUN = {"ecp5": 512, "ice40": 256}
STRIDES = {"ecp5": (1,), "ice40": (1, 2, 4, 8)}
#: Bits of a row, and those of a word that are used, by form of a DP16KD of 2048 words.
_FORMS = ((1, 8), (2, 8), (4, 8), (9, 9), (18, 9), (36, 9))
_WORDS, _WORD = 2048, 9


class CannotSwapError(Exception):
    """The contents are not where they are looked for; a full build does it."""


def exchange(family: str, config: bytes, old: Sequence[Bits], new: Sequence[Bits]) -> bytes:
    """Put new contents where the old ones are.

    Parameters
    ----------
    family : {"ecp5", "ice40"}
    config : bytes
        Text of a routed design.
    old, new : sequence of (rows, width) array of 0 and 1
        Each memory as it was built, and as it shall be.

    Raises
    ------
    CannotSwapError
        Where a part of the old contents is not found exactly once.
    """
    runs = _runs(family, old, new)
    pattern, take, put = _SECTIONS[family]
    text = config.decode("ascii")
    found: dict[tuple[int, int], list[_Change]] = {}
    blocks = [(match.start(2), match.end(2), take(match[2])) for match in re.finditer(pattern, text)]
    for number, (_, _, bits) in enumerate(blocks):
        for index in _places(family):
            for place, key in zip(index, np.packbits(bits[index], axis=1), strict=True):
                run = runs.get(key.tobytes())
                if run is not None:
                    found.setdefault(run[0], []).append((number, place, run[1]))
    touched = _apply(runs, found, blocks, len(old))
    parts, at = [], 0
    for number in sorted(touched):
        start, end, bits = blocks[number]
        parts += [text[at:start], put(bits)]
        at = end
    return "".join([*parts, text[at:]]).encode("ascii")


#: Number of a block RAM, where in its bits a run is, its new bits.
_Change = tuple[int, NDArray[np.int64], Bits]
#: (memory, stride) and new bits of a run, by its old bits.
_Runs = dict[bytes, tuple[tuple[int, int], Bits]]


def _apply(
    runs: _Runs, found: dict[tuple[int, int], list[_Change]], blocks: list[tuple[int, int, Bits]], count: int
) -> set[int]:
    """Write all runs of each memory with the stride for which each of them was found once; the blocks touched."""
    touched = set[int]()
    for memory in range(count):
        sizes: dict[int, int] = {}
        for (number, stride), _ in runs.values():
            if number == memory:
                sizes[stride] = sizes.get(stride, 0) + 1
        right = [stride for stride, size in sizes.items() if len(found.get((memory, stride), ())) == size]
        if len(right) != 1:
            have = max(len(found.get((memory, stride), ())) for stride in sizes)
            text = f"memory {memory}: {have} of {max(sizes.values())} runs of rows are in block RAMs"
            raise CannotSwapError(text)
        for number, place, bits in found[memory, right[0]]:
            blocks[number][2][place] = bits
            touched.add(number)
    return touched


def _runs(family: str, old: Sequence[Bits], new: Sequence[Bits]) -> _Runs:
    """Runs of all columns of all memories, for each stride."""
    made: _Runs = {}
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        for stride in STRIDES[family]:
            length = RUN[family] * stride
            for start in range(0, len(before), length):
                rows = [_padded(item[start : start + length], length) for item in (before, after)]
                for phase in range(stride):
                    keys = np.packbits(rows[0][phase::stride].T, axis=1)
                    for key, value in zip(keys, rows[1][phase::stride].T, strict=True):
                        if key.tobytes() in made:
                            raise CannotSwapError("two columns hold the same")
                        made[key.tobytes()] = ((number, stride), value)
    return made


def _padded(rows: Bits, length: int) -> Bits:
    return np.pad(rows, ((0, length - len(rows)), (0, 0)))


def _places(family: str) -> list[NDArray[np.int64]]:
    """Where runs may be in the bits of a block RAM: by form, (runs, rows of a run) indices."""
    if family == "ice40":
        return [np.arange(16)[:, None] + 16 * np.arange(256)]
    found = []
    for width, used in _FORMS:
        count = _WORDS * used // RUN["ecp5"]
        column, row = np.arange(count)[:, None], np.arange(RUN["ecp5"])
        bit = row * width + column % width + column // width * RUN["ecp5"] * width
        found.append(bit // used * _WORD + bit % used)
    return found


def _words(text: str) -> Bits:
    """Bits of 2,048 words of 9 bits in hexadecimal, lowest first."""
    values = np.array([int(item, 16) for item in text.split()], np.int64)
    return (values[:, None] >> np.arange(_WORD) & 1).astype(np.uint8).reshape(-1)


def _word_text(bits: Bits) -> str:
    values = bits.reshape(-1, _WORD).astype(np.int64) @ (1 << np.arange(_WORD))
    return "".join(
        " ".join(f"{value:03x}" for value in line) + "\n" for line in values.reshape(-1, 8).tolist()
    )


def _lines(text: str) -> Bits:
    """Bits of 16 lines of 256 bits in hexadecimal, lowest last."""
    rows = [np.frombuffer(bytes.fromhex(line), np.uint8)[::-1] for line in text.split()]
    return np.unpackbits(np.concatenate(rows), bitorder="little")


def _line_text(bits: Bits) -> str:
    rows = np.packbits(bits.reshape(-1, 256), axis=1, bitorder="little")
    return "".join(row[::-1].tobytes().hex() + "\n" for row in rows)


#: Pattern of a block RAM (heading, contents), and how contents are read and written.
_SECTIONS = {
    "ecp5": (r"(\.bram_init \d+\n)((?:[0-9a-f]{3}[ \n]){2048})", _words, _word_text),
    "ice40": (r"(\.ram_data \d+ \d+\n)((?:[0-9a-f]{64}\n){16})", _lines, _line_text),
}
