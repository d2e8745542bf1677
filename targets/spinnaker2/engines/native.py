"""The firmware compiled for this machine as a shared library, on the same SRAM images."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from nmc.ir.diagnostics import fail
from nmc.targets.spinnaker2.engines.memory import Core, MemoryEngine
from nmc.targets.spinnaker2.layout import Words

FLAGS = ("-DHOST", "-O2", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing")


def compiler() -> str | None:
    """The C compiler of this machine, if there is one."""
    return next(
        (
            found
            for name in (os.environ.get("CC"), "cc", "gcc", "clang")
            if name and (found := shutil.which(name))
        ),
        None,
    )


@cache
def library(user: bool = False) -> ctypes.CDLL:
    """Compile and load the firmware, once a process; `user` as `nmc.targets.spinnaker2.elf.kernel`.

    Raises
    ------
    NmcError
        E0914 without a compiler, or when it fails.
    """
    command = compiler()
    if command is None:
        raise fail(
            "E0914",
            "the engine native needs a C compiler",
            hint="install gcc or clang, or use another engine",
        )
    with (
        as_file(files("nmc.targets.spinnaker2") / "firmware") as folder,
        tempfile.TemporaryDirectory() as out,
    ):
        target = Path(out) / "pe.so"
        words = [
            command,
            *FLAGS,
            *(["-DUSER"] if user else []),
            "-o",
            str(target),
            str(Path(folder) / "pe.c"),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise fail("E0914", f"{command} cannot compile the firmware: {done.stderr.strip()[:500]}")
        found = ctypes.CDLL(str(target))
    for name in ("nmc_s2_boot", "nmc_s2_wake"):
        getattr(found, name).argtypes = [ctypes.c_void_p]
        getattr(found, name).restype = None
    return found


class _Native(Core):
    def __init__(self, sram: Words, user: bool) -> None:
        self._sram = sram  # keeps the memory alive
        self._address = ctypes.c_void_p(sram.ctypes.data)
        firmware = library(user)
        self._boot, self._wake = firmware.nmc_s2_boot, firmware.nmc_s2_wake

    def boot(self) -> None:
        self._boot(self._address)

    def wake(self) -> None:
        self._wake(self._address)


class NativeEngine(MemoryEngine):
    """Runs an image with the firmware as a shared library."""

    name = "native"

    def core(self, sram: Words, user: bool) -> Core:
        """Make a core."""
        return _Native(sram, user)
