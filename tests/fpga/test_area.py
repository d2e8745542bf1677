"""The model of areas says what the tools counted for every shape that was measured, those of no fit among them."""

import json
from pathlib import Path
from typing import Any

import pytest

from nmc.targets.fpga import area, cells
from nmc.targets.fpga.devices import RESOURCES, needs
from nmc.targets.fpga.shape import Shape

#: Written by benchmarks/fpga_area.py: what nextpnr counts after packing.
MEASURED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("areas.json").read_text())


@pytest.mark.parametrize("name", MEASURED)
def test_counts_are_exact_and_luts_within_a_tenth(name: str) -> None:
    entry = MEASURED[name]
    model, taken = needs(Shape(**entry["fields"]), entry["family"]), entry["taken"]
    assert {item: getattr(model, item) for item in RESOURCES[1:]} == {
        item: taken[item] for item in RESOURCES[1:]
    }
    assert abs(model.luts - taken["luts"]) <= 0.1 * taken["luts"]


def test_shapes_outside_the_fit_are_among_them() -> None:
    new = [entry["family"] for name, entry in MEASURED.items() if name.startswith("new")]
    assert new.count("ice40") >= 8 and new.count("ecp5") >= 2
    fitted = [entry["family"] for name, entry in MEASURED.items() if not name.startswith("new")]
    for family in ("ecp5", "ice40"):
        free = [name for name in area.coefficients()[family] if name != "counted"]
        assert fitted.count(family) >= (2 * len(free) if family == "ice40" else 12)


def test_multiplexers_of_luts_with_four_inputs() -> None:
    assert [cells.multiplexer(count) for count in (1, 2, 3, 4, 8, 16)] == [0, 1, 2, 2, 5, 10]
