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


PACEMAKER = """network pacemaker(dt = 1 ms, steps = 60, seed = 3)
input img[2] : rate(max = 500 Hz)
pop own[2] : lif(tau = 10 ms, v_threshold = 10 mV, v_leak = 12 mV, v_init = 0 mV, reset = subtract)
pop rests[2] : lif(tau = 5 ms, v_threshold = 10 mV, v_leak = 14 mV, v_reset = -3 mV, refractory = 2 ms)
pop a[2] : lif(tau = 10 ms, v_threshold = 5 mV)
own -> a : dense(weight = 2 mV)
rests -> a : dense(weight = 2 mV)
img -> a : dense(weight = 2 mV)
output a : count
"""


@pytest.mark.parametrize("target", ["loihi", "spinnaker2", "fpga"])
def test_a_population_that_only_its_leak_drives_fires_on_every_target(target: str, tmp_path: Path) -> None:
    path = tmp_path / "pacemaker.snn"
    path.write_text(PACEMAKER)
    program = compile_model(path, CompileOptions(target=target))
    data = {"img": np.zeros((1, 2), np.uint8)}
    result = program.run(data["img"], raw=True, probes=["own.spikes", "rests.spikes"])
    for name in ("own", "rests"):
        assert result.result.probes[f"{name}.spikes"].sum() >= 6
    stages = verify_program(program, data, 60, ("functional",))
    assert not any(stage.differing for stage in stages)
