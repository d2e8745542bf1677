"""Random networks: interpreter, mapped module and emulated image agree in every integer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from loihi_chain import assert_every_synapse_once, assert_lawful, compile_legal, probes_of, reparse
from loihi_nets import random_data, random_network
from nmc.ir.diagnostics import DoesNotFit
from nmc.targets.loihi import backend
from nmc.targets.loihi.binary import from_bytes, to_bytes
from nmc.targets.loihi.emit import build_image
from nmc.targets.loihi.image import to_image, to_module

SMALL = {"compartments": 24, "in_axons": 300, "synapse_words": 400, "out_axon_words": 1400}


@pytest.fixture(scope="module")
def small_chip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A chip whose cores hold next to nothing, so that everything is cut."""
    path: Path = tmp_path_factory.mktemp("chip") / "small.toml"
    limits = "\n".join(f"{name} = {value}" for name, value in SMALL.items())
    path.write_text(f'base = "loihi"\nchips = 4\n[limits]\n{limits}\n')
    return str(path)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), small=st.booleans(), merge=st.booleans())
def test_all_stages_compute_the_same_integers(seed: int, small: bool, merge: bool, small_chip: str) -> None:
    module = random_network(seed)
    try:
        chain = compile_legal(module, small_chip if small else "", merge, lot=seed)
    except DoesNotFit:
        assert small  # nothing this small exceeds the real chip
        reject()
    data = random_data(module, seed, samples=3, steps=18)
    chain.assert_equal_everywhere(data, 20)
    assert_lawful(chain.image, SMALL if small else None)
    assert_every_synapse_once(chain)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_stage_survives_its_text_and_the_image_its_bytes(seed: int) -> None:
    chain = compile_legal(random_network(seed), lot=seed)
    image = chain.image
    for stage in (chain.legal, chain.partitioned, chain.mapped, to_module(image)):
        assert reparse(stage) == stage
    assert image == build_image(chain.mapped)
    assert to_image(to_module(image)) == image
    assert to_bytes(from_bytes(chain.files[backend.IMAGE])) == chain.files[backend.IMAGE]
    assert backend.disassemble(chain.files) == to_module(image)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_batch_size_changes_nothing(seed: int) -> None:
    module = random_network(seed)
    chain, probes = compile_legal(module), probes_of(module)
    data = random_data(module, seed, samples=5, steps=12)
    runs = [chain.run(data, 12, probes, batch=batch) for batch in (1, 2, 5)]
    for run in runs[1:]:
        for name, values in {**runs[0].probes, **runs[0].outputs}.items():
            np.testing.assert_array_equal({**run.probes, **run.outputs}[name], values)
