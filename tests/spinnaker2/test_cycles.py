"""The cycle budget: its constants are those of the prebuilt ARM code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nmc.ir.op import Span
from nmc.ir.ops.expressions import OPERATIONS
from nmc.targets.spinnaker2 import cycles
from nmc.targets.spinnaker2.build import PeProgram, build
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.engines.exact import ExactEngine
from nmc.targets.spinnaker2.laws import PARAMS, Law
from nmc.targets.spinnaker2.layout import LINKS, ChipImage, InputMap, Part, PopMap, Route
from nmc.targets.spinnaker2.machine import Machine
from nmc.targets.spinnaker2.rows import ConvRows, DenseRows, Entry, Rows, SparseRows
from s2_programs import random_law

SOURCES = 256


def count(
    law: Law, n: int, params: Any, rows: tuple[Rows, ...] = (), spikes: int = 0, payload: int = 1
) -> int:
    """Instructions of the tick in which `spikes` packets arrive."""
    pytest.importorskip("unicorn")
    entries = tuple(Entry(0, 0xFFFFFF00, item) for item in rows)
    program = PeProgram(0, 0, 1 << 16, law, n, params, np.zeros(1), entries, rx_packets=512)
    source = InputMap("x", (SOURCES,), (Part(0, -1, 0, (Span(0, SOURCES),)),))
    pops = (PopMap("p", (n,), (Part(0, 0, 1 << 16, (Span(0, n),)),)),)
    image = ChipImage((build(program),), {0: (Route(0, 0xFFFFFF00, 1 << LINKS),)}, (source,), pops)
    engine = ExactEngine(load_chip(image), count_instructions=True)
    x = np.zeros((1, 1, SOURCES), np.int32)
    x[0, 0, :spikes] = payload
    engine.run({"x": x}, 3)
    return engine.counters[0, 0].ticks[1]


def silent(model: str, n: int, uniform: bool) -> dict[str, Any]:
    """Parameters with which nothing fires."""
    params: dict[str, Any] = {
        name: np.array([1 << 29]) for name in ("theta", "threshold") if name in PARAMS[model]
    }
    if model == "lif":
        params["bias"] = np.array([1e-3])
    if not uniform and PARAMS[model]:
        name = next(iter(PARAMS[model]))
        params[name] = np.arange(1, n + 1) + ((1 << 28) if name == "theta" else 0)
    return params


@pytest.mark.parametrize("name", sorted(cycles.NEURON))
@pytest.mark.parametrize("uniform", [True, False])
def test_instructions_a_neuron(name: str, uniform: bool) -> None:
    model: Any = name.removesuffix("2")
    serial: dict[str, Any] = {"extra": 4, "open": 3} if model == "bit_serial" else {}
    law = Law(model, types=2 if name.endswith("2") else 1, levels=15, **serial)
    few, many = (count(law, n, silent(model, n, uniform)) for n in (50, 150))
    assert (many - few) / 100 == pytest.approx(cycles.neuron_instructions(law, uniform=uniform), abs=3)
    told = cycles.tick_instructions(law, 50, uniform=uniform)
    assert 0.85 * told < few < 1.05 * told


def one_operation(name: str, fixed: tuple[int, ...], times: int) -> Law:
    """A model of the user's that does one operation several times."""
    wanted, made = OPERATIONS[name]
    first = 4
    number = 3 << 14 if fixed else int(np.float32(1.5).view(np.uint32))
    taken = [
        first if kind == "b" else 2 + (k > 0) for k, kind in enumerate("nnb" if name == "select" else wanted)
    ]
    a, b, c = (*taken, 0, 0)[:3]
    line = (name, first + (made == "n"), a, b, c)
    code = (("lt", first, 0, 1, 0), *[line] * times)
    return Law("user", machine=Machine(1, 0, (number, number // 3), 2, code, 0, fixed))


@pytest.mark.parametrize("fixed", [(), (16, 15)], ids=["float", "fixed"])
@pytest.mark.parametrize("name", sorted(cycles.USER_OP))
def test_instructions_of_the_operations_of_a_model_of_ones_own(name: str, fixed: tuple[int, ...]) -> None:
    without, law = one_operation(name, fixed, 0), one_operation(name, fixed, 3)
    told = [cycles.tick_instructions(item, 48, uniform=True) for item in (without, law)]
    have = [count(item, 48, {}) for item in (without, law)]
    assert have[0] == pytest.approx(told[0], rel=0.03)
    assert have[1] - have[0] == pytest.approx(told[1] - told[0], rel=0.1 if name != "max" else 0.4)


@pytest.mark.parametrize("seed", range(6))
def test_instructions_of_a_random_model_of_ones_own(seed: int) -> None:
    law = random_law(np.random.default_rng(seed), "user")
    assert law.machine
    params = {name: np.zeros(1, law.machine.dtype) for name in law.machine.param_names}
    for n in (1, 16, 70):
        sent = cycles.SEND * n if law.fires else 0
        told = cycles.tick_instructions(law, n, uniform=True)
        assert 0.5 * told < count(replace(law, start=0), n, params) < 1.05 * told + sent


def test_lif_neurons_without_bias_gain_and_leak_take_less() -> None:
    law, params = Law("lif"), {"threshold": np.array([1 << 29])}
    few, many = (count(law, n, params) for n in (50, 150))
    assert (many - few) / 100 < 0.8 * cycles.neuron_instructions(law, uniform=True)


def sparse(form: Any, each: int) -> SparseRows:
    source = np.repeat(np.arange(SOURCES), each)
    return SparseRows(form, SOURCES, source, np.tile(np.arange(each), SOURCES), np.ones(source.size, int))


def conv(taps: int, channels: int, stride: int = 1, rows: Span | None = None) -> ConvRows:
    """A kernel on 16 x 16 places, or those of its output that are in `rows`."""
    pad, space, out = taps // 2, Span(0, 16), Span(0, 16 // stride)
    weight = np.ones((channels, 1, taps, taps), int)
    goal = (Span(0, channels), rows or out, out)
    return ConvRows(weight, (stride, stride), (pad,) * 4, (1, 1), 1, (Span(0, 1), space, space), goal)


@pytest.mark.parametrize(
    ("rows", "n"),
    [
        (DenseRows(np.ones((SOURCES, 64), int)), 64),
        (DenseRows(np.ones((SOURCES, 32), int)), 64),
        (sparse("sparse16", 60), 64),
        (sparse("sparse32", 30), 64),
        (conv(1, 4), 1024),
        (conv(3, 8), 2048),
        (conv(5, 4), 1024),
        (conv(3, 8, 2), 512),
        (conv(5, 8, 1, Span(8, 9)), 128),
    ],
)
def test_instructions_a_spike(rows: Rows, n: int) -> None:
    law = Law("readout")
    found = (count(law, n, {}, (rows,), SOURCES) - count(law, n, {}, (rows,), 0)) / SOURCES
    dense = np.array(rows.weights.shape[1] if isinstance(rows, DenseRows) else 0)
    together = float(cycles.run_instructions(1, dense, np.array(SOURCES)))
    assert found == pytest.approx(cycles.spike_instructions(rows).mean() + together / SOURCES, rel=0.12)


@pytest.mark.parametrize("spikes", [1, 2, 4, 5, 8, 31, 32, 33, 100])
@pytest.mark.parametrize("targets", [8, 50, 128])
def test_instructions_of_dense_rows_together(spikes: int, targets: int) -> None:
    rows = DenseRows(np.ones((SOURCES, targets), int))
    few, all_of_them = (count(Law("readout"), targets, {}, (rows,), k) for k in (0, spikes))
    together = float(cycles.run_instructions(1, np.array(targets), np.array(spikes)))
    told = spikes * cycles.spike_instructions(rows)[0] + together
    assert all_of_them - few == pytest.approx(told, rel=0.1)


def test_instructions_of_a_spike_that_nobody_waits_for() -> None:
    rows = (DenseRows(np.ones((SOURCES // 4, 16), int)),)
    few, all_of_them = (count(Law("readout"), 16, {}, rows, n) for n in (SOURCES // 4, SOURCES))
    assert (all_of_them - few) / (SOURCES * 3 // 4) == pytest.approx(cycles.MISS, abs=3)


def test_deadline_margin() -> None:
    assert cycles.deadline_margin(150_000 / cycles.CPI, 150_000_000) == pytest.approx(0)
    assert cycles.deadline_margin(150_000 / cycles.CPI, 300_000_000) == pytest.approx(0.5)
