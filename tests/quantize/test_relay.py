"""Populations of means: rounded averages where an average is part of no projection."""

from typing import Any

import numpy as np
import pytest

from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.op import Array
from nmc.ir.ops import ann, exact, kernels, snn
from nmc.ir.ops.neurons import Sparse
from nmc.passes.convert import linear
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.integer import run_integer
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.search import prepared
from nmc.passes.quantize.trials import integer_logits, trained_logits
from trained_nets import Trained

UNIFORM: dict[str, Any] = {"uniform": True, "theta_digits": 8, "accumulator": 16, "unipolar": True}


@pytest.fixture
def no_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what has structure is a projection."""
    monkeypatch.setattr(linear, "MAX_MATRIX", 1)
    monkeypatch.setattr(linear, "MAX_KERNEL", 1)


def windows_net(seed: int = 3, pad: int = 1, kernel: int = 3, stride: int = 1) -> tuple[Module, Trained]:
    """A convolution behind an average that leaves the border out."""
    net = Trained(seed, 2, 7, 6)
    pooled = net.pool(ann.AvgPool, net.relu(net.conv(net.x, 3)), kernel, stride, pad)
    return net.module(net.conv(net.relu(net.conv(pooled, 4, kernel=1)), 2, kernel=1)), net


def quantised(module: Module, data: Array, levels: int = 8, **options: Any) -> Module:
    ready = Calibrate(samples=data, levels=levels, method="max").run(prepared(module))
    return Quantize(levels=levels, **options).run(ready)


def means(counts: Array, kernel: int, stride: int, pad: int) -> tuple[Array, Array]:
    """Sum of each window and the number of elements in it, element by element."""

    def summed(data: Array) -> Array:
        padded = kernels.pad_array(data, (pad,) * 4)
        seen = kernels.windows(padded, (kernel, kernel), (stride, stride), (1, 1))
        return np.asarray(seen.sum(axis=(-1, -2)))

    return summed(counts), summed(np.ones((1, 1, *counts.shape[2:]), np.int64))


@pytest.mark.usefixtures("no_matrices")
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (2, 2)])
def test_a_count_is_the_rounded_mean_of_its_window(kernel: int, stride: int) -> None:
    module, net = windows_net(kernel=kernel, stride=stride)
    samples = net.samples(16)
    made = quantised(module, samples)
    (relay,) = (op for op in made.of_type(exact.Graded) if op.out.endswith(".sum"))
    source = made.attr("certificate")["relays"][relay.out]["of"]
    found = run_integer(made, {"v0": samples}, keep=[relay.out, source])
    sums, held = means(found[source], kernel, stride, 1)
    np.testing.assert_array_equal(found[relay.out], (2 * sums + held) // (2 * held))
    assert made.of_type(Sparse), "windows at the border hold fewer elements"
    assert relay.bound >= int(np.abs(found[relay.out]).max()) * int(relay.theta.array().max())


@pytest.mark.usefixtures("no_matrices")
def test_one_threshold_serves_windows_of_different_size() -> None:
    module, net = windows_net()
    made = quantised(module, net.samples(8), **UNIFORM)
    (relay,) = (op for op in made.of_type(exact.Graded) if op.out.endswith(".sum"))
    assert relay.theta.array().reshape(-1).tolist() == [36]


@pytest.mark.usefixtures("no_matrices")
def test_thresholds_follow_the_data_so_that_small_means_are_not_lost() -> None:
    net = Trained(8, 2, 9, 9)
    pooled = net.pool(ann.AvgPool, net.relu(net.conv(net.x, 6)), 9, 1)
    module, samples = net.module(net.dense(net.relu(net.dense(pooled, 8)), 5)), net.samples(64)
    real = trained_logits(module, {"v0": samples})

    def error(**options: Any) -> float:
        made = quantised(module, samples, 16, **options)
        assert made.attr("certificate")["relays"]
        return float(np.square(integer_logits(made, {"v0": samples}) - real).mean())

    assert error(samples=samples) < 0.5 * error()


@pytest.mark.usefixtures("no_matrices")
def test_a_mean_used_twice_is_one_population() -> None:
    net = Trained(3, 2, 6, 6)
    pooled = net.pool(ann.AvgPool, net.relu(net.conv(net.x, 3)), 3, 1, 1)
    both = (net.relu(net.conv(pooled, 2, kernel=1)) for _ in range(2))
    module = net.module(net.conv(net.add(ann.Concat, *both), 2, kernel=1))
    made = quantised(module, net.samples(8))
    assert len(made.attr("certificate")["relays"]) == 1


@pytest.mark.usefixtures("no_matrices")
def test_means_of_signed_inputs_are_refused() -> None:
    net = Trained(3, 2, 6, 6)
    module = net.module(net.conv(net.relu(net.conv(net.pool(ann.AvgPool, net.x, 3, 1, 1), 2)), 2))
    with pytest.raises(NmcError, match="E0602"):
        quantised(module, net.samples(8, -1.0))


@pytest.mark.usefixtures("no_matrices")
def test_every_code_carries_means() -> None:
    module, net = windows_net()
    made = quantised(module, net.samples(4), levels=3, input_levels=5)
    assert SpikeCode(code="phased-if", schedule="count").run(made).of_type(exact.Phased)


def test_readouts_may_have_an_accumulator_of_their_own() -> None:
    net = Trained(1, 40)
    module, samples = net.module(net.dense(net.relu(net.dense(net.x, 600)), 3)), net.samples(16)
    narrow = quantised(module, samples, accumulator=16)
    wide = quantised(module, samples, accumulator=16, readout_accumulator=18)
    bounds = [made.of_type(exact.Readout)[0].bound for made in (narrow, wide)]
    assert bounds[0] < 1 << 15 <= bounds[1] < 1 << 17
    hidden = [made.of_type(snn.Dense)[0].weight.array() for made in (narrow, wide)]
    np.testing.assert_array_equal(hidden[0], hidden[1])


@pytest.mark.parametrize("bits", [-1, 7, 53])
def test_an_accumulator_of_read_outs_has_a_range(bits: int) -> None:
    with pytest.raises(ValueError, match="readout_accumulator"):
        Quantize(readout_accumulator=bits)


@pytest.mark.usefixtures("no_matrices")
def test_thresholds_follow_the_data_without_bias_correction_too() -> None:
    module, net = windows_net()
    samples = net.samples(16)
    plain = quantised(module, samples, bias_correction=False)
    seen = quantised(module, samples, bias_correction=False, samples=samples)
    name = next(op.out for op in plain.of_type(exact.Graded) if op.out.endswith(".sum"))
    theta = [int(np.max(made.producers[name].consts[0].array())) for made in (plain, seen)]
    assert 1 <= theta[1] < theta[0] == 36


def test_means_stand_where_a_neuron_would_hear_too_many() -> None:
    net = Trained(5, 2, 8, 8)
    pooled = net.pool(ann.AvgPool, net.relu(net.conv(net.x, 3)), 4, 4)
    module, data = net.module(net.dense(pooled, 5)), net.samples(16)
    free, bound = quantised(module, data, samples=data), quantised(module, data, samples=data, fan_in=191)
    wide, narrow = (max(op.weight.shape[1] for op in made.of_type(snn.Dense)) for made in (free, bound))
    assert (wide, narrow) == (192, 12)
    assert not free.attr("certificate").get("relays") and bound.attr("certificate")["relays"]
    real, inputs = trained_logits(module, {"v0": data}), {"v0": data}
    assert np.abs(integer_logits(bound, inputs) - real).max() < 0.2 * np.abs(real).max()
