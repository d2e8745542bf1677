"""cocotb tests of rtl/nmc_axis.sv alone; what it passes words to and gets them from is played here."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly, RisingEdge

from cocotb_stream import Pattern, Watch, bursts, often, receive, send

Dut = Any


async def start(dut: Dut) -> tuple[Watch, Watch]:
    """Clock, reset, watches of words in and out."""
    for name in (
        "s_axis_tvalid",
        "s_axis_tdata",
        "m_axis_tready",
        "in_ready",
        "out_valid",
        "out_word",
        "idle",
    ):
        getattr(dut, name).value = 0
    dut.aresetn.value = 0
    Clock(dut.aclk, 10, "ns").start(start_high=False)
    await ClockCycles(dut.aclk, 4)
    await FallingEdge(dut.aclk)
    dut.aresetn.value = 1
    await FallingEdge(dut.aclk)
    reset = lambda: bool(int(dut.rst.value))  # noqa: E731
    taken = Watch(dut.aclk, dut.in_valid, dut.in_ready, [dut.in_word], reset)
    given = Watch(dut.aclk, dut.m_axis_tvalid, dut.m_axis_tready, [dut.m_axis_tdata, dut.m_axis_tlast], reset)
    cocotb.start_soon(taken.run())
    cocotb.start_soon(given.run())
    return taken, given


def some(seed: int, count: int = 400) -> list[int]:
    """Random words, with repeats, so that a word doubled is not taken for the next one by chance alone."""
    dice = random.Random(seed)
    return [dice.getrandbits(32) for _ in range(count)]


PATTERNS = (
    (1.0, 1.0), (1.0, 0.3), (0.3, 1.0), (0.5, 0.5), (0.9, 0.1),
)  # fmt: skip


@cocotb.test()
async def no_word_in_is_lost_or_doubled(dut: Dut) -> None:
    taken, _ = await start(dut)
    for seed, (valid, ready) in enumerate(PATTERNS):
        words, before = some(seed), len(taken.seen)
        cocotb.start_soon(_drive(dut.aclk, dut.in_ready, often(seed, ready), 20_000))
        await send(dut.aclk, dut.s_axis_tvalid, dut.s_axis_tready, dut.s_axis_tdata, words,
                   often(seed + 9, valid))  # fmt: skip
        await ClockCycles(dut.aclk, 5)
        assert [item[0] for item in taken.seen[before:]] == words


async def _drive(clk: Any, signal: Any, when: Pattern, clocks: int) -> None:
    for _ in range(clocks):
        signal.value = int(next(when))
        await FallingEdge(clk)


@cocotb.test()
async def no_word_out_is_lost_or_doubled_and_the_last_is_marked(dut: Dut) -> None:
    _, given = await start(dut)
    for seed, (valid, ready) in enumerate((*PATTERNS, (0.0, 0.0))):
        before = len(given.seen)
        when = often(seed, ready) if ready else bursts(seed, 40)
        readiness = cocotb.start_soon(receive(dut.aclk, dut.m_axis_tready, when))
        words = [some(10 * seed + part, 1 + 37 * part) for part in range(6)]
        for part in words:
            dut.idle.value = 0
            await send(dut.aclk, dut.out_valid, dut.out_ready, dut.out_word, part,
                       often(seed + 5, valid) if valid else bursts(seed + 5, 30))  # fmt: skip
            await ClockCycles(dut.aclk, seed)
            await FallingEdge(dut.aclk)
            dut.idle.value = 1
            while not int(dut.rest.value):
                await FallingEdge(dut.aclk)
        readiness.cancel()
        want = [(word, int(at == len(part) - 1)) for part in words for at, word in enumerate(part)]
        assert given.seen[before:] == want
    assert given.waited > 100, "back-pressure was never felt"


@cocotb.test()
async def a_word_is_offered_before_anyone_is_ready(dut: Dut) -> None:
    """A source must not wait for ready; and the chip is stopped, not overrun, while nobody takes words."""
    _, given = await start(dut)
    dut.m_axis_tready.value = 0
    cocotb.start_soon(send(dut.aclk, dut.out_valid, dut.out_ready, dut.out_word, [7, 8, 9], often(0, 1.0)))
    await ClockCycles(dut.aclk, 20)
    assert int(dut.m_axis_tvalid.value) and int(dut.m_axis_tdata.value) == 7
    assert not int(dut.out_ready.value) and given.seen == []
    assert not int(dut.rest.value), "a word that is kept is work left to do"
    await FallingEdge(dut.aclk)
    dut.m_axis_tready.value = 1
    dut.idle.value = 1
    await ClockCycles(dut.aclk, 20)
    assert given.seen == [(7, 0), (8, 0), (9, 1)]


@cocotb.test()
async def words_flow_at_every_second_clock_at_least(dut: Dut) -> None:
    _, given = await start(dut)
    dut.m_axis_tready.value = 1
    await send(dut.aclk, dut.out_valid, dut.out_ready, dut.out_word, some(3, 50), often(0, 1.0))
    await ReadOnly()
    assert len(given.seen) >= 48


@cocotb.test()
async def nothing_is_valid_or_ready_in_reset(dut: Dut) -> None:
    await start(dut)
    dut.m_axis_tready.value = 0
    dut.in_ready.value = 1
    await send(dut.aclk, dut.out_valid, dut.out_ready, dut.out_word, [1], often(0, 1.0))
    await ClockCycles(dut.aclk, 3)
    await FallingEdge(dut.aclk)
    dut.aresetn.value = 0
    dut.s_axis_tvalid.value = 1
    await ClockCycles(dut.aclk, 3)
    for _ in range(5):
        await RisingEdge(dut.aclk)
        names = ("m_axis_tvalid", "s_axis_tready", "in_valid")
        assert not any(int(getattr(dut, name).value) for name in names)
    dut.s_axis_tvalid.value = 0
    await FallingEdge(dut.aclk)
    dut.aresetn.value = 1
    await ClockCycles(dut.aclk, 3)
    assert not int(dut.m_axis_tvalid.value), "a word of before the reset"
