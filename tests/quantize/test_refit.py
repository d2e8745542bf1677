"""Fitted weights bring a layer nearer to the trained one, and leave alone what they must."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.op import Array
from nmc.ir.ops import ann, kernels
from nmc.passes.convert.linear import ConvMap, DenseMap, ScaleMap
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.integer import run_integer
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.refit import Sums
from nmc.passes.quantize.search import prepared
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits
from nmc.passes.quantize.unclear import least_clear
from trained_nets import Trained, network


def noisy(samples: int, inputs: int = 12) -> tuple[Array, Array, Array]:
    """Correlated activations, what counts of them say, and weights."""
    rng = np.random.default_rng(4)
    common = rng.random((samples, 3))
    real = common @ rng.random((3, inputs)) + 0.05 * rng.random((samples, inputs))
    return real, np.clip(np.rint(real * 2), 0, 3), rng.normal(size=(5, inputs))


def test_dense_weights_that_are_fitted_come_nearer_on_other_samples() -> None:
    real, counts, weight = noisy(400)
    sums = Sums({"y": (5,)}, 200)
    sums.add("y", (real[:200] @ weight.T).reshape(200, 5))
    found = sums.refitted("y", [DenseMap(weight / 2, (5,))], [counts[:200]], np.zeros(5))
    (made,) = found.maps

    def error(matrix: Array) -> float:
        apart = real[200:] @ weight.T - counts[200:] @ matrix.T
        return float(np.square(apart - apart.mean(axis=0)).sum())

    assert found.gain < 0.9 and error(made.weight) < 0.9 * error(weight / 2)


def test_synapses_that_were_pruned_stay_away() -> None:
    real, counts, weight = noisy(200)
    weight[2, 3], weight[:, 7] = 0, 0
    sums = Sums({"y": (5,)}, 200)
    sums.add("y", real @ weight.T)
    (made,) = sums.refitted("y", [DenseMap(weight / 2, (5,))], [counts], np.zeros(5)).maps
    assert (made.weight[weight == 0] == 0).all() and (made.weight[2] == weight[2] / 2).all()
    assert (made.weight[0] != weight[0] / 2).any()


@pytest.mark.parametrize("count", [4, 15])
def test_few_samples_change_nothing(count: int) -> None:
    real, counts, weight = noisy(count)
    sums = Sums({"y": (5,)}, count)
    sums.add("y", real @ weight.T)
    found = sums.refitted("y", [DenseMap(weight / 2, (5,))], [counts], np.zeros(5))
    assert found.gain == 1 and (found.maps[0].weight == weight / 2).all()


def test_rows_of_a_convolution_give_its_sums_wherever_they_are_taken() -> None:
    rng = np.random.default_rng(2)
    counts, weight = rng.integers(0, 5, (40, 3, 6, 6)), rng.normal(size=(4, 3, 3, 3))
    skip = rng.normal(size=(4, 1, 1))
    other = rng.integers(0, 5, (40, 4, 6, 6))
    found = ConvMap(weight, (1, 1), (1, 1, 1, 1), 1)
    target = kernels.conv(counts.astype(np.float64), weight, (1, 1), (1, 1, 1, 1), (1, 1), 1) + other * skip
    sums = Sums({"y": (4, 6, 6)}, 40)
    sums.add("y", target[:25])
    sums.add("y", target[25:])
    perturbed = replace(found, weight=weight + 0.3 * rng.normal(size=weight.shape))
    made = sums.refitted("y", [perturbed, ScaleMap(skip)], [counts, other], np.zeros((4, 6, 6)))
    assert made.gain < 0.01
    assert np.abs(made.maps[0].weight - weight).max() < 0.05 and (made.maps[1].weight == skip).all()


def test_a_whole_network_comes_nearer_and_the_certificate_says_by_how_much() -> None:
    module, net = network(4, ["conv", "skip"])
    data = net.samples(300)
    calibrated = Calibrate(samples=data[:200], levels=3).run(prepared(module))
    made = {fit: Quantize(samples=data[:200], levels=3, refit=fit).run(calibrated) for fit in (False, True)}
    real, held = trained_logits(module, {"v0": data[200:]}), {"v0": data[200:]}
    apart = {fit: divergence(real, integer_logits(item, held)) for fit, item in made.items()}
    assert apart[True] < apart[False]
    told = made[True].attr("certificate")
    assert told["refit"] and any(row["refit"] < 1 for row in told["layers"].values())
    assert all(row["refit"] == 1 for row in made[False].attr("certificate")["layers"].values())
    assert run_integer(made[True], held).keys() == run_integer(made[False], held).keys()


def test_the_least_clear_half_counts_only_with_few_levels() -> None:
    module, net = network(6, ["conv", "skip"])
    data = {"v0": net.samples(600)}
    kept = least_clear(module, data, 4)["v0"]
    logits = np.sort(trained_logits(module, data), axis=1)
    margins = logits[:, -1] - logits[:, -2]
    order = np.sort(np.argsort(margins, kind="stable")[:300])
    assert (kept == data["v0"][order]).all()
    assert len(least_clear(module, data, 5)["v0"]) == 600
    assert len(least_clear(module, {"v0": data["v0"][:500]}, 4)["v0"]) == 500


def test_weights_do_not_make_up_for_offsets_that_differ_from_place_to_place() -> None:
    net = Trained(5, 2, 6, 6)
    up = {
        "scale": Const("one", np.ones((1, 1, 1), np.float32)),
        "offset": Const("up", np.full((1, 1, 1), -2.0, np.float32)),
    }
    moved = net.add(
        ann.Affine, net.relu(net.conv(net.x, 4)), **up
    )  # the border of the next layer is not moved
    module = net.module(net.dense(net.relu(net.conv(moved, 4)), 3))
    data = net.samples(200)
    calibrated = Calibrate(samples=data, levels=255, method="max").run(prepared(module))
    real = trained_logits(module, {"v0": data})
    loss = [
        divergence(
            real,
            integer_logits(Quantize(samples=data, levels=255, refit=refit).run(calibrated), {"v0": data}),
        )
        for refit in (True, False)
    ]
    assert loss[0] < 2 * loss[1]
