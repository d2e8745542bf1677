"""The ARM machine code of every PE, instruction by instruction, in the Unicorn engine (extra ``emu``).

Two things make it four times faster than it comes (facts/spinnaker2.md 2.2): a virtual TLB whose hook maps the
program read and execute and everything else read and write (stores to executable pages are slow), and a program that
sleeps (WFI) when it is done, which ends `emu_start`, instead of calls.
"""

from __future__ import annotations

from typing import Any

from nmc.ir.diagnostics import fail
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2.engines.chip import LoadedChip
from nmc.targets.spinnaker2.engines.memory import Core, MemoryEngine
from nmc.targets.spinnaker2.layout import Words

#: Where `emu_start` would stop by itself: must be executable, and no instruction is there.
_NEVER = layout.CODE_BYTES - 2
#: Program text: no data are in these pages.
_PAGE_BITS = 0x3FF


def _unicorn() -> Any:
    try:
        import unicorn
    except ImportError:
        hint = "pip install 'nmc[emu]', or use another engine"
        raise fail("E0914", "the engine exact needs the package unicorn", hint=hint) from None
    return unicorn


class _Arm(Core):
    """One Cortex-M4F."""

    def __init__(self, sram: Words, counter: InstructionCounter | None) -> None:
        uc = _unicorn()
        from unicorn import arm_const

        self._sram = sram  # keeps the memory alive
        self._pc, self._sp = arm_const.UC_ARM_REG_PC, arm_const.UC_ARM_REG_SP
        cpu = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
        cpu.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M4)
        cpu.mem_map_ptr(0, layout.SRAM_BYTES, uc.UC_PROT_ALL, sram.ctypes.data)
        cpu.ctl_set_tlb_mode(uc.UC_TLB_VIRTUAL)
        code, data = uc.UC_PROT_READ | uc.UC_PROT_EXEC, uc.UC_PROT_READ | uc.UC_PROT_WRITE

        def fill(_cpu: Any, address: int, _access: int, result: Any, _user: Any) -> bool:
            result.paddr = address & ~_PAGE_BITS
            result.perms = code if address < layout.CODE_BYTES else data
            return bool(address < layout.SRAM_BYTES)

        cpu.hook_add(uc.UC_HOOK_TLB_FILL, fill)
        if counter is not None:
            cpu.hook_add(uc.UC_HOOK_BLOCK, counter.block)
        self._cpu, self._start, self._error, self._counter = cpu, cpu.emu_start, uc.UcError, counter
        self._asleep = 0

    def boot(self) -> None:
        """Load stack pointer and program counter from the vectors, as the core does."""
        self._cpu.reg_write(self._sp, int(self._sram[0]))
        self._run(int(self._sram[1]) | 1)
        self._asleep = self._cpu.reg_read(self._pc) | 1
        if self._counter is not None:
            self._counter.restart()

    def wake(self) -> None:
        if self._counter is None:
            self._run(self._asleep)
            return
        ticks = self._sram[layout.DSPEC_BASE // 4 + 2] // 4 + 2  # control.tick
        before = self._sram[ticks]
        self._run(self._asleep)
        if self._sram[ticks] != before:
            self._counter.end_of_tick()

    def _run(self, address: int) -> None:
        try:
            self._start(address, _NEVER)
        except self._error as error:
            at = self._cpu.reg_read(self._pc)
            raise RuntimeError(f"the firmware fails at {at:#x}: {error}") from None


class InstructionCounter:
    """Counts the instructions of one PE (slow: a call for each basic block).

    Attributes
    ----------
    ticks : list of int
        Instructions of each tick, receptions included; of all samples, one after the other.
    """

    def __init__(self, text: bytes) -> None:
        self.ticks: list[int] = []
        self._now = 0
        self._text = text
        self._sizes: dict[tuple[int, int], int] = {}

    def block(self, _cpu: Any, address: int, size: int, _user: Any) -> None:
        """Hook of Unicorn: a block of `size` bytes starts."""
        key = (address, size)
        if key not in self._sizes:
            self._sizes[key] = self._instructions(address, size)
        self._now += self._sizes[key]

    def end_of_tick(self) -> None:
        """Note a tick."""
        self.ticks.append(self._now)
        self._now = 0

    def restart(self) -> None:
        """Forget what was counted since the last tick (the start of the program)."""
        self._now = 0

    def _instructions(self, address: int, size: int) -> int:
        """Instructions of a block: Thumb ones are 2 bytes, or 4 where the top five bits are 11101, 11110, 11111."""
        count, at = 0, address
        while at < address + size:
            wide = self._text[at + 1] >> 3 in (0b11101, 0b11110, 0b11111)
            at += 4 if wide else 2
            count += 1
        return count


class ExactEngine(MemoryEngine):
    """Runs an image as ARM code.

    Parameters
    ----------
    chip : LoadedChip
    count_instructions : bool
        Count them in `counters` (by place); costs much time.
    """

    name = "exact"

    def __init__(self, chip: LoadedChip, *, count_instructions: bool = False) -> None:
        self._counting = count_instructions
        self._made: list[InstructionCounter] = []
        super().__init__(chip)
        self.counters = dict(zip(chip.pes, self._made, strict=True)) if count_instructions else {}

    def core(self, sram: Words, user: bool) -> Core:
        """Make a core."""
        if not self._counting:
            return _Arm(sram, None)
        self._made.append(InstructionCounter(sram[: layout.CODE_BYTES // 4].tobytes()))
        return _Arm(sram, self._made[-1])
