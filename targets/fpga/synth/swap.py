"""Other contents for the block RAMs of a routed design: no synthesis, no place and route.

A routed design is text: ``.config`` of nextpnr-ecp5, ``.asc`` of nextpnr-ice40. Both list what each block RAM holds at
first, but not which bit of which memory that is. It is found by content: the design was built with random bits, so that
the bits of one column of a memory in a run of rows (512 of an ECP5 block RAM, 256 of an iCE40) are there exactly once.
`exchange` checks this for every such run and refuses otherwise.

Idea: ecpbram of Project Trellis and icebram of Project IceStorm. The forms of a block RAM are those of Lattice's DP16KD
(FPGA-TN-02204: 1, 2 and 4 bits a row use 8 of 9 bits of a word, 9, 18 and 36 all of them) and SB_RAM40_4K.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
#: Rows in a run by family.
RUN = {"ecp5": 512, "ice40": 256}
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
    runs = _runs(old, new, RUN[family])
    text = config.decode("ascii")
    pattern, take, put = _SECTIONS[family]
    left = dict(runs)

    def changed(match: re.Match[str]) -> str:
        bits = take(match[2])
        touched = False
        for index in _places(family):
            for place, key in zip(index, np.packbits(bits[index], axis=1), strict=True):
                run = left.pop(key.tobytes(), None)
                if run is not None:
                    bits[place] = run
                    touched = True
        return match[1] + put(bits) if touched else match[0]

    made = re.sub(pattern, changed, text)
    if left:
        raise CannotSwapError(f"{len(left)} of {len(runs)} runs of rows are in no block RAM")
    return made.encode("ascii")


def _runs(old: Sequence[Bits], new: Sequence[Bits], length: int) -> dict[bytes, Bits]:
    """New bits of each column and run of rows, by the old bits."""
    found: dict[bytes, Bits] = {}
    for before, after in zip(old, new, strict=True):
        for start in range(0, len(before), length):
            keys = np.packbits(_padded(before[start : start + length], length).T, axis=1)
            values = _padded(after[start : start + length], length).T
            for key, value in zip(keys, values, strict=True):
                if key.tobytes() in found:
                    raise CannotSwapError("two columns hold the same")
                found[key.tobytes()] = value
    return found


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
