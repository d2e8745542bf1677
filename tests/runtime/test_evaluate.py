"""Accuracy by step is that of shorter runs, and early answers are those of the reference interpreter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.driver import CompileOptions, compile_model
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.program import Program
from nmc.runtime import evaluate as module
from nmc.runtime.early import Rule, rule_of
from nmc.runtime.evaluate import costs_until, evaluate
from nmc.targets.loihi.ops import Input

Array = np.ndarray[Any, Any]
Data = tuple[Array, Array]


def test_accuracy_after_a_step_is_that_of_a_run_of_so_many_steps(program: Program, unseen: Data) -> None:
    found = evaluate(program, *unseen, by_step=True)
    assert len(found.by_step) == program.steps and found.by_step[-1] == found.accuracy
    assert len(set(found.by_step)) > 2
    for steps in (1, 17, 19, program.steps):
        assert found.by_step[steps - 1] == evaluate(program, *unseen, steps=steps).accuracy


def test_the_trace_ends_with_the_output_and_changes_nothing(program: Program, unseen: Data) -> None:
    with_trace, without = program.run(unseen[0], trace=True), program.run(unseen[0])
    np.testing.assert_array_equal(with_trace.result.trace[:, -1], without.logits)
    np.testing.assert_array_equal(with_trace.logits, without.logits)
    assert with_trace.result.probes == {} and not without.result.traces
    assert with_trace.summary == without.summary


def test_early_answers_are_those_of_the_interpreter(program: Program, unseen: Data) -> None:
    for asked in (0.5, 2.0, 5.0):
        rule = rule_of(program, asked)
        steps, outputs = rule.take(program.run(unseen[0], trace=True).result.traces)
        (chosen,) = rule.outputs

        def with_margin(op: Op, chosen: snn.Output = chosen) -> Op | None:
            return chosen if isinstance(op, snn.Output) else op if "snn" in op.belongs else None

        ops = [item for op in program.module.ops if (item := with_margin(op)) is not None]
        network = program.module.with_ops(ops, level="snn")
        wanted = run_snn(network, {"x": unseen[0].reshape(60, *network.of_type(snn.InputOp)[-1].shape)})
        np.testing.assert_array_equal(steps, wanted.settled)
        np.testing.assert_array_equal(next(iter(outputs.values())), next(iter(wanted.outputs.values())))


def test_a_larger_margin_takes_longer_and_a_huge_one_gives_the_last_answer(
    program: Program, unseen: Data
) -> None:
    found = [evaluate(program, *unseen, rule=rule_of(program, asked)) for asked in (0.5, 3.0, 1e6)]
    early = [item.early for item in found]
    means = [item.steps.mean() for item in early if item is not None]
    assert means == sorted(set(means)) and means[-1] == program.steps
    assert early[-1] is not None and early[-1].accuracy == found[-1].accuracy
    assert early[-1].summary == found[-1].summary


def test_costs_up_to_the_answer_are_those_of_each_sample_alone(program: Program, unseen: Data) -> None:
    x, steps = unseen[0][:4], np.array([18, 3, 18, 24])
    alone = [program.run(x[n : n + 1], steps=int(steps[n])).summary for n in range(4)]
    found = costs_until(program, x, steps, {})
    for name, value in found.items():
        assert value == pytest.approx(np.mean([item[name] for item in alone])), name


def test_the_margin_of_a_program_is_taken_before_that_of_data(
    program: Program, eager: Program, images: Data
) -> None:
    own = rule_of(eager)
    assert own.outputs == eager.module.of_type(snn.Output) and own.margin > 0
    found = rule_of(program, calib=(images[0][:200], images[1][:200]))
    assert found.margin == pytest.approx(own.margin)


def test_a_margin_found_on_data_costs_no_right_answer_there(program: Program, images: Data) -> None:
    data = images[0][:200], images[1][:200]
    found = evaluate(program, *data, rule=rule_of(program, calib=data))
    assert found.early is not None
    assert found.early.accuracy >= found.accuracy
    assert found.early.steps.mean() < program.steps


def test_pieces_give_what_the_whole_gives(
    program: Program, unseen: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, done = rule_of(program, 2.0), []
    whole = evaluate(program, *unseen, by_step=True, rule=rule).to_json()
    monkeypatch.setattr(module, "_TRACE_BYTES", 8 * 10 * program.steps * 7)  # seven samples at once
    cut = evaluate(program, *unseen, by_step=True, rule=rule, progress=lambda *at: done.append(at)).to_json()
    assert done == [*((7 * n, 60) for n in range(1, 9)), (60, 60)]
    assert cut["accuracy_by_step"] == whole["accuracy_by_step"]
    assert cut["early_exit"]["mean_steps"] == whole["early_exit"]["mean_steps"]
    assert cut["spikes_per_sample"] == pytest.approx(whole["spikes_per_sample"])


def test_costs_of_random_inputs_are_not_told(program: Program) -> None:
    random = program.module.map_ops(
        lambda op: replace(op, kind="rate", at=0) if isinstance(op, Input) else op
    )
    other = Program(program.manifest, {})
    other.__dict__["module"] = random
    assert not module._repeatable(other)
    assert module._repeatable(program)


def rate_program(program: Program, **changes: Any) -> Program:
    """The program with other attributes of its output."""
    made = Program(program.manifest, {})
    made.__dict__["module"] = program.module.map_ops(
        lambda op: replace(op, **changes) if isinstance(op, snn.Output) else op
    )
    return made


@pytest.mark.parametrize("target", ["loihi", "spinnaker2", "fpga"])
def test_every_target_keeps_the_margins_and_answers_early(
    repo: Path, calib: Path, unseen: Data, target: str
) -> None:
    options = CompileOptions(target=target, calib=str(calib), early_exit=True)
    program = compile_model(repo / "examples" / "models" / "digits_mlp.onnx", options)
    (output,) = program.module.of_type(snn.Output)
    assert output.margin and output.delay >= program.manifest["latency"][output.data.name]
    found = evaluate(program, *unseen, rule=rule_of(program))
    assert found.early is not None and found.early.accuracy >= found.accuracy - 0.04
    mean = found.early.steps.mean()
    assert mean == program.steps == 3 if target == "spinnaker2" else mean < program.steps


def test_what_gives_no_early_answer_is_refused(program: Program) -> None:
    wrong: list[dict[str, Any]] = [{"decoder": "count"}, {"scale": 0.0}, {"scale": float("nan")}]
    for changes in wrong:
        with pytest.raises(NmcError, match="E0653"):
            rule_of(rate_program(program, **changes), 1.0)
    with pytest.raises(NmcError, match="E0404"):
        rule_of(program)
    none = Program(program.manifest, {})
    none.__dict__["module"] = program.module.with_ops(
        [op for op in program.module.ops if not isinstance(op, snn.Output)]
    )
    with pytest.raises(NmcError, match="E0653"):
        rule_of(none, 1.0)


def test_the_delay_of_an_output_is_obeyed(program: Program, unseen: Data) -> None:
    rule = rule_of(program, 0.5)
    late = Rule(tuple(replace(op, delay=20) for op in rule.outputs))
    traces = program.run(unseen[0], trace=True).result.traces
    assert late.take(traces)[0].min() == 21 > rule.take(traces)[0].min()


def test_an_image_with_other_outputs_than_the_module_is_damaged(program: Program, unseen: Data) -> None:
    rule = rule_of(program, 1.0)
    (name,) = traces = program.run(unseen[0][:2], trace=True).result.traces
    for wrong in ({"other": traces[name]}, {name: traces[name][:, :, :4]}):
        with pytest.raises(NmcError, match="E0804"):
            rule.take(wrong)


def test_the_trace_of_counted_spikes_is_the_count_so_far(repo: Path) -> None:
    counting = compile_model(repo / "examples" / "snn" / "winner_take_all.snn")
    x = np.linspace(0.1, 1.0, 2 * counting.module.of_type(Input)[0].result.type.size).reshape(2, -1)
    runs = [counting.run(x, steps=steps).logits for steps in (1, 20, 40)]
    trace = counting.run(x, steps=40, trace=True).result.trace
    for run, steps in zip(runs, (1, 20, 40), strict=True):
        np.testing.assert_array_equal(trace[:, steps - 1], run)
    assert trace[:, -1].sum() > 0
    with pytest.raises(NmcError, match="E0653"):
        rule_of(counting, 1.0)
