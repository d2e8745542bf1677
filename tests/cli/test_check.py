"""``nmc check``: three answers, and a row for each layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Nmc = Callable[..., Any]


def test_network_that_fits(nmc: Nmc, models: Path, digits: Path) -> None:
    done = nmc("check", models / "digits_cnn.onnx", "--calib", digits, "--json")
    facts = done.facts
    assert (done.code, done.err) == (0, "")
    assert facts["schema"] == "nmc.check/1"
    assert (facts["convertible"], facts["fits"], facts["diagnostics"]) == (True, True, [])
    assert facts["calibration"] == str(digits)
    rows = {row["layer"]: row for row in facts["layers"]}
    assert rows["/2/Relu"]["neurons"] == 768 and rows["/2/Relu"]["status"] == "fits"
    assert rows["/0/Conv"]["status"] == "converts"


def test_guessed_calibration_is_admitted(nmc: Nmc, models: Path) -> None:
    done = nmc("check", models / "digits_mlp.onnx")
    assert done.code == 0
    assert "guessed from uniform random samples" in done.err
    assert done.out.rstrip().endswith("digits_mlp converts and fits loihi")
    assert nmc("check", models / "digits_mlp.onnx", "--json", "-q").facts["calibration"] == "guessed"


def test_network_that_does_not_convert(nmc: Nmc, sigmoid: Path) -> None:
    done = nmc("check", sigmoid, "--json")
    facts = done.facts
    assert done.code == 1
    assert (facts["convertible"], facts["fits"]) == (False, None)
    assert [item["code"] for item in facts["diagnostics"]] == ["E0301"]
    assert set(facts["diagnostics"][0]) == {"code", "severity", "message", "location", "hint"}
    assert facts["layers"][0]["status"] == "refused"
    assert "error[E0301]" in done.err


def test_network_that_does_not_fit(nmc: Nmc, models: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text('base = "loihi"\n[limits.synapse_words]\nvalue = 2\n')
    done = nmc("check", models / "digits_cnn.onnx", "--target", "tiny.toml", "--json")
    facts = done.facts
    assert done.code == 2
    assert (facts["convertible"], facts["fits"]) == (True, False)
    assert {item["code"] for item in facts["diagnostics"]} == {"E0710"}
    bad = [row for row in facts["layers"] if row["status"] == "does not fit"]
    assert bad and all("synapse words" in row["reason"] for row in bad)


def test_refused_layer_is_the_one_that_is_named(nmc: Nmc, tmp_path: Path) -> None:
    (tmp_path / "m.nmc").write_text(
        "module @m ann {\n"
        "  %x = ann.input() {shape=[2, 4, 4]} : f32<2x4x4>  #0\n"
        "  %p = ann.maxpool(%x) {kernel=[2, 2], stride=[2, 2], pad=[0, 0, 0, 0], dilation=[1, 1]} : f32<2x2x2>  #1\n"
        "  %r = ann.relu(%p) : f32<2x2x2>  #2\n"
        "  ann.output(%r)  #3\n"
        "}\n"
        '#0 = "m.onnx" "x"\n#1 = "m.onnx" "/pool"\n#2 = "m.onnx" "/relu"\n#3 = "m.onnx" "y"\n'
    )
    done = nmc("check", "m.nmc", "--json")
    assert done.code == 1
    status = {row["layer"]: row["status"] for row in done.facts["layers"]}
    assert status == {"/pool": "refused", "/relu": "not reached"}


def test_file_that_is_no_model(nmc: Nmc, tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"\x00\x01garbage" * 50)
    done = nmc("check", "g.onnx")
    assert done.code == 1 and "does not convert" in done.out
