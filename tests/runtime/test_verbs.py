"""``nmc eval`` and ``nmc run`` with answers by step and early answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.cli import main
from nmc.cli.run import _steps_text
from nmc.ir.npz import write_npz
from nmc.program import Program

Array = np.ndarray[Any, Any]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Program,
    eager: Program,
    unseen: tuple[Array, Array],
) -> Call:
    """Run a verb in a folder with ``net.nmx``, ``eager.nmx`` (with a margin) and ``test.npz``."""
    monkeypatch.chdir(tmp_path)
    program.save("net.nmx")
    eager.save("eager.nmx")
    write_npz(tmp_path / "test.npz", {"x": unseen[0], "y": unseen[1]})

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def facts(done: tuple[int, str, str]) -> dict[str, Any]:
    assert done[0] == 0, done[2]
    found: dict[str, Any] = json.loads(done[1])
    return found


def test_eval_tells_accuracy_by_step_and_what_early_answers_save(call: Call, program: Program) -> None:
    found = facts(call("eval", "eager.nmx", "--data", "test.npz", "--early-exit", "--json"))
    assert len(found["accuracy_by_step"]) == program.steps
    early = found["early_exit"]
    assert {"margin", "accuracy", "mean_steps", "max_steps", "spikes_per_sample"} <= set(early)
    assert early["mean_steps"] < found["steps"] and early["spikes_per_sample"] < found["spikes_per_sample"]
    plain = facts(call("eval", "eager.nmx", "--data", "test.npz", "--json"))
    assert "early_exit" not in plain and plain["accuracy"] == found["accuracy"]


def test_eval_shows_a_table(call: Call) -> None:
    code, out, _ = call("eval", "net.nmx", "--data", "test.npz", "--early-exit", "2.5")
    assert code == 0
    assert "with early answers, at a margin of 2.5" in out and "accuracy in % if it ended" in out


def test_long_runs_show_powers_of_two_and_the_end() -> None:
    text = _steps_text([n / 100 for n in range(100)])
    shown = [word for line in text.splitlines() if "steps " in line[:8] for word in line.split()[1:]]
    assert shown == ["1", "2", "4", "8", "16", "32", "64", "100"]
    assert "99.00" in text
    short = _steps_text([0.5] * 40)
    assert sum(line.split()[1:] != [] for line in short.splitlines() if line.startswith("  steps")) == 4


def test_eval_finds_a_margin_on_calibration_data(call: Call, calib: Path) -> None:
    words = ("eval", "net.nmx", "--data", "test.npz", "--early-exit", "auto", "--json")
    assert facts(call(*words, "--calib", calib))["early_exit"]["mean_steps"] < 24
    code, _, err = call(*words)
    assert code == 1 and "E0404" in err and "--calib" in err


def test_run_writes_the_steps_of_each_sample(call: Call, tmp_path: Path) -> None:
    found = facts(call("run", "eager.nmx", "--input", "test.npz", "--early-exit", "--json", "-o", "o.npz"))
    written = np.load(tmp_path / "o.npz")
    assert written["steps"].shape == (60,) and written["steps"].max() <= 24
    assert found["steps_by_sample"] == written["steps"].tolist()
    assert found["mean_steps"] == written["steps"].mean() < 24
    assert (written["logits"].argmax(axis=1) == written["prediction"]).all()
    call("run", "eager.nmx", "--input", "test.npz", "-o", "full.npz")
    full = np.load(tmp_path / "full.npz")
    assert "steps" not in full.files and (full["logits"] != written["logits"]).any()


def test_run_and_eval_agree_on_early_answers(call: Call) -> None:
    run = facts(call("run", "net.nmx", "--input", "test.npz", "--early-exit", "2", "--json"))
    evaluated = facts(call("eval", "net.nmx", "--data", "test.npz", "--early-exit", "2", "--json"))
    assert run["accuracy"] == evaluated["early_exit"]["accuracy"]
    assert run["mean_steps"] == evaluated["early_exit"]["mean_steps"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--early-exit", "soon"], "E0004"),
        (["--early-exit", "-1"], "E0004"),
        (["--early-exit", "2", "--until-quiescent"], "E0004"),
        (["--calib", "test.npz"], "E0004"),
    ],
)
def test_what_contradicts_itself_is_refused(call: Call, words: list[str], code: str) -> None:
    done = call("eval", "net.nmx", "--data", "test.npz", *words)
    assert done[0] == 1 and f"error[{code}]" in done[2]


def test_run_and_eval_tell_when_samples_are_at_rest(call: Call, program: Program) -> None:
    run = facts(call("run", "net.nmx", "--input", "test.npz", "--until-quiescent", "--json"))
    evaluated = facts(call("eval", "net.nmx", "--data", "test.npz", "--until-quiescent", "--json"))
    assert run["accuracy"] == evaluated["accuracy"]
    assert evaluated["settled_steps"] == {"mean": run["mean_steps"], "max": program.steps}
