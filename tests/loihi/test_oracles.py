"""Every trace that another tool left behind, through the interpreter and through the whole compiler."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_chain import compile_legal
from nmc.ir.const import Const
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.layout import Compat
from nmc.targets.loihi.weights import round_mantissa

TOOLS: dict[str, Compat] = {"nengo": "nengo-loihi", "lava": "lava", "brian2": "brian2loihi"}
SIGNS: dict[int, loihi.Sign] = {1: "mixed", 2: "excitatory", 3: "inhibitory"}
FOLDER = (
    Path(os.environ.get("NMC_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "oracles" / "loihi"
)
TRACES = sorted(path.stem for tool in TOOLS for path in (FOLDER / "traces").glob(f"*.{tool}.npz"))


def network(case: dict[str, Any], compat: Compat) -> Module:
    """A case as legalised ops, weights rounded as the tool rounds them."""
    source = loihi.Input(out="in", source="x", shape=(case["n_in"],), kind="raster")
    sizes = {group["name"]: group["n"] for group in case["groups"]}
    ops: list[Op] = [source]
    currents: dict[str, list[Value]] = {name: [] for name in sizes}
    for number, conn in enumerate(case["conns"]):
        op = _projection(number, conn, {**sizes, "in": case["n_in"]}, compat)
        currents[conn["dst"]].append(op.result)
        ops.append(op)
    return Module(
        "case",
        "snn",
        (*ops, *_groups(case["groups"], currents, compat)),
        (("target", "loihi"), ("steps", case["T"])),
    )


def _projection(number: int, conn: dict[str, Any], sizes: dict[str, int], compat: Compat) -> loihi.Dense:
    from nmc.ir.types import Type

    weight = round_mantissa(conn["w"], conn["bits"], conn["sign"], conn["w_exp"], compat).T.astype(np.int16)
    return loihi.Dense(
        out=f"c{number}", spikes=Value(conn["src"], Type("spikes", (sizes[conn["src"]],))),
        weight=Const(f"c{number}.w", weight), delay=conn["delay"] + (conn["src"] != "in"), exp=conn["w_exp"],
        bits=conn["bits"], sign=SIGNS[conn["sign"]], compat=compat,
    )  # fmt: skip


def _groups(groups: Sequence[dict[str, Any]], currents: dict[str, list[Value]], compat: Compat) -> list[Op]:
    return [
        loihi.Lif(
            out=g["name"], current=tuple(currents[g["name"]]),
            bias=Const(f"{g['name']}.bias", np.array(g["bias_mant"], np.int16)),
            bias_exp=Const(f"{g['name']}.bias_exp", np.array(g["bias_exp"], np.uint8)), du=g["du_eff"], dv=g["dv_eff"],
            vth=g["vth_mant"], refract=g["refract"], neg_limit=23, pos_limit=7, compat=compat,
        )
        for g in groups
    ]  # fmt: skip


def test_the_set_of_traces_is_whole() -> None:
    if not FOLDER.is_dir():
        pytest.skip("no oracle files here")
    cases = {path.stem for path in (FOLDER / "cases").glob("*.json")}
    assert {name.rpartition(".")[0] for name in TRACES} == cases
    assert len(cases) == 10 and len(TRACES) == 28


@pytest.mark.parametrize("trace", TRACES)
def test_interpreter_and_emulated_image_reproduce_the_trace(trace: str) -> None:
    name, _, tool = trace.rpartition(".")
    case = json.loads((FOLDER / "cases" / f"{name}.json").read_text())
    module = network(case, TOOLS[tool])
    spikes = np.zeros((1, case["T"], case["n_in"]), np.uint8)
    for t, index in case["input"]:
        spikes[0, t, index] = 1
    with np.load(FOLDER / "traces" / f"{trace}.npz") as file:
        expected = {key: file[key] for key in file.files}
    what = {"u": "u", "v": "v", "s": "spikes"}
    probes = {key: f"{key.rpartition('.')[0]}.{what[key[-1]]}" for key in expected}
    assert len(probes) == 3 * len(case["groups"])
    chain = compile_legal(module)
    results = {
        "interpreter": run_snn(module, {"x": spikes}, case["T"], probes=tuple(probes.values())),
        "emulator": chain.run({"x": spikes}, case["T"], tuple(probes.values())),
    }
    for stage, result in results.items():
        differing = {
            key: int((result.probes[probe][0] != expected[key]).sum()) for key, probe in probes.items()
        }
        assert sum(differing.values()) == 0, f"{stage}: {differing}"
