"""Calibration gives the thresholds that sample data call for, the same on every machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.op import Array
from nmc.ir.ops import ann
from nmc.ir.text.parser import parse
from nmc.passes.manager import run_pipeline
from nmc.passes.quantize.calibrate import Calibrate

Draw = Callable[[st.SearchStrategy[Any]], Any]
Method = Literal["mse", "max", "percentile"]

#: Channel 0 doubles, channel 1 is never active, channel 2 is half.
NET = """module @m ann {{
  const @w : f32<3x1x1> = [2.0, -1.0, 0.5]
  %x = ann.input() {{shape=[1, 4]}} : f32<1x4>  #0
  %c = ann.conv(%x, @w) {{stride=[1], pad=[0, 0], dilation=[1]}} : f32<3x4>  #1
  %r = ann.relu(%c){limit} : f32<3x4>  #2
  ann.output(%r)  #3
}}
#0 = "m.onnx" "x"
#1 = "m.onnx" "/conv"
#2 = "m.onnx" "/relu"
#3 = "m.onnx" "y"
"""
DATA = np.array([[[0.0, 0.25, 0.5, 0.75]], [[1.0, 1.25, 1.5, 3.0]]], np.float32)


def net(limit: str = "") -> Module:
    return parse(NET.format(limit=limit))


def thresholds(module: Module, samples: Array = DATA, **options: Any) -> Array:
    """Thresholds of the relu, (C,)."""
    made = run_pipeline(module, [Calibrate(samples=samples, **{"floor": 0.0, **options})]).module
    (relu,) = made.of_type(ann.Relu)
    assert relu.threshold is not None
    assert relu.threshold.shape == (len(relu.threshold.array()), *[1] * (len(relu.data.shape) - 1))
    return relu.threshold.array().reshape(-1)


def rounded(value: float) -> float:
    """To 12 significant bits, by another way than the pass."""
    exponent = int(np.floor(np.log2(value))) + 1
    return float(round(value * 2.0 ** (12 - exponent)) * 2.0 ** (exponent - 12))


def test_max_is_the_largest_activation_of_each_channel() -> None:
    found = thresholds(net(), method="max")
    assert (found[0], found[2]) == (6.0, 1.5)


def test_percentile_is_that_of_the_activations() -> None:
    found = thresholds(net(), method="percentile")
    assert found[0] == rounded(float(np.percentile(2 * DATA, 99.9)))
    assert found[2] == rounded(float(np.percentile(DATA / 2, 99.9)))


def test_percentile_of_a_channel_that_is_hardly_ever_active_is_its_maximum() -> None:
    rare = np.zeros((600, 1, 4), np.float32)
    rare[0, 0, 0] = 1.0
    assert thresholds(net(), rare, method="percentile", limit=0)[0] == 2.0


@pytest.mark.parametrize("method", ["mse", "max", "percentile"])
def test_threshold_of_a_silent_channel_is_one_where_all_are_silent(method: Method) -> None:
    assert (thresholds(net(), -DATA[:, :, :1].repeat(4, 2) * 0, method=method) == 1.0).all()


def test_silent_channel_takes_after_the_others() -> None:
    found = thresholds(net(), method="max")
    assert found[1] == np.median(found[[0, 2]])


def test_nearly_silent_channel_is_raised_to_the_floor() -> None:
    found = thresholds(net(), method="max", floor=0.5)
    assert found[2] == 0.5 * np.median([6.0, 1.5])


def square_error(values: Array, threshold: float, levels: int) -> float:
    rates = np.clip(np.floor(values / threshold * levels + 0.5) / levels, 0, 1)
    return float(((values - rates * threshold) ** 2).sum())


@given(st.integers(0, 99), st.integers(2, 64), st.sampled_from([1.0, 4.0]))
def test_mse_is_never_worse_than_max(seed: int, levels: int, tail: float) -> None:
    samples = (np.random.default_rng(seed).random((8, 1, 4)) ** tail).astype(np.float32)
    best, most = (
        thresholds(net(), samples, method=method, levels=levels, shrink=0.0) for method in ("mse", "max")
    )
    for channel, factor in ((0, 2.0), (2, 0.5)):
        values = samples.astype(np.float64) * factor
        least = square_error(values, best[channel], levels)
        # Rounding to 12 bits moves a threshold by at most 2**-12, and a value by that share and perhaps a level.
        assert least <= square_error(values, most[channel], levels) * (1 + 2**-6) + 1e-6
        assert 0.29 * most[channel] <= best[channel] <= most[channel]


def test_mse_cuts_a_single_outlier() -> None:
    samples = np.full((32, 1, 4), 0.5, np.float32) * np.linspace(0, 1, 4, dtype=np.float32)
    samples[0, 0, 0] = 1.0
    assert thresholds(net(), samples, method="mse", levels=4)[0] < 2.0


@pytest.mark.parametrize("method", ["mse", "max", "percentile"])
def test_no_threshold_is_above_the_limit_of_its_relu(method: Method) -> None:
    found = thresholds(net(" {limit=1.25}"), method=method)
    assert found.max() <= 1.25


@given(st.integers(0, 999))
def test_thresholds_have_twelve_bits(seed: int) -> None:
    samples = np.random.default_rng(seed).random((3, 1, 4)).astype(np.float32)
    for value in thresholds(net(), samples, method="max"):
        fraction = np.frexp(value)[0] * 4096
        assert fraction == int(fraction)
    assert thresholds(net(), samples, method="max")[0] == rounded(2.0 * float(samples.max()))


def test_result_does_not_depend_on_the_last_bits() -> None:
    samples = np.random.default_rng(0).random((70, 1, 4))
    moved = samples * (1 + 1e-13)
    for method in ("mse", "max", "percentile"):
        assert (thresholds(net(), samples, method=method) == thresholds(net(), moved, method=method)).all()


def test_same_data_give_the_same_module() -> None:
    assert str(Calibrate(samples=DATA).run(net())) == str(Calibrate(samples=DATA.copy()).run(net()))


def calibrated_input(samples: Array) -> tuple[float, float]:
    (op,) = Calibrate(samples=samples).run(net()).of_type(ann.Input)
    return op.low, op.high


def test_range_of_the_input_is_that_of_the_data() -> None:
    assert calibrated_input(DATA - 1) == (-1.0, 2.0)
    low, high = calibrated_input(np.full((2, 1, 4), 0.5, np.float32))
    assert low == 0.5 < high


def test_reach_of_the_output_is_its_largest_value() -> None:
    (output,) = Calibrate(samples=DATA).run(net()).of_type(ann.Output)
    assert output.reach == 6.0


def test_data_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    write_npz(path, {"x": np.concatenate([DATA, DATA * 9])})
    made = Calibrate(data=str(path), method="max", floor=0.0, limit=2).run(net())
    (relu,) = made.of_type(ann.Relu)
    assert relu.threshold is not None
    assert relu.threshold.array()[0] == 6.0


def with_hole(value: float) -> Array:
    samples = DATA.copy()
    samples[1, 0, 2] = value
    return samples


@pytest.mark.parametrize(
    ("samples", "code", "text"),
    [
        (None, "E0404", "needs sample data"),
        (DATA[:0], "E0404", "no samples"),
        (DATA[:, :, :3], "E0401", "(1, 3) a sample, the network takes (1, 4)"),
        (with_hole(np.nan), "E0403", "1 of 2 samples hold NaN or infinity, the first is number 1"),
        (with_hole(-np.inf), "E0403", "1 of 2 samples hold NaN or infinity"),
        (DATA.astype(np.float64) * 5e307, "E0404", "the activations are not finite"),
    ],
    ids=["none", "empty", "shape", "nan", "infinity", "overflow"],
)
def test_useless_data_are_refused(samples: Array | None, code: str, text: str) -> None:
    with pytest.raises(NmcError) as caught:
        Calibrate(samples=samples).run(net())
    (problem,) = {(problem.code, problem.message) for problem in caught.value.diagnostics}
    assert problem[0] == code
    assert text in problem[1]
    assert caught.value.exit_code == 1


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "labels.npz", {"y": np.zeros(3, np.int64)})
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04nothing")
    for name, code in (("labels.npz", "E0403"), ("broken.npz", "E0120"), ("absent.npz", "E0120")):
        with pytest.raises(NmcError, match=code):
            Calibrate(data=str(tmp_path / name)).run(net())


def test_network_with_two_inputs_is_refused() -> None:
    text = NET.format(limit="").replace(
        "  ann.output", "  %z = ann.input() {shape=[1]} : f32<1>  #0\n  ann.output"
    )
    with pytest.raises(NmcError, match="this one has 2"):
        Calibrate(samples=DATA).run(parse(text))
