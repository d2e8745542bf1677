"""neuron-to-if changes the form of a population, never its spikes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.ir.verify import verify
from nmc.passes.convert.neuron_to_if import NeuronToIf

STEPS = 25


def _network(**changes: Any) -> Module:
    """Raster -> conv -> population -> dense -> population, all numbers multiples of 1/8: sums are exact."""
    rng = np.random.default_rng(3)

    def eighths(name: str, *shape: int) -> Const:
        return Const(name, rng.integers(-8, 9, shape) / 8.0)

    x = snn.Input(out="x", source="x", shape=(2, 5, 5), encoder="raster")
    window: Any = {"stride": (1, 1), "pad": (1, 1, 1, 1), "dilation": (1, 1)}
    c = snn.Conv(out="c", spikes=x.result, weight=eighths("w", 3, 2, 3, 3), **window)
    theta = Const("theta", np.array([1.0, 0.5, 2.0]).reshape(3, 1, 1))
    h = Neuron(
        out="h", current=(c.result,), threshold=theta, gain=Const("g", np.array(2.0)), reset="subtract"
    )
    h = replace(h, **changes)
    d = snn.Dense(out="d", spikes=h.result, weight=eighths("w2", 4, 75))
    each = Const("theta2", np.array([0.5, 1.0, 2.0, 4.0]))
    bias = Const("b", np.array([0.25, -0.5, 0.125, 0.0]))
    o = Neuron(out="o", current=(d.result,), threshold=each, bias=bias, reset="zero")
    return Module("n", "snn", (x, c, h, d, o, snn.Output(data=o.result, decoder="count")))


def _spikes(module: Module) -> dict[str, np.ndarray]:
    raster = (np.random.default_rng(4).random((6, STEPS, 2, 5, 5)) < 0.3).astype(np.uint8)
    return run_snn(module, {"x": raster}, STEPS, probes=("h.spikes", "o.spikes")).probes


def test_spikes_stay_the_same_with_thresholds_and_gains_in_the_weights() -> None:
    before = _network()
    after = NeuronToIf().run(before)
    assert not verify(after)
    assert len(after.of_type(snn.If)) == 2 and not after.of_type(Neuron)
    old, new = _spikes(before), _spikes(after)
    for probe, train in old.items():
        assert train.any()
        np.testing.assert_array_equal(train, new[probe])


@pytest.mark.parametrize(
    "changes",
    [
        {"beta": Const("beta", np.array(0.5))},
        {"alpha": Const("alpha", np.array(0.5))},
        {"leak": Const("leak", np.array(0.125))},
        {"compare": "ge"},
        {"reset": "to-value", "v_reset": Const("r", np.array(0.25))},
        {"refractory": Const("ref", np.array(2))},
    ],
)
def test_what_does_more_than_integrate_and_fire_stays(changes: dict[str, Any]) -> None:
    module = NeuronToIf().run(_network(**changes))
    assert [op.out for op in module.of_type(Neuron)] == ["h"]
    assert [op.out for op in module.of_type(snn.If)] == ["o"]


def test_a_threshold_that_varies_over_space_stays_behind_a_convolution() -> None:
    theta = Const("map", np.linspace(0.5, 2.0, 75).reshape(3, 5, 5))
    module = NeuronToIf().run(_network(threshold=theta))
    assert [op.out for op in module.of_type(Neuron)] == ["h"]
