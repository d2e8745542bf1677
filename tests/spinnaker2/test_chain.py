"""From spiking networks to ARM code: interpreter, mapped network and all engines agree, spike for spike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exact_nets import Builder
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.passes.convert.spike_code import SpikeCode
from nmc.targets.spinnaker2 import backend
from nmc.targets.spinnaker2 import ops as s2
from s2_chain import Chain, compile_legal, legalised
from s2_nets import lawful_neurons, random_spikes

Array = NDArray[Any]
CODES = ("stbif", "graded", "phased-if", "bit-serial")


def exact_net(seed: int, code: Any) -> tuple[Module, Module]:
    """A random integer network, and the same with its spike code."""
    rng = np.random.default_rng(seed)
    plain = Builder(rng, pools=code != "bit-serial").build()
    burst = code in ("bit-serial", "stbif", "graded")
    return plain, SpikeCode(code=code, schedule="" if burst else "count").run(plain)


def samples(module: Module, seed: int, count: int = 2) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {op.source: rng.random((count, *op.shape)) for op in module.of_type(snn.Input)}


@settings(max_examples=24)
@given(seed=st.integers(0, 1 << 20), code=st.sampled_from(CODES))
def test_exact_networks_answer_what_the_integers_say_on_every_engine(
    engines: tuple[str, ...], seed: int, code: str
) -> None:
    plain, coded = exact_net(seed, code)
    try:
        chain = compile_legal(legalised(coded))
    except NmcError as error:
        assert {item.code for item in error.diagnostics} <= {"E0211"}  # a pool or signed input too far away
        reject()
    data = samples(plain, seed)
    assert chain.differences(data, chain.legal.attr("steps"), engines) == []
    want, have = run_snn(plain, data, 1).outputs, backend.Runner(chain.files).run(data)[0].outputs
    for (_, a), (_, b) in zip(want.items(), have.items(), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=24)
@given(
    seed=st.integers(0, 1 << 20),
    arithmetic=st.sampled_from(["f32", "s1615"]),
    bits=st.sampled_from([4, 8, 16]),
)
def test_random_neurons_do_the_same_on_every_engine(
    engines: tuple[str, ...], seed: int, arithmetic: str, bits: int
) -> None:
    module = lawful_neurons(seed, arithmetic)
    chain = compile_legal(legalised(module, arithmetic=arithmetic, bits=bits))
    assert chain.differences(random_spikes(module, seed), 22, engines) == []


def network(seed: int) -> tuple[Module, Module, dict[str, Array]]:
    """One of the hundred networks: as it is written, legalised, and data for it."""
    if seed % 2:
        plain, coded = exact_net(seed, CODES[seed // 2 % 4])
        return coded, legalised(coded), samples(plain, seed)
    arithmetic = ("f32", "s1615")[seed // 2 % 2]
    module = lawful_neurons(seed, arithmetic)
    legal = legalised(module, arithmetic=arithmetic, bits=(4, 8, 12)[seed % 3])
    return module, legal, random_spikes(module, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_many_random_networks_do_the_same_on_every_engine(engines: tuple[str, ...], seed: int) -> None:
    _, legal, data = network(seed)
    steps = legal.attr("steps") + (12 if seed % 2 == 0 else 2)
    assert compile_legal(legal).differences(data, steps, engines) == []


def test_the_hundred_networks_reach_all_models_formats_delays_and_resets() -> None:
    models: set[str] = set()
    formats: set[str] = set()
    resets: set[tuple[str, str]] = set()
    delays: set[int] = set()
    asked: set[int] = set()
    for seed in range(100):
        module, legal, _ = network(seed)
        populations, projections = legal.of_type(s2.NeuronOp), legal.of_type(s2.SynapseOp)
        models |= {op.law.model for op in populations}
        resets |= {(op.law.model, op.law.reset) for op in populations}
        formats |= {op.format for op in projections}
        delays |= {op.delay for op in projections}
        asked |= {int(getattr(op, "delay", 0)) for op in module.ops}
    assert models >= {
        "stbif",
        "graded",
        "phased",
        "bit_serial",
        "readout",
        "max_pool",
        "lif",
        "lif_fixed",
        "if",
    }
    assert formats == {"dense8", "sparse16", "sparse32", "conv"}
    assert resets >= {("lif", "subtract"), ("lif", "to-value"), ("lif", "none")}
    assert delays == set(range(1, 9)) and max(asked) > 8  # longer ones through relays


@pytest.fixture(scope="module")
def small_chip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PEs that hold next to nothing, on four chips, so that everything is cut and spikes cross chips."""
    path = tmp_path_factory.mktemp("chip") / "small.toml"
    path.write_text('base = "spinnaker2"\nchips = 4\n[limits]\ncompartments = 2\n')
    return str(path)


@pytest.mark.parametrize("seed", range(3))
def test_cut_networks_do_the_same(engines: tuple[str, ...], seed: int, small_chip: str) -> None:
    module = lawful_neurons(seed)
    chain = compile_legal(legalised(module), small_chip)
    assert max(pe.global_words()["neurons"] for pe in chain.image.pes) <= 2
    assert chain.differences(random_spikes(module, seed), 22, engines) == []


def wide(neurons: int, target: str) -> Chain:
    """Two layers of which a chip of these small PEs does not hold all."""
    rng = np.random.default_rng(7)
    x = snn.Input(out="x", source="x", shape=(40,), encoder="raster")
    ops: list[Op] = [x]
    first = snn.Dense(out="a.x", spikes=x.result, weight=Const("a.w", rng.normal(0.2, 0.5, (neurons, 40))))
    a = snn.If(out="a", current=(first.result,))
    back = snn.OneToOne(out="b.x", spikes=a.result, weight=Const("b.w", np.full(1, 0.6)))
    b = snn.If(out="b", current=(back.result,), reset="zero")
    ops += [first, a, back, b, snn.Output(data=b.result, decoder="count")]
    return compile_legal(legalised(Module("wide", "snn", tuple(ops), (("steps", 12),))), target)


def test_several_chips_carry_what_one_cannot(tmp_path: Path, engines: tuple[str, ...]) -> None:
    files = {}
    for chips in (1, 2):
        files[chips] = tmp_path / f"chips{chips}.toml"
        files[chips].write_text(f'base = "spinnaker2"\nchips = {chips}\n[limits]\ncompartments = 4\n')
    with pytest.raises(NmcError) as caught:
        wide(400, str(files[1]))
    assert caught.value.diagnostics[0].code == "E0711" and "200" in caught.value.diagnostics[0].message
    chain = wide(400, str(files[2]))
    assert {pe.chip for pe in chain.image.pes} == {0, 1} and chain.image.grid == (2, 1)
    assert chain.differences(random_spikes(chain.legal, 3, 10), 12, ("functional", "native")) == []
