"""The host's side of the serial line (rtl/nmc_uart.sv): word streams to frames of at most 256 words, and back.

A frame to the core is ``A5, words - 1, words (little-endian), CRC32 of all after A5``. The core keeps it until it is
complete and right, executes it and answers ACK; one that is damaged or breaks off is answered with NAK and leaves no
trace, and may be sent again. Send the next frame after the answer. A file's first frame begins with its header, so that
a core of another shape ignores all of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.words import Words, header, read

TO_CORE, TO_HOST, ACK, NAK = 0xA5, 0x5A, 0x06, 0x15
FRAME_WORDS = 256


def frame(words: Words, start: int = TO_CORE) -> bytes:
    """One frame of 1..256 words."""
    assert 1 <= len(words) <= FRAME_WORDS, f"{len(words)} words are no frame"
    body = bytes([len(words) - 1]) + words.astype("<u4").tobytes()
    return bytes([start]) + body + zlib.crc32(body).to_bytes(4, "little")


def frames(shape: Shape, data: bytes) -> list[bytes]:
    """All frames of a file of words, which is checked first (`words.read` tells what is refused)."""
    body = read(shape, data)
    words = np.concatenate([header(shape, len(body)), body])
    return [frame(words[at : at + FRAME_WORDS]) for at in range(0, len(words), FRAME_WORDS)]


@dataclass(frozen=True, eq=False)
class Answer:
    """What came over the line: acknowledgements (ACK or NAK) in order, words, frames that were damaged."""

    acks: tuple[int, ...]
    words: Words
    damaged: int


def parse(data: bytes) -> Answer:
    """Read what the core sent."""
    acks: list[int] = []
    parts: list[Words] = [np.zeros(0, np.uint32)]
    damaged = 0
    for start, body in _pieces(data):
        if start != TO_HOST:
            acks.append(start)
        elif len(body) > 4 and zlib.crc32(body[:-4]) == int.from_bytes(body[-4:], "little"):
            parts.append(np.frombuffer(body[1:-4], "<u4").astype(np.uint32))
        else:
            damaged += 1
    return Answer(tuple(acks), np.concatenate(parts), damaged)


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        start = data[at]
        at += 1
        if start == TO_HOST:
            size = 1 + 4 * (data[at] + 1) + 4 if at < len(data) else 0
            yield start, data[at : at + size] if at + size <= len(data) else b""
            at += size
        elif start in (ACK, NAK):
            yield start, b""
