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


@pytest.fixture
def bytes_of_digits(digits: Path, tmp_path: Path) -> Path:
    """The digits as bytes."""
    with np.load(digits) as file:
        data = {name: file[name] for name in file.files}
    data["x"] = np.rint(data["x"] / data["x"].max() * 255).astype(np.uint8)
    np.savez(tmp_path / "bytes.npz", **data)
    return tmp_path / "bytes.npz"


@pytest.mark.parametrize("raw", [False, True])
def test_data_of_bytes_enter_as_bytes(
    nmc: Nmc, models: Path, bytes_of_digits: Path, tmp_path: Path, raw: bool
) -> None:
    words = ["--calib", bytes_of_digits, *(["--raw"] if raw else [])]
    assert nmc("export", models / "digits_cnn.onnx", "--integer-onnx", "-o", "o.onnx", *words).code == 0
    assert nmc("compile", models / "digits_cnn.onnx", "--target", "fpga", "-o", "o.nmx", *words).code == 0
    assert (
        nmc("run", "o.nmx", "--input", bytes_of_digits, "--limit", 20, "-o", "out.npz", *words[2:]).code == 0
    )
    session = ort.InferenceSession("o.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert entry.type == "tensor(uint8)"
    (integers,) = session.run(None, {entry.name: np.load(bytes_of_digits)["x"][:20]})
    (scale,) = map(float, session.get_modelmeta().custom_metadata_map.values())
    np.testing.assert_array_equal(integers * scale, np.load(tmp_path / "out.npz")["logits"])


@pytest.mark.parametrize("target", ["loihi", "spinnaker2", "fpga"])
def test_the_integers_of_a_program_are_those_of_its_target(
    nmc: Nmc, models: Path, digits: Path, target: str
) -> None:
    model, words = models / "digits_mlp.onnx", ["--calib", digits, "--target", target, "--levels", 4]
    assert nmc("compile", model, "-o", "o.nmx", *words).code == 0
    assert nmc("export", "o.nmx", "--integer-onnx", "program.onnx").code == 0
    assert nmc("export", "--integer-onnx", model, "-o", "again.onnx", *words).code == 0
    assert Path("program.onnx").read_bytes() == Path("again.onnx").read_bytes()


def test_a_program_of_rates_computes_no_integers(nmc: Nmc, models: Path, digits: Path) -> None:
    words = ["--calib", digits, "--mode", "rate-if"]
    assert nmc("compile", models / "digits_mlp.onnx", "-o", "o.nmx", *words).code == 0
    done = nmc("export", "o.nmx", "--integer-onnx", "o.onnx")
    assert done.code == 1 and "E0609" in done.err


@pytest.mark.parametrize(
    "words", [["--integer-onnx"], ["m.onnx", "-o", "f"], ["m.nmc", "--nir", "n", "-o", "f"]]
)
def test_words_that_name_no_model_or_no_format(nmc: Nmc, words: list[str]) -> None:
    done = nmc("export", *words)
    assert done.code == 1 and "E0004" in done.err
