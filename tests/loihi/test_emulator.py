"""The Loihi emulator gives the integers that other people's tools gave, and counts what it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.targets.loihi.emulator.engine import Emulator
from nmc.targets.loihi.layout import Compat, LoihiImage

TOOLS: dict[str, Compat] = {"nengo": "nengo-loihi", "lava": "lava", "brian2": "brian2loihi"}
CASES = {
    "c01_decay_subthr": "nengo lava brian2",
    "c02_decay_spiking": "nengo lava brian2",
    "c03_vth_equality": "nengo lava brian2",
    "c04_refractory": "nengo brian2",
    "c05_weights_exc": "nengo lava brian2",
    "c05_weights_inh": "nengo lava brian2",
    "c05_weights_mix": "nengo lava brian2",
    "c06_negexp_accum": "nengo lava brian2",
    "c07_bias": "nengo lava",
    "c11_ff_32_48_16": "nengo lava brian2",
}


def _input(case: dict[str, Any]) -> np.ndarray:
    spikes = np.zeros((1, case["T"], case["n_in"]), np.uint8)
    for t, i in case["input"]:
        spikes[0, t, i] = 1
    return spikes


@pytest.mark.parametrize(("name", "tool"), [(n, t) for n, tools in CASES.items() for t in tools.split()])
def test_every_oracle_trace_is_reproduced_bit_for_bit(
    name: str,
    tool: str,
    oracle_dir: Path,
    load_case: Callable[[str], dict[str, Any]],
    build_case: Callable[..., LoihiImage],
) -> None:
    case = load_case(name)
    image = build_case(case, TOOLS[tool])
    with np.load(oracle_dir / "traces" / f"{name}.{tool}.npz") as trace:
        expected = {key: trace[key] for key in trace.files}
    what = {"u": "u", "v": "v", "s": "spikes"}
    probes = {key: f"{key.rpartition('.')[0]}.{what[key[-1]]}" for key in expected}
    result = Emulator(image).run({"in": _input(case)}, case["T"], probes=tuple(probes.values()))
    assert len(expected) == 3 * len(case["groups"])
    for key, probe in probes.items():
        np.testing.assert_array_equal(result.probes[probe][0], expected[key], err_msg=key)
