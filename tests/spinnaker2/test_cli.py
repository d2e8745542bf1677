"""The command line with SpiNNaker2: compile, run, verify, look inside; models and example programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nmc.cli import main
from nmc.driver import CompileOptions, compile_model, integer_network, load, pipeline_for
from nmc.ir.interp import run_snn
from nmc.ir.ops import snn
from nmc.ir.text.parser import parse
from nmc.ir.text.sidefile import blobs
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.manager import run_pipeline
from nmc.program import Program
from nmc.runtime.verify import legal_part, random_samples, verify_program

Array = NDArray[Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: Program, params that keep it small, steps of the comparison.
PROGRAMS = [
    ("adaptive_lif", {}, 80), ("balanced", {"N": "150"}, 40), ("izhikevich", {}, 200), ("liquid", {}, 60),
    ("mnist_mlp", {}, 20), ("nmnist_scnn", {}, 4),
    ("synfire", {}, 60), ("winner_take_all", {}, 60), ("xor", {}, 4),
]  # fmt: skip


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


def calibration(shape: tuple[int, ...], path: Path) -> Path:
    rng = np.random.default_rng(1)
    np.savez(path, x=rng.random((24, *shape)).astype(np.float32), y=rng.integers(0, 10, 24))
    return path


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "mnist_mlp", "mnist_cnn", "mnist_cnn_max"])
def test_answers_are_those_of_the_integer_network_on_every_engine(
    name: str, tmp_path: Path, engines: tuple[str, ...]
) -> None:
    shape = (1, 8, 8) if name.startswith("digits") else (1, 28, 28)
    calib = calibration(shape, tmp_path / "calib.npz")
    options = CompileOptions(target="spinnaker2", calib=str(calib))
    model = load(EXAMPLES / "models" / f"{name}.onnx")
    passes = pipeline_for(options, model)
    whole = [item.name for item in passes].index("quantize") + 1
    integer = run_pipeline(model, passes[:whole]).module
    program = compile_model(model, options)
    x = np.load(calib)["x"][:6]
    source = integer.of_type(snn.Input)[0]
    want = next(iter(run_snn(integer, {source.source: fit_shape(x, source.shape)}, 1).outputs.values()))
    for engine in engines:
        have = program.run(x, engine=engine).logits
        np.testing.assert_array_equal(have, want)
    assert np.abs(want).max() > 0


@pytest.mark.parametrize(("name", "params", "steps"), PROGRAMS, ids=[case[0] for case in PROGRAMS])
def test_the_example_runs_the_same_everywhere(
    name: str, params: dict[str, str], steps: int, engines: tuple[str, ...]
) -> None:
    options = CompileOptions(
        target="spinnaker2", effort="fast", params=tuple(params.items()), freeze_plasticity=name == "balanced"
    )
    program = compile_model(EXAMPLES / "snn" / f"{name}.snn", options)
    data = random_samples(legal_part(program.module), steps, 1)
    stages = verify_program(program, data, steps, engines)
    assert [(item.name, item.where) for item in stages if item.differing] == []
    assert (stages[0].spikes > 0 or name == "balanced") and len(stages) == 5  # balanced needs longer to fire


def test_compile_run_verify_and_look_inside(
    nmc: Callable[..., Any], tmp_path: Path, engines: tuple[str, ...]
) -> None:
    data = calibration((1, 8, 8), tmp_path / "digits.npz")
    model = EXAMPLES / "models" / "digits_mlp.onnx"
    code, facts = nmc("compile", model, "--target", "spinnaker2", "--calib", data, "-o", "net.nmx", "--json")
    assert (
        code == 0
        and facts["cores"]["available"] == 150
        and set(facts["deadline"]["margins"]) == {"150 MHz", "300 MHz"}
    )
    answers = []
    for engine in engines:
        code, facts = nmc("run", "net.nmx", "--input", data, "--limit", "5", "--engine", engine, "--json")
        assert code == 0
        answers.append(facts["logits"])
    assert answers[0] == answers[1] == answers[2]
    code, facts = nmc("verify", "net.nmx", "--json")
    assert code == 0 and facts["equal"] and [item["name"] for item in facts["stages"]][2:] == list(engines)
    code, text = nmc("objdump", "net.nmx")
    assert code == 0 and "table=rows" in text
    code, text = nmc("inspect", "net.nmx")
    assert code == 0
    name = Program.open(tmp_path / "net.nmx").report["layers"][0]["name"]
    code, text = nmc("where", "net.nmx", f"{name}[3]")
    assert code == 0 and "core" in text


def test_verify_tells_where_an_engine_goes_astray(nmc: Callable[..., Any], tmp_path: Path) -> None:
    program = compile_model(EXAMPLES / "snn" / "xor.snn", CompileOptions(target="spinnaker2", effort="fast"))
    text = str(program.module)
    assert "splat 1.0" in text
    module = parse(text.replace("splat 1.0", "splat 3.0"), blobs(program.module))
    manifest = {name: item for name, item in program.manifest.items() if name != "files"}
    Program.build(module, program.files, manifest, program.report, program.map).save(tmp_path / "wrong.nmx")
    code, facts = nmc("verify", "wrong.nmx", "--engine", "functional", "--json")
    assert (
        code == 1 and not facts["equal"] and facts["stages"][1]["where"] == "" and facts["stages"][2]["where"]
    )


def test_unknown_engines_are_told_and_recordings_are_in_the_image(
    nmc: Callable[..., Any], tmp_path: Path
) -> None:
    compile_model(EXAMPLES / "snn" / "xor.snn", CompileOptions(target="spinnaker2")).save(
        tmp_path / "xor.nmx"
    )
    code, text = nmc("verify", "xor.nmx", "--engine", "magic")
    assert code == 1 and "E0802" in text
    passes = "retime{input_delay=1},spinnaker2-legalize{record=all},spinnaker2-partition,spinnaker2-place"
    code, text = nmc(
        "compile", EXAMPLES / "snn" / "xor.snn", "--target", "spinnaker2", "--passes", passes, "-o", "r.nmx"
    )
    assert code == 0, text
    runner = Program.open(tmp_path / "r.nmx").runner()
    assert all(len(pe.image.regions["rec_spikes"]) == 4 for pe in runner.chip.pes.values())


def test_learning_is_refused_by_name(nmc: Callable[..., Any]) -> None:
    code, text = nmc("compile", EXAMPLES / "snn" / "balanced.snn", "--target", "spinnaker2")
    assert (
        code == 1 and "E0921" in text and "has no counterpart on SpiNNaker2" in text and "E0212" not in text
    )


def test_a_place_with_too_many_short_targets_is_refused_with_the_numbers(
    nmc: Callable[..., Any], tmp_path: Path
) -> None:
    """Rows of 16 bits reach 256 targets."""
    (tmp_path / "far.snn").write_text(
        "network far(dt = 1 ms, steps = 20)\nneuron n = lif(tau = 20 ms, v_threshold = 1.0, reset = zero)\n"
        "input x[20] : poisson(rate = 100 Hz)\npop a[600] : n\nx -> a : fixed_prob(p = 50 %, weight = 0.5)\n"
        "output a : count()\nplace a on cores(3)\n"
    )
    code, text = nmc("compile", "far.snn", "--target", "spinnaker2")
    assert code == 2 and "E0713" in text and "600 of 256 short targets" in text and "give more cores" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_mlp", "mnist_cnn", "mnist_cnn_max", "mnist_resnet"])
def test_digits_are_answered_in_time_and_as_the_integer_network_does(
    name: str, shared: Path, engines: tuple[str, ...]
) -> None:
    """On images that the partition has not seen, too."""
    options = CompileOptions(target="spinnaker2", calib=str(shared / "data" / "mnist_calib.npz"))
    program = compile_model(EXAMPLES / "models" / f"{name}.onnx", options)
    integer = integer_network(EXAMPLES / "models" / f"{name}.onnx", options)
    x, _ = load_samples(str(shared / "data" / "mnist_test.npz"), limit=24)
    source = integer.of_type(snn.Input)[0]
    want = next(iter(run_snn(integer, {source.source: fit_shape(x, source.shape)}, 1).outputs.values()))
    for engine in engines:
        run = program.run(x, engine=engine)
        np.testing.assert_array_equal(run.logits, want)
        assert run.summary["late_ticks_300_mhz_per_sample"] == 0
    assert program.report["cores"]["used"] <= 60 and "warnings" not in program.report
