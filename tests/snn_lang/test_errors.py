"""Errors: all in one run, each with its place, code and a way out."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nmc.frontends.snn import load_snn
from nmc.ir.diagnostics import Diagnostic, NmcError

Wrong = Callable[..., list[Diagnostic]]

#: A line that is wrong, and its code.
MISTAKES = [
    ("let a = 1 ms + 1 mV", "E0368"),
    ("pop b[3] : lfi(tau = 10 ms)", "E0371"),
    ("pop c[0] : good", "E0373"),
    ("le d = 3", "E0363"),
    ("let e = (1 + 2", "E0364"),
    ("let f = 1 $ 2", "E0362"),
    ("image -> hiden : dense(weight = 1)", "E0366"),
    ("image -> hidden : all_to_all(weight = 1)", "E0371"),
    ("image -> hidden : fixed_prob(p = 2)", "E0373"),
    ("image -> hidden : fixed_prob(weight = 1)", "E0372"),
    ("image -> hidden : one_to_one()", "E0376"),
    ("image[0:99] -> hidden : dense(weight = 1)", "E0377"),
    ("hidden -> image : dense(weight = 1)", "E0369"),
    ("let image = 3", "E0367"),
    ("assert 1 > 2, \"one is not more than two\"", "E0382"),
    ("probe hidden.u", "E0384"),
    ("weights W = \"../x.npz\"", "E0374"),
    ("image -> hidden : dense(weight = 1 mV)", "E0368"),
    ("let g = 1 / 0", "E0370"),
    ("output hidden : counts()", "E0371"),
    ("neuron h { v = 1 }", "E0381"),
    ("pop i[3] : lif(v_threshold = 1)", "E0372"),
    ("image -> hidden : dense(weight = 1, delay = 0.5 ms)", "E0373"),
    ("image -> soft : dense(weight = 1) with hebb", "E0380"),
    ("synapse twin = stdp(tau_plus = 1 ms)", "E0372"),
    ("image -> hidden : dense(weight = 3) with hebb", "E0373"),
    ("image -> hidden : dense(weight = 1) with good", "E0369"),
    ("neuron j = model { update { v' = 1 } }", "E0381"),
    ("neuron k = model { state v = 0; update { w' = 1 }; threshold v > 1 }", "E0366"),
    ("neuron l = model { state v = 0; update { v' = v + J }; threshold v > 1 }", "E0366"),
    ("neuron m = model { state v = 0; update { v' = v + }; threshold v > 1 }", "E0363"),
    ("neuron n = model { state v = 0 mV; update { v' = v + 1 }; threshold v > 1 mV }", "E0368"),
    ("neuron o = model { state v = 0; update { v' = sin(v) }; threshold v > 1 }", "E0371"),
    ("neuron q = model { state v = 0; update { v = 1 }; threshold v > 1 }", "E0381"),
    ("neuron r = model { state v = 0; update { v' = 1 } }", "E0381"),
    ("neuron s = model { state v = 0; update { v' = 1 }; threshold v + 1 }", "E0369"),
    ("neuron t = model { state v = 0; arithmetic fixed(20, 20); update { v' = 1 }; threshold v > 1 }", "E0373"),
    ("neuron u = model { stat v = 0; state v = 0; update { v' = 1 }; threshold v > 1 }", "E0381"),
    ("pop z[3] : izh(e = 3)", "E0372"),
    ("let h' = 3", "E0362"),
    ("place hidden on moon(3)", "E0386"),
    ("place hidden[0:3] on cores(0..2)", "E0386"),
    ("let i = 5 msec", "E0368"),
    ("pop i2[2] : lif(tau = [5 ms, 1 mV])", "E0368"),
    ("pop i3[2] : lif(tau = [[5 ms], 1 ms])", "E0376"),
    ("pop i4[2] : lif(tau = [])", "E0369"),
    ("import \"none.snn\"", "E0374"),
    ("pop k[9999, 99999] : good", "E0379"),
]  # fmt: skip
HEAD = """network test(dt = 1 ms)
neuron good = lif(tau = 10 ms)
synapse hebb = stdp(tau_plus = 9 ms, tau_minus = 9 ms, a_plus = 0.1, a_minus = 0.1, w_max = 2)
neuron izh = model { state v = 0; param a = 1; update { v' = v + a * I }; threshold v >= 1; reset { v = 0 } }
input image[20] : rate(max = 100 Hz)
pop hidden[10] : good
pop soft[10] : li(tau = 5 ms)
"""


def test_a_file_with_all_mistakes_reports_each_once_with_its_line(wrong: Wrong) -> None:
    found = wrong(HEAD + "\n".join(line for line, _ in MISTAKES))
    first = HEAD.count("\n") + 1
    told = [(int(item.where.split(":")[1]), item.code) for item in found]
    assert told == [(first + number, code) for number, (_, code) in enumerate(MISTAKES)]
    assert len(told) > 20


@pytest.mark.parametrize(("line", "code"), MISTAKES)
def test_one_mistake_is_one_error_with_a_caret(line: str, code: str, wrong: Wrong) -> None:
    (found,) = wrong(HEAD + line)
    assert found.code == code
    shown = found.message.split("\n")
    assert line in shown[1] and set(shown[2].replace("|", " ").split()[0]) == {"^"}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("le d = 3", "let"),
        ("pop b[3] : Leaky(beta = 0.9)", "did you mean lif?"),
        ("pop b[3] : IF_curr_exp()", "did you mean cuba_lif?"),
        ("pop b[3] : lif(v_thresh = 1.0, tau = 1 ms)", "did you mean v_threshold?"),
        ("image -> hidden : all_to_all(weight = 1)", "did you mean dense?"),
        ("image -> hidden : fixed_prob(p_connect = 0.1)", "did you mean p?"),
        ("image -> hiden : dense(weight = 1)", "did you mean hidden?"),
        ("probe hidden.voltage", "did you mean v?"),
        ("let t = 20 msec", "did you mean ms?"),
        ("neuron o = model { state v = 0; update { vv' = 1 }; threshold v > 1 }", "did you mean v?"),
        ("neuron o = model { sate v = 0; update { v' = 1 }; threshold v > 1 }", "did you mean state?"),
        (
            "neuron o = model { state v = 0; update { v' = where(v > 1, 0, v) }; threshold v > 1 }",
            "mean select?",
        ),
        ("neuron o = model { state v = 0; update { v' = v }; threshold vv > 1 }", "did you mean v?"),
        ("pop z[3] : izh(v_inti = 3)", "did you mean v_init?"),
    ],
)
def test_did_you_mean(line: str, hint: str, wrong: Wrong) -> None:
    (found,) = wrong(HEAD + line)
    assert hint in found.hint


def test_what_uses_something_wrong_is_not_told_again(wrong: Wrong) -> None:
    text = (
        HEAD
        + "let n = 1 / 0\npop a[n] : good\nimage -> a : dense(weight = 1)\nprobe a.v\noutput a : count()\n"
    )
    assert [item.code for item in wrong(text)] == ["E0370"]


@pytest.mark.parametrize("text", ["network t()", "network t(steps = 3)\npop a[1] : iaf()"])
def test_dt_is_obligatory(text: str, wrong: Wrong) -> None:
    assert [item.code for item in wrong(text)] == ["E0365"]


def test_no_network_line(wrong: Wrong) -> None:
    assert [item.code for item in wrong("let a = 1\n")] == ["E0365"]


def test_a_loop_without_delay_is_told_with_its_way(wrong: Wrong) -> None:
    loop = "pop a[2] : good\npop b[2] : good\na -> b : one_to_one()\nb -> a : one_to_one()\n"
    (found,) = wrong(HEAD + loop)
    assert found.code == "E0383" and "a -> b -> a" in found.message


def test_a_loop_with_delay_is_lawful(make: Callable[..., object]) -> None:
    make("pop a[2] : iaf()\na -> a : one_to_one(weight = 1, delay = 1 step)")
    make("pop a[2] : iaf()\na -> a : one_to_one(weight = 1)", "dt = 1 ms, delay = 1 step")


def test_unknown_and_wrong_params(wrong: Wrong) -> None:
    text = "network t(dt = 1 ms)\nparam width = 3\nparam D = 3 ms\n"
    told = wrong(text, widht="4", D="4 mV")
    assert [item.code for item in told] == ["E0378", "E0378"]
    assert any("did you mean width?" in item.hint for item in told)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "w.npz").write_bytes(b"")
    (tmp_path / "in" / "w.npz").symlink_to(tmp_path / "w.npz")
    (tmp_path / "in" / "a.snn").write_text('network a(dt = 1 ms)\nweights W = "w.npz"\n')
    with pytest.raises(NmcError, match="leaves the program's folder"):
        load_snn(tmp_path / "in" / "a.snn")


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", None])
def test_unreadable_files(data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.snn"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(NmcError) as caught:
        load_snn(path)
    assert caught.value.diagnostics[0].code == "E0361"


def test_errors_inside_modules_and_loops_are_told_once(wrong: Wrong) -> None:
    text = HEAD + "module m(n) {\n  pop a[n] : godo\n}\nfor i in 0..5 {\n  pop m{i} : m(i + 1)\n}\n"
    (found,) = wrong(text)
    assert found.code == "E0371" and found.where == "test.snn:9:14"


def test_grammar_has_no_conflict_in_a_fresh_cache(tmp_path: Path, repo: Path) -> None:
    code = "from nmc.frontends.snn import read_snn; read_snn('network a(dt = 1 ms)'); print('ok')"
    for _ in range(2):
        env = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(repo)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=repo)
        assert done.stdout == "ok\n", done.stderr
    (cached,) = (tmp_path / "nmc").iterdir()
    cached.write_bytes(b"garbage")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=repo)
    assert done.stdout == "ok\n", done.stderr
