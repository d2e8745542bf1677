"""``nmc compile`` and what can be done with its result: the keys that scripts depend on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Nmc = Callable[..., Any]


def test_compile_writes_and_summarises(nmc: Nmc, tmp_path: Path, models: Path, digits: Path) -> None:
    done = nmc("compile", models / "digits_mlp.onnx", "--calib", digits, "--steps", "8")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "digits_mlp.nmx").stat().st_size > 1000
    lines = done.out.splitlines()
    assert lines[0] == "digits_mlp.nmx: digits_mlp for loihi"
    assert len(lines) <= 11 and max(map(len, lines)) <= 130
    for word in (
        "layers",
        "cores",
        "memory",
        "limits",
        "fragmentation",
        "placement",
        "gap",
        "energy",
        "latency",
    ):
        assert word in done.out


def test_quiet_compile_says_nothing(nmc: Nmc, models: Path, digits: Path) -> None:
    done = nmc(
        "compile", models / "digits_mlp.onnx", "--calib", digits, "-q", "-o", "q.nmx", "--data", digits
    )
    assert (done.code, done.out, done.err) == (0, "", "")


def test_compile_json_has_the_promised_keys(nmc: Nmc, models: Path, digits: Path) -> None:
    facts = nmc("compile", models / "digits_mlp.onnx", "--calib", digits, "--json", "-o", "a.nmx").facts
    assert facts["schema"] == "nmc.compile/1"
    assert {"cores", "latency_steps", "placement", "memory", "energy"} <= set(facts)
    for row in facts["memory"]:
        idle = 1 - row["total"] / (row["limit"] * facts["cores"]["used"])
        assert row["used"] <= row["total"] and row["fragmentation"] == round(100 * idle, 1) >= 0
    assert {"objective", "bound", "gap"} <= set(facts["placement"])
    assert {"used", "available"} <= set(facts["cores"])
    assert facts["energy"]["energy_per_sample_j"] > 0


def test_compile_with_test_data_tells_the_accuracy(nmc: Nmc, models: Path, digits: Path) -> None:
    words = ["--calib", digits, "--data", digits, "--limit", "7", "--steps", "6"]
    done = nmc("compile", models / "digits_mlp.onnx", *words)
    assert "% of 7 samples" in done.out
    assert "evaluating: 7 of 7 (100 %)" in done.err


def test_the_same_command_gives_the_same_bytes(nmc: Nmc, tmp_path: Path, models: Path, digits: Path) -> None:
    for name in ("a.nmx", "b.nmx"):
        nmc("compile", models / "digits_mlp.onnx", "--calib", digits, "-o", name)
    assert (tmp_path / "a.nmx").read_bytes() == (tmp_path / "b.nmx").read_bytes()


def test_options_reach_the_pipeline(nmc: Nmc) -> None:
    words = ["--steps", "9", "--bits", "5", "--effort", "fast", "-d", "dead-code", "--print-pipeline"]
    done = nmc("compile", "m.onnx", "--mode", "rate-if", *words)
    assert done.code == 0
    assert "loihi-legalize{bits=5}" in done.out and "effort=fast" in done.out and "steps=9" in done.out
    assert "dead-code" not in done.out


def test_trace_and_timing_of_a_compilation(nmc: Nmc, tmp_path: Path, models: Path, digits: Path) -> None:
    done = nmc("compile", models / "digits_mlp.onnx", "--calib", digits, "--timing", "--trace", "t.json")
    assert "calibrate" in done.err and " ms  in all" in done.err
    assert '"traceEvents"' in (tmp_path / "t.json").read_text()


def test_eval_json_has_the_promised_keys(nmc: Nmc, compiled: Path, digits: Path) -> None:
    facts = nmc("eval", compiled, "--data", digits, "--limit", "5", "--json").facts
    assert facts["schema"] == "nmc.eval/1"
    assert {"accuracy", "samples", "steps", "spikes_per_sample", "synaptic_operations_per_sample"} <= set(
        facts
    )
    assert (facts["samples"], facts["steps"]) == (5, 8)
    assert 0 <= facts["accuracy"] <= 1


def test_eval_takes_other_steps(nmc: Nmc, compiled: Path, digits: Path) -> None:
    assert nmc("eval", compiled, "--data", digits, "--steps", "5", "--json").facts["steps"] == 5


def test_eval_text(nmc: Nmc, compiled: Path, digits: Path) -> None:
    done = nmc("eval", compiled, "--data", digits, "-q")
    assert done.err == ""
    assert done.out.startswith("40 samples, 8 steps each") and "accuracy" in done.out


def test_eval_needs_labels(nmc: Nmc, compiled: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 8, 8), np.float32))
    done = nmc("eval", compiled, "--data", "x.npz")
    assert done.code == 1 and "error[E0403]: no labels" in done.err


def test_run_writes_logits_prediction_and_probes(
    nmc: Nmc, compiled: Path, digits: Path, tmp_path: Path
) -> None:
    done = nmc("run", compiled, "--input", digits, "--limit", "6", "--probe", "logits.v", "-o", "o.npz")
    assert done.code == 0, done.err
    found = np.load(tmp_path / "o.npz")
    assert set(found.files) == {"logits", "prediction", "logits.v"}
    assert found["logits"].shape == (6, 10) and found["logits.v"].shape == (6, 8, 10)
    assert (found["logits"].argmax(axis=1) == found["prediction"]).all()


def test_run_and_eval_agree(nmc: Nmc, compiled: Path, digits: Path) -> None:
    run = nmc("run", compiled, "--input", digits, "--json").facts
    assert run["accuracy"] == nmc("eval", compiled, "--data", digits, "--json").facts["accuracy"]
    assert len(run["predictions"]) == 40 and np.shape(run["logits"]) == (40, 10)


def test_bytes_are_scaled_unless_raw(nmc: Nmc, compiled: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "u8.npz", x=pixels)
    np.savez(tmp_path / "f32.npz", x=pixels.astype(np.float32) / np.float32(255))
    scaled = nmc("run", compiled, "--input", "u8.npz", "--json").facts["logits"]
    assert scaled == nmc("run", compiled, "--input", "f32.npz", "--json").facts["logits"]
    assert scaled != nmc("run", compiled, "--input", "u8.npz", "--raw", "--json").facts["logits"]


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--probe", "foo.v"], "E0540"), (["--engine", "warp"], "E0802"), (["--input", "wrong.npz"], "E0401")],
)
def test_what_run_cannot_do(
    nmc: Nmc, compiled: Path, digits: Path, tmp_path: Path, words: list[str], code: str
) -> None:
    np.savez(tmp_path / "wrong.npz", x=np.zeros((2, 3)))
    given = [] if "--input" in words else ["--input", digits]
    done = nmc("run", compiled, *given, *words)
    assert done.code == 1 and f"error[{code}]" in done.err


def test_inspect_a_program(nmc: Nmc, compiled: Path) -> None:
    done = nmc("inspect", compiled)
    assert done.code == 0
    for word in ("compartments", "weight error", "loihi.nmcl", "digits_mlp.onnx", "calibrate"):
        assert word in done.out
    facts = nmc("inspect", compiled, "--json").facts
    assert facts["manifest"]["target"] == "loihi" and facts["report"]["cores"]["used"] >= 1
    assert nmc("inspect", compiled, "--ir").out.startswith("module @digits_mlp mapped")


def test_inspect_a_model(nmc: Nmc, models: Path) -> None:
    facts = nmc("inspect", models / "digits_mlp.onnx", "--json").facts
    assert facts["level"] == "ann" and facts["ops"]["ann.dense"] >= 2
    assert "ann.dense" in nmc("inspect", models / "digits_mlp.onnx").out


def test_program_with_a_nonsense_report_or_map_is_refused(nmc: Nmc, compiled: Path, tmp_path: Path) -> None:
    from nmc.program import Program

    program = Program.open(compiled)
    report = {**program.report, "memory": 5}
    bad = Program.build(program.module, program.files, program.manifest, report, {"a": 5})
    bad.save(tmp_path / "bad.nmx")
    for words in (["inspect", "bad.nmx"], ["where", "bad.nmx", "0:1"]):
        done = nmc(*words)
        assert done.code == 1 and "error[E0804]" in done.err


def test_objdump_gives_the_image_level(nmc: Nmc, compiled: Path) -> None:
    whole = nmc("objdump", compiled).out
    assert whole.startswith("module @loihi image")
    one = nmc("objdump", compiled, "--core", "0").out
    assert "core=0" in one and len(one) < len(whole)
    assert nmc("objdump", compiled, "--core", "77").code == 1


def test_where_answers_both_ways(nmc: Nmc, compiled: Path) -> None:
    done = nmc("where", compiled, "logits[3]", "--json")
    (answer,) = done.facts["places"][0]["found"]
    core, cx = answer.split("core ")[1].split(" cx ")[0], answer.split(" cx ")[1].split()[0]
    assert "logits[3]" in nmc("where", compiled, f"core {core} cx {cx}").out
    assert nmc("where", compiled, "nothing").code == 1


def test_demo_compares_all_stages(nmc: Nmc, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    done = nmc("demo", "--model", "digits-mlp", "--limit", "20", "--steps", "16", "-o", "d.nmx", "--json")
    assert done.code == 0, done.err
    assert {"float_accuracy", "integer_accuracy", "emulated_accuracy"} <= set(done.facts)
    assert done.facts["agree"] == 20
    words = ("--mode", "rate-if", "--limit", "5", "--steps", "8", "--json")
    rates = nmc("demo", "--model", "digits-mlp", *words).facts
    assert {"float_accuracy", "converted_accuracy", "quantised_accuracy", "emulated_accuracy"} <= set(rates)
    assert (tmp_path / "d.nmx").exists()


@pytest.mark.parametrize("target", ["loihi", "spinnaker2", "fpga"])
def test_neurons_are_found_on_every_chip(nmc: Nmc, models: Path, digits: Path, target: str) -> None:
    words = ("--calib", digits, "--target", target, "--effort", "fast", "-o", "net.nmx")
    assert nmc("compile", models / "digits_mlp.onnx", *words).code == 0
    assert "10 neurons" in nmc("where", "net.nmx", "logits").out
    assert nmc("where", "net.nmx", "logits[3]").out.startswith("logits[3]: core ")


def test_a_program_with_an_early_exit_verifies(nmc: Nmc, models: Path, digits: Path) -> None:
    words = ("--calib", digits, "--early-exit", "--effort", "fast", "-o", "net.nmx")
    assert nmc("compile", models / "digits_mlp.onnx", *words).code == 0
    done = nmc("verify", "net.nmx")
    assert done.code == 0, done.out + done.err
