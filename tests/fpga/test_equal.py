"""Interpreter, partitioned network, functional engine and simulated RTL do the same, spike for spike and membrane for
membrane: models, example programs, and 200 random networks on one shape that has every feature."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark_module import benchmark
from exact_nets import random_data, random_net
from fpga_chain import compile_legal, lawful_neurons, legalised
from nmc.driver import CompileOptions, compile_model
from nmc.ir.diagnostics import NmcError
from nmc.targets.fpga import backend, dialect
from nmc.targets.fpga.fit import shape_of
from nmc.targets.fpga.sim import rtl
from s2_nets import random_spikes

cases = benchmark("fpga_equal")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("verilator")]
#: Room for every random network; what the networks do not need is built all the same.
ROOMY = """base = "fpga"
[shape]
lanes = 4
neurons = 512
axons = 1024
weight_rows = 8192
weights = "int8"
vb = 24
counter = 6
classes = 32
geometries = 16
bias_bits = 14
theta_bits = 14
payload_bits = 8
leak = "multiply"
sparse = true
conv = true
stbif = true
cuba = true
late = true
windows = true
delays = 16
queue = 2048
targets = 2048
"""


@pytest.fixture(autouse=True)
def quickly_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most time would go into the C++ compiler's optimisation: the same model, slower, is built in a third."""
    monkeypatch.setattr(rtl, "RtlChip", partial(rtl.RtlChip, level="-O1"))


@pytest.mark.parametrize("kind", ["exact", "leaky"])
def test_100_random_networks(kind: str, tmp_path: Path) -> None:
    (tmp_path / "chip.toml").write_text(ROOMY)
    wrong, shapes, spikes = [], set(), 0
    for seed in range(100):
        module = random_net(seed, pools=seed % 3 == 0) if kind == "exact" else lawful_neurons(seed)
        found = compile_legal(legalised(module), str(tmp_path / "chip.toml"))
        shapes.add(shape_of(found.mapped))
        if kind == "exact":
            data: Any = {name: item[:2] for name, item in random_data(module, seed).items()}
            steps = int(found.legal.attr("steps"))
        else:
            data, steps = random_spikes(found.legal, seed), 20
        engines = ("functional", "rtl")
        wrong += [f"seed {seed}: {text}" for text in found.differences(data, steps, engines)]
        probes = [f"{op.out}.spikes" for op in found.legal.of_type(dialect.Neuron) if op.fires]
        seen = backend.Runner(found.files).run(data, steps, probes=probes)[0].probes.values()
        spikes += sum(int(np.count_nonzero(item)) for item in seen)
    assert wrong == [] and len(shapes) <= 2  # each is built: one core, and two for the largest networks
    assert spikes > 10_000


@pytest.mark.parametrize("name", cases.PROGRAMS)
def test_20_samples_of_an_example_program(name: str) -> None:
    found = cases.program_case(name, 20)
    assert found.wrong == []
    assert found.stages[0].spikes > 0, "a comparison of silence proves little"


@pytest.mark.parametrize("name", cases.MODELS)
def test_20_images_of_a_model(name: str) -> None:
    found = cases.model_case(name, 20)
    assert found.wrong == []
    assert found.stages[0].spikes > 0
    assert found.logits == 0, "read-outs that differ from the integer network"


@pytest.mark.parametrize("name", cases.LAWLESS)
def test_programs_without_a_law_on_this_core_are_refused(name: str) -> None:
    with pytest.raises(NmcError) as caught:
        compile_model(cases.EXAMPLES / "snn" / f"{name}.snn", CompileOptions(target="fpga"))
    assert {item.code for item in caught.value.diagnostics} == {"E0941"}


def test_every_example_program_is_one_or_the_other() -> None:
    assert {path.stem for path in (cases.EXAMPLES / "snn").glob("*.snn")} == {*cases.PROGRAMS, *cases.LAWLESS}
