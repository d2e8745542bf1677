"""A v_reset that is not 0 is asked about, never dropped silently."""

from pathlib import Path

import numpy as np
import pytest

from nmc.frontends.nir import load_nir
from nmc.ir.diagnostics import NmcError
from nmc.ir.ops.neurons import Neuron

nir = pytest.importorskip("nir")


@pytest.fixture
def resetting(tmp_path: Path) -> Path:
    one = np.ones(3)
    neuron = nir.LIF(tau=0.02 * one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0.1 * one)
    graph = nir.NIRGraph.from_list(
        nir.Input(input_type={"input": (3,)}), neuron, nir.Output({"output": (3,)})
    )
    path = tmp_path / "resetting.nir"
    nir.write(path, graph)
    return path


def test_semantics_that_reset_to_0_ask_what_v_reset_means(resetting: Path) -> None:
    with pytest.raises(NmcError, match="E0347.*v_reset is not 0") as found:
        load_nir(resetting, dt=1e-3, convention="nir", semantics="norse")
    assert "--reset to-value" in str(found.value)


def test_the_answer_of_the_user_is_taken(resetting: Path) -> None:
    for reset in ("zero", "to-value"):
        module = load_nir(resetting, dt=1e-3, convention="nir", semantics="norse", reset=reset)
        (neuron,) = module.of_type(Neuron)
        assert (neuron.reset, neuron.v_reset is not None) == (reset, reset == "to-value")
