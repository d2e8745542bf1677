"""onnxruntime gives the counts and read-outs of the integer network, at every optimisation level."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.export.integer_onnx import integer_onnx, save_integer_onnx
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array, Value
from nmc.ir.ops import ann, exact, snn
from nmc.ir.ops.ann_layers import ConvTranspose, Take
from nmc.ir.ops.neurons import Sparse
from nmc.passes.convert import linear
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.integer import run_integer
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.search import prepared
from trained_nets import Trained, network, networks

ort = pytest.importorskip("onnxruntime")
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL")


def quantised(module: Module, samples: Array, **options: Any) -> Module:
    made = Calibrate(samples=samples, levels=options.get("levels", 8)).run(prepared(module))
    return Quantize(samples=samples, **options).run(made)


def run_onnx(model: bytes, data: Array, level: str) -> dict[str, Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: data})
    return dict(zip((item.name for item in session.get_outputs()), found, strict=True))


def assert_same(made: Module, data: Array, level: str) -> None:
    names = [op.out for op in made.ops if isinstance(op, exact.Graded | exact.MaxPool)]
    ours = run_integer(made, {op.source: data for op in made.of_type(snn.Input)}, keep=names)
    theirs = run_onnx(integer_onnx(made, counts=True), data, level)
    assert set(theirs) == set(ours)
    for name, item in ours.items():
        np.testing.assert_array_equal(item, theirs[name], err_msg=name)


@settings(max_examples=12)
@given(networks, st.integers(1, 255), st.sampled_from([0.0, -1.0]), st.sampled_from(LEVELS))
def test_random_networks(built: tuple[Module, Trained], levels: int, low: float, level: str) -> None:
    module, net = built
    made = quantised(module, net.samples(4, low), levels=levels)
    assert_same(made, net.samples(6, 2 * low) * 1.5, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "mnist_cnn_max", "mnist_resnet"])
def test_networks_of_the_examples(name: str, level: str, repo: Path) -> None:
    onnx_frontend = pytest.importorskip("nmc.frontends.onnx")
    module = onnx_frontend.load_onnx(repo / "examples" / "models" / f"{name}.onnx")
    shape = next(op.shape for op in module.ops if hasattr(op, "shape"))
    data = np.random.default_rng(1).uniform(0, 1, (8, *shape)).astype(np.float32)
    assert_same(quantised(module, data), data, level)


def test_model_is_reproducible_valid_and_tells_its_scale(tmp_path: Path) -> None:
    import onnx

    module, net = network(1, ["max", "skip", "average"])
    made = quantised(module, net.samples(4))
    assert integer_onnx(made) == integer_onnx(made)
    save_integer_onnx(made, tmp_path / "m.onnx")
    model = onnx.load(str(tmp_path / "m.onnx"))
    onnx.checker.check_model(model, full_check=True)
    (output,) = made.of_type(snn.Output)
    assert {item.key: float(item.value) for item in model.metadata_props} == {
        f"scale:{output.data.name}": output.scale
    }


def refused(module: Module) -> str:
    with pytest.raises(NmcError, match="E0609") as caught:
        integer_onnx(module)
    return str(caught.value)


def test_what_integer_ops_cannot_hold_is_refused() -> None:
    module, net = network(1, ["conv"])
    samples = net.samples(4)
    assert "not 8 bits" in refused(quantised(module, samples, bits=12))
    assert "more than 255" in refused(quantised(module, samples, levels=256))
    assert "more than 255" in refused(quantised(module, samples, input_levels=256))
    assert "not proved" in refused(
        quantised(module, samples, accumulator=52, levels=200, bits=8).map_ops(unproved)
    )
    assert "snn.stbif" in refused(SpikeCode(code="stbif").run(quantised(module, samples)))


def unproved(op: Any) -> Any:
    from dataclasses import replace

    return replace(op, bound=0) if isinstance(op, exact.Graded) else op


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    module, net = network(1, [])
    with pytest.raises(NmcError, match="E0805"):
        save_integer_onnx(quantised(module, net.samples(4)), tmp_path / "no" / "m.onnx")


@pytest.mark.parametrize("level", LEVELS)
def test_branches_from_one_population_have_names_of_their_own(level: str) -> None:
    net = Trained(2, 2, 6, 6)
    first = net.relu(net.conv(net.x, 3))
    module = net.module(net.dense(net.relu(net.add(ann.Add, net.conv(first, 3), first)), 4))
    assert_same(quantised(module, net.samples(8)), net.samples(6), level)


def upsampled(net: Trained, kind: str) -> Value:
    """A population behind an upsampling that no structured projection carries."""
    first = net.relu(net.conv(net.x, 3))
    if kind == "nearest":
        rows = Const("rows", np.repeat(np.arange(6), 2))
        return net.relu(net.conv(net.add(Take, first, index=rows, axis=1), 2))
    up = {"stride": (2, 2), "pad": (0, 1, 0, 0), "dilation": (1, 1), "groups": 1}
    spread = net.add(ConvTranspose, first, weight=net.const("t", 3, 2, 3, 2), bias=net.const("b", 2), **up)
    return net.relu(spread if kind == "transposed" else net.conv(spread, 2))


@pytest.mark.parametrize("kind", ["nearest", "transposed", "transposed and convolved"])
def test_upsampling_lists_its_synapses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Trained(3, 2, 6, 6)
    module, samples = net.module(net.dense(upsampled(net, kind), 4)), net.samples(32)
    dense = quantised(module, samples, refit=False)
    assert not dense.of_type(Sparse)
    monkeypatch.setattr(linear, "MAX_MATRIX", 100)
    made = quantised(module, samples, refit=False)
    assert made.of_type(Sparse)
    for level in LEVELS:
        assert_same(made, samples, level)
    data = {"v0": samples}
    first, second = (next(iter(run_integer(item, data).values())) for item in (made, dense))
    np.testing.assert_array_equal(first, second)
    spiking, whole = (run_snn(item, data, batch=32) for item in (SpikeCode(code="stbif").run(made), made))
    for name, values in whole.outputs.items():
        np.testing.assert_array_equal(spiking.outputs[name], values)
