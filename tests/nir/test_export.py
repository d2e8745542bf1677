"""What nmc exports as NIR: read by the package nir, and read back by nmc as the same network, spike for spike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.frontends.nir import load_nir
from nmc.frontends.nir.write import write_nir
from nmc.frontends.snn import read_snn
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import StatefulOp, Value
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.record import Record
from nmc.ir.types import Type
from nmc.ir.verify import verify_or_raise

pytest.importorskip("h5py")
PRESETS = ("nir-exact", "snntorch", "norse", "sinabs", "rockpool", "spyx", "lava-dl", "spinnaker2")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that nmc has just written need no process of their own; it would be most of the time of many cases."""
    from nmc.frontends.nir import hdf5, load

    monkeypatch.setattr(load, "read_isolated", hdf5.read_file)


def there_and_back(module: Module, folder: Path) -> Module:
    write_nir(module, folder / "out.nir")
    again = load_nir(folder / "out.nir")
    verify_or_raise(again)
    return again


def behaviour(module: Module, data: dict[str, Any], steps: int) -> dict[str, Any]:
    """What every population sends out, by its name in the file."""
    pops = [op.out for op in module.of_type(StatefulOp) if not isinstance(op, snn.InputOp)]
    result = run_snn(module, data, steps, probes=[f"{name}.spikes" for name in pops])
    found = {name: result.probes[f"{name}.spikes"].reshape(-1) for name in pops}
    return found | {f"out:{name}": item.reshape(-1) for name, item in result.outputs.items()}


def same(module: Module, again: Module, data: dict[str, Any], steps: int) -> int:
    """Compare all that both have; the number of spikes, so that a test can ask for some."""
    have, want = behaviour(again, data, steps), behaviour(module, data, steps)
    assert want.keys() <= have.keys()
    for name, item in want.items():
        np.testing.assert_array_equal(have[name], item, err_msg=name)
    return int(sum(np.abs(item).sum() for item in want.values()))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("semantics", PRESETS)
def test_published_network_comes_back_the_same(traces: Path, tmp_path: Path, semantics: str) -> None:
    x = np.load(traces / "braille_test_sample0_input_256x12_label1.npy")
    module = load_nir(traces / "braille_noDelay_noBias_subtract.nir", semantics=semantics)
    assert same(module, there_and_back(module, tmp_path), {"input": x[None]}, 256) > 150


@pytest.mark.parametrize(("file", "dt"), [("lif_norse.nir", 1e-4), ("lif_rockpool.nir", None)])
def test_published_neuron_comes_back_with_its_record(
    traces: Path, tmp_path: Path, file: str, dt: Any
) -> None:
    module = load_nir(traces / file, dt=dt, semantics="rockpool")
    again = there_and_back(module, tmp_path)
    assert again.attr("record") == module.attr("record") and again.attr("convention") == "nmc"
    name = module.of_type(snn.Input)[0].source
    assert same(module, again, {name: np.ones((1, 200, 1), np.uint8)}, 200) > 50


def test_convolutions_come_back_and_nir_reads_them(traces: Path, tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    module = load_nir(traces / "cnn_sinabs.nir", semantics="sinabs")
    x = (np.random.default_rng(0).random((1, 4, 2, 34, 34)) < 0.2).astype(np.uint8)
    assert same(module, there_and_back(module, tmp_path), {"input": x}, 4) > 1000
    kinds = {type(node).__name__ for node in nir.read(tmp_path / "out.nir").nodes.values()}
    assert kinds == {"Input", "Conv2d", "IF", "Flatten", "Linear", "Output"}


def test_package_nir_reads_the_same_time_constants(traces: Path, tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    module = load_nir(traces / "lif_norse.nir", dt=1e-4, semantics="norse")
    write_nir(module, tmp_path / "out.nir")
    want, have = (nir.read(path).nodes["1"] for path in (traces / "lif_norse.nir", tmp_path / "out.nir"))
    for key in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
        np.testing.assert_allclose(getattr(have, key), getattr(want, key), rtol=1e-6, err_msg=key)
    assert nir.serialization.read_version(tmp_path / "out.nir") == "1.0.8"


def test_bytes_are_the_same_every_time(traces: Path, tmp_path: Path) -> None:
    module = load_nir(traces / "lif_norse.nir", dt=1e-4)
    write_nir(module, tmp_path / "a.nir")
    write_nir(module, tmp_path / "b.nir")
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()


PROGRAM = """
network n(dt = 1 ms, steps = 60, integrator = {integrator})
input x[3] : raster()
pop a[4] : cuba_lif(tau_mem = 12 ms, tau_syn = 5 ms, v_threshold = 0.6, reset = subtract, order = membrane_first)
pop b[4] : lif(tau = 20 ms, v_threshold = 1.0, v_reset = -0.25, bias = 0.07, v_leak = 0.1, compare = ge)
pop d[2] : iaf(v_threshold = 2.0, reset = zero, v_init = 0.5)
pop z[2] : lif(tau = 30 ms, bias = 0.2)
x -> a : dense(weight = 0.9)
a -> b : dense(weight = 0.3, delay = 3 ms)
b -> a : dense(weight = -0.25, delay = 2 ms)
b -> b : dense(weight = 0.1, delay = 1 ms)
b -> d : dense(weight = 0.4)
output d : count()
"""


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("integrator", ["exact", "euler"])
def test_program_with_mixed_neurons_comes_back(tmp_path: Path, integrator: str) -> None:
    nir = pytest.importorskip("nir")
    module = read_snn(PROGRAM.replace("{integrator}", integrator))
    x = (np.random.default_rng(3).random((2, 60, 3)) < 0.4).astype(np.uint8)
    again = there_and_back(module, tmp_path)
    assert same(module, again, {"x": x}, 60) > 20
    nodes = nir.read(tmp_path / "out.nir").nodes
    delays = [node.delay for node in nodes.values() if type(node).__name__ == "Delay"]
    assert sorted(set(np.concatenate(delays).tolist())) == [0.001, 0.003], "the loop's own step needs no node"


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["xor", "winner_take_all"])
def test_example_comes_back(repo: Path, tmp_path: Path, name: str) -> None:
    from nmc.frontends.snn import load_snn

    module = load_snn(repo / "examples" / "snn" / f"{name}.snn")
    chance = np.random.default_rng(2)
    sources = [op for op in module.of_type(snn.Input) if op.source]
    data = {op.source: chance.random((1, *((100,) if op.in_time else ()), *op.shape)) < 0.5 for op in sources}
    ready = {key: item.astype(np.uint8) for key, item in data.items()}
    assert same(module, there_and_back(module, tmp_path), ready, 100) > 10


@pytest.mark.usefixtures("in_process")
def test_converted_network_comes_back_with_its_names_and_starts(repo: Path, tmp_path: Path) -> None:
    from nmc.driver import load, opt
    from nmc.passes.quantize.calibrate import Calibrate

    source = opt(
        load(repo / "examples" / "models" / "digits_cnn.onnx"), "fold-batchnorm, fold-affine, dead-code"
    )
    x = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    module = opt(Calibrate(samples=x).run(source), "ann-to-snn")
    assert any("/" in op.out for op in module.of_type(snn.If)), "HDF5 does not take these names"
    assert same(module, there_and_back(module, tmp_path), {"x": x}, 16) > 500


def test_another_tools_reading_of_the_file_is_still_there(traces: Path, tmp_path: Path) -> None:
    write_nir(load_nir(traces / "lif_norse.nir", dt=1e-4, semantics="snntorch"), tmp_path / "out.nir")
    module = load_nir(tmp_path / "out.nir", dt=1e-4, convention="nir", semantics="norse")
    assert module.attr("record") == load_nir(traces / "lif_norse.nir", dt=1e-4, semantics="norse").attr(
        "record"
    )
    (op,) = module.of_type(Neuron)
    assert op.reset == "zero"


def test_everything_without_a_form_is_told_at_once(tmp_path: Path) -> None:
    text = "network n(dt = 1 ms)\ninput x[3] : raster()\n"
    text += "input p[3] : poisson(rate = 10 Hz)\npop a[2] : lif(tau = 9 ms, refractory = 3 ms)\n"
    text += "x -> a : dense(weight = 1)\np -> a : dense(weight = 1)\noutput a : count()\n"
    with pytest.raises(NmcError) as caught:
        write_nir(read_snn(text), tmp_path / "out.nir")
    found = [(item.code, item.message) for item in caught.value.diagnostics]
    assert len(found) == 2 and {code for code, _ in found} == {"E0349"}
    assert any("poisson" in text for _, text in found) and any("refractory" in text for _, text in found)
    assert not (tmp_path / "out.nir").exists()


def test_trained_network_is_refused_with_a_hint(tmp_path: Path, repo: Path) -> None:
    from nmc.driver import load

    with pytest.raises(NmcError, match="E0349"):
        write_nir(load(repo / "examples" / "models" / "digits_mlp.onnx"), tmp_path / "out.nir")


@pytest.mark.parametrize(
    ("change", "told"),
    [("text", "JSON"), ("record", "euller"), ("beta", "contradict"), ("format", "format 9")],
)  # fmt: skip
def test_damaged_metadata_is_refused_and_can_be_ignored(tmp_path: Path, change: str, told: str) -> None:
    import h5py  # type: ignore[import-untyped]

    path = tmp_path / "out.nir"
    write_nir(read_snn(PROGRAM.replace("{integrator}", "euler")), path)
    with h5py.File(path, "a") as file:
        meta = file["node/metadata"]
        text = meta["nmc"].asstr()[()]
        changed = {
            "text": "[",
            "record": text.replace("euler", "euller"),
            "format": text.replace('"format": 1', '"format": 9'),
        }
        if change == "beta":
            inside = file["node/nodes/b"].require_group("metadata")
            inside.pop("nmc_beta", None)
            inside["nmc_beta"] = np.array([0.5])
        else:
            del meta["nmc"]
            meta["nmc"] = changed[change]
    with pytest.raises(NmcError, match=told):
        load_nir(path)
    assert load_nir(path, dt=1e-3, convention="nir").attr("convention") == "nir"


def closed(ops: list[Any]) -> list[Any]:
    """Without projections from populations that were not made, and populations that nothing is left for."""
    while True:
        names = {op.out for op in ops}
        kept = [op for op in ops if not isinstance(op, snn.ProjectionOp) or op.spikes.name in names]
        left = {op.out for op in kept}
        kept = [
            replace(op, current=tuple(value for value in op.current if value.name in left))
            if isinstance(op, Neuron) else op
            for op in kept
        ]  # fmt: skip
        kept = [op for op in kept if not isinstance(op, Neuron) or op.current]
        if len(kept) == len(ops):
            return kept
        ops = kept


@st.composite
def networks(draw: st.DrawFn) -> Module:
    """Up to three populations with any projections between them, all resets, decays and delays."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    integrator: Any = draw(st.sampled_from(["exact", "euler"]))
    sizes = {f"p{i}": draw(st.integers(1, 4)) for i in range(draw(st.integers(1, 3)))}
    x = snn.Input(out="x", source="x", shape=(3,), encoder="raster")
    ops: list[Any] = [x]
    for name, size in sizes.items():
        sources = [("x", 3, 0)] if draw(st.booleans()) or name == "p0" else []
        sources += [
            (other, n, int(int(other[1]) >= int(name[1])))
            for other, n in sizes.items()
            if draw(st.booleans())
        ]
        made: list[snn.ProjectionOp] = []
        for source, count, least in sources:
            out, delay = f"{name}.from.{source}", least + draw(st.integers(0, 2))
            spikes = Value(source, Type("spikes", (count,)))
            weight = Const(f"{out}.w", chance.integers(-48, 96, (size, count)) / 64)
            kind = draw(st.sampled_from(["dense", "sparse"]))
            if size == count and draw(st.booleans()):
                made.append(
                    snn.OneToOne(out=out, spikes=spikes, weight=Const(f"{out}.w", np.ones(1)), delay=delay)
                )
            elif kind == "dense":
                made.append(snn.Dense(out=out, spikes=spikes, weight=weight, delay=delay))
            else:
                src, dst = np.divmod(np.arange(size * count), size)
                index = [Const(f"{out}.{key}", item) for key, item in (("src", src), ("dst", dst))]
                values = Const(f"{out}.w", weight.array().T.reshape(-1))
                made.append(Sparse(out=out, spikes=spikes, weight=values, source=index[0], target=index[1],
                                   shape=(size,), delay=delay))  # fmt: skip
        if made:
            ops += [*made, neuron(draw, chance, name, size, tuple(op.result for op in made))]
    fixed = closed(ops)
    outs = [op for op in fixed if isinstance(op, Neuron)]
    record = Record(0.5, integrator, drive="delta").of(outs)
    return Module(
        "n", "snn", (*fixed, *(snn.Output(data=op.result) for op in outs[-1:])), (("record", record),)
    )


def neuron(draw: st.DrawFn, chance: Any, name: str, size: int, current: Any) -> Neuron:
    kind = draw(st.sampled_from(["if", "lif", "cuba"]))
    reset: Any = draw(st.sampled_from(["zero", "subtract", "to-value", "subtract-late", "subtract-guarded"]))
    shape = draw(st.sampled_from([(1,), (size,)]))

    def const(key: str, low: float, high: float) -> Const:
        return Const(f"{name}.{key}", chance.uniform(low, high, shape))

    more: dict[str, Any] = {}
    if kind != "if":
        more |= {"beta": const("beta", 0.05, 0.99), "gain": const("gain", 0.2, 2)}
        more |= {"leak": const("leak", -0.1, 0.1)} if draw(st.booleans()) else {}
    if kind == "cuba":
        more |= {"alpha": const("alpha", 0.05, 0.95), "w_in": const("w_in", 0.2, 2)}
    for key in ("bias", "v_init"):
        more |= {key: const(key, -0.2, 0.4)} if draw(st.booleans()) else {}
    more |= {"v_reset": const("v_reset", -0.5, 0.2)} if reset == "to-value" else {}
    return Neuron(out=name, current=current, threshold=const("threshold", 0.5, 1.5), reset=reset,
                  order=draw(st.sampled_from(["synapse-first", "membrane-first"])),
                  compare=draw(st.sampled_from(["gt", "ge"])), decay_last=draw(st.booleans()),
                  start=draw(st.integers(0, 2)), **more)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nir")


@settings(max_examples=40)
@given(module=networks())
def test_random_networks_come_back(folder: Path, module: Module) -> None:
    from nmc.frontends.nir import hdf5, load

    verify_or_raise(module)
    write_nir(module, folder / "out.nir")
    isolated, load.read_isolated = load.read_isolated, hdf5.read_file  # type: ignore[attr-defined]
    try:
        again = load_nir(folder / "out.nir")
    finally:
        load.read_isolated = isolated  # type: ignore[attr-defined]
    verify_or_raise(again)
    x = (np.random.default_rng(1).random((1, 25, 3)) < 0.5).astype(np.uint8)
    same(module, again, {"x": x}, 25)


def test_command_line_exports_what_it_imports(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nmc.cli import main

    out = tmp_path / "out.nir"
    words = [
        "export",
        str(traces / "lif_norse.nir"),
        "--dt",
        "1e-4",
        "--semantics",
        "norse",
        "--nir",
        str(out),
    ]
    assert main(words) == 0 and out.exists()
    assert main(["import", str(out)]) == 0
    assert "convention=nmc" in capsys.readouterr().out
    assert main(["export", str(out)]) == 1 and "--nir FILE" in capsys.readouterr().err
