"""Exact networks on Loihi: the emulated image has every count and every logit of the integer network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from exact_nets import find, random_data
from loihi_chain import assert_every_synapse_once, assert_lawful
from loihi_exact import legalised, on_chip, quantised
from nmc.driver import CompileOptions, compile_model, load, pipeline_for
from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.op import Op
from nmc.ir.ops import exact, snn
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.manager import run_pipeline
from nmc.passes.optimize.retime import Retime
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.legalize import Legalize

Array = np.ndarray[Any, Any]
SMALL = {"compartments": 24, "in_axons": 300, "synapse_words": 400, "out_axon_words": 1400}


@pytest.fixture(scope="module")
def small_chip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A chip whose cores hold next to nothing, so that every population is cut."""
    path: Path = tmp_path_factory.mktemp("chip") / "small.toml"
    limits = "\n".join(f"{name} = {value}" for name, value in SMALL.items())
    path.write_text(f'base = "loihi"\nchips = 4\n[limits]\n{limits}\n')
    return str(path)


def too_much(error: NmcError) -> bool:
    """Whether all that is wrong is the size of some sum."""
    return {item.code for item in error.diagnostics} <= {"E0613"}


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), small=st.booleans(), more=st.integers(0, 9))
def test_the_chip_has_every_count_of_the_integer_network(
    seed: int, small: bool, more: int, small_chip: str
) -> None:
    module = quantised(seed)
    try:
        chip = on_chip(module, small_chip if small else "", lot=seed)
    except DoesNotFit:
        assert small
        reject()
    except NmcError as error:
        assert too_much(error)
        reject()
    data = random_data(module, seed)
    wanted = find(module, data)
    chip.assert_equals(wanted, data, chip.steps)
    chip.assert_equals(wanted, data, chip.steps + more)
    chip.chain.assert_equal_everywhere(data, chip.steps + more)
    assert_lawful(chip.chain.image, SMALL if small else None)
    assert_every_synapse_once(chip.chain)


def test_most_random_networks_are_taken() -> None:
    taken = 0
    for seed in range(30):
        try:
            legalised(quantised(seed))
            taken += 1
        except NmcError as error:
            assert too_much(error)
    assert taken >= 20


def small_net(
    weights: Any,
    theta: Any = 200,
    offset: int = 0,
    levels: int = 4,
    high: int = 1,
    out: int = 3,
) -> Module:
    """A dense population of one threshold, and a read-out of it."""
    weight = np.atleast_2d(np.asarray(weights)).astype(np.int16)
    x = snn.Input(out="x", source="x", shape=weight.shape[1:], encoder="burst", gain=float(high), high=high)
    wires = snn.Dense(out="p.x", spikes=x.result, weight=Const("w", weight))
    neurons = exact.Graded(
        out="p", current=(wires.result,), theta=Const("theta", np.atleast_1d(np.asarray(theta, np.int32))),
        offset=Const("offset", np.array([offset], np.int32)), levels=levels,
    )  # fmt: skip
    reading = snn.Dense(
        out="r.p", spikes=neurons.result, weight=Const("o", np.full((2, len(weight)), out, np.int16))
    )
    readout = exact.Readout(out="r", current=(reading.result,), offset=Const("b", np.array([-7], np.int32)))
    return Module(
        "m", "snn", (x, wires, neurons, reading, readout, snn.Output(data=readout.result)), (("steps", 1),)
    )


def extremes(module: Module) -> dict[str, Array]:
    """Nothing, everything, and what excites and what inhibits the first neuron."""
    (entry,), weight = module.of_type(snn.Input), module.of_type(snn.Dense)[0].weight.array()[0]
    rows = [np.zeros(entry.shape), np.ones(entry.shape), weight > 0, weight < 0]
    return {"x": np.stack(rows).astype(np.float64)}


def assert_right_at_extremes(module: Module) -> None:
    """The chip counts right where sums are largest, also long after the end."""
    chip, data = on_chip(module), extremes(module)
    wanted = find(module, data)
    for steps in (chip.steps, chip.steps + 40):
        chip.assert_equals(wanted, data, steps)
        chip.chain.assert_equal_everywhere(data, steps)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_sums_near_the_ends_of_the_registers_are_right_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, high = int(rng.integers(1, 400)), int(rng.choice([1, 2, 16]))
    low, most = [(-127, 127), (0, 255), (-255, 0)][int(rng.integers(3))]
    weights = rng.choice([low, most, int(rng.integers(low, most + 1))], size=(2, size))
    value = int(rng.integers(1, 256)) << int(rng.integers(0, 8))
    offset = int(rng.choice([0, 1, -1]) * rng.integers(0, 130_000 // int(rng.choice([1, 10, 1000]))))
    module = small_net(weights, value, offset, levels=int(rng.choice([1, 3, 16])), high=high)
    try:
        assert_right_at_extremes(module)
    except NmcError as error:
        assert too_much(error)


@pytest.mark.parametrize("levels", [1, 4])
def test_the_last_spikes_and_the_opening_share_an_accumulator(levels: int) -> None:
    """A gate for all 32,639 units and the last spikes, in one step, would be more than 32,767: wrong counts."""
    assert_right_at_extremes(small_net(np.full((1, 257), 127), levels=levels))
    assert_right_at_extremes(small_net(np.full((1, 16), 127), levels=levels, high=16))
    assert_right_at_extremes(small_net(np.full((1, 16), 127), levels=levels, high=16, offset=-200))


def test_a_window_that_opens_after_all_has_come_stays_shut_until_then() -> None:
    """Nothing is left for the step that opens it: the gate must hold everything."""
    module = small_net([[30, 40]], 9, levels=6)
    late = changed(module, "p", open=4)
    (first,) = late.of_type(exact.Phased)
    legal = Legalize().run(late.with_attrs(steps=30))
    spikes = run_snn(legal, extremes(module), 30, probes=["p.spikes"]).probes["p.spikes"]
    assert spikes[:, : first.start + 4].sum() == 0
    np.testing.assert_array_equal(spikes.sum(axis=1), find(module, extremes(module)).counts["p"])


def refusals(module: Module, **code: Any) -> set[str]:
    """Codes of what Loihi cannot do of a network."""
    coded = Retime().run(SpikeCode(**({"code": "phased-if", "schedule": "count"} | code)).run(module))
    return refused(coded)


def refused(coded: Module) -> set[str]:
    with pytest.raises(NmcError) as caught:
        Legalize().run(coded)
    return {item.code for item in caught.value.diagnostics}


@pytest.mark.parametrize("theta", [255, 2 * 255, 255 << 7, 128 << 7, 1])
def test_thresholds_of_eight_significant_bits_are_taken(theta: int) -> None:
    assert_right_at_extremes(small_net(np.full((1, 40), 127), theta, high=2))


@pytest.mark.parametrize("theta", [257, 511, (255 << 7) + 1, 256 << 7 | 1 << 7, 1 << 16])
def test_thresholds_of_more_bits_are_refused(theta: int) -> None:
    assert refusals(small_net([[3, -4]], theta)) == {"E0613"}


def test_neurons_of_a_population_share_their_threshold() -> None:
    assert refusals(small_net([[3], [4]], [8, 9])) == {"E0613"}
    assert_right_at_extremes(small_net([[30], [40]], [8, 8]))


@pytest.mark.parametrize("weights", [[[127, -127]], [[255, 0]], [[-255, 0]], [[1, -1]], [[0, 0]]])
def test_weights_of_eight_bits_are_taken(weights: list[list[int]]) -> None:
    assert_right_at_extremes(small_net(weights, 9))


@pytest.mark.parametrize("weights", [[[128, -1]], [[1, -128]], [[256, 0]], [[-256, -1]]])
def test_larger_weights_are_refused(weights: list[list[int]]) -> None:
    assert refusals(small_net(weights, 9)) == {"E0613"}


def test_sums_beyond_the_registers_are_refused() -> None:
    assert refusals(small_net(np.full((1, 300), 127))) == {"E0613"}  # 38,100 in one step: accumulator
    assert refusals(small_net(np.full((1, 129), -127), high=16)) == {"E0613"}  # 262,128 down: membrane
    assert refusals(small_net([[1]], 9, offset=140_000)) == {"E0613"}
    assert refusals(small_net([[255]], 1, levels=700, out=255)) == {"E0613"}  # the read-out's membrane
    many = np.full((150, 1), 127)
    assert refusals(small_net(many, 9, levels=1, out=255)) == {"E0613"}  # the read-out's accumulator


def test_other_codes_than_plain_spikes_are_refused() -> None:
    module = small_net([[3, -4]], 9)
    assert refusals(module, code="stbif", schedule="burst") == {"E0610"}
    assert refusals(module, code="graded", schedule="burst") == {"E0610"}
    assert refusals(module, schedule="burst") == {"E0610"}
    assert "E0610" in refusals(module, code="bit-serial", schedule="burst")


def test_max_pools_of_counts_are_refused() -> None:
    x = snn.Input(out="x", source="x", shape=(1, 2), encoder="count", gain=3.0, high=3, over=3)
    pool = exact.MaxPool(out="q", events=x.result, kernel=(2,), stride=(1,), pad=(0, 0), dilation=(1,))
    wires = snn.Dense(out="r.q", spikes=pool.result, weight=Const("w", np.ones((2, 1), np.int8)))
    readout = exact.Readout(out="r", current=(wires.result,), offset=Const("b", np.array([0])))
    ops = (x, pool, wires, readout, snn.Output(data=readout.result))
    assert refused(Module("m", "snn", ops, (("steps", 3),))) == {"E0610"}


def changed(module: Module, name: str, **fields: Any) -> Module:
    """A coded and retimed network in which one op was edited by hand."""
    coded = Retime().run(SpikeCode(code="phased-if", schedule="count").run(module))
    return coded.map_ops(lambda op: replace(op, **fields) if op.out == name else op)


def test_what_was_edited_by_hand_is_checked() -> None:
    module = small_net([[3, -4]], 9)
    assert refused(changed(module, "p.x", weight=Const("w", np.array([[0.5, 1.0]])))) == {"E0610"}
    assert "E0612" in refused(changed(module, "r.p", delay=0))
    assert refused(changed(module, "p.x", delay=9)) == {"E0655"}  # after the window opens
    assert refused(changed(small_net([[3, -4]], 9, high=5), "p", open=1)) == {"E0655"}


def test_a_current_of_two_populations_is_refused() -> None:
    module = small_net([[3, -4]], 9)
    (neurons,) = module.of_type(exact.Graded)
    twin = replace(neurons, out="twin")
    wires = snn.Dense(out="r.twin", spikes=twin.result, weight=Const("o", np.full((2, 1), 3, np.int16)))
    ops: list[Op] = []
    for op in module.ops:
        if isinstance(op, exact.Readout):
            ops += [twin, wires]
            op = replace(op, current=(*op.current, wires.result))
        ops.append(op)
    assert refusals(module.with_ops(ops)) == {"E0610"}


def test_margins_are_kept_in_the_units_of_the_chip() -> None:
    module = small_net([[30, -4]], 9, levels=6)
    coded = SpikeCode(code="phased-if", schedule="count").run(module)
    margin = replace(coded.of_type(snn.Output)[0], margin=5, scale=0.25)
    legal = Legalize().run(
        Retime().run(coded.map_ops(lambda op: margin if isinstance(op, snn.Output) else op))
    )
    (found,) = legal.of_type(snn.Output)
    assert found.margin == 5 * 64 and found.scale == 0.25 / 64


def test_gates_of_populations_are_one_spike_each() -> None:
    module = small_net([[30, 40]], 9, levels=6, high=3)
    chip = on_chip(module)
    gates = [op for op in chip.chain.legal.of_type(loihi.Input) if op.kind == "pulse"]
    (phased,) = Retime().run(SpikeCode(code="phased-if", schedule="count").run(module)).of_type(exact.Phased)
    opening = phased.start + phased.open
    assert sorted(op.at for op in gates) == [opening, opening + 6]
    spikes = run_snn(chip.chain.legal, extremes(module), opening + 20, probes=["p.spikes"]).probes["p.spikes"]
    assert spikes[:, :opening].sum() == 0 < spikes.sum() and spikes[:, opening + 6 :].sum() == 0


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_trained_networks_are_on_the_chip_what_they_are_as_integers(
    name: str, repo: Path, tmp_path: Path
) -> None:
    """From the ONNX file, by the default pipeline: every logit of 100 images."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x = (digits.images / 16.0).astype(np.float32)[:, None]
    write_npz(tmp_path / "calib.npz", {"x": x[:200]})
    options = CompileOptions(calib=str(tmp_path / "calib.npz"))
    network = load(repo / "examples" / "models" / f"{name}.onnx")
    passes = pipeline_for(options, network)
    before = passes[: [item.name for item in passes].index("spike-code")]
    whole = run_pipeline(network, before).module
    (entry,) = whole.of_type(snn.Input)
    wanted = run_snn(whole, {entry.source: x[-100:].reshape(100, *entry.shape)}).outputs
    program = compile_model(network, options)
    for steps in (None, program.steps + 13):
        np.testing.assert_array_equal(program.run(x[-100:], steps=steps).logits, next(iter(wanted.values())))
