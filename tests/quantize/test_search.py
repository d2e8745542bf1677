"""The search finds the fewest levels that are good enough on samples it has not calibrated with."""

import numpy as np
import pytest

from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.op import Array
from nmc.ir.ops import ann
from nmc.passes.pipeline import parse_pipeline
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.search import SCHEDULES, Choice, choose, prepare_passes, prepared
from nmc.passes.quantize.trials import divergence, trained_logits
from trained_nets import Trained, network


def found(drop: float, labels: Array | None = None, **options: object) -> tuple[Choice, list[str]]:
    module, net = network(6, ["conv", "skip"])
    told: list[str] = []
    choice = choose(module, net.samples(96), drop, labels, sink=told.append, **options)  # type: ignore[arg-type]
    return choice, told


def test_it_takes_the_fewest_levels_within_the_drop() -> None:
    choice, told = found(4.0)
    assert choice.candidate.drop <= 4.0 and choice.schedule in SCHEDULES
    assert all(item.drop > 4.0 for item in choice.table if item.levels < choice.candidate.levels)
    assert str(choice).splitlines() == told and told[-1].endswith("<- chosen") | told[-2].endswith(
        "<- chosen"
    )


def test_more_may_be_lost_with_fewer_levels() -> None:
    module, net = network(6, ["conv", "skip"])
    data = net.samples(96)
    rough = Quantize(refit=False, bias_correction=False)
    many, few = (choose(module, data, drop, base=rough).candidate.levels for drop in (2.5, 60.0))
    assert few < many


def test_labels_count_right_answers_instead_of_agreement() -> None:
    module, net = network(6, ["conv", "skip"])
    samples = net.samples(96)
    labels = trained_logits(module, {"v0": samples}).argmax(axis=1)
    item = choose(module, samples, 40.0, labels).candidate
    assert item.accuracy == item.agreement and item.drop == pytest.approx(100 * (1 - item.agreement))


def test_no_setting_is_good_enough() -> None:
    with pytest.raises(NmcError, match=r"E0607.*the best, [23] levels"):
        found(0.0, levels=(2, 3), base=Quantize(bits=2))


def test_too_few_samples() -> None:
    module, net = network(1, [])
    with pytest.raises(NmcError, match="E0404"):
        choose(module, net.samples(1), 1.0)


def auto(module: Module, samples: Array, levels: int) -> Module:
    return Calibrate(samples=samples, levels=levels, method="auto").run(prepared(module))


def test_auto_keeps_a_calibration_of_clearly_less_divergence() -> None:
    module, net = network(7, ["conv", "max"])
    made = auto(module, net.samples(32), 3)
    told = made.attr("calibration")
    assert len(told["divergence"]) > 4
    least, first = min(told["divergence"].values()), next(iter(told["divergence"].values()))
    assert told["divergence"][told["chosen"]] == (least if least <= 0.9 * first else first)
    assert all(op.threshold is not None for op in made.of_type(ann.Relu))


def test_divergence_asks_for_directions_only() -> None:
    logits = np.random.default_rng(1).normal(size=(20, 5))
    assert divergence(logits, 3 * logits + 7) == pytest.approx(0, abs=1e-12)
    assert 0 < divergence(logits, logits + 0.01 * logits**2) < divergence(logits, logits + 0.1 * logits**2)
    assert divergence(logits[:, :1], logits[:, :1]) == 0 < divergence(logits[:, :1], 2 * logits[:, :1])


def test_preparation_changes_no_result() -> None:
    module, net = network(5, ["max", "average", "skip", "concat"])
    data = {"v0": net.samples(4)}
    np.testing.assert_allclose(
        trained_logits(prepared(module), data), trained_logits(module, data), atol=1e-4
    )


def test_preparation_is_the_pipeline_of_that_name() -> None:
    assert parse_pipeline("@prepare") == prepare_passes()


def test_max_pools_over_sums_move_behind_their_relu() -> None:
    net = Trained(1, 2, 8)
    pooled = net.pool(ann.MaxPool, net.conv(net.x, 4))
    module = prepared(net.module(net.dense(net.relu(pooled), 3)))
    (pool,) = module.of_type(ann.MaxPool)
    assert isinstance(module.producers[pool.data.name], ann.Relu)
