"""Shared by the Loihi tests: oracle files, and a builder from oracle cases to images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.targets.loihi.layout import (
    DENSE,
    DISCRETE,
    Compat,
    CoreImage,
    Header,
    InputMap,
    LoihiImage,
    PopMap,
    cx_meta_words,
    pack,
)
from nmc.targets.loihi.synapses import SynFormat, encode_axon_lists
from nmc.targets.loihi.weights import round_mantissa

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def oracle_dir() -> Path:
    """Folder of the Loihi oracles; the test skips where it is absent."""
    shared = Path(os.environ.get("NMC_SHARED", REPO.parent / "shared"))
    folder = shared / "oracles" / "loihi"
    if not folder.is_dir():
        pytest.skip("no oracle files here")
    return folder


@pytest.fixture(scope="session")
def load_case(oracle_dir: Path) -> Callable[[str], dict[str, Any]]:
    """Read a case by name."""

    def read(name: str) -> dict[str, Any]:
        case: dict[str, Any] = json.loads((oracle_dir / "cases" / f"{name}.json").read_text())
        return case

    return read


@pytest.fixture(scope="session")
def build_case() -> Callable[..., LoihiImage]:
    """Give the builder from a case to an image: one group per core."""
    return _build


def _build(case: dict[str, Any], compat: Compat, *, drop_zeros: bool = False) -> LoihiImage:
    numbers = {g["name"]: i for i, g in enumerate(case["groups"])}
    size = {g["name"]: g["n"] for g in case["groups"]} | {"in": case["n_in"]}
    first: dict[int, int] = {}
    used: dict[str, int] = dict.fromkeys(numbers, 0)
    for k, conn in enumerate(case["conns"]):
        first[k] = used[conn["dst"]]
        used[conn["dst"]] += size[conn["src"]]
    cores = tuple(_core(g, case, numbers, first, compat, drop_zeros) for g in case["groups"])
    sends = [(k, c) for k, c in enumerate(case["conns"]) if c["src"] == "in"]
    neuron = np.arange(case["n_in"])
    spikes = InputMap(
        "in",
        "spikes",
        (case["n_in"],),
        np.concatenate([neuron for _ in sends]),
        np.concatenate([np.full(neuron.size, numbers[c["dst"]]) for _, c in sends]),
        np.concatenate([first[k] + neuron for k, _ in sends]),
    )
    pops = tuple(
        PopMap(
            g["name"], (g["n"],), np.full(g["n"], numbers[g["name"]]), np.arange(g["n"]), np.arange(g["n"])
        )
        for g in case["groups"]
    )
    return LoihiImage(Header(compat=compat, steps=case["T"]), cores, (spikes,), (), pops)


def _core(
    g: dict[str, Any],
    case: dict[str, Any],
    numbers: dict[str, int],
    first: dict[int, int],
    compat: Compat,
    drop_zeros: bool,
) -> CoreImage:
    n = g["n"]
    into = [(k, c) for k, c in enumerate(case["conns"]) if c["dst"] == g["name"]]
    out = [(k, c) for k, c in enumerate(case["conns"]) if c["src"] == g["name"]]
    ds, dm = int(g["du_eff"] > 0), int(g["dv_eff"] == 4096)
    tables: dict[str, Any] = {
        "core_cfg": pack(
            "core_cfg",
            {
                "num_updates": -(-n // 4),
                "delay_bits": 3,
                "neg_vm_limit": 23,
                "pos_vm_limit": 7,
                "ds_offset": ds,
                "dm_offset": dm,
            },
        ),
        "cx_profile": pack(
            "cx_profile",
            {"decay_u": g["du_eff"] - ds, "decay_v": g["dv_eff"] - dm, "refract_delay": g["refract"]},
        ),
        "vth_profile": pack("vth_profile", {"vth": g["vth_mant"]}),
        "cx_cfg": pack("cx_cfg", {"bias": g["bias_mant"], "bias_exp": g["bias_exp"]}),
        "cx_meta": cx_meta_words(np.ones(n, bool)),
        "axon_ptr": pack("axon_ptr", {"first": np.arange(n) * len(out), "count": np.full(n, len(out))}),
        "axon_cfg": pack(
            "axon_cfg",
            {
                "dst_core": np.tile([numbers[c["dst"]] for _, c in out], n),
                "dst_syn_map": (np.array([first[k] for k, _ in out], int) + np.arange(n)[:, None]).reshape(
                    -1
                ),
                "kind": DISCRETE,
            },
        )
        if out
        else [],
    }
    return CoreImage(numbers[g["name"]], tables | _synapses(into, compat, drop_zeros))


def _synapses(into: list[tuple[int, dict[str, Any]]], compat: Compat, drop_zeros: bool) -> dict[str, Any]:
    formats, parts = {}, []
    for number, (_, c) in enumerate(into, start=1):
        w = round_mantissa(c["w"], c["bits"], c["sign"], c["w_exp"], compat)
        formats[number] = SynFormat(
            wgt_bits=c["bits"],
            wgt_exp=c["w_exp"],
            fanout_type=c["sign"],
            compression=DENSE,
            dly_bits=3 if c["delay"] else 0,
        )
        parts.append((number, w, c["delay"]))
    fmt = np.concatenate([np.full(w.size, number) for number, w, _ in parts])
    delay = np.concatenate([np.full(w.size, d) for _, w, d in parts])
    lengths = np.concatenate([np.full(w.shape[0], w.shape[1]) for _, w, _ in parts])
    idx = np.concatenate([np.tile(np.arange(w.shape[1]), w.shape[0]) for _, w, _ in parts])
    mantissa = np.concatenate([w.reshape(-1) for _, w, _ in parts])
    keep = (mantissa != 0) | (not drop_zeros)
    owner = np.repeat(np.arange(lengths.size), lengths)[keep]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=lengths.size))])
    lists = encode_axon_lists(formats, offsets, fmt[keep], idx[keep], delay[keep], mantissa[keep])
    words = [0] + [formats[k].word() for k in sorted(formats)]
    return {
        "syn_fmt": np.array(words, np.uint64),
        "syn_mem": lists.words,
        "syn_map": pack(
            "syn_map", {"type": DISCRETE, "ptr": lists.offsets[:-1], "len": np.diff(lists.offsets) - 1}
        ),
    }
