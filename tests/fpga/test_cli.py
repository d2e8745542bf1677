"""The command line with the FPGA core: compile, run, verify, look inside; models and example programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nmc.cli import main
from nmc.driver import CompileOptions, compile_model, load, pipeline_for
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.ops import snn
from nmc.passes.data import fit_shape
from nmc.passes.manager import run_pipeline
from nmc.program import Program
from nmc.runtime.verify import legal_part, random_samples, verify_program

Array = NDArray[Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: Program, params that keep it small, steps of the comparison.
PROGRAMS = [
    ("balanced", {"N": "150"}, 40), ("liquid", {}, 60), ("mnist_mlp", {}, 20), ("nmnist_scnn", {}, 4),
    ("synfire", {}, 60), ("winner_take_all", {}, 60), ("xor", {}, 4),
]  # fmt: skip
MODELS = ["digits_mlp", "digits_cnn", "mnist_mlp", "mnist_cnn", "mnist_cnn_max"]


@pytest.fixture
def nmc(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Run ``nmc WORDS`` in an empty folder: exit code and JSON facts, or text where there are none."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, Any]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out) if out.startswith("{") else out + err

    return call


def calibration(name: str, path: Path) -> Path:
    shape = (1, 8, 8) if name.startswith("digits") else (1, 28, 28)
    rng = np.random.default_rng(1)
    np.savez(path, x=rng.random((24, *shape)).astype(np.float32), y=rng.integers(0, 10, 24))
    return path


def compiled(name: str, folder: Path) -> tuple[Program, Array, Array]:
    """A model on the core, some images, and the logits of its integer network."""
    options = CompileOptions(target="fpga", calib=str(calibration(name, folder / "calib.npz")))
    model = load(EXAMPLES / "models" / f"{name}.onnx")
    passes = pipeline_for(options, model)
    whole = [item.name for item in passes].index("quantize") + 1
    integer = run_pipeline(model, passes[:whole]).module
    x = np.load(options.calib)["x"]
    source = integer.of_type(snn.Input)[0]
    want = next(iter(run_snn(integer, {source.source: fit_shape(x, source.shape)}, 1).outputs.values()))
    return compile_model(model, options), x, want


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "mnist_mlp"])
def test_answers_are_those_of_the_integer_network(name: str, tmp_path: Path) -> None:
    program, x, want = compiled(name, tmp_path)
    np.testing.assert_array_equal(program.run(x).logits, want)
    assert np.abs(want).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_cnn", "mnist_cnn_max", "mnist_resnet"])
def test_answers_of_large_networks_are_those_of_the_integer_network(name: str, tmp_path: Path) -> None:
    program, x, want = compiled(name, tmp_path)
    np.testing.assert_array_equal(program.run(x[:4]).logits, want[:4])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "mnist_mlp"])
def test_the_rtl_answers_as_the_integer_network_for_20_images(
    name: str, tmp_path: Path, verilator: None
) -> None:
    program, x, want = compiled(name, tmp_path)
    np.testing.assert_array_equal(program.run(x[:20], engine="rtl").logits, want[:20])


@pytest.mark.parametrize(("name", "params", "steps"), PROGRAMS, ids=[case[0] for case in PROGRAMS])
def test_the_example_runs_the_same_everywhere(name: str, params: dict[str, str], steps: int) -> None:
    options = CompileOptions(
        target="fpga", params=tuple(params.items()), freeze_plasticity=name == "balanced"
    )
    program = compile_model(EXAMPLES / "snn" / f"{name}.snn", options)
    data = random_samples(legal_part(program.module), steps, 1)
    stages = verify_program(program, data, steps, ("functional",))
    assert [(item.name, item.where) for item in stages if item.differing] == []
    assert stages[0].spikes > 0 or name == "balanced"


def test_what_the_law_does_not_have_is_refused_with_advice() -> None:
    with pytest.raises(NmcError) as caught:
        compile_model(EXAMPLES / "snn" / "adaptive_lif.snn", CompileOptions(target="fpga"))
    assert {item.code for item in caught.value.diagnostics} == {"E0941"} and caught.value.diagnostics[0].hint


def test_compile_run_verify_and_look_inside(nmc: Callable[..., Any], tmp_path: Path) -> None:
    data = calibration("digits_mlp", tmp_path / "digits.npz")
    model = EXAMPLES / "models" / "digits_mlp.onnx"
    code, facts = nmc("compile", model, "--target", "fpga", "--calib", data, "-o", "net.nmx", "--json")
    assert code == 0 and facts["cores"] == {"used": 1, "available": 64}
    code, facts = nmc("run", "net.nmx", "--input", data, "--limit", "5", "--json")
    assert code == 0 and np.asarray(facts["logits"]).shape == (5, 10)
    code, facts = nmc("eval", "net.nmx", "--data", data, "--json")
    assert code == 0 and facts["samples"] == 24
    code, facts = nmc("verify", "net.nmx", "--engine", "functional", "--json")
    assert code == 0 and facts["equal"]
    code, text = nmc("objdump", "net.nmx")
    assert code == 0 and "table=weights" in text and "table=targets" in text
    code, text = nmc("inspect", "net.nmx")
    assert code == 0
    name = Program.open(tmp_path / "net.nmx").report["layers"][0]["name"]
    code, text = nmc("where", "net.nmx", f"{name}[3]")
    assert code == 0 and "core" in text


def test_rates_work_too(nmc: Callable[..., Any], tmp_path: Path) -> None:
    data = calibration("digits_mlp", tmp_path / "digits.npz")
    words = ("--target", "fpga", "--mode", "rate-if", "--calib", data, "-o", "net.nmx")
    code, text = nmc("compile", EXAMPLES / "models" / "digits_mlp.onnx", *words)
    assert code == 0, text
    code, facts = nmc("verify", "net.nmx", "--engine", "functional", "--json")
    assert code == 0 and facts["equal"]


def test_a_missing_engine_is_told(nmc: Callable[..., Any], tmp_path: Path) -> None:
    program = compile_model(EXAMPLES / "snn" / "xor.snn", CompileOptions(target="fpga"))
    program.save(tmp_path / "xor.nmx")
    code, text = nmc("verify", "xor.nmx", "--engine", "magic")
    assert code == 1 and "E0802" in text
