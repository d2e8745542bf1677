"""Trained networks: all codes give the integer network's outputs on real data, and early answers are as good."""

from typing import Any

import numpy as np
import pytest

from exact_nets import assert_same, find
from nmc.driver import load
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array
from nmc.ir.ops import snn
from nmc.passes.convert.delta_stream import DeltaStream
from nmc.passes.convert.fold_affine import FoldAffine
from nmc.passes.convert.fold_batchnorm import FoldBatchNorm
from nmc.passes.convert.readout import Readout
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.quantize import Quantize

CODES: tuple[dict[str, Any], ...] = (
    {}, {"schedule": "spread"}, {"schedule": "const"}, {"code": "phased-if"}, {"code": "bit-serial"}, {"code": "graded"}
)  # fmt: skip


@pytest.fixture(scope="module", params=["digits_mlp", "digits_cnn"])
def network(request: pytest.FixtureRequest, repo: Any) -> tuple[Module, Array, Array]:
    """An integer network of 8 levels, and 60 images with labels that it was not calibrated on."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x = (digits.images / 16.0).astype(np.float32)[:, None]
    module = FoldAffine().run(
        FoldBatchNorm().run(load(repo / "examples" / "models" / f"{request.param}.onnx"))
    )
    (entry,) = [op for op in module.ops if op.name == "ann.input"]
    x = x.reshape(len(x), *entry.result.shape)
    made = Quantize(levels=8, samples=x[:200]).run(Calibrate(levels=8, samples=x[:200]).run(module))
    return made, x[-60:], digits.target[-60:]


def test_every_code_gives_every_count_of_the_integer_network(network: tuple[Module, Array, Array]) -> None:
    module, x, _ = network
    data = {module.of_type(snn.Input)[0].source: x}
    wanted = find(module, data)
    for options in CODES:
        assert_same(find(SpikeCode(**options).run(module), data), wanted)


def test_early_answers_cost_no_accuracy_and_few_steps(network: tuple[Module, Array, Array]) -> None:
    module, x, labels = network
    coded = SpikeCode(schedule="spread").run(module)
    early = Readout(early_exit=True, samples=x, labels=labels).run(coded)
    data = {module.of_type(snn.Input)[0].source: x}
    late, soon = run_snn(module, data), run_snn(early, data)
    (name,) = late.outputs
    right = [(result.outputs[name].argmax(axis=1) == labels).sum() for result in (late, soon)]
    assert right[1] >= right[0]
    assert soon.settled is not None and soon.settled.mean() < coded.attr("steps") / 2


def test_a_stream_of_images_sends_less_for_what_stays(network: tuple[Module, Array, Array]) -> None:
    module, x, _ = network
    stream = DeltaStream().run(SpikeCode().run(module))
    (entry,) = module.of_type(snn.Input)
    rng = np.random.default_rng(0)
    second = np.where(rng.random(x.shape) < 0.05, 0.5, x)
    both = run_snn(stream, {entry.source: np.stack([x, second], axis=1)}, until_quiescent=True)
    first = run_snn(stream, {entry.source: x[:, None]}, until_quiescent=True)
    fresh = run_snn(module, {entry.source: second})
    (name,) = fresh.outputs
    np.testing.assert_array_equal(both.outputs[name][:, 1], fresh.outputs[name])
    once, twice = (sum(int(item.sum()) for item in result.spikes.values()) for result in (first, both))
    assert twice < 1.5 * once
