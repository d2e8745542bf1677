"""Widths of single layers' weights, from the option to the chip, and the certificate of what each cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.cli import main
from nmc.driver import CompileOptions, compile_model, integer_network, load
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.op import Array
from nmc.ir.ops import snn
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.quantize import Quantize, parse_layer_bits
from nmc.passes.quantize.search import prepared
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits

WIDE = "spinnaker2"


@pytest.fixture(scope="module")
def mlp(repo: Path) -> Module:
    return load(repo / "examples" / "models" / "digits_mlp.onnx")


@pytest.fixture(scope="module")
def digits() -> Array:
    data = pytest.importorskip("sklearn.datasets").load_digits()
    return np.asarray((data.images / 16).astype(np.float32)[:, None])


@pytest.fixture(scope="module")
def calib(digits: Array, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "calib.npz"
    write_npz(path, {"x": digits[:300]})
    return str(path)


def layers(mlp: Module, calib: str) -> list[str]:
    """Names that the option takes, as the certificate gives them."""
    told = integer_network(mlp, CompileOptions(target=WIDE, calib=calib)).attr("certificate")
    return list(told["layers"])


def names_of(mlp: Module) -> list[str]:
    from nmc.ir.ops import ann

    return [*(op.out for op in mlp.of_type(ann.Relu)), *(op.data.name for op in mlp.of_type(ann.Output))]


def test_a_layer_may_come_down_to_two_bits_and_the_others_keep_theirs(mlp: Module, calib: str) -> None:
    hidden, last = names_of(mlp)
    options = CompileOptions(target=WIDE, calib=calib, layer_bits=f"{hidden}:2")
    whole = integer_network(mlp, options)
    first, second = (np.abs(op.weight.array()).max() for op in whole.of_type(snn.ProjectionOp))
    assert first == 1 and 120 <= second <= 127
    told = whole.attr("certificate")["layers"]
    assert [row["bits"] for row in told.values()] == [2, 8]
    assert set(told) == set(layers(mlp, calib)) and parse_layer_bits(f"{last}:2") == {last: 2}


def test_what_is_narrow_runs_on_the_chip_as_its_integers(mlp: Module, calib: str, digits: Array) -> None:
    from nmc.passes.quantize.integer import run_integer

    hidden, last = names_of(mlp)
    program = compile_model(mlp, CompileOptions(target=WIDE, calib=calib, layer_bits=f"{hidden}:3,{last}:4"))
    assert program.integer is not None
    (entry,), (out,) = program.integer.of_type(snn.Input), program.integer.of_type(snn.Output)
    x = digits[-20:]
    wanted = run_integer(program.integer, {entry.source: x})[out.data.name] * out.scale
    np.testing.assert_array_equal(program.run(x, raw=True).logits, wanted)


@pytest.mark.parametrize("bits", [2, 3])
def test_bias_correction_pays_where_weights_are_narrow(mlp: Module, digits: Array, bits: int) -> None:
    """On images that did not calibrate; refitted weights, which need it, win once more."""
    calibrated = Calibrate(samples=digits[:300], levels=8).run(prepared(mlp))
    held = {"x": digits[300:900]}
    text = ",".join(f"{name}:{bits}" for name in names_of(mlp))
    real = trained_logits(calibrated, held)

    def apart(**options: Any) -> float:
        made = Quantize(samples=digits[:300], layer_bits=text, **options).run(calibrated)
        return float(np.square(integer_logits(made, held).mean(axis=0) - real.mean(axis=0)).sum())

    assert apart(refit=False) < 0.5 * apart(bias_correction=False)


def test_the_certificate_tells_what_each_layer_costs_at_each_width(
    mlp: Module, calib: str, digits: Array
) -> None:
    options = CompileOptions(target=WIDE, calib=calib, layer_bits="auto:4")
    whole = integer_network(mlp, options)
    told = whole.attr("certificate")
    assert told["average_bits"] <= 4 and set(told["cost"]) == set(names_of(mlp))
    for row in told["cost"].values():
        assert row["8"] == 0 and set(row) == {"8", "6", "5", "4", "3", "2"} and row["2"] > row["6"]
    some = {"x": digits[:128]}
    real, found = trained_logits(prepared(mlp), some), integer_logits(whole, some)
    assert told["disagreement"] == (real.argmax(axis=1) != found.argmax(axis=1)).mean()
    eight = integer_network(mlp, CompileOptions(target=WIDE, calib=calib))
    assert divergence(real, integer_logits(eight, some)) < divergence(real, found)


@pytest.mark.parametrize("text", ["nobody:3", "auto:1", "logits:1", "logits"])
def test_wrong_widths_end_with_a_message(
    text: str, repo: Path, calib: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(repo / "examples" / "models" / "digits_mlp.onnx")
    assert main(["compile", model, "--calib", calib, "--layer-bits", text, "-o", "never.nmx"]) == 1
    told = capsys.readouterr().err
    assert "E0202" in told and "Traceback" not in told
