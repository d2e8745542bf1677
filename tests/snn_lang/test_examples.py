"""The example programs: their sizes are those of the hand count, and they do what their first line says."""

from pathlib import Path

import numpy as np
import pytest

from nmc.frontends.snn import format_text, load_snn
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.ops.plastic import Plastic
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify
from nmc.passes.optimize.freeze_plasticity import FreezePlasticity

NAMES = [
    "adaptive_lif",
    "balanced",
    "izhikevich",
    "liquid",
    "mnist_mlp",
    "nmnist_scnn",
    "synfire",
    "winner_take_all",
    "xor",
]


def neurons(module: Module) -> int:
    """How many neurons there are, relays of inputs not counted."""
    return sum(op.result.type.size for op in module.of_type(Neuron) if not op.out.endswith("/relay"))


def listed(module: Module, prefix: str) -> int:
    """How many synapses the sparse projections of a name have."""
    ops: list[Sparse | Plastic] = [*module.of_type(Sparse), *module.of_type(Plastic)]
    return sum(len(op.source.array()) for op in ops if op.out.startswith(prefix))


@pytest.mark.parametrize("name", NAMES)
def test_every_example_verifies_is_formatted_and_survives_the_text_form(name: str, examples: Path) -> None:
    path = examples / f"{name}.snn"
    module = load_snn(path)
    assert verify(module) == ()
    assert all(op.loc is not None and op.loc.name == path.name for op in module.ops)
    assert str(parse(str(module))) == str(module)
    assert format_text(path.read_text()) == path.read_text()


def test_mnist_mlp_has_the_size_of_the_hand_count_and_counts_spikes(examples: Path) -> None:
    module = load_snn(examples / "mnist_mlp.snn")
    assert neurons(module) == 128 + 10
    assert [op.weight.shape for op in module.of_type(snn.Dense)] == [(128, 784), (10, 128)]
    assert dict(module.attr("hints")) == {
        "image -> hidden": "quantize(bits=8)", "hidden -> digit": "quantize(bits=8)",
    }  # fmt: skip
    assert module.attr("steps") == 32
    found = run_snn(module, {"image": np.full((2, 784), 0.5)}, 32)
    assert found.outputs["digit"].shape == (2, 10)
    assert found.spikes["hidden"].sum() > 0
    assert module.of_type(snn.Input)[0].gain == pytest.approx(0.2)


def test_the_program_at_the_top_of_the_examples_is_that_one(examples: Path) -> None:
    top, inner = load_snn(examples.parent / "mlp.snn"), load_snn(examples / "mnist_mlp.snn")
    assert str(top).split("\n#0")[0] == str(inner).split("\n#0")[0]


def test_nmnist_scnn_pools_before_it_convolves(examples: Path) -> None:
    module = load_snn(examples / "nmnist_scnn.snn")
    assert neurons(module) == 16 * 16 * 16 + 8 * 8 * 8
    assert sum(op.weight.array().size for op in module.of_type(snn.Conv)) == 16 * 2 * 25 + 8 * 16 * 36
    second = module.of_type(snn.Conv)[1]
    kernel = np.load(examples / "scnn.npz")["c3"]
    x = np.random.default_rng(1).random((2, 16, 16, 16)) < 0.3
    pooled = x.reshape(2, 16, 8, 2, 8, 2).sum(axis=(3, 5))
    from nmc.ir.ops import kernels

    direct = kernels.conv(pooled.astype(float), kernel, (1, 1), (1, 1, 1, 1), (1, 1), 1)
    assert np.allclose(second.run(x), direct)
    spikes = (np.random.default_rng(2).random((1, 5, 2, 34, 34)) < 0.2).astype(np.uint8)
    assert run_snn(module, {"dvs": spikes}, 5).spikes["c1"].sum() > 0


def test_balanced_reaches_the_mean_that_theory_gives(examples: Path) -> None:
    module = load_snn(examples / "balanced.snn")
    assert neurons(module) == 1000
    assert listed(module, "E/drive") == 800
    assert abs(listed(module, "E/E") - 64_000) < 4 * np.sqrt(64_000 * 0.9)
    assert abs(listed(module, "I/I") - 4_000) < 4 * np.sqrt(4_000 * 0.9)
    (learning,) = module.of_type(Plastic)
    assert learning.late is not None and learning.delay == 5
    assert set(learning.late.array().tolist()) == set(range(26))
    found = run_snn(module, {}, 1000, probes=("E.v",))
    assert found.probes["E.v"][0, -1].mean() == pytest.approx(8e3 * 1e-4 * 20e-3, rel=0.03)


def test_balanced_learns_within_its_bounds(examples: Path) -> None:
    module = load_snn(examples / "balanced.snn", {"N": "60", "rate": "14 kHz"})
    found = run_snn(module, {}, 1500, probes=("E/E.w", "E.spikes"))
    weights = found.probes["E/E.w"][0]
    (op,) = module.of_type(Plastic)
    assert found.probes["E.spikes"].sum() > 100
    assert (weights[-1] > weights[0] + 1e-9).any() and (weights[-1] < weights[0] - 1e-9).any()
    assert weights.min() >= op.w_min == 0.0 and weights.max() <= op.w_max == pytest.approx(0.3e-3)
    frozen = FreezePlasticity().run(module)
    assert frozen.of_type(Plastic) == () and (frozen.producers["E/E"].consts[0].array() == weights[0]).all()


def test_the_three_cells_of_izhikevich_fire_as_theirs_do(examples: Path) -> None:
    module = load_snn(examples / "izhikevich.snn")
    found = run_snn(
        module, {"x": np.ones((1, 1))}, probes=[f"{n}.spikes" for n in ("regular", "fast", "chattering")]
    )
    times = {name[:-7]: np.flatnonzero(item[0, :, 0]) * 0.25 for name, item in found.probes.items()}
    gaps = {name: np.diff(item) for name, item in times.items()}
    assert gaps["regular"][0] < gaps["regular"][-1] / 1.3  # spike frequency adaptation
    assert len(times["fast"]) > 3 * len(times["regular"])
    assert gaps["chattering"].min() < 5 < 20 < gaps["chattering"].max()  # bursts


def test_the_adaptive_neuron_slows_down_and_16_bits_behind_the_point_suffice_for_that(examples: Path) -> None:
    module = load_snn(examples / "adaptive_lif.snn")
    found = run_snn(module, {}, probes=("float.spikes", "fixed.spikes"))
    exact, coarse = (found.probes[f"{name}.spikes"][0].sum(axis=1) for name in ("float", "fixed"))
    assert exact[:40].sum() > 1.5 * exact[-40:].sum() > 0
    assert abs(int(exact.sum()) - int(coarse.sum())) <= 0.1 * exact.sum()


def test_xor_has_its_truth_table(examples: Path) -> None:
    module = load_snn(examples / "xor.snn")
    table = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.uint8)
    raster = np.zeros((4, 4, 2), np.uint8)
    raster[:, 0] = table
    assert run_snn(module, {"x": raster}, 4).outputs["y"].ravel().tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("winner", range(5))
def test_the_strongest_input_wins(winner: int, examples: Path) -> None:
    module = load_snn(examples / "winner_take_all.snn")
    data = np.full((1, 5), 0.6)
    data[0, winner] = 0.9
    counts = run_snn(module, {"strength": data}, 100).outputs["cells"][0]
    assert counts.argmax() == winner
    assert counts[winner] > 10
    assert np.delete(counts, winner).max() <= 1


@pytest.mark.parametrize("delay", ["5 ms", "2.5 ms"])
def test_the_packet_travels_with_the_stated_delay(delay: str, examples: Path) -> None:
    module = load_snn(examples / "synfire.snn", {"D": delay})
    assert neurons(module) == 8 * 20
    raster = np.zeros((1, 100, 1), np.uint8)
    raster[0, 2] = 1
    names = [f"g{i}.cells" for i in range(8)]
    found = run_snn(module, {"start": raster}, 100, probes=[f"{name}.spikes" for name in names])
    steps = round(float(delay.split()[0]) / 0.5)
    for index, name in enumerate(names):
        times, cells = np.nonzero(found.probes[f"{name}.spikes"][0])
        assert times.tolist() == [2 + index * steps] * 20, name
        assert sorted(cells) == list(range(20))


def test_liquid_has_its_size_and_is_alive(examples: Path) -> None:
    module = load_snn(examples / "liquid.snn")
    assert neurons(module) == 36 + 7 + 3
    assert listed(module, "liquid/x") == 4 * 12
    assert not any(
        (op.source.array() == op.target.array()).any()
        for op in module.of_type(Sparse) if op.out.startswith("liquid/liquid")
    )  # fmt: skip
    found = run_snn(module, {"x": np.full((1, 4), 1.0)}, 100)
    assert found.spikes["liquid"].sum() > 50
    assert np.abs(found.outputs["readout"]).max() > 0


def test_params_are_overridden(examples: Path) -> None:
    module = load_snn(examples / "balanced.snn", {"N": "50"})
    assert neurons(module) == 50
