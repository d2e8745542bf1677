"""Projections of every kind: listed synapses, delays of their own, generators, relays, places and advice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_chain import assert_every_synapse_once, assert_lawful, compile_legal, legal_module
from nmc.driver import CompileOptions, compile_model, load, opt
from nmc.frontends.snn import load_snn
from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.ops.neurons import Sparse
from nmc.ir.ops.plastic import Plastic
from nmc.ir.ops.sources import Poisson
from nmc.ir.verify import verify
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.axons import axon_lists
from nmc.targets.loihi.demands import whole
from nmc.targets.loihi.emulator.engine import Emulator
from nmc.targets.loihi.synapses import encode_axon_lists

Array = np.ndarray[Any, Any]
HEAD = "network n(dt = 1 ms, steps = 40, seed = 3)\nneuron c = iaf(v_threshold = 1.0, reset = zero)\n"


def program(tmp_path: Path, text: str) -> Module:
    path = tmp_path / "n.snn"
    path.write_text(HEAD + text)
    return load_snn(path)


def listed(rng: np.random.Generator, sources: int, targets: int, count: int, **fields: Any) -> loihi.Sparse:
    pick = rng.permutation(sources * targets)[:count]
    target, source = np.divmod(pick, sources)
    x = loihi.Input(out="x", source="x", shape=(sources,), kind="raster")
    return loihi.Sparse(
        out="p.x", spikes=x.result, shape=(targets,), source=Const("s", source.astype(np.int32)),
        target=Const("t", target.astype(np.int32)),
        weight=Const("w", (2 * rng.integers(1, 60, count)).astype(np.int16)), **fields,
    )  # fmt: skip


def test_listed_synapses_compute_what_a_matrix_computes() -> None:
    rng = np.random.default_rng(1)
    op = listed(rng, 30, 20, 200, exp=2)
    matrix = np.zeros((20, 30), np.int16)
    matrix[op.target.array(), op.source.array()] = op.weight.array()
    dense = loihi.Dense(out="d", spikes=op.spikes, weight=Const("m", matrix), exp=2)
    spikes = (rng.random((5, 30)) < 0.4).astype(np.uint8)
    np.testing.assert_array_equal(op.run(spikes), dense.run(spikes))
    np.testing.assert_array_equal(op.run(np.zeros_like(spikes)), np.zeros((5, 20), np.int64))


@pytest.mark.parametrize("delays", [False, True])
def test_the_words_counted_are_the_words_encoded(delays: bool) -> None:
    rng = np.random.default_rng(2)
    late = Const("late", rng.integers(0, 20, 3000).astype(np.uint8)) if delays else None
    op = listed(rng, 60, 500, 3000, exp=2, delay=0, late=late)
    lists = axon_lists(op, whole((500,)), 1, 300, injected=True)
    made = encode_axon_lists({1: lists.fmt}, lists.offsets, 1, lists.idx, lists.delay, lists.mantissa)
    np.testing.assert_array_equal(np.diff(made.offsets), lists.words)
    assert lists.fmt.dly_bits == (5 if delays else 0)
    assert len(lists.source) == len(np.unique(op.source.array()))


def test_delays_of_one_projection_share_axons_and_arrive_in_time() -> None:
    rng = np.random.default_rng(3)
    late = Const("late", rng.integers(0, 31, 400).astype(np.uint8))
    op = listed(rng, 20, 40, 400, exp=3, delay=0, late=late)
    x = loihi.Input(out="x", source="x", shape=(20,), kind="raster")
    p = loihi.Lif(out="p", current=(op.result,), vth=60)
    chain = compile_legal(legal_module([x, op, p]))
    chain.assert_equal_everywhere({"x": (rng.random((2, 50, 20)) < 0.2).astype(np.uint8)}, 50)
    assert_every_synapse_once(chain)
    ((_, use),) = assert_lawful(chain.image).items()
    assert use["in_axons"] == 20


def test_a_poisson_source_injects_the_counts_that_the_interpreter_draws(tmp_path: Path) -> None:
    text = (
        "input x[12] : poisson(rate = 1.7 kHz)\npop p[12] : c\n"
        "x -> p : one_to_one(weight = 0.3)\noutput p : count()\n"
    )
    module = program(tmp_path, text)
    legal = opt(module, "neuron-to-if, retime, join-delays, loihi-legalize")
    (source,), (drawn,) = module.of_type(Poisson), legal.of_type(loihi.Input)
    for t in (0, 7):
        counts = source.encode(np.zeros((3, 12)), 5, t)
        np.testing.assert_array_equal(drawn.encode(np.zeros((3, 12)), 5, t), counts)
        assert counts.max() > 1
    chain = compile_legal(legal)
    chain.assert_equal_everywhere({}, 40)
    float_spikes, spikes = (
        run_snn(each, {}, 40, probes=("p.spikes",)).probes["p.spikes"] for each in (module, legal)
    )
    np.testing.assert_array_equal(
        spikes, float_spikes
    )  # 0.3 is rounded, but not so that a sum of it passes one


def test_joined_projections_give_the_same_currents(tmp_path: Path) -> None:
    text = (
        "input x[30] : raster()\npop p[20] : c\n"
        "x -> p : fixed_prob(p = 0.3, weight = normal(0.2, 0.1), delay = uniform(1 ms, 9 ms))\n"
    )
    module = program(tmp_path, text)
    joined = opt(module, "join-delays")
    assert len(module.of_type(Sparse)) > 5 and len(joined.of_type(Sparse)) == 1
    assert verify(joined) == ()
    data = {"x": (np.random.default_rng(4).random((2, 40, 30)) < 0.3).astype(np.uint8)}
    before, after = (run_snn(each, data, 40, probes=("p.v",)).probes["p.v"] for each in (module, joined))
    np.testing.assert_allclose(before, after, atol=1e-12)


def test_long_delays_go_through_relays_and_arrive_in_the_same_step(tmp_path: Path) -> None:
    text = (
        "input x[6] : raster()\npop a[6] : c\npop b[6] : c\nx -> a : one_to_one(weight = 1.5)\n"
        "a -> b : one_to_one(weight = 1.5, delay = 150 ms)\nb -> a : dense(weight = -0.1, delay = 70 ms)\n"
        "output b : count()\n"
    )
    module = program(tmp_path, text)
    data = {"x": (np.random.default_rng(5).random((2, 60, 6)) < 0.1).astype(np.uint8)}
    legal = opt(module, "neuron-to-if, relay-delays, retime, join-delays, loihi-legalize")
    assert {op.out for op in legal.of_type(loihi.Lif)} == {"a", "b", "a.late1", "a.late2", "b.late1"}
    before, after = (
        run_snn(each, data, 300, probes=("b.spikes",)).probes["b.spikes"] for each in (module, legal)
    )
    np.testing.assert_array_equal(before, after)
    assert before.sum() > 0
    compile_legal(legal).assert_equal_everywhere(data, 220)


def test_counts_cannot_be_relayed(tmp_path: Path) -> None:
    text = "input x[4] : poisson(rate = 1 kHz)\npop p[4] : c\nx -> p : one_to_one(delay = 90 ms)\n"
    with pytest.raises(NmcError, match="E0211"):
        compile_model(program(tmp_path, text))


PLACED = (
    "input x[8] : raster()\npop a[2000] : c\npop b[9] : c\n"
    "x -> a : dense(weight = 0.2)\na -> b : dense(weight = 0.1)\n"
)


def cores_of(module: Module, name: str) -> set[int]:
    parts = module.of_type(Neurons)
    return {part.core for part in parts if part.of.name == name and part.core != HOST}


def test_placed_populations_live_where_they_are_put(tmp_path: Path) -> None:
    text = PLACED + "place a on cores(40..44)\nplace b on cores(41)\n"
    module = compile_model(program(tmp_path, text), CompileOptions(effort="fast")).module
    assert cores_of(module, "b") == {41}
    assert cores_of(module, "a") <= {40, 42, 43} and len(cores_of(module, "a")) >= 2


@pytest.mark.parametrize(
    ("place", "told"),
    [("place a on cores(3)", "2 cores for places of 1"), ("place a on cores(120..140)", "no set of the 128 cores"),
     ("place x on cores(3)", "does not live on cores")],
)  # fmt: skip
def test_a_place_that_cannot_be_kept_is_refused_with_the_numbers(
    tmp_path: Path, place: str, told: str
) -> None:
    with pytest.raises(NmcError) as caught:
        compile_model(program(tmp_path, PLACED + place + "\n"), CompileOptions(effort="fast"))
    (problem,) = caught.value.diagnostics
    assert problem.code == "E0713" and told in problem.message
    assert isinstance(caught.value, DoesNotFit) == ("places of" in told)


def test_advice_sets_the_weight_bits_of_its_projection_alone(tmp_path: Path) -> None:
    text = (
        "input x[8] : raster()\npop a[5] : c\npop b[5] : c\n"
        "x -> a : dense(weight = uniform(0.0, 1.0)) @quantize(bits = 3)\n"
        "a -> b : dense(weight = uniform(0.0, 1.0))\n"
    )
    legal = opt(program(tmp_path, text), "neuron-to-if, retime, loihi-legalize")
    found = {op.out: op.bits for op in legal.ops if isinstance(op, loihi.SynapseOp)}
    assert found == {"a/x": 3, "b/a": 8}
    compile_legal(legal)


@pytest.mark.parametrize(
    ("advice", "code"),
    [("@quantize(bits = 7)", "E0618"), ("@quantize(digits = 3)", "E0640"), ("@fast()", "E0640")],
)
def test_unknown_advice_is_refused_not_dropped(tmp_path: Path, advice: str, code: str) -> None:
    text = f"input x[8] : raster()\npop a[5] : c\nx -> a : dense(weight = 0.5) {advice}\n"
    with pytest.raises(NmcError) as caught:
        compile_model(program(tmp_path, text))
    assert [problem.code for problem in caught.value.diagnostics] == [code]


def test_nothing_is_lost_between_file_and_image() -> None:
    """The number of synapses that the report tells is that of the program."""
    path = Path(__file__).resolve().parents[2] / "examples" / "snn" / "balanced.snn"
    module = load(path, {"N": "200"})
    count = sum(op.source.array().size for op in module.of_type(Sparse))
    count += sum(op.source.array().size for op in module.of_type(Plastic))
    options = CompileOptions(effort="fast", freeze_plasticity=True)
    assert compile_model(module, options).report["synapses"] == count


@pytest.mark.parametrize("mean", [-1.0, 65.0, 1e300])
def test_an_image_whose_generator_is_impossible_is_refused(tmp_path: Path, mean: float) -> None:
    text = "input x[4] : poisson(rate = 1 kHz)\npop p[4] : c\nx -> p : one_to_one(weight = 0.3)\n"
    image = compile_legal(opt(program(tmp_path, text), "neuron-to-if, retime, loihi-legalize")).image
    with pytest.raises(NmcError, match="E0530"):
        Emulator(replace(image, inputs=tuple(replace(entry, gain=mean) for entry in image.inputs)))
