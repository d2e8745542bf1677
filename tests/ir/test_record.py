"""The discretisation record: on every module of level snn, and what it says is what the interpreter computes.

The reference is written anew in plain Python from the record's own words: no numpy, no coefficients of ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.frontends.nir.convention import Convention
from nmc.frontends.nir.load import build
from nmc.frontends.nir.primitives import Graph, Node
from nmc.frontends.nir.shapes import Shapes
from nmc.frontends.snn import read_snn
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.ops.neurons import Neuron
from nmc.ir.record import MIXED, PER_POPULATION, Record, problems
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify

DT, STEPS, N = 0.5, 8, 2
TAU_MEM, TAU_SYN, R, W_IN, THRESHOLD, V_LEAK, V_RESET = 3.0, 1.25, 1.5, 2.0, 0.375, 0.0625, -0.125
W = ((1.25, -0.5, 0.75), (0.5, 1.0, -0.25))
W_REC = ((-0.5, 0.75), (0.25, -1.0))
BIAS = (0.125, -0.0625)
X = np.random.default_rng(11).integers(0, 2, (1, STEPS, 3)).astype(np.uint8)
RESETS = ("zero", "subtract", "to-value", "subtract-late", "subtract-guarded")


def network(kind: str) -> Graph:
    """Three inputs, two recurrent neurons of a kind, an output."""
    one = np.ones(N)
    cell: dict[str, Any] = {
        "r": R * one,
        "v_leak": V_LEAK * one,
        "v_threshold": THRESHOLD * one,
        "v_reset": V_RESET * one,
    }
    taus = {"tau": TAU_MEM * one} if kind == "LIF" else {"tau_mem": TAU_MEM * one, "tau_syn": TAU_SYN * one}
    w_in = {} if kind == "LIF" else {"w_in": W_IN * one}
    nodes = [
        Node("input", "Input", {"shape": np.array([3])}), Node("n", kind, {**cell, **taus, **w_in}),
        Node("w", "Affine", {"weight": np.array(W), "bias": np.array(BIAS)}),
        Node("w_rec", "Linear", {"weight": np.array(W_REC)}), Node("output", "Output", {}),
    ]  # fmt: skip
    edges = (("input", "w"), ("w", "n"), ("n", "w_rec"), ("w_rec", "n"), ("n", "output"))
    return Graph({node.name: node for node in nodes}, edges)


def matrix_exponential(a: list[list[float]]) -> list[list[float]]:
    """By its series, plain."""
    size = len(a)
    total = [[float(i == j) for j in range(size)] for i in range(size)]
    term = [row[:] for row in total]
    for k in range(1, 40):
        term = [
            [sum(term[i][m] * a[m][j] for m in range(size)) / k for j in range(size)] for i in range(size)
        ]
        total = [[total[i][j] + term[i][j] for j in range(size)] for i in range(size)]
    return total


def reference(record: Record, kind: str) -> Iterator[tuple[list[int], list[float]]]:
    """Step by step: spikes and potentials."""
    v, i_syn, late = [0.0] * N, [0.0] * N, [0.0] * N
    history: list[list[int]] = []
    for t in range(STEPS):
        fired = []
        for k in range(N):
            x, bias = arriving(record, history, t, k), BIAS[k] if t >= record.output_delay else 0.0
            leak = V_LEAK if t >= record.output_delay else 0.0
            v[k], i_syn[k] = integrated(record, kind, v[k], i_syn[k], x, bias, leak)
            count, v[k], late[k] = fire(record, v[k], late[k], kept=history_v(record, t, k, VKEPT))
            if record.decay_last:
                v[k] *= decays(record)[0]
            VKEPT[k] = v[k]
            fired.append(count)
        history.append(fired)
        yield fired, v[:]


VKEPT = [0.0] * N


def history_v(record: Record, t: int, k: int, kept: list[float]) -> float:
    """The potential at the end of the step before."""
    return 0.0 if t == 0 else kept[k]


def arriving(record: Record, history: list[list[int]], t: int, k: int) -> float:
    total = 0.0
    then = t - record.output_delay
    if then >= 0:
        total += sum(W[k][j] * float(X[0, then, j]) for j in range(3))
    then = t - record.recurrent_delay
    if then >= 0:
        total += sum(W_REC[k][j] * history[then][j] for j in range(N))
    return total


def decays(record: Record) -> tuple[float, float]:
    if record.integrator == "exact":
        return math.exp(-DT / TAU_MEM), math.exp(-DT / TAU_SYN)
    return 1 - DT / TAU_MEM, 1 - DT / TAU_SYN


def integrated(
    record: Record, kind: str, v: float, i: float, x: float, bias: float, leak: float
) -> tuple[float, float]:
    """One step of tau_syn I' = w_in x - I, tau_mem v' = v_leak - v + R I before the threshold."""
    beta, alpha = decays(record)
    held = record.integrator == "exact" and record.drive != "impulse"
    through = x + (bias if record.bias_site == "current" else 0.0)
    to_v, to_i = (1 - beta, 1 - alpha) if held else (DT / TAU_MEM, DT / TAU_SYN)
    v_before = v if record.decay_last else beta * v
    if kind == "LIF":
        beside = R * to_v * bias if record.bias_site == "membrane" else 0.0
        drive = (
            through if record.order == "synapse-first" else i
        )  # what has no filter is its own synaptic state
        return v_before + R * to_v * drive + leak * (1 - beta) + beside, through
    if held and record.drive == "step":  # both equations at once, solved exactly for an x that is held
        rates = [
            [-DT / TAU_SYN, 0.0, DT * W_IN / TAU_SYN],
            [DT * R / TAU_MEM, -DT / TAU_MEM, 0.0],
            [0.0, 0.0, 0.0],
        ]
        e = matrix_exponential(rates)
        gain = e[1][0]
        fresh = v_before + e[1][0] * i + e[1][2] * through + leak * (1 - beta)
        fresh += gain * W_IN * bias if record.bias_site == "membrane" else 0.0
        if record.decay_last:
            return fresh, (i + e[0][2] * through) * alpha
        return fresh, e[0][0] * i + e[0][2] * through
    gain = R * to_v
    after = (i if record.decay_last else alpha * i) + W_IN * to_i * through
    drive = after if record.order == "synapse-first" else i
    fresh = v_before + gain * drive + leak * (1 - beta)
    fresh += gain * W_IN * bias if record.bias_site == "membrane" else 0.0
    return fresh, after * alpha if record.decay_last else after


def fire(record: Record, v: float, late: float, kept: float) -> tuple[int, float, float]:
    """Spikes of a step, the potential after them, and what is still to be subtracted."""
    if record.reset == "subtract-late":
        v -= late
    guard = THRESHOLD if record.reset == "subtract-guarded" and kept > THRESHOLD else 0.0
    v -= guard
    count = 0
    while count < record.max_spikes:
        left = v - count * THRESHOLD
        if not (left > THRESHOLD if record.compare == "gt" else left >= THRESHOLD):
            break
        count += 1
    if record.reset == "subtract":
        v -= count * THRESHOLD
    elif record.reset == "subtract-guarded":
        v -= count * THRESHOLD - guard
    elif count and record.reset in ("zero", "to-value"):
        v = V_RESET if record.reset == "to-value" else 0.0
    return count, v, count * THRESHOLD if record.reset == "subtract-late" else 0.0


@pytest.mark.parametrize("integrator", ["exact", "euler"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_every_combination_is_computed_as_it_says(kind: str, reset: Any, integrator: Any) -> None:
    graph = network(kind)
    shapes, total = Shapes(graph, "test"), 0
    # Without a filter or with Euler's rule the two drives differ by a factor only.
    drives = ("step", "impulse") if integrator == "exact" and kind == "CubaLIF" else ("step",)
    orders = ("synapse-first", "membrane-first")
    axes = product(
        orders, ("gt", "ge"), ("current", "membrane"), (False, True), (1, 3), (1, 2), (0, 1), drives
    )
    for order, compare, site, last, most, recurrent, output, drive in axes:
        record = Record(DT, integrator, drive, order, compare, reset, recurrent, output, site, most, last)  # type: ignore[arg-type]
        module = build("test.nir", graph, shapes, record, Convention("nir", DT))
        result = run_snn(module, {"input": X}, STEPS, probes=["n.spikes", "n.v"])
        VKEPT[:] = [0.0] * N
        for t, (spikes, v) in enumerate(reference(record, kind)):
            assert result.probes["n.spikes"][0, t].tolist() == spikes, f"step {t} of {record}"
            np.testing.assert_allclose(result.probes["n.v"][0, t], v, atol=1e-12, err_msg=str(record))
            total += sum(spikes)
    assert total > 100, "a network that is silent shows nothing"


def test_record_of_a_program_names_what_its_populations_share() -> None:
    text = "network n(dt = 2 ms, integrator = euler)\ninput x[1] : raster()\n"
    text += "pop a[1] : lif(tau = 9 ms, reset = subtract)\npop b[1] : lif(tau = 9 ms, reset = zero, compare = ge)\n"
    text += "x -> a : dense(weight = 1)\na -> b : dense(weight = 1)\noutput b : count()\n"
    record = read_snn(text).attr("record")
    assert (record["dt"], record["integrator"], record["drive"]) == (0.002, "euler", "delta")
    assert (record["reset"], record["compare"], record["order"]) == (MIXED, MIXED, "synapse-first")


def test_converted_network_has_a_record_in_its_text(repo: Path) -> None:
    from nmc.driver import load, opt

    source = load(repo / "examples" / "models" / "digits_mlp.onnx")
    samples = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    from nmc.passes.quantize.calibrate import Calibrate

    ready = Calibrate(samples=samples).run(opt(source, "fold-batchnorm, fold-affine, dead-code"))
    module = opt(ready, "ann-to-snn{reset=zero}")
    assert module.attr("record") == Record(1.0, drive="delta", reset="zero").attrs()
    assert "record={dt=1.0, integrator=exact" in str(module)
    later = opt(module, "neuron-to-if, retime")
    assert later.attr("record") == module.attr("record"), "passes keep it"


def test_text_without_a_record_is_well_formed_and_a_wrong_one_is_not() -> None:
    body = "{\n  %x = snn.input() {source=x, shape=[2], encoder=raster} : spikes<2>\n"
    body += "  snn.output(%x) {decoder=count}\n}\n"
    assert not verify(parse(f"module @n snn {body}"))
    wrong = parse(f"module @n snn attributes {{record={{dt=-1.0, reset=sometimes, colour=red}}}} {body}")
    found = verify(wrong)
    assert [item.code for item in found] == ["E0116"] * 3
    assert {"dt", "reset", "colour"} == {
        word for item in found for word in ("dt", "reset", "colour") if word in item.message
    }


@pytest.mark.parametrize(("entry", "item"), [
    ("dt", 0), ("dt", True), ("dt", float("nan")), ("max_spikes", 0), ("max_spikes", 1.5), ("decay_last", 1),
    ("recurrent_delay", -1), ("order", "first"), ("integrator", MIXED), ("drive", None),
])  # fmt: skip
def test_wrong_entries_are_told(entry: str, item: object) -> None:
    assert len(problems({"dt": 1.0, entry: item})) == 1
    with pytest.raises(ValueError, match=entry):
        Record.read({"dt": 1.0, entry: item})


def test_reading_gives_back_what_was_written() -> None:
    record = replace(Record(0.25), reset="subtract-late", max_spikes=3, decay_last=True)
    assert Record.read(record.attrs()) == record
    entries = {**record.attrs(), **dict.fromkeys(PER_POPULATION, MIXED)}
    assert not problems(entries) and Record.read(entries) == Record(0.25)


def test_a_frontend_that_fails_to_say_dt_is_caught(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks dt"):
        Record.read({"integrator": "exact"})
    module = Module("n", "snn", (), (("record", {"integrator": "exact"}),))
    assert [item.code for item in verify(module)] == ["E0116"]
    assert isinstance(NmcError(verify(module)), Exception) and not module.of_type(Neuron)
