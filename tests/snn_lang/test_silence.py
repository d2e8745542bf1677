"""Populations that nothing is connected to, beside others that take data."""

from pathlib import Path

import numpy as np
import pytest

from nmc.driver import CompileOptions, compile_model
from nmc.runtime.verify import legal_part, random_samples, verify_program

PROGRAM = """network lonely(dt = 1 ms, steps = 20, seed = 3)
neuron cell = lif(tau = 10 ms, v_threshold = 1.0, reset = subtract)
input img[4] : rate(max = 500 Hz)
pop a[4] : cell
pop alone[3] : cell
img -> a : one_to_one(weight = 0.8)
alone -> a[0:3] : one_to_one(weight = 0.5)
output a : count
"""


@pytest.mark.parametrize("target", ["loihi", "spinnaker2", "fpga"])
def test_a_population_without_inputs_runs_on_every_target(target: str, tmp_path: Path) -> None:
    path = tmp_path / "lonely.snn"
    path.write_text(PROGRAM)
    program = compile_model(path, CompileOptions(target=target))
    data = random_samples(legal_part(program.module), 20, 2)
    assert set(data) == {"img"}
    stages = verify_program(program, data, 20, ("functional",))
    assert stages[0].spikes > 0
    assert not any(stage.differing for stage in stages)
    assert np.array(data["img"]).shape == (2, 4)
