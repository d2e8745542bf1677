"""``nmc diff``: same is 0, different is 1, and the first difference is where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

Nmc = Any
PROGRAM = """
network n(dt = 1 ms, steps = 40)
param w = 0.6
input x[3] : raster()
pop a[4] : lif(tau = 20 ms, v_threshold = 1.0, reset = subtract)
pop b[2] : lif(tau = 15 ms, v_threshold = 1.0)
x -> a : dense(weight = w)
a -> b : dense(weight = 0.4, delay = 1 ms)
output b : count()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A spiking program of two populations."""
    path = tmp_path / "net.snn"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def spikes(tmp_path: Path) -> Path:
    """Two samples of spikes for it."""
    path = tmp_path / "x.npy"
    np.save(path, (np.random.default_rng(4).random((2, 40, 3)) < 0.4).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def dumps(models: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network: as a float network, in Loihi's arithmetic, and compiled from the same passes."""
    from nmc.driver import CompileOptions, compile_model, load, opt
    from nmc.ir.text.sidefile import save

    folder = tmp_path_factory.mktemp("dumps")
    front = f'fold-batchnorm, fold-affine, dead-code, calibrate{{data="{digits}"}}, ann-to-snn{{steps=12}}'
    plain = opt(load(models / "digits_mlp.onnx"), front)
    save(plain, folder / "float.nmc")
    legal = opt(plain, "retime, loihi-legalize")
    save(legal, folder / "legal.nmc")
    mapping = CompileOptions(passes="partition, place, loihi-allocate", steps=12)
    compile_model(legal, mapping).save(folder / "net.nmx")
    default = CompileOptions(calib=str(digits), steps=12)
    compile_model(models / "digits_mlp.onnx", default).save(folder / "default.nmx")
    return folder


def test_a_program_is_the_same_as_itself(nmc: Nmc, program: Path, spikes: Path) -> None:
    done = nmc("diff", program, program, "--input", spikes, "--json")
    assert (done.code, done.facts["equal"], done.facts["first"]) == (0, True, None)
    assert [(row["a"], row["cosine_trains"]) for row in done.facts["layers"]] == [("a", 1.0), ("b", 1.0)]
    assert done.facts["layers"][0]["rate_a"] > 0


def test_another_param_on_one_side_is_found_where_it_acts_first(
    nmc: Nmc, program: Path, spikes: Path
) -> None:
    done = nmc("diff", program, program, "--input", spikes, "--b-param", "w=0.62", "--json")
    assert done.code == 1
    from nmc.frontends.snn import load_snn
    from nmc.ir.interp import run_snn

    x, trains = np.load(spikes), []
    for w in ("0.6", "0.62"):
        module = load_snn(program, {"w": w})
        trains.append(run_snn(module, {"x": x}, 40, probes=["a.spikes"]).probes["a.spikes"])
    sample, step, neuron = min(
        np.argwhere(trains[0] != trains[1]).tolist(), key=lambda at: (at[1], at[0], at[2])
    )
    first = done.facts["first"]
    assert (first["a"], first["step"], first["sample"], first["neuron"]) == ("a", step, sample, [neuron])
    assert done.facts["layers"][0]["differing"] == int((trains[0] != trains[1]).sum())
    shared = nmc("diff", program, program, "--input", spikes, "--param", "w=0.62", "--json")
    assert shared.code == 0


def test_program_and_its_text_are_the_same(nmc: Nmc, program: Path, spikes: Path) -> None:
    assert nmc("import", program, "-o", "net.nmc", "-q").code == 0
    assert nmc("diff", program, "net.nmc", "--input", spikes).code == 0


def test_compiled_network_equals_its_legal_form_and_the_float_one_does_not(
    nmc: Nmc, dumps: Path, digits: Path
) -> None:
    same = nmc("diff", dumps / "net.nmx", dumps / "legal.nmc", "--input", digits, "--json")
    assert same.code == 0 and len(same.facts["layers"]) == 3
    assert all(row["v_max_difference"] == 0 for row in same.facts["layers"]), "potentials too"
    other = nmc("diff", dumps / "float.nmc", dumps / "legal.nmc", "--input", digits, "--json")
    assert other.code == 1
    shifts = [row["shift"] for row in other.facts["layers"]]
    assert shifts == [0, 1, 2], "retiming makes each population one step later than the one before"
    assert all(row["cosine_counts"] > 0.99 and row["cosine_trains"] > 0.9 for row in other.facts["layers"])


def test_trained_network_is_compared_by_direction(nmc: Nmc, models: Path, dumps: Path, digits: Path) -> None:
    done = nmc("diff", models / "digits_mlp.onnx", dumps / "float.nmc", "--input", digits, "--json")
    assert done.code == 1 and done.facts["only_b"] == ["x.spikes"]
    assert all(row["cosine_counts"] > 0.8 and row["first"] is None for row in done.facts["layers"])
    assert nmc("diff", models / "digits_mlp.onnx", models / "digits_mlp.onnx", "--input", digits).code == 0


def test_b_is_compiled_for_a_target_on_the_way(nmc: Nmc, models: Path, dumps: Path, digits: Path) -> None:
    words = ["--target", "loihi", "--calib", digits, "--input", digits, "--steps", 12, "--limit", 4, "--json"]
    done = nmc("diff", dumps / "default.nmx", models / "digits_mlp.onnx", *words)
    assert (done.code, done.facts["samples"]) == (0, 4)


def test_semantics_of_two_tools_part_on_the_braille_network(nmc: Nmc, shared: Path) -> None:
    pytest.importorskip("h5py")
    net = shared / "oracles" / "nir" / "braille_noDelay_noBias_subtract.nir"
    x = net.parent / "braille_test_sample0_input_256x12_label1.npy"
    done = nmc(
        "diff", net, net, "--a-semantics", "norse", "--b-semantics", "snntorch", "--input", x, "--json"
    )
    assert done.code == 1
    recorded = [
        np.load(net.parent / f"{tool}_activity_noDelay_noBias_subtract.npy") for tool in ("norse", "snntorch")
    ]
    row = done.facts["layers"][0]
    assert row["a"] == "lif1.lif" and row["differing"] == int((recorded[0] != recorded[1]).sum())
    step = int((recorded[0] != recorded[1]).any(axis=1).argmax())
    assert done.facts["first"]["step"] == step
    later = nmc("diff", net, net, "--a-semantics", "lava", "--b-semantics", "norse", "--input", x, "--json")
    assert [row["shift"] for row in later.facts["layers"]] == [-1, -2]


def test_known_latency_is_taken_out(nmc: Nmc, program: Path, spikes: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.snn"
    later.write_text(
        PROGRAM.replace("x -> a : dense(weight = w)", "x -> a : dense(weight = w, delay = 3 ms)")
    )
    done = nmc("diff", program, later, "--input", spikes)
    assert done.code == 0 and "aligned" in done.out


def test_page_holds_both_rasters_and_the_mark(nmc: Nmc, program: Path, spikes: Path) -> None:
    words = ["--input", spikes, "--b-param", "w=0.7", "--html", "page.html"]
    assert nmc("diff", program, program, *words).code == 1
    text = Path("page.html").read_text()
    assert (
        text.count("<svg") == 2 and 'class="a"' in text and 'class="b"' in text and '<line class="m"' in text
    )
    assert "http" not in text and "<script" not in text


def test_unrelated_networks_and_wrong_data_are_told(
    nmc: Nmc, program: Path, spikes: Path, dumps: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.snn"
    text = PROGRAM.replace("pop a[4]", "pop c[5]").replace("a ->", "c ->").replace("-> a", "-> c")
    text = text.replace("pop b[2]", "pop d[3]").replace("-> b", "-> d").replace("output b", "output d")
    other.write_text(text)
    assert "E0408" in nmc("diff", program, other, "--input", spikes).err
    cases: list[tuple[list[object], str]] = [
        ([program, program], "E0401"),
        ([program, "none.snn", "--input", spikes], "E0002"),
        ([program, program, "--input", dumps / "float.npz"], "E0401"),
        ([program, program, "--input", spikes, "--b-param", "v=1"], "E0378"),
        ([program, program, "--input", program], "E0120"),
    ]
    for words, code in cases:
        done = nmc("diff", *words)
        assert done.code == 1 and code in done.err, words


def test_options_of_other_files_reach_check_and_compile(nmc: Nmc, program: Path, shared: Path) -> None:
    assert "E0378" in nmc("check", program, "--param", "q=1").err
    assert "E0378" in nmc("compile", program, "--param", "q=1").err
    assert "E0004" in nmc("check", program, "--dt", "0.1").err
    assert "E0004" in nmc("compile", program, "--reset", "to-value").err
    lif = shared / "oracles" / "nir" / "lif_norse.nir"
    assert "E0346" in nmc("check", lif).err, "the file needs a time step"
    assert "E0346" not in nmc("check", lif, "--dt", "1e-4", "--semantics", "norse", "--reset", "to-value").err
