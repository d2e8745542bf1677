"""Neuron models of one's own and synapses that learn: what the language makes of them."""

from collections.abc import Callable
from math import exp
from pathlib import Path

import numpy as np
import pytest

from nmc.frontends.snn import format_text
from nmc.ir.diagnostics import Diagnostic
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.ops.plastic import Plastic
from nmc.ir.ops.user import User

Make = Callable[..., Module]
Wrong = Callable[..., list[Diagnostic]]
CELL = """neuron cell = model {
    state v = 0 mV
    state n = 0
    param tau = 20 ms
    param th = 15 mV
    update { v' = v - dt / tau * v + I; n' = select(v' > th / 2, n + 1, 0) }
    threshold v > th and not (n < 0)
    reset { v = 0 mV }
}
"""
RULE = "synapse s = stdp(tau_plus = 20 ms, tau_minus = 10 ms, a_plus = 0.1, a_minus = 0.2, w_min = -1, w_max = 3)\n"
TWO = "input a[3] : raster()\npop b[4] : iaf()\n"


def test_a_model_written_out_is_the_built_in_one(make: Make) -> None:
    drive = (
        "input x[6] : poisson(rate = 400 Hz)\nx -> {0} : dense(weight = normal(3 mV, 1 mV))\nprobe {0}.spikes"
    )
    own = make(
        f"input x[6] : poisson(rate = 400 Hz)\n{CELL}pop p[5] : cell\n" + drive.split("\n", 1)[1].format("p")
    )
    built = make(
        "input x[6] : poisson(rate = 400 Hz)\npop p[5] : lif(tau = 20 ms, v_threshold = 15 mV)\n"
        + drive.split("\n", 1)[1].format("p"),
        "dt = 1 ms, seed = 5, integrator = euler",
    )
    found = [run_snn(module, {}, 300, probes=("p.spikes",)).probes["p.spikes"] for module in (own, built)]
    assert found[0].sum() > 50 and (found[0] == found[1]).all()


def test_the_new_value_of_a_state_can_be_used_and_the_old_one_is_kept_until_the_end(make: Make) -> None:
    text = "neuron m = model { state a = 1; state b = 10; update { a' = b; b' = a + a' }; output a }\npop p[1] : m\n"
    found = run_snn(make(text + "probe p.a, p.b"), {}, 3, probes=("p.a", "p.b")).probes
    assert found["p.a"][0, :, 0].tolist() == [10, 11, 21] and found["p.b"][0, :, 0].tolist() == [11, 21, 32]


def test_a_reset_is_executed_line_by_line(make: Make) -> None:
    text = "neuron m = model { state v = 5; state u = 0; update { v' = v }; threshold v >= 5; reset { v = 1; u = v } }"
    found = run_snn(make(text + "\npop p[1] : m"), {}, 1, probes=("p.v", "p.u", "p.spikes")).probes
    assert [found[f"p.{name}"][0, 0, 0] for name in ("v", "u", "spikes")] == [1, 1, 1]


def test_params_and_starts_are_changed_where_the_model_is_used(make: Make, tmp_path: Path) -> None:
    np.save(tmp_path / "th.npy", np.array([1e-3, 2e-3, 3e-3]))
    text = CELL + 'weights T = "th.npy"\nneuron slow = cell(tau = 40 ms)\npop p[2] : slow(v_init = 1 mV)\n'
    module = make(text + "pop q[3] : cell(th = T * 1 V, n_init = uniform(0, 9))", folder=tmp_path)
    p, q = module.of_type(User)
    assert ("t.0", "mul", 1 / 40, "v") in p.update and p.init.array().tolist() == [[1e-3], [0.0]]
    assert q.params == ("th",) and q.values is not None and q.values.array().tolist() == [[1e-3, 2e-3, 3e-3]]
    starts = q.init.array()[1]
    assert len(set(starts)) == 3 and 0 <= starts.min() <= starts.max() <= 9


def test_fixed_point_is_declared_in_the_model(make: Make) -> None:
    text = "neuron m = model { arithmetic fixed(7, 8); state v = 0.1; update { v' = v }; output v }\npop p[1] : m\n"
    module = make(text)
    assert module.of_type(User)[0].fixed == (7, 8)
    assert run_snn(module, {}, 1, probes=("p.v",)).probes["p.v"][0, 0, 0] == round(0.1 * 256) / 256


def test_models_come_from_imported_files_and_live_in_modules(make: Make, tmp_path: Path) -> None:
    (tmp_path / "lib.snn").write_text(CELL)
    text = 'import "lib.snn"\nmodule m(k) {\n    pop p[k] : cell(th = k * 1 mV)\n}\npop a : m(3)\n'
    module = make(text + "a.p -> a.p : one_to_one(weight = 1 mV, delay = 1 step)", folder=tmp_path)
    assert module.of_type(User)[0].out == "a.p" and module.of_type(User)[0].shape == (3,)


def test_formatting_a_model_is_even_and_stable() -> None:
    ugly = (
        "network t(dt=1 ms)\nneuron m=model{\nstate v=0;param a=-1\nupdate{v'=v*a+I ;}\nthreshold v>=1\n}\n"
    )
    made = format_text(ugly)
    assert "neuron m = model {\n    state v = 0; param a = -1\n    update { v' = v * a + I; }\n" in made
    assert format_text(made) == made


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("input x[1] : raster()\npop p[1] : cell\nx -> p : dense(weight = 1)", "E0368"),
        ("pop p[1] : cell(tau = 20 mV)", "E0368"),
        ("pop p[1] : cell\nprobe p.w", "E0384"),
        ("pop dt[1] : cell(v_init = [true])", "E0369"),
        ("neuron cell = lif()", "E0367"),
        ("neuron m = model { state v = 0; update { v' = v }; threshold v > 1; threshold v > 2 }", "E0381"),
        ("neuron m = model { state v = 0; param v = 0; update { v' = v }; threshold v > 1 }", "E0367"),
        ("neuron m = model { state v = 0; update { v' = v; v' = 1 }; threshold v > 1 }", "E0367"),
        ("neuron m = model { state v = 0; update { v' = v > 1 }; threshold v > 1 }", "E0368"),
        ("neuron m = model { state v = 0; update { v' = v[0] }; threshold v > 1 }", "E0381"),
        ("neuron m = model { state v = 0; update { v' = v ** v }; threshold v > 1 }", "E0381"),
        ("neuron m = model { state v = 0 mV; arithmetic fixed(8, 8); update { v' = v }; output v }", "E0368"),
        ("neuron m = model { state v = 0; update { if v > 1 { } }; output v }", "E0381"),
        ("neuron m = model { state v = 0; update { v' = v }; output v, v }", "E0363"),
        ("neuron m = model { state v = 0; update { v' = 1 / 0 }; output v }", "E0370"),
    ],
)
def test_wrong_models_have_one_error_each(line: str, code: str, wrong: Wrong) -> None:
    assert [item.code for item in wrong(f"network t(dt = 1 ms)\n{CELL}{line}")] == [code]


@pytest.mark.parametrize(
    "connector", ["dense(weight = 0.5)", "fixed_prob(p = 1.0, weight = 0.5, delay = 2 ms)"]
)
def test_any_connector_that_lists_synapses_can_learn(connector: str, make: Make) -> None:
    (op,) = make(TWO + RULE + f"a -> b : {connector} with s").of_type(Plastic)
    assert len(op.source.array()) == 12 and (op.weight.array() == 0.5).all()
    assert [op.a_plus, op.a_minus] == pytest.approx([0.4, 0.8])  # fractions of the range of 4
    assert [op.decay_plus, op.decay_minus] == pytest.approx([exp(-0.05), exp(-0.1)])


def test_learning_synapses_are_those_that_the_same_program_has_without_learning(make: Make) -> None:
    text = (
        TWO
        + "synapse s = stdp(tau_plus = 9 ms, tau_minus = 9 ms, a_plus = 0, a_minus = 0, w_min = -9, w_max = 9)\n"
    )
    text += "a -> b : fixed_prob(p = 0.6, weight = normal(1, 0.5), delay = uniform(1 ms, 4 ms))"
    data = {"a": (np.random.default_rng(0).random((2, 40, 3)) < 0.5).astype(np.uint8)}
    found = [run_snn(make(text + end), data, 40, probes=("b.v",)).probes["b.v"] for end in ("", " with s")]
    assert len(make(text).of_type(Sparse)) > 1 and (np.abs(found[0] - found[1]) < 1e-12).all()


def test_static_synapses_are_plain_ones(make: Make) -> None:
    module = make(TWO + "synapse s = static()\na -> b : dense(weight = 1) with s")
    assert module.of_type(Plastic) == () and module.of_type(Neuron)


def test_amplitudes_in_volts_are_taken_as_they_are(make: Make) -> None:
    text = TWO.replace("iaf()", "iaf(v_threshold = 10 mV)") + RULE.replace("= 0.1", "= 0.1 mV")
    text = text.replace("w_min = -1, w_max = 3", "w_max = 3 mV")
    (op,) = make(text + "a[1:3] -> b[0:2] : one_to_one(weight = 1 mV) with s").of_type(Plastic)
    assert op.a_plus == pytest.approx(1e-4) and op.a_minus == pytest.approx(6e-4)
    assert op.source.array().tolist() == [1, 2] and op.target.array().tolist() == [0, 1]
