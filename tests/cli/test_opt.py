"""``nmc opt`` and ``nmc import``: program text in, program text out."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmc.ir.text.sidefile import load

Nmc = Callable[..., Any]

SMALL = """module @m ann {
  %x = ann.input() {shape=[4]} : f32<4>  #0
  %y = ann.relu(%x) : f32<4>  #1
  %z = ann.relu(%x) : f32<4>  #1
  ann.output(%y)  #2
}
#0 = "m.onnx" "x"
#1 = "m.onnx" "/relu"
#2 = "m.onnx" "y"
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "m.nmc"
    path.write_text(SMALL)
    return path


def test_text_without_passes_comes_back_as_it_is(nmc: Nmc, small: Path) -> None:
    done = nmc("opt", small)
    assert (done.code, done.out, done.err) == (0, SMALL, "")


def test_passes_run(nmc: Nmc, small: Path) -> None:
    assert "%z" not in nmc("opt", small, "--passes", "dead-code").out
    assert "%z" in nmc("opt", small, "--passes", "dead-code", "-d", "dead-code").out


def test_standard_input_is_read(nmc: Nmc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(SMALL))
    assert nmc("opt", "-").out == SMALL


def test_import_and_opt_round_trip_through_files(nmc: Nmc, tmp_path: Path, models: Path) -> None:
    assert nmc("import", models / "digits_mlp.onnx", "-o", "a.nmc").code == 0
    assert (tmp_path / "a.npz").exists()
    assert nmc("opt", "a.nmc", "-o", "b.nmc", "-q").out == ""
    assert load(tmp_path / "a.nmc") == load(tmp_path / "b.nmc")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert nmc("import", models / "digits_mlp.onnx").out == (tmp_path / "a.nmc").read_text()


def test_json_tells_module_and_passes(nmc: Nmc, small: Path) -> None:
    facts = nmc("opt", small, "--passes", "dead-code", "--json").facts
    assert facts["schema"] == "nmc.opt/1"
    assert facts["level"] == "ann" and facts["module"].startswith("module @m ann")
    assert [item["name"] for item in facts["passes"]] == ["dead-code"]


def test_pipeline_is_printed_and_can_be_given_back(nmc: Nmc) -> None:
    text = nmc("opt", "--passes", "@fold,retime{min_delay=2}", "--print-pipeline").out
    assert text.splitlines() == ["fold-batchnorm,", "fold-affine,", "dead-code,", "retime{min_delay=2}"]
    assert nmc("opt", "--passes", text, "--print-pipeline").out == text


def test_looking_inside(nmc: Nmc, small: Path, tmp_path: Path) -> None:
    words = ["--timing", "--print-ir-after", "changed", "--print-ir-dir", "ir", "--trace", "t.json"]
    done = nmc("opt", small, "--passes", "fold-affine,dead-code", *words)
    assert done.out.startswith("module @m")
    assert "// after dead-code" in done.err and "// after fold-affine" not in done.err
    assert " ms  in all" in done.err
    assert (tmp_path / "ir" / "02-dead-code.nmc").read_text() == done.out
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == ["fold-affine", "dead-code"]
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)


def test_check_each_takes_samples_called_x(nmc: Nmc, tmp_path: Path, models: Path, digits: Path) -> None:
    done = nmc("opt", models / "digits_cnn.onnx", "--passes", "@fold", "--check-each", digits, "-o", "o.nmc")
    assert done.code == 0, done.err
    assert "fold-batchnorm: %logits" in done.err


def test_bisect_limit_skips_optional_passes(nmc: Nmc, small: Path) -> None:
    done = nmc("opt", small, "--passes", "dead-code", "--bisect-limit", "0", "--json")
    assert done.facts["skipped"] == ["dead-code"]


def test_explain_tells_why_a_rule_did_not_apply(nmc: Nmc, models: Path) -> None:
    done = nmc(
        "opt",
        models / "digits_cnn.onnx",
        "--passes",
        "fold-batchnorm",
        "--explain",
        "fold-batchnorm",
        "-o",
        "o.nmc",
    )
    assert "fold-batchnorm: " in done.err and "applied" in done.err


def test_pass_of_a_file_runs(nmc: Nmc, repo: Path, small: Path) -> None:
    file = repo / "examples" / "passes" / "prune.py"
    done = nmc("opt", "--load-pass", file, "--passes", "prune{below=0.3}", "--print-pipeline")
    assert done.out == "prune{below=0.3}\n"
