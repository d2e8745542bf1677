"""``nmc check``: three answers, and a row for each layer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.cli.sizes import synapse_count
from nmc.ir.const import Const
from nmc.ir.op import Value
from nmc.ir.ops import snn
from nmc.ir.types import Type

Ints = tuple[int, ...]
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
    told = "digits_mlp converts and fits loihi (74 neurons, 4,590 synapses, 1 core)"
    assert done.out.rstrip().endswith(told)
    assert nmc("check", models / "digits_mlp.onnx", "--json", "-q").facts["calibration"] == "guessed"


def test_network_that_does_not_convert(nmc: Nmc, unsupported: Path) -> None:
    done = nmc("check", unsupported, "--json")
    facts = done.facts
    assert done.code == 1
    assert (facts["convertible"], facts["fits"]) == (False, None)
    assert [item["code"] for item in facts["diagnostics"]] == ["E0301"]
    assert set(facts["diagnostics"][0]) == {"code", "severity", "message", "location", "hint"}
    assert facts["layers"][0]["status"] == "refused"
    assert "error[E0301]" in done.err


def test_smooth_activations_convert_when_lines_are_allowed(nmc: Nmc, tmp_path: Path) -> None:
    from onnx import helper, save

    nodes = [helper.make_node("Tanh", ["x"], ["t"], name="first"), helper.make_node("Elu", ["t"], ["y"])]
    info = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "smooth.onnx")
    refused = nmc("check", tmp_path / "smooth.onnx", "--json")
    assert refused.code == 1
    told = {item["location"] for item in refused.facts["diagnostics"] if "--approximate" in item["hint"]}
    assert told == {'smooth.onnx: node "first"', 'smooth.onnx: node "Elu#1"'}
    assert nmc("check", tmp_path / "smooth.onnx", "--approximate").code == 0


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
        "  %p = ann.lrn(%x) {size=3} : f32<2x4x4>  #1\n"
        "  %r = ann.relu(%p) : f32<2x4x4>  #2\n"
        "  ann.output(%r)  #3\n"
        "}\n"
        '#0 = "m.onnx" "x"\n#1 = "m.onnx" "/norm"\n#2 = "m.onnx" "/relu"\n#3 = "m.onnx" "y"\n'
    )
    done = nmc("check", "m.nmc", "--json")
    assert done.code == 1
    status = {row["layer"]: row["status"] for row in done.facts["layers"]}
    assert status["/norm"] == "refused"


def test_sizes_are_told(nmc: Nmc, models: Path, digits: Path, unsupported: Path) -> None:
    facts = nmc("check", models / "digits_mlp.onnx", "--calib", digits, "--json").facts
    assert (facts["neurons"], facts["cores"], facts["cores_bound"]) == (74, 1, False)
    assert facts["synapses"] > 0.9 * (64 * 64 + 64 * 10)
    assert facts["synapses"] + facts["zero_weights"] == 64 * 64 + 64 * 10
    nothing = nmc("check", unsupported, "--json").facts
    assert [nothing[name] for name in ("neurons", "synapses", "cores")] == [None] * 3


def test_what_is_too_large_is_told_in_cores(nmc: Nmc, tmp_path: Path) -> None:
    """16 x 128 x 128 neurons of two compartments take 512 cores alone, and the parts of a layer are counted."""
    (tmp_path / "big.nmc").write_text(
        "module @big ann {\n"
        "  const @s : f32<1x1x1> = splat 0.5\n"
        "  %x = ann.input() {shape=[8, 128, 128]} : f32<8x128x128>\n"
        "  %a = ann.affine(%x, @s, @s) : f32<8x128x128>\n"
        "  %c = ann.concat(%x, %a) : f32<16x128x128>\n"
        "  %r = ann.relu(%c) : f32<16x128x128>\n"
        "  ann.output(%r)\n"
        "}\n"
    )
    done = nmc("check", "big.nmc", "--json")
    facts = done.facts
    assert (done.code, facts["fits"], facts["cores_bound"]) == (2, False, True)
    assert facts["cores"] >= 512 and facts["neurons"] == 2 * 16 * 128 * 128
    assert {row["layer"]: row["neurons"] for row in facts["layers"]}["r"] == 16 * 128 * 128
    assert f"at least {facts['cores']:,} cores" in nmc("check", "big.nmc").out


@pytest.mark.parametrize(("stride", "pad", "groups"), [((1, 1), (1, 0, 1, 2), 1), ((2, 3), (0, 2, 1, -1), 2)])
def test_synapses_of_a_kernel_are_those_of_its_matrix(stride: Ints, pad: Ints, groups: int) -> None:
    weight = np.random.default_rng(1).integers(-1, 2, (4, 4 // groups, 3, 2)).astype(np.int8)
    spikes = Value("s", Type("spikes", (4, 6, 7)))
    op = snn.Conv(
        out="c",
        spikes=spikes,
        weight=Const("w", weight),
        stride=stride,
        pad=pad,
        dilation=(2, 1),
        groups=groups,
    )
    units = np.eye(4 * 6 * 7).reshape(-1, 4, 6, 7)
    every = Const("w", np.ones_like(weight))
    found, whole = (int(np.count_nonzero(item.run(units))) for item in (op, replace(op, weight=every)))
    assert synapse_count(op) == (found, whole - found)


def test_file_that_is_no_model(nmc: Nmc, tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"\x00\x01garbage" * 50)
    done = nmc("check", "g.onnx")
    assert done.code == 1 and "does not convert" in done.out


def test_check_guesses_no_thresholds_for_a_network_that_has_its_own(nmc: Nmc, repo: Path) -> None:
    done = nmc("check", repo / "examples" / "mlp.snn", "--json")
    assert done.facts["calibration"] == "none"
    assert "guessed" not in done.err
