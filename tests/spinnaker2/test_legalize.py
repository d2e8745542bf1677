"""What legalisation promises: small rounding errors that are told, formats that fit, refusals with reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nmc.driver import CompileOptions, LoadOptions, compile_model
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.targets.spinnaker2.legalize import Legalize
from nmc.targets.spinnaker2.scaling import SUM_LIMIT, Wish, list_format, matrix_format, small_steps, store
from s2_chain import legalised

Array = NDArray[Any]


@given(seed=st.integers(0, 1 << 20), count=st.integers(1, 4))
def test_stored_weights_keep_their_range_and_are_near(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    wishes = []
    for _ in range(count):
        weight = rng.normal(0, 10.0 ** rng.integers(-4, 3), (5, 7))
        largest = int(rng.choice([15, 127, 32767]))
        wishes.append(Wish(weight, "sparse32", largest, float(np.abs(weight).sum(axis=1).max()), 7.0))
    scale, stored = store(wishes)
    total = 0.0
    for wish, item in zip(wishes, stored, strict=True):
        assert np.abs(item.weight).max() <= wish.largest and 1 <= item.gain < 1 << 31
        largest = np.abs(wish.weight).max()
        off = np.abs(item.weight * (scale * item.gain) - wish.weight).max() / largest
        assert off == pytest.approx(item.error) and off <= 0.5001 * scale * item.gain / largest
        total += float(np.abs(item.weight.astype(np.int64)).sum(axis=1).max()) * item.gain
    assert total < 1 << 31
    coarse = max(range(count), key=lambda k: np.abs(wishes[k].weight).max() / wishes[k].largest)
    assert stored[coarse].error <= 0.51 / wishes[coarse].largest + 1e-4


def test_whole_weights_are_not_touched() -> None:
    weight = np.array([[3.0, -127.0], [0.0, 64.0]])
    scale, (stored,) = store([Wish(weight, "dense8", 127, 130.0)])
    assert scale == 1.0 and stored.gain == 1 and stored.error == 0.0
    np.testing.assert_array_equal(stored.weight, weight)


def test_sums_cannot_leave_32_bits() -> None:
    weight = np.full((1, 100_000), 1.0)
    scale, (stored,) = store([Wish(weight, "sparse32", 32767, 1e5)])
    assert int(stored.weight.astype(np.int64).sum()) * stored.gain <= SUM_LIMIT * 1.01


def test_weights_that_are_multiples_are_found() -> None:
    assert small_steps(np.array([0.1, -0.5, 0.0, 0.3])) == 5
    assert small_steps(np.array([0.2])) == 1
    assert small_steps(np.array([0.1, 0.1007])) == 0


def test_the_shortest_format_is_taken() -> None:
    full, thin = np.full((40, 40), 7), np.zeros((40, 40), int)
    thin[0, 0] = 100
    assert matrix_format(full) == "dense8" and matrix_format(full * 100) == "sparse32"
    assert matrix_format(thin) == "sparse32" and matrix_format(np.minimum(thin, 9)) == "sparse16"
    assert list_format(full) == "sparse16" and list_format(full * 3) == "sparse32"


def network(*vias: Op, target: Op, **attrs: Any) -> Module:
    x = snn.Input(out="x", source="x", shape=(6,), encoder="raster")
    out = snn.Output(data=target.result, decoder="count" if target.result.type.kind == "spikes" else "last")
    return Module("net", "snn", (x, *vias, target, out), (("steps", 20), *attrs.items()))


def dense(name: str, weight: Array) -> snn.Dense:
    x = snn.Input(out="x", source="x", shape=(6,), encoder="raster")
    return snn.Dense(out=name, spikes=x.result, weight=Const(f"{name}.w", weight))


def test_branches_of_different_size_keep_their_precision() -> None:
    rng = np.random.default_rng(3)
    vias = [dense("big", rng.normal(0, 50.0, (4, 6))), dense("small", rng.normal(0, 0.01, (4, 6)))]
    target = snn.If(out="h", current=tuple(via.result for via in vias), threshold=40.0)
    legal = legalised(network(*vias, target=target))
    assert max(legal.attr("weight_error").values()) < 0.005
    gains = {name: row["gain"] for name, row in legal.attr("rows").items()}
    assert gains["big"] > 1000 * gains["small"]


def test_potentials_follow_the_real_network() -> None:
    rng = np.random.default_rng(4)
    via = dense("h.x", rng.normal(0.2, 0.4, (9, 6)))
    consts: dict[str, Any] = {
        name: Const(f"h.{name}", np.array([value])) for name, value in (("alpha", 0.8), ("beta", 0.9))
    }
    target = Neuron(out="h", current=(via.result,), reset="none", **consts)
    module = network(via, target=target)
    legal = legalised(module)
    data = {"x": (rng.random((3, 20, 6)) < 0.5).astype(np.uint8)}
    real, ours = (run_snn(item, data, 21, probes=["h.v"]).probes["h.v"] for item in (module, legal))
    assert np.abs(ours[:, 1:] - real[:, :-1]).max() < 0.02 * np.abs(real).max()


def test_lists_of_synapses_keep_their_delays_in_one_entry(tmp_path: Path) -> None:
    x = snn.Input(out="x", source="x", shape=(6,), encoder="raster")
    lists = [Const(f"s.{k}", np.arange(6)) for k in range(2)]
    late = Const("s.late", np.array([0, 1, 2, 3, 4, 5]))
    via = Sparse(out="s", spikes=x.result, weight=Const("s.w", np.full(6, 0.5)), source=lists[0], target=lists[1],
                 late=late, delay=2, shape=(6,))  # fmt: skip
    target = snn.If(out="h", current=(via.result,), threshold=0.4, reset="zero")
    module = network(via, target=target)
    program = compile_model(module, CompileOptions(target="spinnaker2"))
    (pe,) = program.runner().chip.pes.values()
    assert len(pe.entries) == 1 and pe.entries[0].format == "sparse16"
    first = np.zeros((1, 1, 6), np.uint8)
    first[:] = 1
    seen = program.run(first, steps=12, probes=["h.spikes"]).result.probes["h.spikes"][0]
    assert [int(np.flatnonzero(seen[:, k])[0]) for k in range(6)] == [2, 3, 4, 5, 6, 7]


def test_weights_lost_to_zero_are_counted_and_told() -> None:
    weight = np.full((2, 6), 1e-5)
    weight[:, 0] = 1.0
    via = dense("h.x", weight)
    program = compile_model(
        network(via, target=snn.If(out="h", current=(via.result,))), CompileOptions(target="spinnaker2")
    )
    (layer,) = program.report["layers"]
    assert layer["lost_weights"] == 10 and "10 weights" in program.report["warnings"][-1]


def test_constant_currents_become_packets() -> None:
    x = snn.Input(out="x", source="x", shape=(3,), gain=0.25)
    h = snn.If(out="h", current=(x.result,), threshold=1.0, compare="ge")
    module = Module("net", "snn", (x, h, snn.Output(data=h.result, decoder="count")), (("steps", 17),))
    program = compile_model(module, CompileOptions(target="spinnaker2"))
    run = program.run(np.array([[0.0, 1.0, 2.0]]))
    assert run.logits.tolist() == [[0.0, 4.0, 8.0]]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    x = snn.Input(out="x", source="x", shape=(6,), encoder="raster")
    via = snn.Dense(out="v", spikes=x.result, weight=Const("w", np.eye(6)), delay=9)
    h = Neuron(out="h", current=(via.result,), threshold=Const("t", np.ones(1)), max_spikes=3)
    module = Module("net", "snn", (x, via, h, snn.Output(data=h.result, decoder="count")), (("steps", 9),))
    with pytest.raises(NmcError) as caught:
        Legalize().run(module)
    assert [item.code for item in caught.value.diagnostics] == ["E0921", "E0922"]
    with pytest.raises(NmcError, match="E0924"):
        wide = Const("w", np.full((6, 6), 127, np.int8))
        huge = Const("theta", np.full(1, 2_147_000_000))
        via = snn.Dense(out="v", spikes=x.result, weight=wide, delay=1)
        from nmc.ir.ops import exact

        g = exact.StBif(out="g", current=(via.result,), theta=huge, offset=huge, levels=8)
        Legalize().run(Module("net", "snn", (x, via, g), (("steps", 9),)))


def test_recordings_are_part_of_the_memory() -> None:
    via = dense("h.x", np.ones((4, 6)))
    module = legalised(network(via, target=snn.If(out="h", current=(via.result,))), record="h")
    assert module.attr("sram_record") == ["h"]
    with pytest.raises(NmcError, match="there is no population"):
        legalised(network(via, target=snn.If(out="h", current=(via.result,))), record="nobody")


def test_the_silicon_recording_of_braille_is_reproduced_by_compiled_arm_code(
    shared: Path, engines: tuple[str, ...]
) -> None:
    folder = shared / "oracles" / "nir"
    options = CompileOptions(target="spinnaker2", steps=256, read=LoadOptions(semantics="spinnaker2"))
    program = compile_model(folder / "braille_noDelay_noBias_subtract.nir", options)
    x = np.load(folder / "braille_test_sample0_input_256x12_label1.npy")
    want = np.load(folder / "s2_activity_noDelay_noBias_subtract.npy")
    for engine in engines:
        run = program.run(x[None], probes=["lif1.lif.spikes"], engine=engine, raw=True)
        have = run.result.probes["lif1.lif.spikes"][0]
        assert have.size == 10_240 and have.sum() == 119 and int((have != want).sum()) == 0
