"""Early answers on every chip: what each makes of ``--early-exit``, and that ``nmc eval`` tells it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.cli import main
from nmc.driver import CompileOptions, compile_model
from nmc.ir.interp import run_snn
from nmc.ir.npz import write_npz
from nmc.ir.ops import snn
from nmc.program import Program
from nmc.runtime.early import rule_of
from nmc.runtime.evaluate import evaluate

Array = np.ndarray[Any, Any]
Data = tuple[Array, Array]
TARGETS = ("loihi", "spinnaker2", "fpga")


@pytest.fixture(scope="module")
def eager_on(repo: Path, calib: Path) -> dict[str, Program]:
    """The same trained network for each target, with margins of its own."""
    model = repo / "examples" / "models" / "digits_mlp.onnx"
    return {
        target: compile_model(model, CompileOptions(target=target, calib=str(calib), early_exit=True))
        for target in TARGETS
    }


@pytest.mark.parametrize("target", TARGETS)
def test_the_chip_answers_when_the_interpreter_does(
    target: str, eager_on: dict[str, Program], unseen: Data
) -> None:
    program, (x, _) = eager_on[target], unseen
    network = program.module.with_ops([op for op in program.module.ops if "snn" in op.belongs], level="snn")
    (entry,) = (op for op in network.of_type(snn.InputOp) if op.source)
    wanted = run_snn(network, {"x": x.reshape(len(x), *entry.shape)}, program.steps)
    steps, outputs = rule_of(program).take(program.run(x, trace=True).result.traces)
    np.testing.assert_array_equal(steps, wanted.settled)
    np.testing.assert_array_equal(next(iter(outputs.values())), next(iter(wanted.outputs.values())))


@pytest.mark.parametrize("target", TARGETS)
def test_no_answer_comes_before_the_outputs_can_change(
    target: str, eager_on: dict[str, Program], unseen: Data
) -> None:
    program, (x, y) = eager_on[target], unseen
    found = evaluate(program, x, y, rule=rule_of(program), by_step=True)
    trace = program.run(x, trace=True).result.trace
    early = found.early
    assert early is not None and early.steps.min() >= early.first > found.latency_steps
    before, then = trace[:, : early.first - 1], trace[:, early.first - 1]
    assert (before == trace[0, 0]).all() and (then != trace[0, 0]).any()


def test_each_chip_gets_the_code_that_answers_soonest(eager_on: dict[str, Program]) -> None:
    chosen = {name: program.module.attr("spike_code") for name, program in eager_on.items()}
    assert {name: (code["code"], code["schedule"]) for name, code in chosen.items()} == {
        "loihi": ("phased-if", "count"), "spinnaker2": ("graded", "burst"), "fpga": ("stbif", "spread"),
    }  # fmt: skip


def test_where_counts_travel_whole_the_first_answer_is_the_last_one(
    eager_on: dict[str, Program], unseen: Data
) -> None:
    program = eager_on["spinnaker2"]
    found = evaluate(program, *unseen, rule=rule_of(program))
    assert found.early is not None and found.early.accuracy == found.accuracy
    assert set(found.early.steps.tolist()) == {program.steps} == {found.latency_steps + 1}
    later = program.run(unseen[0], steps=program.steps + 9, trace=True)
    steps, outputs = rule_of(program).take(later.result.traces)
    assert set(steps.tolist()) == {program.steps}
    np.testing.assert_array_equal(next(iter(outputs.values())).reshape(later.logits.shape), later.logits)


@pytest.mark.parametrize("target", TARGETS)
def test_eval_prints_accuracy_by_step_mean_steps_and_rest(
    target: str,
    eager_on: dict[str, Program],
    unseen: Data,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, data = tmp_path / "net.nmx", tmp_path / "data.npz"
    eager_on[target].save(image)
    write_npz(data, {"x": unseen[0], "y": unseen[1]})
    assert main(["eval", str(image), "--data", str(data), "--early-exit"]) == 0
    told = capsys.readouterr().out
    assert (
        "with early answers" in told and "steps to the answer" in told and "accuracy in % if it ended" in told
    )
    assert main(["eval", str(image), "--data", str(data), "--until-quiescent", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["settled_steps"]["mean"] <= found["settled_steps"]["max"] <= found["steps"]
    assert main(["run", str(image), "--input", str(data), "--limit", "3", "--early-exit", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["steps_by_sample"]) == 3
