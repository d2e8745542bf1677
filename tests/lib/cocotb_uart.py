"""cocotb tests of rtl/nmc_uart.sv alone: the host is played on the line, the chip on the words."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, Timer

from cocotb_stream import Watch, bursts, often, receive, send
from nmc.targets.fpga import uart

Dut = Any
CLOCK = 10  # ns
#: Parameters that the module is built with.
DIVIDER, PATIENCE = 8, 40
BIT = CLOCK * DIVIDER


class Line:
    """The host's end: sends bytes, keeps what comes.

    Parameters
    ----------
    dut : handle
    """

    def __init__(self, dut: Dut) -> None:
        self.dut = dut
        self.heard = bytearray()
        self.bad_stops = 0

    async def say(self, data: Iterable[int], *, bit: int = BIT, broken: int = -1, stops: int = 1) -> None:
        """Send bytes of `bit` ns a bit; the stop bit of byte number `broken` is missing."""
        for number, octet in enumerate(data):
            for level in (0, *(octet >> at & 1 for at in range(8)), int(number != broken)):
                self.dut.rx.value = level
                await Timer(bit, "ns")
            self.dut.rx.value = 1
            await Timer(bit * (stops - 1 + 2 * (number == broken)) + 1, "ns")

    async def listen(self) -> None:
        """Collect bytes for ever."""
        while True:
            await FallingEdge(self.dut.tx)
            await Timer(BIT // 2, "ns")
            assert not int(self.dut.tx.value), "a start bit lasts"
            octet = 0
            for at in range(8):
                await Timer(BIT, "ns")
                octet |= int(self.dut.tx.value) << at
            await Timer(BIT, "ns")
            self.bad_stops += not int(self.dut.tx.value)
            self.heard.append(octet)

    async def answer(self, count: int, bits: int = 40_000) -> tuple[int, ...]:
        """Wait for acknowledgements; what has come by then."""
        for _ in range(bits):
            found = uart.parse(bytes(self.heard)).acks
            if len(found) >= count:
                break
            await Timer(BIT, "ns")
        await Timer(3 * BIT, "ns")
        return uart.parse(bytes(self.heard)).acks


async def start(dut: Dut, ready: float = 1.0) -> tuple[Line, Watch, Watch]:
    """Clock, reset, and watches of the words to and from the chip."""
    for name, level in (("rx", 1), ("in_ready", 0), ("out_valid", 0), ("out_word", 0), ("rst", 1)):
        getattr(dut, name).value = level
    Clock(dut.clk, CLOCK, "ns").start(start_high=False)
    await ClockCycles(dut.clk, 4)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    line = Line(dut)
    reset = lambda: bool(int(dut.rst.value))  # noqa: E731
    taken = Watch(dut.clk, dut.in_valid, dut.in_ready, [dut.in_word], reset)
    given = Watch(dut.clk, dut.out_valid, dut.out_ready, [dut.out_word], reset)
    when = often(1, ready) if ready else bursts(1, 60)
    for task in (line.listen(), taken.run(), given.run(), receive(dut.clk, dut.in_ready, when)):
        cocotb.start_soon(task)
    await ClockCycles(dut.clk, 3 * DIVIDER)
    return line, taken, given


def some(seed: int, count: int) -> list[int]:
    """Random words; some bytes are those that begin frames and acknowledge them."""
    dice = random.Random(seed)
    octets = [dice.choice((dice.getrandbits(8), 0xA5, 0x5A, 0x06)) for _ in range(4 * count)]
    return [int.from_bytes(bytes(octets[at : at + 4]), "little") for at in range(0, 4 * count, 4)]


def framed(words: list[int]) -> bytes:
    """A frame to the core."""
    return uart.frame(np.array(words, np.uint32))


def words_of(watch: Watch) -> list[int]:
    """What went over a handshake."""
    return [item[0] for item in watch.seen]


@cocotb.test()
async def frames_are_executed_once_and_then_acknowledged(dut: Dut) -> None:
    line, taken, _ = await start(dut, ready=0.2)
    want: list[int] = []
    for number, count in enumerate((1, 2, 7, 40)):
        words = some(number, count)
        await line.say(framed(words))
        want += words
        assert await line.answer(number + 1) == (uart.ACK,) * (number + 1)
        assert words_of(taken) == want, "acknowledged before all words were taken, or not these words"
    assert taken.waited > 20 and line.bad_stops == 0


@cocotb.test()
async def the_longest_frame_fits(dut: Dut) -> None:
    line, taken, _ = await start(dut)
    words = some(5, uart.FRAME_WORDS)
    await line.say(framed(words))
    assert await line.answer(1) == (uart.ACK,)
    assert words_of(taken) == words


@cocotb.test()
async def a_chip_that_is_busy_is_waited_for(dut: Dut) -> None:
    line, taken, _ = await start(dut, ready=0.0)  # runs of up to 60 clocks of either kind
    words = some(6, 30)
    await line.say(framed(words))
    assert await line.answer(1) == (uart.ACK,)
    assert words_of(taken) == words


async def refused(line: Line, taken: Watch, damaged: bytes, broken: int = -1) -> None:
    """A frame is answered with NAK and nothing else, no word reaches the chip, and the next frame is taken."""
    before, acks = words_of(taken), len(uart.parse(bytes(line.heard)).acks)
    await line.say(damaged, broken=broken)
    if broken >= 0:  # needs no silence to be noticed
        await Timer(BIT * 14, "ns")
        assert len(uart.parse(bytes(line.heard)).acks) == acks + 1
    found = await line.answer(acks + 1)
    assert set(found[acks:]) == {uart.NAK}, found
    assert words_of(taken) == before, "words of a damaged frame were executed"
    await Timer(BIT * (PATIENCE + 30), "ns")  # remains of the frame are over
    acks, good = len(uart.parse(bytes(line.heard)).acks), some(len(damaged) + acks, 2)
    await line.say(framed(good))
    assert (await line.answer(acks + 1))[acks:] == (uart.ACK,)
    assert words_of(taken) == before + good


@cocotb.test()
async def a_frame_with_a_wrong_bit_leaves_no_trace(dut: Dut) -> None:
    line, taken, _ = await start(dut)
    frame = framed([0x12345678, 0x01020304, 0xC0FFEE00])
    for at in range(1, len(frame)):
        wrong = bytearray(frame)
        wrong[at] ^= 1 << at % 8
        await refused(line, taken, bytes(wrong))


@cocotb.test()
async def a_frame_that_breaks_off_leaves_no_trace(dut: Dut) -> None:
    line, taken, _ = await start(dut)
    frame = framed([0x11223344, 0x55667788])
    for length in range(1, len(frame)):
        await refused(line, taken, frame[:length])


@cocotb.test()
async def a_missing_stop_bit_leaves_no_trace(dut: Dut) -> None:
    line, taken, _ = await start(dut)
    frame = framed([0x0F1E2D3C, 0x4B5A6978])
    for at in range(1, len(frame)):
        await refused(line, taken, frame[: at + 1], broken=at)


@cocotb.test()
async def noise_is_no_frame(dut: Dut) -> None:
    """Short dips, bytes that begin no frame, and a broken first byte: no answer, no word."""
    line, taken, _ = await start(dut)
    for width in range(1, DIVIDER // 2 - 1):
        dut.rx.value = 0
        await Timer(CLOCK * width, "ns")
        dut.rx.value = 1
        await Timer(4 * BIT, "ns")
    await line.say([0x00, 0xFF, 0x5A, 0x06, 0x15, 0x24])
    await line.say([0xA5], broken=0)
    await Timer(BIT * (PATIENCE + 30), "ns")
    assert line.heard == b"" and taken.seen == []
    frame = framed([77])
    await line.say(frame[:3])
    dut.rx.value = 0
    await Timer(2 * CLOCK, "ns")
    dut.rx.value = 1
    await Timer(12 * BIT, "ns")
    await line.say(frame[3:])
    assert await line.answer(1) == (uart.ACK,) and words_of(taken) == [77]


@cocotb.test()
async def clocks_may_differ_by_three_percent(dut: Dut) -> None:
    line, taken, _ = await start(dut)
    want: list[int] = []
    for number, bit in enumerate((BIT * 97 // 100, BIT * 103 // 100)):
        words = some(number, 20)
        await line.say(framed(words), bit=bit)
        want += words
        assert await line.answer(number + 1) == (uart.ACK,) * (number + 1)
    assert words_of(taken) == want


@cocotb.test()
async def answers_come_whole_and_in_order_while_frames_are_executed(dut: Dut) -> None:
    line, taken, given = await start(dut, ready=0.5)
    said, answered = some(8, 12), some(9, 60)
    task = cocotb.start_soon(
        send(dut.clk, dut.out_valid, dut.out_ready, dut.out_word, answered, bursts(2, 700))
    )
    for part in range(3):
        await line.say(framed(said[4 * part : 4 * part + 4]))
        assert await line.answer(part + 1) == (uart.ACK,) * (part + 1)
    await task
    await Timer(BIT * 10 * 200, "ns")
    found = uart.parse(bytes(line.heard))
    assert found.damaged == 0 and line.bad_stops == 0
    assert list(found.words) == answered and words_of(given) == answered and words_of(taken) == said
    assert given.waited > 100, "the queue of answers was never full"


@cocotb.test()
async def a_reset_forgets_a_frame(dut: Dut) -> None:
    line, taken, _ = await start(dut)
    await line.say(framed(some(1, 3))[:-1])
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    await line.say(framed([5, 6]))
    assert await line.answer(1) == (uart.ACK,)
    assert words_of(taken) == [5, 6]
