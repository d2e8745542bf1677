"""The integer network is exact, fits its accumulators, and comes near to the trained one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array
from nmc.ir.ops import ann, exact, snn
from nmc.ir.text.parser import parse
from nmc.ir.text.sidefile import blobs
from nmc.ir.verify import verify
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.integer import run_integer
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.search import prepared
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits
from trained_nets import Trained, network, networks


def calibrated(module: Module, samples: Array, levels: int = 8) -> Module:
    return Calibrate(samples=samples, levels=levels).run(prepared(module))


def quantised(module: Module, samples: Array, levels: int = 8, **options: Any) -> Module:
    made = Quantize(samples=samples, levels=levels, **options).run(calibrated(module, samples, levels))
    assert not verify(made)
    return made


def populations(module: Module) -> list[str]:
    return [op.out for op in module.ops if isinstance(op, exact.Graded | exact.MaxPool | exact.Readout)]


@settings(max_examples=15)
@given(networks, st.integers(1, 9), st.sampled_from([0.0, -1.0]))
def test_one_step_of_the_interpreter_gives_the_same_integers(
    built: tuple[Module, Trained], levels: int, low: float
) -> None:
    module, net = built
    samples = net.samples(5, low)
    made = quantised(module, samples, levels)
    names = populations(made)
    fast = run_integer(made, {"v0": samples}, keep=names)
    slow = run_snn(made, {"v0": samples}, 1, probes=[f"{name}.spikes" for name in names])
    for name in names:
        np.testing.assert_array_equal(fast[name], slow.probes[f"{name}.spikes"][:, 0])
    (output,) = made.of_type(snn.Output)
    np.testing.assert_array_equal(fast[output.data.name] * output.scale, slow.outputs[output.data.name])


@settings(max_examples=15)
@given(networks, st.integers(2, 8), st.booleans(), st.integers(14, 32))
def test_no_membrane_leaves_its_proved_bound(
    built: tuple[Module, Trained], bits: int, uniform: bool, accumulator: int
) -> None:
    module, net = built
    samples = net.samples(4, -1.0)
    made = quantised(module, samples, bits=bits, uniform=uniform, accumulator=accumulator, input_levels=15)
    coded = SpikeCode(code="stbif").run(made)
    worst: dict[str, int] = {}

    def look(t: int, op: Any, item: Array, state: dict[str, Array]) -> None:
        if isinstance(op, exact.StBif | exact.Readout):
            worst[op.out] = max(worst.get(op.out, 0), int(np.abs(state["v"]).max()))

    run_snn(coded, {"v0": samples}, recorder=look)
    for op in coded.ops:
        if isinstance(op, exact.StBif | exact.Readout):
            assert worst[op.out] <= op.bound < 2 ** (accumulator - 1)


@settings(max_examples=10)
@given(networks)
def test_many_levels_and_wide_weights_come_near_the_trained_network(built: tuple[Module, Trained]) -> None:
    module, net = built
    samples = net.samples(16)
    made = quantised(module, samples, 4096, bits=16, input_levels=4095, accumulator=52)
    real, found = trained_logits(module, {"v0": samples}), integer_logits(made, {"v0": samples})
    assert np.abs(real - found).max() <= 0.02 * max(1.0, float(np.abs(real).max()))


@settings(max_examples=15)
@given(networks, st.integers(1, 9), st.integers(2, 8))
def test_thresholds_are_those_of_the_levels_and_weights_fit(
    built: tuple[Module, Trained], levels: int, bits: int
) -> None:
    module, net = built
    samples = net.samples(4)
    made = quantised(module, samples, levels, bits=bits)
    for op in made.of_type(exact.Graded):
        assert (op.theta.array() % 2 == 1).all() and op.levels == levels
    for item in made.ops:
        if isinstance(item, snn.ProjectionOp):
            assert item.weight.type.kind == "i8" and np.abs(item.weight.array()).max() <= 2 ** (bits - 1) - 1


@given(st.integers(0, 99), st.integers(1, 12), st.integers(0, 1 << 14))
@settings(max_examples=15)
def test_thresholds_take_the_form_of_a_target(seed: int, digits: int, largest: int) -> None:
    module, net = network(seed, ["conv", "skip"])
    made = quantised(module, net.samples(4), uniform=True, theta_digits=digits, theta_max=largest)
    for op in made.of_type(exact.Graded):
        assert op.theta.array().size == 1 or (op.theta.array() == op.theta.array().flat[0]).all()
        theta = int(op.theta.array().flat[0])
        assert theta <= (largest or theta)
        assert (theta // (theta & -theta)).bit_length() <= digits


def with_kernel(module: Module, change: Any) -> Module:
    """Copy with the weights of the second convolution changed."""
    name = module.of_type(ann.Conv)[1].out

    def one(op: Any) -> Any:
        if op.out != name:
            return op
        weight = op.weight.array().copy()
        change(weight)
        return replace(op, weight=Const(op.weight.name, weight))

    return module.map_ops(one)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_channel_without_weights_does_not_set_the_threshold_of_all(bits: int) -> None:
    module, net = network(1, ["conv"])
    samples = net.samples(8)
    made = [
        quantised(item, samples, uniform=True, bits=bits).of_type(exact.Graded)[1].theta.array()
        for item in (module, with_kernel(module, lambda weight: weight[1].fill(0.0)))
    ]
    assert made[0].size == made[1].size == 1 and made[1] >= made[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    module, net = network(1, ["conv"])
    wrong = with_kernel(calibrated(module, net.samples(4)), lambda weight: weight.fill(value))
    with pytest.raises(NmcError, match=r"E0601.*not finite"):
        Quantize().run(wrong)


def test_bias_correction_brings_the_mean_output_nearer() -> None:
    module, net = network(3, ["conv", "skip", "average"])
    samples = net.samples(64)
    real = trained_logits(module, {"v0": samples}).mean(axis=0)
    errors = []
    for on in (False, True):
        made = quantised(module, samples, 3, bits=4, bias_correction=on)
        errors.append(np.abs(integer_logits(made, {"v0": samples}).mean(axis=0) - real).max())
    assert errors[1] < 0.5 * errors[0]


def test_text_keeps_the_network_and_its_certificate() -> None:
    module, net = network(1, ["max", "skip"])
    made = quantised(module, net.samples(8))
    again = parse(str(made), blobs(made))
    assert again == made and again.attr("certificate") == made.attr("certificate")


def test_certificate_tells_the_proof_and_the_errors() -> None:
    module, net = network(1, ["max", "skip"])
    made = quantised(module, net.samples(8))
    told = made.attr("certificate")
    assert told["samples"] == 8 and len(told["data"]) == 64
    assert told["steps_bound"] == SpikeCode(code="stbif").run(made).attr("steps")
    for op in made.of_type(exact.Graded):
        row = told["layers"][op.out]
        assert row["bound"] == op.bound and 2 ** (row["bound_bits"] - 2) <= op.bound < 2 ** (
            row["bound_bits"] - 1
        )
        assert row["theta"] == (int(op.theta.array().min()), int(op.theta.array().max()))
        assert 0 <= row["saturated"] <= 1 and 0 < row["rms_error"] < 0.5


def test_without_data_nothing_is_corrected_or_measured() -> None:
    module, net = network(1, ["conv"])
    made = Quantize().run(calibrated(module, net.samples(8)))
    told = made.attr("certificate")
    assert not told["bias_correction"] and "data" not in told
    assert all("rms_error" not in row and row["correction"] == 0 for row in told["layers"].values())


def test_widths_of_single_layers() -> None:
    module, net = network(1, ["conv"])
    made = quantised(module, net.samples(8), layer_bits="v2:3")
    kept = {
        op.out.split(".from")[0]: np.abs(op.weight.array()).max()
        for op in made.ops
        if isinstance(op, snn.Conv)
    }
    assert kept["v2"] == 3 and 120 <= kept["v4"] <= 127


@pytest.mark.parametrize("text", ["v2", "v2:1", "v2:99", ":4", "nobody:4", "auto:9", "auto:x"])
def test_wrong_widths_are_refused(text: str) -> None:
    module, net = network(1, ["conv"])
    with pytest.raises(NmcError, match="E0202"):
        quantised(module, net.samples(8), layer_bits=text)


def test_automatic_widths_reach_their_average_and_tell_what_each_costs() -> None:
    module, net = network(5, ["conv", "skip"])
    told = quantised(module, net.samples(32), layer_bits="auto:5").attr("certificate")
    assert told["average_bits"] <= 5
    assert {row["bits"] for row in told["layers"].values()} != {8}
    assert set(told["cost"]) == set(told["layers"]) and told["cost"]["v2"]["8"] == 0


def test_automatic_widths_stop_where_too_many_answers_change() -> None:
    module, net = network(4, ["conv", "skip", "conv"])
    samples = net.samples(32)
    free, strict = (
        quantised(module, samples, layer_bits="auto:2", drop=drop).attr("certificate")
        for drop in (100.0, 5.0)
    )
    assert free["disagreement"] > 0.05 >= strict["disagreement"]
    assert free["average_bits"] == 2 < strict["average_bits"]
    with pytest.raises(NmcError, match="E0607"):
        quantised(module, samples, layer_bits="auto:2", drop=0.0)


def test_a_relu_trained_with_steps_keeps_its_own() -> None:
    module, net = network(1, ["conv"])
    samples = net.samples(8)
    steps = Const("t", np.array(0.75))
    module = module.map_ops(
        lambda op: replace(op, threshold=steps, levels=5) if isinstance(op, ann.Relu) else op
    )
    made = Quantize(samples=samples, levels=8, bits=16, input_levels=65535, accumulator=52).run(
        calibrated(module, samples)
    )
    assert {op.levels for op in made.of_type(exact.Graded)} == {5}
    real, found = trained_logits(module, {"v0": samples}), integer_logits(made, {"v0": samples})
    assert np.abs(real - found).max() < 0.02


def refused(module: Module) -> str:
    with pytest.raises(NmcError) as caught:
        Quantize().run(module)
    return str(caught.value)


def test_everything_that_cannot_be_quantised_is_named_at_once() -> None:
    net = Trained(1, 2, 8, 8)
    first = net.add(ann.Lrn, net.x, size=3)
    second = net.pool(ann.MaxPool, net.conv(net.x, 4))
    relu = net.relu(net.conv(net.x, 4))
    both = net.add(ann.Add, net.dense(first, 3), net.dense(second, 3), net.dense(relu, 3))
    text = refused(
        net.module(both).map_ops(lambda op: replace(op, high=1.0) if isinstance(op, ann.Input) else op)
    )
    assert "E0601" in text and "ann.lrn" in text and "ann.maxpool" in text and "E0603" in text


def test_an_unknown_input_range_is_refused() -> None:
    module, _ = network(1, [])
    assert "E0603" in refused(module)


def test_sums_of_exponentially_many_branches_are_refused() -> None:
    net = Trained(1, 2, 4)
    value = net.x
    for _ in range(40):
        value = net.add(ann.Add, value, value)
    module = net.module(net.dense(value, 2))
    assert "E0602" in refused(
        module.map_ops(lambda op: replace(op, high=1.0) if isinstance(op, ann.Input) else op)
    )


def test_an_accumulator_that_cannot_hold_the_sums_is_refused() -> None:
    module, net = network(1, ["conv"])
    with pytest.raises(NmcError, match="E0606"):
        quantised(module, net.samples(4), accumulator=8, input_levels=4000)


def test_inputs_are_narrowed_where_accumulators_leave_wide_layers_no_bits() -> None:
    random = np.random.default_rng(3)
    module, samples = wide_network(random, 6000), random.random((64, 6000), np.float32)
    trained = calibrated(module, samples)
    narrow = Quantize(samples=samples, accumulator=16, unipolar=True, input_levels=16)
    kept = narrow.run(trained)
    made = replace(narrow, narrow_inputs=True).run(trained)
    assert made.of_type(snn.Input)[0].high in (4, 8) and kept.of_type(snn.Input)[0].high == 16
    real, inputs = trained_logits(trained, {"x": samples}), {"x": samples}
    errors = [divergence(real, integer_logits(item, inputs)) for item in (made, kept)]
    assert errors[0] < 0.75 * errors[1]
    told = made.attr("certificate")
    assert told["input_levels"] == made.of_type(snn.Input)[0].high and 16 in told["input_levels_tried"]
    roomy = replace(narrow, narrow_inputs=True, accumulator=32).run(trained)
    assert roomy.of_type(snn.Input)[0].high == 16


def wide_network(random: np.random.Generator, width: int) -> Module:
    """One hidden layer that hears `width` inputs."""
    first = random.normal(0, width**-0.5, (16, width)).astype(np.float32)
    last = random.normal(0, 0.25, (10, 16)).astype(np.float32)
    entry = ann.Input(out="x", shape=(width,))
    hidden = ann.Dense(out="h", data=entry.result, weight=Const("w1", first))
    relu = ann.Relu(out="r", data=hidden.result)
    logits = ann.Dense(out="y", data=relu.result, weight=Const("w2", last))
    return Module("wide", "ann", (entry, hidden, relu, logits, ann.Output(data=logits.result)))
