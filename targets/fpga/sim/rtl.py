"""The engine ``rtl``: the simulated RTL behind the word stream."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from nmc.ir.diagnostics import fail
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, Shell, Simulator, library
from nmc.targets.fpga.words import Words, header, read

#: Clocks without end are an error of the RTL, not of the user.
MAX_CYCLES = 1 << 40


class RtlChip:
    """A chip of some shape, simulated clock by clock.

    Parameters
    ----------
    shape : Shape
    simulator : {"verilator", "cxxrtl"}, optional
    rtl : Path
        Folder of the sources (tests simulate damaged ones).
    shell : {"words", "axis"}
    level : str
        Optimisation of the C++ compiler.

    Raises
    ------
    NmcError
        E1010 where a tool is missing or fails.
    """

    def __init__(
        self,
        shape: Shape,
        simulator: Simulator | None = None,
        rtl: Path = RTL,
        shell: Shell = "words",
        level: str = "-O3",
    ) -> None:
        self.shape = shape
        self.cycles = 0
        self._library = library(shape, simulator, rtl, shell, level)
        self._model = ctypes.c_void_p(self._library.nmc_new())

    def __del__(self) -> None:
        model = getattr(self, "_model", None)
        if model is not None:
            self._library.nmc_free(model)

    def load(self, data: bytes, where: str = "") -> Words:
        """Check a file and run it; see `words.read` for what is refused, with the chip untouched."""
        return self.run(read(self.shape, data, where))

    def run(self, body: Words, *, shake: int = 0, max_cycles: int = MAX_CYCLES) -> Words:
        """Run a body of words.

        Parameters
        ----------
        body : Words
        shake : int
            Not 0: seed of random interruptions of both handshakes.
        max_cycles : int

        Returns
        -------
        Words
            All answers.
        """
        return self.raw(
            np.concatenate([header(self.shape, len(body)), body]), shake=shake, max_cycles=max_cycles
        )

    def raw(self, words: Words, *, shake: int = 0, max_cycles: int = MAX_CYCLES) -> Words:
        """Feed words as they are, without a header in front.

        Raises
        ------
        NmcError
            E1011 if the chip does not come to rest within `max_cycles` clocks.
        """
        words = np.ascontiguousarray(words, np.uint32)
        found, at, room = [], 0, 1 << 16
        while True:
            taken, given = ctypes.c_int64(), ctypes.c_int64()
            cycles = ctypes.c_int64(max_cycles)
            answers = np.empty(room, np.uint32)
            rest = words[at:]
            result = self._library.nmc_run(
                self._model, rest.ctypes.data, len(rest), ctypes.byref(taken), answers.ctypes.data, room,
                ctypes.byref(given), ctypes.byref(cycles), shake,
            )  # fmt: skip
            found.append(answers[: given.value])
            at += taken.value
            self.cycles += cycles.value
            max_cycles -= cycles.value
            if result == 0:
                return np.concatenate(found)
            if result == 2:
                raise fail(
                    "E1011", f"the simulated core did not come to rest, {at:,} of {len(words):,} words taken"
                )
            room = min(room * 4, 1 << 22)


class RtlSerial:
    """A chip behind the serial shell, simulated bit by bit (Verilator only); parameters as `RtlChip`."""

    def __init__(self, shape: Shape, rtl: Path = RTL, level: str = "-O3") -> None:
        self._library = library(shape, "verilator", rtl, "uart", level)
        self._model = ctypes.c_void_p(self._library.nmc_new())

    def __del__(self) -> None:
        model = getattr(self, "_model", None)
        if model is not None:
            self._library.nmc_free(model)

    def send(self, data: bytes, *, gap_at: int = -1, gap: int = 0) -> bytes:
        """Send bytes, pause `gap` bit times after `gap_at` of them; all that comes until the line is silent."""
        given, answers = np.frombuffer(data, np.uint8), np.empty(1 << 20, np.uint8)
        count = self._library.nmc_serial(
            self._model, given.ctypes.data, len(given), answers.ctypes.data, len(answers), gap_at, gap
        )
        return answers[:count].tobytes()
