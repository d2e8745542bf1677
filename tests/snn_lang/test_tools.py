"""The formatter, the command line, the editor grammar, and how fast it is."""

import json
import re
from pathlib import Path

import pytest

from nmc.cli import main
from nmc.frontends.snn import format_text, read_snn
from nmc.frontends.snn.lexing import KEYWORDS
from nmc.frontends.snn.model_lines import DEFINING, PARTS, PLAIN


def test_fmt_keeps_comments_and_makes_spaces_even() -> None:
    old = (
        "# top\n\n\n\nnetwork  a( dt=1ms )   # head\nfor i in 0 .. 3{\n"
        "pop   h{i}[ 3 ]:lif( tau=10ms,\nv_leak=-1 )\n}\n\n"
    )
    new = (
        "# top\n\nnetwork a(dt = 1 ms)  # head\nfor i in 0..3 {\n    pop h{i}[3] : lif(tau = 10 ms,\n"
        "        v_leak = -1)\n}\n"
    )
    assert format_text(old) == new
    assert format_text(new) == new


def test_fmt_check_tells_and_fmt_mends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.snn"
    path.write_text("network a(dt=1 ms)\n")
    assert main(["fmt", str(path), "--check"]) == 1
    assert "E0387" in capsys.readouterr().err
    assert main(["fmt", str(path)]) == 0 and path.read_text() == "network a(dt = 1 ms)\n"
    assert main(["fmt", str(path), "--check"]) == 0


def test_import_takes_params(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = str(examples / "synfire.snn")
    assert main(["import", program, "--param", "width=4", "--param", "D=1 ms"]) == 0
    text = capsys.readouterr().out
    assert "spikes<4>" in text and "delay=2" in text
    assert main(["import", program, "--param", "D=1 mV", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [item["code"] for item in told["diagnostics"]] == ["E0378"]


def test_check_tells_all_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.snn"
    path.write_text("network a(dt = 1 ms)\npop a[3] : lfi()\npop b[0] : iaf()\n")
    assert main(["check", str(path)]) == 1
    err = capsys.readouterr().err
    assert "E0371" in err and "E0373" in err and "did you mean li" in err


def test_the_editor_grammar_knows_every_keyword(repo: Path) -> None:
    grammar = json.loads((repo / "docs" / "editors" / "snn.tmLanguage.json").read_text())
    words = set()
    for pattern in grammar["patterns"]:
        if pattern["name"].startswith(("keyword", "constant.language")):
            words |= set(re.findall(r"[a-z]+", pattern["match"]))
    assert words >= KEYWORDS | {*DEFINING, *PLAIN, *PARTS, "model"}


def test_a_program_of_5000_statements_is_elaborated_whole() -> None:
    lines = ["network big(dt = 1 ms)", "neuron n = lif(tau = 20 ms, v_threshold = 1.0, reset = subtract)"]
    lines.append("pop p0[10] : n")
    for i in range(1, 2500):
        lines.append(f"pop p{i}[10] : n(tau = {10 + i % 7} ms)")
        lines.append(f"p{i - 1} -> p{i} : fixed_prob(p = 10 %, weight = 0.5 * 3 - 1, delay = 2 ms)")
    module = read_snn("\n".join(lines))
    assert len(module.producers) > 4900


def test_the_program_of_the_documentation_is_one(repo: Path) -> None:
    text = (repo / "docs" / "snn.md").read_text(encoding="utf-8").split("```")[1].lstrip("\n")
    assert read_snn(text).name == "two"
    assert format_text(text) == text


def test_the_other_blocks_of_the_documentation_are_lawful_lines(repo: Path) -> None:
    learning, model = (repo / "docs" / "snn.md").read_text(encoding="utf-8").split("```")[3:6:2]
    read_snn("network doc(dt = 0.1 ms)\npop E[9] : lif(tau = 9 ms, v_threshold = 9 mV)" + learning)
    read_snn("network doc(dt = 1 ms)" + model)
    assert format_text(model) == model.lstrip("\n")


def test_compile_freezes_learning_only_when_asked(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compile", str(examples / "balanced.snn"), "--param", "N=50", "--print-pipeline"]
    assert main(command) == 0 and "freeze-plasticity" not in capsys.readouterr().out
    assert main([*command, "--freeze-plasticity"]) == 0
    assert "freeze-plasticity" in capsys.readouterr().out.splitlines()[0]
