"""Biases that the host sends in parts: the same counts in the end, and the chip does what the interpreter does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact_nets import random_data, random_net
from nmc.driver import CompileOptions, compile_model
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.ops import exact, snn
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime
from nmc.program import Program
from nmc.targets.fpga import dialect
from nmc.targets.fpga.biases import Biases
from nmc.targets.fpga.legalize import Legalize

Array = np.ndarray[Any, Any]


def spread(seed: int, over: int) -> Module:
    return SpikeCode(schedule="spread", over=over).run(random_net(seed, pools=False))


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 20), over=st.integers(2, 9))
def test_every_bias_has_entered_in_the_end(seed: int, over: int) -> None:
    plain = spread(seed, over)
    data = random_data(plain, seed)
    made = Biases().run(plain)
    assert not any(op.spread for op in made.of_type(exact.StBif))
    one, other = (run_snn(module, data, until_quiescent=True) for module in (plain, made))
    for name, values in one.outputs.items():
        np.testing.assert_array_equal(values, other.outputs[name])


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_populations_of_the_core_do_the_same_a_layer_later(seed: int) -> None:
    made = Biases().run(spread(seed, 5))
    data = random_data(made, seed)
    late = Retime(max_delay=1000).run(made)
    chip = Legalize().run(late)
    steps = chip.attr("steps")
    one, other = (run_snn(module, data, steps, trace=True) for module in (late, chip))
    np.testing.assert_array_equal(one.trace, other.trace)


@pytest.fixture(scope="module")
def program(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A convolutional network of digits that answers early."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    calib = tmp_path_factory.mktemp("data") / "calib.npz"
    write_npz(calib, {"x": (digits.images[:200] / 16).astype(np.float32)[:, None], "y": digits.target[:200]})
    options = CompileOptions(target="fpga", calib=str(calib), early_exit=True)
    return compile_model(repo / "examples" / "models" / "digits_cnn.onnx", options)


def images() -> Array:
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    return np.asarray((digits.images[-12:] / 16).astype(np.float32)[:, None])


def test_the_host_sends_an_event_a_place_and_step(program: Program) -> None:
    sent = [op for op in program.module.of_type(snn.Input) if not op.source]
    fed = [op for op in program.module.of_type(dialect.Neuron) if op.fires]
    assert [op.shape for op in sent] == [(1, *op.shape[1:]) for op in fed]
    assert all(op.encoder == "spread" and op.low == op.high > 0 for op in sent)


def test_the_image_gives_the_same_outputs_after_each_step(program: Program) -> None:
    network = program.module.with_ops([op for op in program.module.ops if "snn" in op.belongs], level="snn")
    bare = network.map_ops(lambda op: replace(op, margin=0, margins=()) if isinstance(op, snn.Output) else op)
    wanted = run_snn(bare, {"x": images()}, program.steps, trace=True)
    np.testing.assert_array_equal(program.run(images(), trace=True).result.trace, wanted.trace)


def test_frames_of_a_stream_get_the_biases_once(program: Program) -> None:
    frames = images()[:6].reshape(2, 3, 1, 8, 8)
    found = program.run_frames(frames).logits
    np.testing.assert_array_equal(found.reshape(6, -1), program.run(images()[:6]).logits.reshape(6, -1))


@pytest.mark.slow
@pytest.mark.usefixtures("verilator")
def test_the_rtl_takes_the_parts_as_the_law_says(program: Program) -> None:
    fast, rtl = (
        program.run(images()[:2], engine=engine, trace=True).result for engine in ("functional", "rtl")
    )
    np.testing.assert_array_equal(fast.trace, rtl.trace)
