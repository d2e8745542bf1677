"""Both ends of a valid/ready handshake for cocotb, with the rules checked at every clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

Signal = Any
Pattern = Iterator[bool]


def often(seed: int, chance: float) -> Pattern:
    """True at random, with a chance."""
    dice = random.Random(seed)
    while True:
        yield dice.random() < chance


def bursts(seed: int, longest: int) -> Pattern:
    """Runs of both values, of random lengths."""
    dice = random.Random(seed)
    while True:
        for value in (True, False):
            yield from [value] * dice.randint(1, longest)


async def send(
    clk: Signal, valid: Signal, ready: Signal, word: Signal, words: Iterable[int], when: Pattern
) -> None:
    """Offer words one after the other; what is offered stays until it is taken, as the handshake demands."""
    await FallingEdge(clk)
    for item in words:
        while not next(when):
            await FallingEdge(clk)
        valid.value = 1
        word.value = item
        await ReadOnly()
        while not int(ready.value):
            await FallingEdge(clk)
            await ReadOnly()
        # taken at the next rising edge
        await FallingEdge(clk)
        valid.value = 0
        word.value = random.Random(item).getrandbits(32)  # what is not valid is not looked at


async def receive(clk: Signal, ready: Signal, when: Pattern) -> None:
    """Drive `ready` by a pattern, changing between edges."""
    while True:
        ready.value = int(next(when))
        await FallingEdge(clk)


class Watch:
    """Records what goes over a handshake, and holds its source to the rules.

    Parameters
    ----------
    clk, valid, ready : handle
    payload : sequence of handle
        All that must stay while it waits.
    rst : callable
        Whether the module is in reset, which may take back what it offered.
    """

    def __init__(
        self, clk: Signal, valid: Signal, ready: Signal, payload: Iterable[Signal], rst: Callable[[], bool]
    ) -> None:
        self.clk, self.valid, self.ready = clk, valid, ready
        self.payload, self.rst = tuple(payload), rst
        self.seen: list[tuple[int, ...]] = []
        self.waited = 0

    async def run(self) -> None:
        """Watch for ever."""
        offered: tuple[int, ...] | None = None
        while True:
            await RisingEdge(self.clk)  # values are those of before the edge
            if self.rst():
                offered = None
                continue
            valid, ready = int(self.valid.value), int(self.ready.value)
            now = tuple(int(item.value) for item in self.payload)
            if offered is not None:
                assert valid, "an offer was taken back"
                assert now == offered, f"an offer changed while it waited: {offered} became {now}"
            if valid and ready:
                self.seen.append(now)
            self.waited += valid and not ready
            offered = now if valid and not ready else None
