"""The Loihi emulator gives the integers that other people's tools gave, and counts what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.targets.loihi.emulator.energy import energy
from nmc.targets.loihi.emulator.engine import Emulator
from nmc.targets.loihi.emulator.kernels import Method
from nmc.targets.loihi.layout import COMPATS, Compat, LoihiImage
from nmc.targets.loihi.weights import round_mantissa

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


def test_counts_and_energy_of_c11_are_those_of_sanafe(
    load_case: Callable[[str], dict[str, Any]], build_case: Callable[..., LoihiImage]
) -> None:
    """Facts 3, energy check on c11.

    SANA-FE makes no synapse for a zero weight, and counts synapses in the step that sends the spike: ours of
    the last step would come in step 201.
    """
    case = load_case("c11_ff_32_48_16")
    emulator = Emulator(build_case(case, "nmc", drop_zeros=True))
    events = emulator.run({"in": _input(case)}, 200).events
    longer = emulator.run({"in": np.pad(_input(case), ((0, 0), (0, 1), (0, 0)))}, 201).events
    events = replace(events, synaptic_events=longer.synaptic_events)
    assert events.synaptic_events.sum() == 83310
    assert events.neuron_updates.sum() == 12800
    assert events.spikes.sum() == 6702
    assert events.messages.sum() + events.host_messages.sum() == 4502
    report = energy(events)
    expected = (83310 * 35.5e-12, 12800 * (51.2e-12 + 21.6e-12) + 6702 * 69.3e-12, 4502 * 111e-12)
    assert (report.synapse, report.soma, report.network) == pytest.approx(expected, rel=1e-12)
    assert report.total == pytest.approx(4.8535156e-06, rel=1e-9)


def _random_case(seed: int, *, delays: bool = True) -> dict[str, Any]:
    """Recurrent net with extreme weights: q, u and v leave their ranges."""
    rng = np.random.default_rng(seed)
    groups: list[dict[str, Any]] = [
        {
            "name": f"g{k}",
            "n": int(rng.integers(3, 12)),
            "du_eff": int(rng.choice([1, 40, 700, 4096])),
            "dv_eff": int(rng.choice([0, 3, 1000, 4096])),
            "vth_mant": int(rng.integers(1, 1 << 11)),
            "refract": int(rng.integers(1, 5)),
        }
        for k in range(3)
    ]
    for g in groups:
        g["bias_mant"] = rng.integers(-4096, 4096, g["n"]).tolist()
        g["bias_exp"] = rng.integers(0, 8, g["n"]).tolist()
    conns = []
    for src, n_src in [("in", 9)] + [(g["name"], g["n"]) for g in groups]:
        for g in groups:
            sign = int(rng.integers(1, 4))
            low, high = {1: (-256, 255), 2: (0, 256), 3: (-255, 1)}[sign]
            conns.append(
                {
                    "src": src,
                    "dst": g["name"],
                    "w": rng.integers(low, high, (n_src, g["n"])),
                    "w_exp": int(rng.integers(-8, 8)),
                    "sign": sign,
                    "bits": int(rng.choice([2, 6, 8])),
                    "delay": int(rng.integers(0, 7)) * delays,
                }
            )
    spikes = np.argwhere(rng.random((60, 9)) < 0.3).tolist()
    return {"T": 60, "n_in": 9, "input": spikes, "groups": groups, "conns": conns}


def _wrap(x: np.ndarray | int, bits: int) -> np.ndarray:
    half = 1 << (bits - 1)
    return np.asarray((x + half) % (2 * half) - half)


def _decay(x: np.ndarray, d: int) -> np.ndarray:
    return np.asarray(np.sign(x) * ((np.abs(x) * (4096 - d)) >> 12))


def _q(
    case: dict[str, Any], spikes: dict[str, np.ndarray], name: str, t: int, compat: Compat
) -> np.ndarray | int:
    """Accumulator of group `name` at row t, straight from facts 2 and 2.3."""
    q: np.ndarray | int = 0
    for c in case["conns"]:
        row = t - c["delay"] - (c["src"] != "in")
        if c["dst"] != name or row < 0:
            continue
        m = round_mantissa(c["w"], c["bits"], c["sign"], c["w_exp"], compat)
        s, e = spikes[c["src"]][row], c["w_exp"]
        if compat == "lava" and e < 0:
            q = q + (((s @ m) >> -e) << 6)
        else:
            w = (m << e if e >= 0 else m >> -e) << 6
            q = q + s @ (np.clip(w, -(2**21) + 64, 2**21 - 64) if compat == "brian2loihi" else w)
    return _wrap(q, 22) if compat in ("nmc", "nengo-loihi") else q


def _simulate(case: dict[str, Any], compat: Compat) -> dict[str, np.ndarray]:
    """The plain reading of facts 2: one sample, loops over steps and groups."""
    spikes = {g["name"]: np.zeros((case["T"], g["n"]), np.int64) for g in case["groups"]} | {
        "in": _input(case)[0]
    }
    spikes["in"] = spikes["in"].astype(np.int64)
    out = {f"{g['name']}.{k}": np.zeros((case["T"], g["n"]), np.int64) for g in case["groups"] for k in "uv"}
    state = {g["name"]: [np.zeros(g["n"], np.int64) for _ in range(3)] for g in case["groups"]}
    for t in range(case["T"]):
        for g in case["groups"]:
            name = g["name"]
            u, v, ref = state[name]
            u = _decay(u, g["du_eff"]) + _q(case, spikes, name, t, compat)
            if compat == "lava":
                u = -_wrap(-u, 24)
            elif compat != "brian2loihi":
                u = _wrap(u, 24)
            v = _decay(v, g["dv_eff"]) + u + (np.array(g["bias_mant"]) << np.array(g["bias_exp"]))
            if compat != "brian2loihi":
                v = np.clip(v, -(2**23) + 1, 2**23 - 1)
            v = np.where(ref > 0, 0, v)
            fired = v > g["vth_mant"] << 6
            v, ref = np.where(fired, 0, v), np.maximum(np.where(fired, g["refract"], ref) - 1, 0)
            state[name] = [u, v, ref]
            spikes[name][t] = fired
            out[f"{name}.u"][t], out[f"{name}.v"][t] = u, v
    return out | {f"{name}.spikes": s for name, s in spikes.items() if name != "in"}


@pytest.mark.parametrize("method", ["auto", "gemm", "scatter", "int64"])
@pytest.mark.parametrize("compat", COMPATS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_recurrent_nets_follow_the_equations(
    seed: int, compat: Compat, method: Method, build_case: Callable[..., LoihiImage]
) -> None:
    case = _random_case(seed)
    expected = _simulate(case, compat)
    assert sum(expected[k].sum() for k in expected if k.endswith("spikes")) > 50
    emulator = Emulator(build_case(case, compat), method=method)
    result = emulator.run({"in": _input(case)}, 60, probes=tuple(expected))
    for key, value in expected.items():
        np.testing.assert_array_equal(result.probes[key][0], value, err_msg=key)


def test_the_batch_size_changes_nothing(build_case: Callable[..., LoihiImage]) -> None:
    image = build_case(_random_case(4), "nmc")
    spikes = (np.random.default_rng(0).random((7, 20, 9)) < 0.3).astype(np.uint8)
    done: list[tuple[int, int]] = []
    runs = [Emulator(image).run({"in": spikes}, 20, probes=["g1.v", "g2.spikes"], batch=b) for b in (1, 3, 7)]
    for name in ("g1.v", "g2.spikes"):
        for run in runs[1:]:
            np.testing.assert_array_equal(run.probes[name], runs[0].probes[name])
    for field in ("spikes", "synaptic_events", "axon_in", "messages", "host_messages", "neuron_updates"):
        for run in runs[1:]:
            np.testing.assert_array_equal(getattr(run.events, field), getattr(runs[0].events, field))
    Emulator(image).run({"in": spikes}, 20, batch=3, progress=lambda a, b: done.append((a, b)))
    assert done[-1] == (140, 140)
    assert [a for a, _ in done] == sorted({a for a, _ in done})


def test_wide_layers_give_the_same_integers_by_every_method(build_case: Callable[..., LoihiImage]) -> None:
    """784 inputs into 150 compartments with weight exponent 7: sums pass 2^24, so float64 is needed."""
    rng = np.random.default_rng(5)
    w = rng.integers(-128, 128, (784, 150)) * 2
    group = {"name": "g", "n": 150, "du_eff": 1000, "dv_eff": 100, "vth_mant": 131071, "refract": 2}
    group |= {"bias_mant": [0] * 150, "bias_exp": [0] * 150}
    conn = {"src": "in", "dst": "g", "w": w, "w_exp": 7, "sign": 1, "bits": 6, "delay": 0}
    image = build_case({"T": 5, "n_in": 784, "groups": [group], "conns": [conn]}, "nmc")
    spikes = (rng.random((5, 5, 784)) < 0.3).astype(np.uint8)
    methods: tuple[Method, ...] = ("auto", "gemm", "scatter", "int64")
    runs = [Emulator(image, method=m).run({"in": spikes}, 5, probes=["g.u", "g.v"]) for m in methods]
    for run in runs:
        for probe in ("g.u", "g.v"):
            np.testing.assert_array_equal(run.probes[probe], runs[3].probes[probe])
    assert np.abs(runs[0].probes["g.u"]).max() > 1 << 20
