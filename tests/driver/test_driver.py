"""A compilation may start from any level that the default pipeline passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmc.driver import CompileOptions, compile_model, load, opt
from nmc.ir.diagnostics import NmcError
from nmc.ir.npz import write_npz
from nmc.ir.text.sidefile import save
from nmc.passes.manager import ManagerOptions

MODEL = Path(__file__).resolve().parents[2] / "examples" / "models" / "digits_mlp.onnx"


@pytest.fixture
def samples(tmp_path: Path) -> str:
    """Random images in the range of the digits."""
    path = tmp_path / "samples.npz"
    write_npz(path, {"x": np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)})
    return str(path)


def test_a_dump_of_the_spiking_level_compiles_to_the_same_image(tmp_path: Path, samples: str) -> None:
    whole = compile_model(MODEL, CompileOptions(calib=samples, mode="rate-if"))
    converted = opt(load(MODEL), f'@fold, calibrate{{data="{samples}"}}, ann-to-snn')
    save(converted, tmp_path / "net.nmc")
    again = compile_model(tmp_path / "net.nmc", CompileOptions(calib=samples))
    x = np.random.default_rng(1).random((5, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(whole.run(x).logits, again.run(x).logits)


def test_a_dump_of_the_integer_network_compiles_to_the_same_image(tmp_path: Path, samples: str) -> None:
    from nmc.ir.module import Module

    stages: dict[str, Module] = {}
    options = CompileOptions(calib=samples)
    whole = compile_model(MODEL, options, ManagerOptions(observe=stages.__setitem__))
    x = np.random.default_rng(1).random((5, 8, 8), dtype=np.float32)
    for stage in ("quantize", "spike-code"):
        save(stages[stage], tmp_path / "net.nmc")
        again = compile_model(tmp_path / "net.nmc", options)
        np.testing.assert_array_equal(whole.run(x).logits, again.run(x).logits)


def test_a_module_that_no_part_of_the_pipeline_takes_is_refused(samples: str) -> None:
    mapped = compile_model(MODEL, CompileOptions(calib=samples)).image_module()
    with pytest.raises(NmcError, match="E0203"):
        compile_model(mapped, CompileOptions(calib=samples))


@pytest.mark.parametrize("target", ["loihi", "spinnaker2", "fpga"])
def test_spikes_in_time_are_sample_data_too(tmp_path: Path, target: str) -> None:
    rng = np.random.default_rng(2)
    write_npz(tmp_path / "w.npz", {"w": rng.random((8, 16), dtype=np.float32)})
    write_npz(tmp_path / "spikes.npz", {"x": (rng.random((6, 20, 16)) < 0.3).astype(np.uint8)})
    write_npz(tmp_path / "images.npz", {"x": rng.random((6, 16), dtype=np.float32)})
    (tmp_path / "net.snn").write_text(
        """network net(dt = 1 ms, steps = 20)
weights W = "w.npz"
neuron n = iaf(v_threshold = 1.0, reset = zero)
input x[16] : raster()
pop h[8] : n
x -> h : dense(W.w)
output h : count()
"""
    )
    options = CompileOptions(target=target, effort="fast", calib=str(tmp_path / "spikes.npz"))
    predicted = compile_model(tmp_path / "net.snn", options).report["energy"]
    assert predicted["samples"] == 6 and predicted["synaptic_operations_per_sample"] > 10
    with pytest.raises(NmcError, match="takes spikes"):
        compile_model(tmp_path / "net.snn", CompileOptions(target=target, calib=str(tmp_path / "images.npz")))


def test_steps_that_are_asked_for_replace_those_of_a_program(repo: Path) -> None:
    source = repo / "examples" / "snn" / "xor.snn"
    own = compile_model(source, CompileOptions()).module.attr("steps")
    asked = compile_model(source, CompileOptions(steps=own + 3))
    assert asked.module.attr("steps") == own + 3
