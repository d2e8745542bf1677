"""Whatever goes wrong: a code, a place, a way out, the right exit code, and never a traceback."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmc.cli import errors
from nmc.cli.app import main
from nmc.ir.diagnostics import Diagnostic

Nmc = Callable[..., Any]

WRONG = [
    (["complie"], "E0005", "did you mean nmc compile?"),
    (["--jsn"], "E0005", "nmc --help"),
    (["compile"], "E0004", "nmc compile --help"),
    (["compile", "m.onnx", "--tarjet", "loihi"], "E0004", "did you mean --target?"),
    (["compile", "m.onnx", "--steps", "0"], "E0004", "--help"),
    (["compile", "m.onnx", "--steps", "1e999"], "E0004", "--help"),
    (["compile", "m.onnx", "--effort", "least"], "E0004", "--help"),
    (["compile", "m.onnx", "--target", "lohi"], "E0721", "did you mean loihi?"),
    (["compile", "m.onnx", "--target", "no.toml"], "E0002", ""),
    (["compile", "m.onnx", "--load-pass", "no.py"], "E0002", ""),
    (["compile", "m.onnx", "--passes", "retyme"], "E0201", "did you mean retime?"),
    (["compile", "m.onnx", "-d", "fold-batchnom"], "E0201", "did you mean fold-batchnorm?"),
    (["compile", "m.onnx", "--passes", "retime{min_delay=x}"], "E0202", "options of retime"),
    (["compile", "m.onnx", "--passes", "a{"], "E0200", ""),
    (["compile", "m.onnx"], "E0002", "did you mean n.onnx?"),
    (["compile", "."], "E0002", ""),
    (["compile", "garbage.onnx"], "E0303", ""),
    (["compile", "a.txt"], "E0001", ""),
    (["compile", "n.onnx", "-o", "no/such/folder.nmx"], "E0002", "mkdir"),
    (["compile", "n.onnx", "-o", "."], "E0002", ""),
    (["compile", "n.onnx"], "E0404", "--calib"),
    (["compile", "n.onnx", "--calib", "no.npz"], "E0002", ""),
    (["compile", "n.onnx", "--calib", "garbage.onnx"], "E0120", ""),
    (["compile", "n.onnx", "--data", "garbage.onnx"], "E0120", ""),
    (["compile", "n.onnx", "--print-ir-after", "plaice"], "E0201", "did you mean place?"),
    (["compile", "n.onnx", "--explain", "plaice"], "E0201", "did you mean place?"),
    (["compile", "n.onnx", "--trace", "no/t.json"], "E0002", ""),
    (["compile", "x\0y.onnx"], "E0002", ""),
    (["run", "n.onnx", "--input", "x.npz"], "E0001", "compile it first"),
    (["run", "garbage.nmx", "--input", "x.npz"], "E0803", ""),
    (["eval", "garbage.nmx", "--data", "x.npz"], "E0803", ""),
    (["inspect", "garbage.nmx"], "E0803", ""),
    (["objdump", "garbage.nmx"], "E0803", ""),
    (["where", "garbage.nmx", "0:1"], "E0803", ""),
    (["opt"], "E0004", ""),
    (["opt", "garbage.nmc"], "E0100", ""),
    (["opt", "text.nmc"], "E0101", ""),
    (["opt", "no.nmc"], "E0002", ""),
    (["import", "garbage.onnx"], "E0303", ""),
    (["ops", "ann.con"], "E0006", "did you mean ann.conv?"),
    (["passes", "calibrat"], "E0201", "did you mean calibrate?"),
    (["passes", "@default:lohi"], "E0201", "did you mean @default:loihi?"),
    (["targets", "lohi"], "E0721", "did you mean loihi?"),
    (["targets", "text.toml"], "E0722", ""),
    (["explain", "E0711x"], "E0007", "did you mean E0711?"),
    (["demo", "--model", "digits"], "E0003", "digits-cnn"),
]


@pytest.fixture
def folder(tmp_path: Path, models: Path) -> Path:
    """A folder with one good model and files that are nothing."""
    (tmp_path / "n.onnx").write_bytes((models / "digits_mlp.onnx").read_bytes())
    for name in ("garbage.onnx", "garbage.nmx", "garbage.nmc"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 8)
    for name in ("text.nmc", "a.txt", "text.toml"):
        (tmp_path / name).write_text("what is = = this\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "hint"), WRONG, ids=lambda item: " ".join(item)[:60].replace("\0", "0")
)
def test_user_errors_have_code_and_hint(
    nmc: Nmc, folder: Path, words: list[str], code: str, hint: str
) -> None:
    before = set(folder.iterdir())
    done = nmc(*words)
    assert (done.code, done.out) == (1, "")
    assert f"error[{code}]: " in done.err
    assert hint in done.err
    assert set(folder.iterdir()) == before, "a failed command leaves nothing behind"


@pytest.mark.parametrize(("words", "code", "hint"), WRONG[::5], ids=lambda item: " ".join(item)[:60])
def test_errors_as_json(nmc: Nmc, folder: Path, words: list[str], code: str, hint: str) -> None:
    facts = nmc(*words, "--json").facts
    assert facts["exit_code"] == 1
    assert facts["schema"].endswith("/1")
    assert code in [item["code"] for item in facts["diagnostics"]]
    assert {"code", "severity", "message", "location", "hint"} == set(facts["diagnostics"][0])


def test_all_problems_are_told_at_once(nmc: Nmc) -> None:
    done = nmc("opt", "--passes", "foo, bar, retime{min_delay=x}", "--print-pipeline")
    assert done.err.count("error[") == 3


def test_network_that_does_not_fit_exits_with_2(nmc: Nmc, tmp_path: Path, models: Path, digits: Path) -> None:
    chip = tmp_path / "tiny.toml"
    chip.write_text('base = "loihi"\n[limits.synapse_words]\nvalue = 2\n')
    done = nmc("compile", models / "digits_mlp.onnx", "--calib", digits, "--target", chip, "--json")
    assert done.code == 2 == done.facts["exit_code"]
    assert "error[E0710]" in done.err
    assert not (tmp_path / "digits_mlp.nmx").exists()


def test_internal_error_is_one_line_and_a_report(
    nmc: Nmc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(args: object, console: object) -> int:
        raise KeyError("lost")

    monkeypatch.setattr("nmc.cli.explain.explain_verb", broken)
    done = nmc("explain", "E0001")
    assert done.code == 3
    first, hint = done.err.splitlines()
    assert first == "error[E0299]: internal error: KeyError: 'lost'"
    assert "nmc-crash.txt" in hint
    report = (tmp_path / "nmc-crash.txt").read_text()
    assert "nmc 'explain' 'E0001'" in report and "in broken" in report
    assert "in broken" in nmc("explain", "E0001", "--traceback").err


def test_failing_pass_leaves_a_reproducer_where_asked(nmc: Nmc, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(
        "from dataclasses import dataclass\n"
        "from nmc.passes.base import Pass\n"
        "@dataclass(frozen=True)\n"
        "class Boom(Pass, name='boom', takes='any'):\n"
        "    '''Fail.'''\n"
        "    def run(self, module):\n"
        "        return 1 / 0\n"
    )
    (tmp_path / "m.nmc").write_text("module @m ann {\n}\n")
    (tmp_path / "crash").mkdir()
    words = ["opt", "m.nmc", "--load-pass", "p.py", "--passes", "boom"]
    done = nmc(*words, "--crash-dir", "crash")
    assert done.code == 3
    assert "internal error in pass boom: ZeroDivisionError" in done.err
    made = tmp_path / "crash" / "nmc-crash.nmc"
    assert str(made.relative_to(tmp_path)) in done.err
    assert made.read_text().startswith("// RUN: nmc opt --passes boom")


def test_interrupt_exits_with_130(nmc: Nmc, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(args: object, console: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nmc.cli.explain.explain_verb", stopped)
    assert nmc("explain").code == 130


def test_reader_that_goes_away_is_no_error(repo: Path) -> None:
    code = "import sys; from nmc.cli import main; sys.exit(main(['ops', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_is_a_clean_error(repo: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "nmc", "ops"]
        done = subprocess.run(command, cwd=repo, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error[E0002]") and "Traceback" not in done.stderr


def test_names_from_files_cannot_control_the_terminal(nmc: Nmc, unsupported: Path) -> None:
    done = nmc("check", unsupported)
    assert "\x1b" not in done.out + done.err
    assert r"evil\x1b[31m" in done.err


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("name", "setting", "coloured"), [("A", "", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)]
)
def test_colour_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, name: str, setting: str, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, setting)
    problem = Diagnostic("E0001", "no", where="here", hint="do")
    for stream, wanted in ((Terminal(), coloured), (io.StringIO(), False)):
        errors.print_diagnostics([problem], stream)
        assert ("\x1b[" in stream.getvalue()) == wanted
    assert errors.render(problem) == "error[E0001]: no\n  --> here\n  help: do"


def test_main_takes_the_words_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nmc", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("nmc ")
