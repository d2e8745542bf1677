"""What legalisation promises: integers as they were, small rounding errors, membranes inside their bits, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exact_nets import find, random_data, random_net
from fpga_chain import compile_legal, lawful_neurons, legalised
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops import exact, snn
from nmc.ir.ops.neurons import Neuron
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime
from nmc.targets.fpga import backend, bounds, connect, dialect
from nmc.targets.fpga.drive import Drive
from nmc.targets.fpga.legalize import Legalize
from nmc.targets.fpga.pools import Pools
from nmc.targets.fpga.rows import place, rows
from s2_nets import random_spikes

Array = NDArray[Any]


def whole_if(seed: int) -> tuple[Module, dict[str, Array]]:
    """A network of IF neurons whose parameters are whole numbers."""
    rng = np.random.default_rng(seed)
    x = snn.Input(out="x", source="x", shape=(6,), encoder="raster")
    first = snn.Dense(
        out="a.x", spikes=x.result, weight=Const("w", rng.integers(-40, 90, (5, 6)).astype(np.float64))
    )
    bias = Const("b", rng.integers(-3, 9, 5).astype(np.float64))
    compare: Any = "ge" if seed % 2 else "gt"
    reset: Any = "zero" if seed % 3 else "subtract"
    a = snn.If(
        out="a", current=(first.result,), bias=bias, threshold=60.0, compare=compare, reset=reset, v_init=7.0
    )
    second = snn.Dense(
        out="y.x",
        spikes=a.result,
        weight=Const("v", rng.integers(-9, 9, (3, 5)).astype(np.float64)),
        delay=1 + seed % 3,
    )
    y = snn.Integrator(out="y", current=(second.result,))
    ops = (x, first, a, second, y, snn.Output(data=y.result))
    data = {"x": (rng.random((3, 20, 6)) < 0.5).astype(np.uint8)}
    return Module("whole", "snn", ops, (("steps", 20),)), data


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 20))
def test_whole_numbers_without_leaks_stay_as_they_are(seed: int) -> None:
    module, data = whole_if(seed)
    legal = Legalize().run(module)
    want, have = (run_snn(item, data, 20, probes=("a.spikes", "y.v")) for item in (module, legal))
    for probe in ("a.spikes", "y.v"):
        np.testing.assert_array_equal(want.probes[probe], have.probes[probe])
    np.testing.assert_array_equal(want.outputs["y"], have.outputs["y"])


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 20))
def test_a_leaky_readout_is_near_the_real_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = snn.Input(out="x", source="x", shape=(6,), encoder="raster")
    via = snn.Dense(out="y.x", spikes=x.result, weight=Const("w", rng.normal(0, 1, (4, 6))))
    beta, alpha = (Const(name, np.array([rng.uniform(0.3, 0.97)])) for name in ("beta", "alpha"))
    y = Neuron(out="y", current=(via.result,), beta=beta, alpha=alpha if seed % 2 else None, reset="none")
    module = Module("m", "snn", (x, via, y, snn.Output(data=y.result)), (("steps", 30),))
    data = {"x": (rng.random((2, 30, 6)) < 0.3).astype(np.uint8)}
    want = run_snn(module, data, 30).outputs["y"]
    have = run_snn(Legalize().run(module), data, 30).outputs["y"]
    assert np.abs(have - want).max() < 0.06 * max(1.0, np.abs(want).max())


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 20), leaky=st.booleans())
def test_no_membrane_leaves_what_is_proved(seed: int, leaky: bool) -> None:
    legal = legalised(lawful_neurons(seed) if leaky else random_net(seed))
    data = random_spikes(legal, seed) if leaky else random_data(legal, seed)
    wide = legal.map_ops(lambda op: replace(op, vb=32) if isinstance(op, dialect.Neuron) else op)
    steps = 20 if leaky else int(legal.attr("steps"))
    pops = legal.of_type(dialect.Neuron)
    probes = [f"{op.out}.{kind}" for op in pops for kind in ("m", "u", "v")]
    seen = run_snn(wide, data, steps, probes=probes)
    for probe, values in seen.probes.items():
        assert bounds.bits(float(np.abs(values).max(initial=0))) <= pops[0].vb, probe


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 20))
def test_pools_give_the_maximum_of_counts(seed: int) -> None:
    module = random_net(seed, pools=True)
    made = Pools().run(module)
    assert not made.of_type(exact.MaxPool)
    data = random_data(module, seed)
    want, have = find(module, data, steps=1), find(made, data, steps=1)
    for name, counts in want.counts.items():
        np.testing.assert_array_equal(have.counts[name], counts)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(have.outputs[name], values)


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_plain_spikes_in_windows_work_as_well(seed: int) -> None:
    module = random_net(seed, signed=False)
    legal = Legalize().run(Retime().run(SpikeCode(code="phased-if").run(module)))
    found = compile_legal(legal)
    data = random_data(module, seed)
    assert found.differences(data, int(legal.attr("steps"))) == []
    have, _ = backend.Runner(found.files).run(data)
    for name, values in run_snn(module, data, 1).outputs.items():
        np.testing.assert_array_equal(have.outputs[name], values)


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 20))
def test_walks_of_a_kernel_bring_every_weight_to_its_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ins, outs, high, wide = (int(rng.integers(low, top)) for low, top in ((1, 4), (1, 9), (3, 9), (3, 9)))
    kernel = tuple(int(rng.integers(1, 4)) for _ in range(2))
    stride, pad = (tuple(int(v) for v in rng.integers(low, top, n)) for low, top, n in ((1, 3, 2), (0, 2, 4)))
    x = snn.Input(out="x", source="x", shape=(ins, high, wide), encoder="raster")
    weight = Const("w", rng.integers(-9, 9, (outs, ins, *kernel)).astype(np.int8))
    via = dialect.Conv(out="c", spikes=x.result, weight=weight, stride=stride, pad=pad, dilation=(1, 1))
    shape, lanes = via.result.shape, int(rng.choice([1, 2, 4, 8]))
    cuts = [sorted(int(v) for v in rng.choice(extent + 1, 2, replace=False)) for extent in shape]
    box = tuple(Span(*cut) for cut in cuts)
    found = rows(via, box, lanes, aligned=True)
    where = place(tuple(len(span) for span in box), lanes, aligned=True)
    total = np.zeros((x.result.type.size, where.groups * lanes), np.int64)
    for axon, source in enumerate(found.source):
        length, nx, dgx, dgy, dwx, dwy = found.geometries[found.geo[axon]]
        row, group = int(found.base[axon]), int(found.first[axon])
        for _ in range(int(found.ny[axon])):
            for _ in range(nx + 1):
                for k in range(length + 1):
                    total[source, (group + k) * lanes : (group + k + 1) * lanes] += found.weight[row + k]
                row, group = row + length + dwx, group + length + dgx
            row, group = row - dwx + dwy, group - dgx + dgy
    lists = connect.onto(connect.synapses(via), shape, box)
    local = np.full(via.result.type.size, -1)
    local[connect.inside(shape, box)] = where.slots
    want = np.zeros_like(total)
    np.add.at(want, (lists.source, local[lists.target]), lists.weight)
    np.testing.assert_array_equal(total, want)


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 20))
def test_exact_networks_come_to_rest_with_their_answer(seed: int) -> None:
    module = random_net(seed, pools=False)
    legal, data = legalised(module), random_data(module, seed)
    found = run_snn(legal, data, until_quiescent=True, steps=int(legal.attr("steps")) + 1)
    for name, values in run_snn(module, data, 1).outputs.items():
        np.testing.assert_array_equal(found.outputs[name], values)


def refused(module: Module, **options: Any) -> set[str]:
    with pytest.raises(NmcError) as caught:
        Legalize(**options).run(module)
    return {item.code for item in caught.value.diagnostics}


def changed(module: Module, name: str, **fields: Any) -> Module:
    def change(op: Op) -> Op:
        return replace(op, **fields) if op.out == name else op

    return module.map_ops(change)


def test_what_cannot_be_is_refused_by_code() -> None:
    module, _ = whole_if(0)
    assert refused(changed(module, "y.x", delay=0)) == {"E0945"}
    assert refused(changed(module, "y.x", delay=65)) == {"E0945"}
    assert refused(module, vb=8) == {"E0943"}
    assert refused(module, record="nobody") == {"E0941"}
    assert refused(changed(module, "a", start=1 << 16)) == {"E0941"}
    assert refused(random_net(3, pools=False)) >= {"E0941"}  # payloads: no spike code yet
    with pytest.raises(ValueError, match="bits"):
        Legalize(bits=9)


def test_currents_are_not_lost_beside_large_weights() -> None:
    x = snn.Input(out="x", source="x", shape=(3,))
    s = snn.Input(out="s", source="s", shape=(3,), encoder="raster")
    via = snn.OneToOne(out="h.s", spikes=s.result, weight=Const("w", np.array([100.0])))
    h = snn.If(out="h", current=(x.result, via.result), threshold=50.0)
    module = Module("m", "snn", (x, s, via, h, snn.Output(data=h.result, decoder="count")), (("steps", 64),))
    legal = Legalize().run(Drive().run(module))
    assert legal.attr("lost_weights") == {}
    data = {"x": np.array([[1.0, 0.5, 2.0]]), "s": np.zeros((1, 64, 3), np.uint8)}
    want, have = (run_snn(item, data, 64).outputs["h"] for item in (module, legal))
    np.testing.assert_allclose(have, want, atol=1)


def test_lost_weights_are_told() -> None:
    module, _ = whole_if(1)
    weight = Const("w", np.full((5, 6), 0.001) + np.eye(5, 6))
    legal = Legalize().run(changed(module, "a.x", weight=weight))
    assert legal.attr("lost_weights") == {"a.x": 25}
    assert "stored as 0" in backend.describe(compile_legal(legal).mapped)["warnings"][0]
