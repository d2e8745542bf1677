"""Partitions keep every limit of a core, lose no synapse, and refuse what cannot fit with all the numbers."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_chain import Chain, assert_every_synapse_once, assert_lawful, compile_legal, legal_module, recount
from nmc.driver import CompileOptions, compile_traced
from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.passes.manager import ManagerOptions
from nmc.passes.map.partition import Partition
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.image import to_image

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(7)


def weights(name: str, *shape: int) -> Const:
    """Even mantissas, none of them 0 (a weight of 0 is no synapse)."""
    return Const(name, (RNG.integers(1, 120, shape) * RNG.choice([-2, 2], shape)).astype(np.int16))


def conv(out: str, source: Op, channels: int) -> loihi.Conv:
    weight = weights(f"{out}.w", channels, source.result.shape[0], 3, 3)
    delay = 0 if isinstance(source, loihi.Input) else 1
    return loihi.Conv(
        out=out,
        spikes=source.result,
        weight=weight,
        delay=delay,
        stride=(1, 1),
        pad=(0,) * 4,
        dilation=(1, 1),
    )


def lif(out: str, *currents: Op, **fields: Any) -> loihi.Lif:
    return loihi.Lif(out=out, current=tuple(op.result for op in currents), **{"vth": 4000, **fields})


def raster(*shape: int) -> loihi.Input:
    return loihi.Input(out="x", source="x", shape=shape, kind="raster")


def conv_net() -> Module:
    """28x28, conv 3x3x16, conv 3x3x32, dense 10: no padding, stride 1 (facts 0.4: no split of it fits)."""
    x = raster(1, 28, 28)
    one = conv("conv1.x", x, 16)
    first = lif("conv1", one, reset="soft", reset_mant=125, reset_exp=5)
    two = conv("conv2.x", first, 32)
    second = lif("conv2", two, reset="soft", reset_mant=125, reset_exp=5)
    fc = loihi.Dense(out="fc.x", spikes=second.result, weight=weights("fc.w", 10, 18432))
    out = lif("fc", fc, reset="none", vth=0)
    return legal_module([x, one, first, two, second, fc, out, snn.Output(data=out.result)])


def test_a_fan_in_of_18432_is_refused_with_every_limit() -> None:
    module = conv_net()
    start = time.process_time()
    with pytest.raises(DoesNotFit) as caught:
        Partition().run(module)
    print(f"refused after {time.process_time() - start:.2f} s of CPU")
    assert caught.value.exit_code == 2
    problems = {
        item.message.split(" of a core")[0].rpartition("takes ")[2]: item for item in caught.value.diagnostics
    }
    axons = problems["18,432 of 4,096 in axons"]
    words = next(item for text, item in problems.items() if text.endswith("of 16,384 synapse words"))
    assert int(words.message.split("takes ")[1].split(" of")[0].replace(",", "")) >= 18432
    for item in (axons, words):
        assert item.code == "E0710" and "%fc" in item.message and item.hint


def test_the_same_network_from_onnx_is_refused(tmp_path: Path, shared: Path) -> None:
    """End to end, with the calibration that the driver does."""
    from onnx import TensorProto, helper, numpy_helper, save

    def tensor(name: str, *shape: int) -> Any:
        sign = RNG.choice([-1, 1], shape) if name == "w3" else 1  # every channel lives, no weight rounds to 0
        values = RNG.uniform(0.09, 0.11, shape) * sign
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Flatten", ["r2"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="classifier", transB=1),
    ]
    weight = [tensor("w1", 16, 1, 3, 3), tensor("b1", 16), tensor("w2", 32, 16, 3, 3), tensor("b2", 32)]
    weight += [tensor("w3", 10, 18432), tensor("b3", 10)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 28, 28])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "big", [x], [y], weight)
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "big.onnx",
    )
    write_npz(tmp_path / "calib.npz", {"x": RNG.random((8, 1, 28, 28)).astype(np.float32)})
    start = time.process_time()
    with pytest.raises(DoesNotFit) as caught:
        compile_traced(tmp_path / "big.onnx", CompileOptions(calib=str(tmp_path / "calib.npz")))
    print(f"refused after {time.process_time() - start:.2f} s of CPU")
    text = str(caught.value)
    assert "18,432 of 4,096 in axons" in text and "of 16,384 synapse words" in text
    assert "classifier" in text and "help: " in text


@pytest.fixture
def tight(tmp_path: Path) -> str:
    """A chip with four compartments a core; `chips` can be appended."""
    path = tmp_path / "tight.toml"
    path.write_text('base = "loihi"\n[limits]\ncompartments = 4\n')
    return str(path)


def line_net(width: int) -> Module:
    x = raster(width)
    one = loihi.Diagonal(out="a.x", spikes=x.result, weight=weights("a.w", width), delay=0)
    a = lif("a", one, vth=60, bias=Const("a.b", RNG.integers(-60, 60, width).astype(np.int16)))
    two = loihi.Diagonal(out="b.x", spikes=a.result, weight=weights("b.w", width), exp=2, delay=2)
    back = loihi.Diagonal(out="b.r", spikes=a.result, weight=weights("b.r.w", width), exp=1, delay=5)
    b = lif("b", two, back, vth=70)
    three = loihi.Dense(out="c.x", spikes=b.result, weight=weights("c.w", 6, width), delay=1)
    c = lif("c", three, reset="none", vth=0)
    return legal_module([x, one, a, two, back, b, three, c, snn.Output(data=c.result)])


def test_too_many_cores_are_refused_with_the_count_of_each_layer(tight: str) -> None:
    with pytest.raises(DoesNotFit) as caught:
        Partition(target=tight).run(line_net(300))
    (problem,) = caught.value.diagnostics
    assert problem.code == "E0711"
    assert "152 of 128 cores" in problem.message
    assert "%a: 75" in problem.message and "%b: 75" in problem.message and "%c: 2" in problem.message
    assert "chips = 2" in problem.hint


def test_two_chips_take_it_and_compute_the_same(tight: str) -> None:
    path = Path(tight)
    path.write_text("chips = 2\n" + path.read_text())
    module = line_net(300)
    chain = compile_legal(module, tight, lot=3)
    spikes = (RNG.random((2, 15, 300)) < 0.4).astype(np.uint8)
    result = chain.assert_equal_everywhere({"x": spikes}, 20)
    assert sum(int(trace.sum()) for name, trace in result.probes.items() if name.endswith("spikes")) > 100
    image = chain.image
    assert image.header.n_chips == 2
    assert {core.core // 128 for core in image.cores} == {0, 1}
    use = assert_lawful(image, {"compartments": 4})
    assert_every_synapse_once(chain)
    assert sum(row["out_axon_words"] for row in use.values()) > _entries(chain), (
        "a crossing takes a second word"
    )


def _entries(chain: Chain) -> int:
    from loihi_chain import _out_axons

    return sum(len(_out_axons(core)) for core in chain.image.cores)


@pytest.mark.parametrize("merge", [True, False])
def test_boxes_are_disjoint_and_cover_and_share_only_equal_registers(merge: bool, tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text('base = "loihi"\n[limits]\ncompartments = 60\nsynapse_words = 500\n')
    x = raster(2, 9, 9)
    one, two = conv("a.x", x, 5), conv("b.x", x, 3)
    a, b = lif("a", one), lif("b", two, dv=4096)
    module = legal_module([x, one, two, a, b, snn.Output(data=a.result, decoder="count")])
    chain = compile_legal(module, str(path), merge)
    for population in (a, b):
        parts = [part for part in chain.mapped.of_type(Neurons) if part.of.name == population.out]
        every = np.concatenate([part.global_indices() for part in parts])
        assert sorted(every.tolist()) == list(range(population.result.type.size))
    parts = [part for part in chain.mapped.of_type(Neurons) if part.core != HOST]
    cores: dict[int, set[str]] = {}
    for part in parts:
        cores.setdefault(part.core, set()).add(part.of.name)
        others = [p for p in parts if p.core == part.core and p is not part]
        assert all(p.slots.stop <= part.slots.start or part.slots.stop <= p.slots.start for p in others)
    assert all(len(names) == 1 for names in cores.values()), "decays of 0 and 4096 share no core (facts 1)"
    assert merge or len(cores) == len(parts)


NETWORKS = {
    "digits_cnn": ("examples", "digits_cnn.onnx"),
    "digits_mlp": ("examples", "digits_mlp.onnx"),
    "dev_cnn": ("shared", "dev_cnn_float.onnx"),
    "dev_mlp": ("shared", "dev_mlp_float.onnx"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "dev_cnn" else ()) for n in NETWORKS]
)
def test_trained_networks_are_mapped_lawfully(name: str, repo: Path, request: Any, tmp_path: Path) -> None:
    where, file = NETWORKS[name]
    if where == "shared":
        folder = request.getfixturevalue("shared") / "data"
        model, calib = folder / "models" / file, _first(folder / "mnist_calib.npz", tmp_path)
    else:
        model, calib = repo / "examples" / "models" / file, _digits(tmp_path)
    stages: dict[str, Module] = {}
    options = CompileOptions(calib=calib, effort="fast", steps=16)
    program, result = compile_traced(model, options, ManagerOptions(observe=stages.__setitem__))
    chain = Chain(stages["loihi-legalize"], stages["partition"], result.module, program.files)
    image = to_image(program.image_module())
    use = assert_lawful(image)
    assert assert_every_synapse_once(chain) > 1000
    rows = {row["resource"]: row["used"] for row in program.report["memory"]}
    for resource in ("compartments", "in_axons", "synapse_words", "out_axon_words"):
        assert max(row[resource] for row in use.values()) == rows[resource], resource
    assert program.report["cores"]["used"] == len(use)


def _first(path: Path, folder: Path) -> str:
    with np.load(path) as file:
        write_npz(folder / "calib.npz", {"x": file["x"][:32]})
    return str(folder / "calib.npz")


def _digits(folder: Path) -> str:
    datasets = pytest.importorskip("sklearn.datasets")
    images = datasets.load_digits().images[:64]
    write_npz(folder / "calib.npz", {"x": (images / 16).astype(np.float32)[:, None]})
    return str(folder / "calib.npz")


def test_unlawful_modules_are_refused_before_anything_is_cut() -> None:
    x = raster(4)
    bad = loihi.Diagonal(out="p.x", spikes=x.result, weight=weights("p.w", 4), delay=63)
    p = lif("p", bad)
    slow = loihi.Diagonal(out="q.x", spikes=p.result, weight=weights("q.w", 4), delay=0)
    q = replace(lif("q", slow), drive=bad.result)
    with pytest.raises(NmcError) as caught:
        Partition().run(legal_module([x, bad, p, slow, q]))
    assert [item.code for item in caught.value.diagnostics] == ["E0616"] * 3
    assert "delay of 63, Loihi 0..62" in str(caught.value) and "delay of 0, Loihi 1..63" in str(caught.value)


@pytest.mark.parametrize(("delay", "bits"), [(1, 3), (7, 3), (8, 4), (15, 4), (16, 5), (32, 6), (63, 6)])
def test_long_delays_take_more_accumulators(delay: int, bits: int) -> None:
    x = raster(40)
    one = loihi.Diagonal(out="p.x", spikes=x.result, weight=weights("p.w", 40), delay=0, exp=6)
    p = lif("p", one, vth=10)
    two = loihi.Dense(out="q.x", spikes=p.result, weight=weights("q.w", 200, 40), delay=delay)
    q = lif("q", two, vth=10)
    chain = compile_legal(legal_module([x, one, p, two, q]))
    spikes = (RNG.random((1, 70, 40)) < 0.3).astype(np.uint8)
    chain.assert_equal_everywhere({"x": spikes}, 70)
    assert_lawful(chain.image)
    most = 8192 >> bits
    sizes = [row["compartments"] for row in recount(chain.image).values()]
    assert sum(sizes) == 240 and max(sizes) <= max(most, 40)
