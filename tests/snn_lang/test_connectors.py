"""Connectors, models and random numbers mean what the language says."""

from collections.abc import Callable
from math import exp
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from nmc.frontends.snn import draw
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.ops.sources import Poisson

Make = Callable[..., Module]
TWO = "input a[30] : raster()\npop b[40] : iaf()\n"


def pairs(module: Module) -> np.ndarray[Any, Any]:
    """(synapses, 2) sources and targets of all sparse projections."""
    ops = module.of_type(Sparse)
    return np.concatenate([np.stack([op.source.array(), op.target.array()], 1) for op in ops])


def test_quantiles_of_the_normal_distribution_are_those_of_python() -> None:
    u = draw.unit(1, 2, 3, np.arange(5000))
    assert np.abs(draw.normal(u) - [NormalDist().inv_cdf(p) for p in u]).max() < 1e-14
    assert np.abs(draw.log(u) - np.log(u)).max() < 1e-14


def test_the_same_program_gives_the_same_network_and_another_seed_another(make: Make) -> None:
    text = TWO + "a -> b : fixed_prob(p = 0.2, weight = normal(1, 0.1), delay = uniform(1 ms, 4 ms))"
    assert str(make(text)) == str(make(text))
    assert str(make(text)) != str(make(text, "dt = 1 ms, seed = 6"))


def test_known_draws_stay_what_they_are(make: Make) -> None:
    module = make(TWO + "a -> b : fixed_prob(p = 0.01, weight = uniform(0, 1))")
    index = np.arange(1200)
    expected = np.flatnonzero(draw.unit(5, 1, draw.PAIRS, index) < 0.01)
    assert (pairs(module) == np.stack(np.divmod(expected, 40), 1)).all()
    (op,) = module.of_type(Sparse)
    assert (op.weight.array() == draw.unit(5, 1, draw.WEIGHT, expected)).all()


@pytest.mark.parametrize("side", ["in", "out"])
def test_fixed_degrees_are_exact_and_without_repetition(side: str, make: Make) -> None:
    found = pairs(make(TWO + f"a -> b : fixed_{side}degree(7)"))
    axis, size = (1, 40) if side == "in" else (0, 30)
    assert (np.bincount(found[:, axis], minlength=size) == 7).all()
    assert len(np.unique(found, axis=0)) == len(found) == 7 * size


def test_self_can_be_excluded(make: Make) -> None:
    found = pairs(make("pop a[9] : iaf()\na -> a : fixed_indegree(8, delay = 1 step, self = false)"))
    assert len(found) == 72 and (found[:, 0] != found[:, 1]).all()


def test_distance_keeps_within_the_radius(make: Make) -> None:
    found = pairs(make("pop a[5, 5] : iaf()\na -> a : distance(radius = 1.0, delay = 1 step)"))
    rows, columns = np.divmod(found, 5)
    square = (rows[:, 0] - rows[:, 1]) ** 2 + (columns[:, 0] - columns[:, 1]) ** 2
    assert square.max() <= 1 and len(found) == 25 + 4 * 20


def test_lists_have_their_own_weights_and_delays(make: Make) -> None:
    module = make(TWO + "a -> b : from_list([[0, 1, 0.5, 2], [3, 4, -1, 7]])")
    assert [(op.delay, op.weight.array().tolist()) for op in module.of_type(Sparse)] == [
        (2, [0.5]),
        (7, [-1.0]),
    ]
    assert pairs(module).tolist() == [[0, 1], [3, 4]]


def test_files_give_synapses_and_matrices(make: Make, tmp_path: Path) -> None:
    np.save(tmp_path / "list.npy", np.array([[0, 1], [2, 3]]))
    matrix = np.arange(1200, dtype=np.float32).reshape(40, 30)
    write_npz(tmp_path / "w.npz", {"m": matrix})
    text = TWO + 'weights W = "w.npz"\na -> b : from_file("list.npy", weight = 2)\na -> b : dense(W.m)'
    module = make(text, folder=tmp_path)
    assert pairs(module).tolist() == [[0, 1], [2, 3]]
    assert (module.of_type(snn.Dense)[0].weight.array() == matrix).all()


def test_slices_of_several_axes_reach_their_neurons(make: Make) -> None:
    module = make(
        "input a[2, 3] : raster()\npop b[4, 4] : iaf()\na[1, 0..2] -> b[1:3, 3] : one_to_one(weight = 3)"
    )
    assert pairs(module).tolist() == [[3, 7], [4, 11]]


def test_a_sliced_matrix_acts_like_the_whole(make: Make) -> None:
    module = make("input a[4] : raster()\npop b[6] : iaf()\na[1:3] -> b[2:5] : dense(weight = normal(0, 1))")
    (op,) = module.of_type(Sparse)
    assert len(op.source.array()) == 6 and set(op.target.array()) == {2, 3, 4}


@pytest.mark.parametrize(("integrator", "beta"), [("exact", exp(-0.05)), ("euler", 0.95)])
def test_the_integrator_says_how_the_membrane_decays(integrator: str, beta: float, make: Make) -> None:
    module = make("pop a[1] : lif(tau = 20 ms, v_leak = 2, r = 3)", f"dt = 1 ms, integrator = {integrator}")
    (op,) = module.of_type(Neuron)
    values = [const.array()[0] for const in (op.beta, op.gain, op.leak) if const is not None]
    assert values == pytest.approx([beta, 3 * (1 - beta), 2 * (1 - beta)], rel=1e-12)
    assert module.attr("record")["integrator"] == integrator


def test_neuron_options_reach_the_op(make: Make) -> None:
    text = "pop a[2] : cuba_lif(tau_mem = 10 ms, tau_syn = 5 ms, v_threshold = 20 mV, v_reset = 1 mV, refractory = 2 ms"
    (op,) = make(text + ", compare = ge, order = membrane_first)").of_type(Neuron)
    assert (op.reset, op.compare, op.order) == ("to-value", "ge", "membrane-first")
    assert op.refractory is not None and op.refractory.array()[0] == 2
    assert op.alpha is not None and op.alpha.array()[0] == pytest.approx(exp(-0.2))
    assert op.threshold is not None and op.threshold.array()[0] == 0.02


def test_models_are_changed_where_they_are_used(make: Make) -> None:
    ops = make("neuron n = lif(tau = 1 ms)\npop a[1] : n\npop b[1] : n(tau = 2 ms)").of_type(Neuron)
    assert [op.beta.array()[0] for op in ops if op.beta] == pytest.approx([exp(-1), exp(-0.5)])


def test_a_constant_current_is_integrated(make: Make) -> None:
    module = make(
        "input x[3] : constant(gain = 0.5)\npop a[3] : iaf(v_threshold = 10)\nx -> a : one_to_one()"
    )
    found = run_snn(module, {"x": np.array([[1.0, 2.0, 4.0]])}, 4, probes=("a.v",))
    assert found.probes["a.v"][0, -1].tolist() == [2, 4, 8]


def test_a_constant_current_goes_through_any_connector(make: Make) -> None:
    module = make("input x[3] : constant()\npop a[2] : iaf(v_threshold = 100)\nx -> a : dense(weight = 2)")
    found = run_snn(module, {"x": np.array([[1.0, 2.0, 4.0]])}, 3, probes=("a.v",))
    assert found.probes["a.v"][0, :, 0].tolist() == [14, 28, 42]


def test_poisson_counts_have_the_mean_and_variance_of_the_rate(make: Make) -> None:
    (op,) = make("input x[20000] : poisson(rate = 800 Hz)").of_type(Poisson)
    counts = op.encode(np.zeros((1, 20000)), 0, 3)
    assert op.mean == pytest.approx(0.8)
    assert counts.mean() == pytest.approx(0.8, abs=0.03) and counts.var() == pytest.approx(0.8, abs=0.05)


def test_delays_are_steps_from_spike_to_current(make: Make) -> None:
    module = make("input x[1] : raster()\npop a[1] : iaf(compare = ge)\nx -> a : one_to_one(delay = 3 ms)")
    spikes = np.zeros((1, 8, 1), np.uint8)
    spikes[0, 2] = 1
    assert run_snn(module, {"x": spikes}, 8, probes=("a.spikes",)).probes["a.spikes"][0, :, 0].argmax() == 5


def test_modules_nest_with_their_own_names(make: Make) -> None:
    inner = "module one(n) {\n  pop p[n] : iaf()\n}\n"
    outer = "module two(n, w = 1) {\n  pop x : one(n)\n  pop y : one(n + 1)\n  x.p -> y.p : dense(weight = w)\n}\n"
    module = make(inner + outer + "pop t : two(3)\nprobe t.y.p.v")
    assert [op.out for op in module.of_type(Neuron)] == ["t.x.p", "t.y.p"]
    assert module.of_type(snn.Dense)[0].weight.shape == (4, 3)
    assert dict(module.attr("probes"))["t.y.p.v"] == {"every": 1}


def test_imported_files_bring_definitions(make: Make, tmp_path: Path) -> None:
    (tmp_path / "lib.snn").write_text("let n = 7\nneuron cell = lif(tau = 3 ms)\n")
    module = make('import "lib.snn"\npop a[n] : cell', folder=tmp_path)
    assert module.of_type(Neuron)[0].shape == (7,)


@pytest.mark.parametrize(
    ("text", "value"),
    [("7 // 2", 3), ("10 % 3", 1), ("2 ** 3 ** 2", 512), ("-2 ** 2", -4), ("round(30 ms / 1 ms)", 30),
     ("max(2, 3 * 4)", 12), ("len([1, 2, 3])", 3), ("(1 + 2) * 3", 9), ("2 * 50 % 7", 2)],
)  # fmt: skip
def test_arithmetic(text: str, value: int, make: Make) -> None:
    make(f"assert {text} == {value}")


def test_a_list_of_numbers_stands_for_an_array(make: Make) -> None:
    pops = "input x[2] : rate(max = 100 Hz)\npop a[2] : lif(tau = [5 ms, 20 ms], v_threshold = 1)\n"
    module = make(pops + "x -> a : dense([[0.5, 0.25], [1, 2]])")
    held = {const.name: const.array() for const in module.consts}
    assert held["a/x.w"].tolist() == [[0.5, 0.25], [1, 2]]
    assert held["a.beta"] == pytest.approx(np.exp([-1 / 5, -1 / 20]), rel=1e-15)


def test_one_place_holds_several_populations_and_whole_modules(make: Make) -> None:
    inner = "module m(n) {\npop p[n] : iaf(v_threshold = 1)\npop q[n] : iaf(v_threshold = 1)\n}\n"
    module = make(inner + "pop t : m(3)\npop z[2] : iaf(v_threshold = 1)\nplace t, z on cores(0..2)")
    assert dict(module.attr("places")) == dict.fromkeys(("t.p", "t.q", "z"), "cores(0..2)")
