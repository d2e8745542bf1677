"""``nmc export --integer-onnx`` writes what the spikes of a network compute."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.ir.ops import snn
from nmc.ir.text.sidefile import load
from nmc.passes.quantize.integer import run_integer

ort = pytest.importorskip("onnxruntime")
Nmc = Callable[..., Any]


def test_a_trained_network_is_quantised_on_the_way(
    nmc: Nmc, models: Path, digits: Path, tmp_path: Path
) -> None:
    model = models / "digits_cnn.onnx"
    done = nmc("export", model, "--integer-onnx", "o.onnx", "--calib", digits, "--levels", 4)
    assert done.code == 0, done.err
    pipeline = f'@prepare, calibrate{{data="{digits}", levels=4}}, quantize{{data="{digits}", levels=4}}'
    assert nmc("opt", model, "--passes", pipeline, "-o", "o.nmc").code == 0
    network = load(tmp_path / "o.nmc")
    data = np.load(digits)["x"]
    ours = run_integer(network, {op.source: data for op in network.of_type(snn.Input)})
    session = ort.InferenceSession("o.onnx", providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {session.get_inputs()[0].name: data})
    np.testing.assert_array_equal(next(iter(ours.values())), theirs)
    again = nmc("export", "o.nmc", "--integer-onnx", "again.onnx")
    assert again.code == 0 and Path("again.onnx").read_bytes() == Path("o.onnx").read_bytes()


def test_a_trained_network_needs_sample_data(nmc: Nmc, models: Path) -> None:
    done = nmc("export", models / "digits_mlp.onnx", "--integer-onnx", "o.onnx")
    assert done.code == 1 and "E0404" in done.err and "--calib" in done.err


def test_a_network_in_time_is_refused(nmc: Nmc, models: Path, digits: Path) -> None:
    pipeline = f'@prepare, calibrate{{data="{digits}"}}, quantize, spike-code'
    assert nmc("opt", models / "digits_mlp.onnx", "--passes", pipeline, "-o", "o.nmc").code == 0
    done = nmc("export", "o.nmc", "--integer-onnx", "o.onnx")
    assert done.code == 1 and "E0609" in done.err
