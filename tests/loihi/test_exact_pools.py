"""Maxima and means of exact networks on Loihi: plain spikes, and every count of the integer network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from exact_nets import find, random_data
from loihi_chain import compile_legal
from loihi_exact import LoihiBuilder, Onchip, legalised
from nmc.driver import CompileOptions, compile_model, load, pipeline_for
from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.ops import ann, exact, snn
from nmc.passes.convert import linear
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.manager import run_pipeline
from nmc.passes.optimize.retime import Retime
from nmc.passes.quantize.integer import run_integer
from nmc.targets.loihi.legalize import Legalize
from trained_nets import Trained

Array = np.ndarray[Any, Any]


class PoolBuilder(LoihiBuilder):
    """Loihi's form of integers, and maxima of populations and of maxima."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.pools = True

    def _pool(self, name: str) -> None:
        if self.events[-1].name[0] in "pq":
            super()._pool(name)


def pooled(seed: int) -> Module:
    """A random network with at least one maximum of two axes at most."""
    module = PoolBuilder(seed).build()
    pools = module.of_type(exact.MaxPool)
    if not pools or any(not op.result.type.size for op in pools):
        reject()
    return module


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), more=st.integers(0, 9))
def test_the_chip_has_every_maximum_of_the_integer_network(seed: int, more: int) -> None:
    module = pooled(seed)
    try:
        chain = compile_legal(legalised(module), "", lot=seed)
    except DoesNotFit:
        reject()
    except NmcError as error:
        assert {item.code for item in error.diagnostics} <= {"E0613"}
        reject()
    names = tuple(op.out for op in module.ops if isinstance(op, exact.Graded | exact.MaxPool))
    chip, data = Onchip(chain, names), random_data(module, seed)
    chip.assert_equals(find(module, data), data, chip.steps + more)
    chip.chain.assert_equal_everywhere(data, chip.steps + more)


def test_maxima_of_inputs_are_refused() -> None:
    x = snn.Input(out="x", source="x", shape=(1, 4), encoder="burst", gain=3.0, high=3)
    pool = exact.MaxPool(out="q", events=x.result, kernel=(2,), stride=(2,), pad=(0, 0), dilation=(1,))
    wires = snn.Dense(out="r.q", spikes=pool.result, weight=Const("w", np.ones((2, 2), np.int8)))
    readout = exact.Readout(out="r", current=(wires.result,), offset=Const("b", np.array([0])))
    module = Module("m", "snn", (x, pool, wires, readout, snn.Output(data=readout.result)), (("steps", 1),))
    with pytest.raises(NmcError, match="E0652"):
        SpikeCode(code="phased-if", schedule="count").run(module)


def test_a_union_takes_no_negative_weights() -> None:
    coded = Retime().run(SpikeCode(code="phased-if", schedule="count").run(pooled_by_hand()))
    wrong = Const("w", np.array([[[1, -1]]], np.int8))
    edited = coded.map_ops(lambda op: replace(op, weight=wrong) if isinstance(op, snn.Conv) else op)
    Legalize().run(coded)
    with pytest.raises(NmcError) as caught:
        Legalize().run(edited)
    assert {item.code for item in caught.value.diagnostics} == {"E0613"}


def pooled_by_hand() -> Module:
    """One population of one channel, and maxima of pairs of it."""
    x = snn.Input(out="x", source="x", shape=(1, 4), encoder="burst", gain=3.0, high=3)
    wires = snn.OneToOne(out="p.x", spikes=x.result, weight=Const("w", np.array([3], np.int8)))
    theta, offset = (Const(name, np.array([value], np.int32)) for name, value in (("t", 2), ("o", 1)))
    neurons = exact.Graded(out="p", current=(wires.result,), theta=theta, offset=offset, levels=4)
    pool = exact.MaxPool(out="q", events=neurons.result, kernel=(2,), stride=(2,), pad=(0, 0), dilation=(1,))
    last = snn.Dense(out="r.q", spikes=pool.result, weight=Const("w2", np.ones((2, 2), np.int8)))
    readout = exact.Readout(out="r", current=(last.result,), offset=Const("b", np.array([0])))
    ops = (x, wires, neurons, pool, last, readout, snn.Output(data=readout.result))
    return Module("m", "snn", ops, (("steps", 1),))


def compiled_equals_integer(source: Module, samples: Array, folder: Path) -> Module:
    """Compile with the default pipeline; the emulator's logits are those of its integer network, image by image."""
    write_npz(folder / "c.npz", {"x": samples})
    options = CompileOptions(calib=str(folder / "c.npz"))
    passes = pipeline_for(options, source)
    before = passes[: [item.name for item in passes].index("spike-code")]
    integer = run_pipeline(source, before).module
    (entry,), (output,) = integer.of_type(snn.Input), integer.of_type(snn.Output)
    wanted = run_integer(integer, {entry.source: samples.reshape(-1, *entry.shape)})[output.data.name]
    found = compile_model(source, options).run(samples).logits
    np.testing.assert_array_equal(found, wanted * output.scale)
    return integer


def test_maxima_and_means_from_a_trained_network_to_the_chip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "MAX_MATRIX", 1)
    net = Trained(5, 1, 8, 8)
    first = net.relu(net.conv(net.x, 3))
    sides = (net.pool(ann.MaxPool, first, 3, 1, 1), net.pool(ann.AvgPool, first, 3, 1, 1))
    joined = net.pool(ann.MaxPool, net.relu(net.conv(net.add(ann.Concat, *sides), 4, kernel=1)))
    module = net.module(net.dense(joined, 5))
    integer = compiled_equals_integer(module, net.samples(24), tmp_path)
    assert integer.of_type(exact.MaxPool)
    assert integer.attr("certificate")["relays"]


@pytest.mark.slow
def test_the_example_with_maxima_runs_on_the_chip(tmp_path: Path, repo: Path) -> None:
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    large = np.kron(digits.images[:48] / 16.0, np.ones((1, 3, 3)))
    samples = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.float32)[:, None]
    compiled_equals_integer(load(repo / "examples" / "models" / "mnist_cnn_max.onnx"), samples, tmp_path)
