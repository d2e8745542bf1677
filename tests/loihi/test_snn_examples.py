"""Every example program compiles for Loihi; interpreter, mapped module and emulated image agree in every integer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_chain import Chain, assert_lawful, probes_of
from nmc.driver import CompileOptions, compile_traced, load
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.ops.mapped import Neurons
from nmc.program import Program
from nmc.targets.loihi import backend
from nmc.targets.loihi import ops as loihi

Array = np.ndarray[Any, Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "snn"
#: Program, params that keep it small, steps of the comparison.
CASES = [
    ("balanced", {"N": "150"}, 300), ("liquid", {}, 60), ("mnist_mlp", {}, 32), ("nmnist_scnn", {}, 4),
    ("synfire", {}, 100), ("winner_take_all", {}, 60), ("xor", {}, 4),
]  # fmt: skip


def compiled(name: str, params: dict[str, str]) -> tuple[Program, Chain]:
    options = CompileOptions(effort="fast", freeze_plasticity=True)
    program, _ = compile_traced(load(EXAMPLES / f"{name}.snn", params), options)
    mapped = program.module
    legal = mapped.with_ops([op for op in mapped.ops if not op.name.startswith("map.")], level="snn")
    return program, Chain(legal, mapped, mapped, program.files)


def data_for(module: Module, steps: int) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    data: dict[str, Array] = {}
    for op in module.of_type(loihi.Input):
        if op.source:
            spikes = (rng.random((2, steps, *op.shape)) < 0.3).astype(np.uint8)
            data[op.source] = spikes if op.kind == "raster" else rng.random((2, *op.shape))
    return data


@pytest.mark.parametrize(("name", "params", "steps"), CASES, ids=[case[0] for case in CASES])
def test_the_example_runs_the_same_everywhere(name: str, params: dict[str, str], steps: int) -> None:
    _, chain = compiled(name, params)
    found = chain.assert_equal_everywhere(data_for(chain.legal, steps), steps)
    assert_lawful(chain.image)
    fired = sum(
        int(found.probes[probe].sum()) for probe in probes_of(chain.legal) if probe.endswith(".spikes")
    )
    assert fired > 0 or name == "balanced"  # its neurons need longer to reach their threshold


@pytest.mark.parametrize(
    ("name", "op", "way_out"),
    [("balanced", "snn.plastic", "--freeze-plasticity"), ("izhikevich", "snn.user", "lif")],
)
def test_what_loihi_lacks_is_refused_once_with_a_way_out(name: str, op: str, way_out: str) -> None:
    params = {"N": "50"} if name == "balanced" else {}
    with pytest.raises(NmcError) as caught:
        compile_traced(load(EXAMPLES / f"{name}.snn", params), CompileOptions(effort="fast"))
    assert {item.code for item in caught.value.diagnostics} == {"E0610"}
    assert all(op in item.message and way_out in item.hint for item in caught.value.diagnostics)
    assert len({item.where for item in caught.value.diagnostics}) == len(caught.value.diagnostics)


def test_the_balanced_network_shares_one_axon_among_all_delays() -> None:
    program, chain = compiled("balanced", {})
    sparse = [op for op in chain.legal.of_type(loihi.Sparse) if op.spikes.name == "E"]
    assert [(op.delay, op.longest) for op in sparse] == [(5, 30)]
    use = assert_lawful(chain.image)
    assert max(row["in_axons"] for row in use.values()) <= 1000 + 200  # every neuron and the drive, once
    assert program.report["synapses"] > 80_000


def test_the_scnn_is_where_its_place_statement_puts_it() -> None:
    _, chain = compiled("nmnist_scnn", {})
    cores = {part.core for part in chain.mapped.of_type(Neurons) if part.of.name == "c1"}
    assert cores == {0, 1, 2, 3}


def test_a_program_that_draws_its_own_spikes_runs_without_data_and_records_its_probes() -> None:
    program, _ = compiled("balanced", {"N": "50"})
    assert program.probes == {"E.v": {"every": 10, "box": "0:10"}}
    run = program.run(steps=40, probes=list(program.probes))
    assert run.result.probes["E.v"].shape == (1, 40, 40)
    assert run.result.probes["E.v"].any()
    assert backend.Runner(program.files).sources == {}
