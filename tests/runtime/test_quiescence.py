"""Chips are at rest when the interpreter says so, and nothing changes any more from then on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.driver import CompileOptions, compile_model
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.program import Program
from nmc.runtime import quiescence

Array = np.ndarray[Any, Any]
Data = tuple[Array, Array]


def compiled(repo: Path, calib: Path, target: str, **options: Any) -> Program:
    chosen = CompileOptions(target=target, calib=str(calib), **options)
    return compile_model(repo / "examples" / "models" / "digits_mlp.onnx", chosen)


@pytest.mark.parametrize("target", ["loihi", "spinnaker2", "fpga"])
def test_nothing_happens_after_the_step_of_rest(target: str, repo: Path, calib: Path, unseen: Data) -> None:
    program, x = compiled(repo, calib, target), unseen[0]
    found, whole = program.run(x, until_quiescent=True), program.run(x)
    settled = found.result.settled
    assert settled is not None and settled.max() <= program.steps
    np.testing.assert_array_equal(found.logits, whole.logits)
    assert found.result.probes == {} and found.summary == pytest.approx(whole.summary)
    for steps in np.unique(settled):
        mine = settled == steps
        np.testing.assert_array_equal(program.run(x[mine], steps=int(steps)).logits, whole.logits[mine])


@pytest.mark.parametrize("target", ["spinnaker2", "fpga"])
def test_rest_is_that_of_the_interpreter(
    target: str, repo: Path, calib: Path, unseen: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, x = compiled(repo, calib, target), unseen[0]
    monkeypatch.setattr(quiescence, "_BYTES", 1 << 20)  # groups of a few samples
    settled = program.run(x, until_quiescent=True).result.settled
    ops = [op for op in program.module.ops if "snn" in op.belongs]
    network = program.module.with_ops(ops, level="snn")
    wanted = run_snn(network, {"x": x}, program.steps, until_quiescent=True).settled
    np.testing.assert_array_equal(settled, wanted)
    assert settled is not None and len(np.unique(settled)) > 1


def test_a_run_that_is_too_short_ends_unsettled(repo: Path, calib: Path, unseen: Data) -> None:
    program = compiled(repo, calib, "fpga")
    settled = program.run(unseen[0][:4], steps=5, until_quiescent=True).result.settled
    assert settled is not None and settled.tolist() == [5] * 4


def test_rates_never_rest(repo: Path, calib: Path, unseen: Data) -> None:
    program = compiled(repo, calib, "loihi", mode="rate-if")
    with pytest.raises(NmcError, match="E0406"):
        program.run(unseen[0], until_quiescent=True)
