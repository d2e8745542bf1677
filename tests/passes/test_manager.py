"""What the manager gives every pass: order of levels, checks, dumps, bisection, reproducers."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann, snn
from nmc.ir.text.sidefile import load
from nmc.passes.base import InternalError, Pass
from nmc.passes.bisect import bisect
from nmc.passes.explain import report_stats
from nmc.passes.manager import ManagerOptions, check_levels, run_pipeline
from nmc.passes.pipeline import parse_pipeline
from nmc.passes.registry import Registry

MakePass = Callable[..., Pass]
DATA = {"x": np.linspace(-1, 1, 12).reshape(3, 1, 4)}


@dataclass(frozen=True)
class Limit(Pass, name="limit", takes="ann", optional=True):
    """Give every relu a limit; wrongly said to be exact."""

    at: float = 1.0

    def run(self, module: Module) -> Module:
        return module.map_ops(lambda op: replace(op, limit=self.at) if isinstance(op, ann.Relu) else op)


@dataclass(frozen=True)
class Lossy(Limit, name="lossy"):
    """The same, honestly."""

    exact: ClassVar[bool] = False


@dataclass(frozen=True)
class Tolerant(Limit, name="tolerant"):
    """The same, said to be exact but for rounding."""

    tolerance: ClassVar[float] = 1e-6


@dataclass(frozen=True)
class Lower(Pass, name="lower", takes="ann", gives="snn"):
    """Make an empty snn module."""

    def run(self, module: Module) -> Module:
        return Module(module.name, "snn")


@dataclass(frozen=True)
class Crash(Pass, name="crash", takes="any"):
    """Fail in an unforeseen way."""

    why: str = "it's broken"

    def run(self, module: Module) -> Module:
        raise ZeroDivisionError(self.why)


def codes(error: NmcError) -> list[str]:
    return [problem.code for problem in error.diagnostics]


def test_wrong_order_of_levels_is_one_sentence_before_anything_runs(ann_module: Module) -> None:
    with pytest.raises(NmcError) as caught:
        run_pipeline(ann_module, [Crash(), Lower(), Limit()])
    assert str(caught.value) == "error[E0203]: pass limit takes level ann, but lower gives snn"


def test_level_after_a_pipeline_is_known_without_running_it() -> None:
    assert check_levels("ann", [Limit(), Lower(), Crash()]) == "snn"


def test_pass_that_gives_another_level_than_it_says_is_refused(ann_module: Module, act: MakePass) -> None:
    with pytest.raises(NmcError, match="E0205.*says that it gives level ann, but gave snn"):
        run_pipeline(ann_module, [act(lambda module: Module("m", "snn"))])


def test_pass_that_breaks_the_module_is_named(ann_module: Module, act: MakePass) -> None:
    broken = act(lambda module: module.with_ops(module.ops[1:]))
    with pytest.raises(NmcError, match=r"(?s)not well-formed after pass act.*%x is not defined"):
        run_pipeline(ann_module, [broken])
    assert run_pipeline(ann_module, [broken], ManagerOptions(verify_each=False)).module != ann_module


def test_pass_that_loses_a_location_is_named(ann_module: Module, act: MakePass) -> None:
    def split(module: Module) -> Module:
        new = ann.Relu(out="y2", data=module.producers["y"].result)
        end = [replace(output, data=new.result) for output in module.of_type(ann.Output)]
        return module.with_ops([*module.ops[:-1], new, *end])

    with pytest.raises(NmcError, match=r"E0204.*pass act made %y2 = ann.relu without a location"):
        run_pipeline(ann_module, [act(split)])
    bare = ann_module.map_ops(lambda op: replace(op, loc=None))
    assert run_pipeline(bare, [act(split)]).module.producers["y2"].loc is None


def test_module_is_printed_after_the_passes_asked_for(ann_module: Module) -> None:
    told: list[str] = []
    options = ManagerOptions(print_after=frozenset({"lossy"}), sink=told.append)
    run_pipeline(ann_module, [Limit(), Lossy(2.0)], options)
    (text,) = told
    assert text.startswith("// after lossy{at=2.0}\nmodule @m ann") and "limit=2.0" in text


def test_print_changed_leaves_out_passes_that_did_nothing(ann_module: Module) -> None:
    told: list[str] = []
    run_pipeline(ann_module, [Limit(), Limit()], ManagerOptions(print_after="changed", sink=told.append))
    assert len(told) == 1
    run_pipeline(ann_module, [Limit(), Limit()], ManagerOptions(print_after="all", sink=told.append))
    assert len(told) == 3


def test_print_dir_holds_every_step_with_its_constants(ann_module: Module, tmp_path: Path) -> None:
    large = Const("w", np.arange(400, dtype=np.float32).reshape(100, 4))
    x = ann.Input(out="x", shape=(4,))
    dense = ann.Dense(out="d", data=x.result, weight=large)
    start = Module("m", "ann", (x, dense, ann.Output(data=dense.result)))
    result = run_pipeline(start, [Limit(), Lossy()], ManagerOptions(print_dir=tmp_path / "dumps"))
    assert [path.name for path in result.dumps] == ["00-input.nmc", "01-limit.nmc", "02-lossy.nmc"]
    assert load(result.dumps[1]) == start
    assert load(result.dumps[1]).consts[0].array()[99, 3] == 399


def test_bisect_limit_skips_optional_passes_and_says_which(ann_module: Module) -> None:
    told: list[str] = []
    passes = [Limit(3.0), Lower(), Limit()]
    kept = run_pipeline(
        ann_module, [Limit(3.0), Limit(2.0)], ManagerOptions(bisect_limit=1, sink=told.append)
    )
    assert told == [
        "bisect: running optional pass 1 limit{at=3.0}",
        "bisect: skipping optional pass 2 limit{at=2.0}",
    ]
    assert kept.skipped == ("limit{at=2.0}",)
    assert kept.module == Limit(3.0).run(ann_module)
    none = run_pipeline(ann_module, passes[:2], ManagerOptions(bisect_limit=0, sink=told.append))
    assert none.module.level == "snn", "a lowering is not optional"


def test_crash_leaves_a_reproducer_that_fails_again(ann_module: Module, tmp_path: Path) -> None:
    path = tmp_path / "nmc-crash.nmc"
    options = ManagerOptions(crash_reproducer=path)
    with pytest.raises(InternalError) as caught:
        run_pipeline(ann_module, [Limit(), Crash(), Limit(3.0)], options)
    assert caught.value.exit_code == 3 and caught.value.path == path
    assert "internal error in pass crash: ZeroDivisionError: it's broken" in str(caught.value)
    first = path.read_text(encoding="utf-8").split("\n")[0]
    words = shlex.split(first.removeprefix("// RUN: "))
    assert words[:3] == ["nmc", "opt", "--passes"] and words[4:] == ["nmc-crash.nmc"]
    registry = Registry({}).adding({"crash": Crash, "limit": Limit}, "this test")
    again = load(path)
    assert again == Limit().run(ann_module)
    with pytest.raises(InternalError, match="ZeroDivisionError: it's broken"):
        run_pipeline(again, parse_pipeline(words[3], registry))


def test_crash_command_survives_quotes(ann_module: Module, tmp_path: Path) -> None:
    path = tmp_path / "nmc-crash.nmc"
    with pytest.raises(InternalError):
        run_pipeline(ann_module, [Crash("a 'b'\n\"c\"")], ManagerOptions(crash_reproducer=path))
    first = path.read_text(encoding="utf-8").split("\n")[0]
    registry = Registry({}).adding({"crash": Crash}, "this test")
    text = shlex.split(first.removeprefix("// RUN: "))[3]
    assert parse_pipeline(text, registry) == (Crash("a 'b'\n\"c\""),)


def test_user_errors_leave_no_reproducer(ann_module: Module, act: MakePass, tmp_path: Path) -> None:
    path = tmp_path / "nmc-crash.nmc"
    options = ManagerOptions(crash_reproducer=path)
    with pytest.raises(NmcError) as caught:
        run_pipeline(ann_module, [act(lambda module: module.with_ops(module.ops[2:]))], options)
    assert caught.value.exit_code == 1 and not path.exists()


def test_result_that_is_no_module_is_an_internal_error(ann_module: Module, act: MakePass) -> None:
    with pytest.raises(InternalError, match=r"run\(\) gave NoneType"):
        run_pipeline(ann_module, [act(lambda module: None)])


def test_check_each_catches_a_pass_that_is_wrongly_called_exact(ann_module: Module) -> None:
    with pytest.raises(NmcError) as caught:
        run_pipeline(ann_module, [Limit(0.5)], ManagerOptions(check_each=DATA))
    assert codes(caught.value) == ["E0207"]
    assert "pass limit{at=0.5} calls itself exact, but changed output %y" in str(caught.value)
    with pytest.raises(NmcError, match="by more than 1e-06 of its range"):
        run_pipeline(ann_module, [Tolerant(0.5)], ManagerOptions(check_each=DATA))


def test_check_each_reports_how_far_a_lossy_pass_moved_results(ann_module: Module) -> None:
    told: list[str] = []
    options = ManagerOptions(check_each=DATA, sink=told.append)
    result = run_pipeline(ann_module, [Limit(1e9), Lossy(10.0)], options)
    exact, lossy = result.checks
    # The largest result is 3 * (3 * 9/11 + 4 * 1) and is cut to 10.
    assert exact.max_abs == 0 and lossy.max_abs == pytest.approx(3 * (27 / 11 + 4) - 10, rel=1e-6)
    assert lossy.max_rel == pytest.approx(lossy.max_abs / (lossy.max_abs + 10))
    assert told == ["limit: %y is equal\nlossy: %y moved by " + lossy.moved]


def test_check_each_runs_spiking_networks_from_a_file(
    snn_module: Module, act: MakePass, tmp_path: Path
) -> None:
    np.savez(tmp_path / "inputs.npz", x=np.full((2, 3), 0.75))

    def lower(op: Op) -> Op:
        return replace(op, threshold=0.125) if isinstance(op, snn.If) else op

    halve = act(lambda module: module.map_ops(lower))
    options = ManagerOptions(check_each=tmp_path / "inputs.npz")
    assert [check.max_abs for check in run_pipeline(snn_module, [act()], options).checks] == [0]
    with pytest.raises(NmcError, match="E0207"):
        run_pipeline(snn_module, [halve], options)


def test_check_each_tells_why_a_module_cannot_run(
    ann_module: Module, snn_module: Module, act: MakePass
) -> None:
    absent = Const("w", None, (ann_module.of_type(ann.Conv)[0].weight.type, "0" * 16))
    bare = ann_module.map_ops(lambda op: replace(op, weight=absent) if isinstance(op, ann.Conv) else op)
    with pytest.raises(NmcError, match="E0401.*data of constant @w"):
        run_pipeline(bare, [act()], ManagerOptions(check_each=DATA))
    with pytest.raises(NmcError, match="E0401.*attribute steps is long"):
        run_pipeline(
            snn_module.with_attrs(steps="long"), [act()], ManagerOptions(check_each={"x": np.ones((1, 3))})
        )
    with pytest.raises(NmcError, match="E0401.*no data for input x"):
        run_pipeline(ann_module, [act()], ManagerOptions(check_each={}))


def test_check_each_leaves_lowerings_alone(ann_module: Module) -> None:
    assert run_pipeline(ann_module, [Lower()], ManagerOptions(check_each=DATA)).checks == ()


def test_timing_lists_every_pass_with_its_statistics(ann_module: Module, act: MakePass) -> None:
    def solve(module: Module) -> Module:
        report_stats(branches=7)
        return module

    told: list[str] = []
    result = run_pipeline(ann_module, [act(solve), Limit()], ManagerOptions(timing=True, sink=told.append))
    assert [dict(timing.stats) for timing in result.timings] == [{"branches": 7}, {}]
    assert "[branches=7]" in told[0] and told[0].endswith("in all")
    event: dict[str, Any] = result.trace_events()[1]
    assert (event["name"], event["ph"]) == ("limit", "X") and event["ts"] >= 0 <= event["dur"]


def test_explain_tells_the_reasons_of_one_pass(ann_module: Module) -> None:
    told: list[str] = []
    options = ManagerOptions(explain="fold-batchnorm", sink=told.append)
    cut = ann_module.with_ops(Limit().run(ann_module).ops)
    run_pipeline(cut, parse_pipeline("fold-affine,fold-batchnorm"), options)
    assert told == ['fold-batchnorm: fold-batchnorm: %n = ann.batchnorm (m.onnx: node "/norm"): applied']
    told.clear()
    run_pipeline(cut, [Limit()], options)
    assert told == ["fold-batchnorm: no rule met an op that it matches"]


@pytest.mark.parametrize(
    ("bad", "blamed"), [(3.0, "limit{at=3.0}"), (9.0, "limit{at=9.0}"), (5.0, "limit{at=5.0}")]
)
def test_bisect_finds_the_first_bad_pass(ann_module: Module, bad: float, blamed: str) -> None:
    limits = [9.0, 8.0, 5.0, 4.0, 3.0]
    passes = [Limit(limit) for limit in limits]
    runs = []

    def test(module: Module) -> bool:
        runs.append(module)
        (relu,) = module.of_type(ann.Relu)
        return relu.limit > bad

    assert bisect(ann_module, passes, test) == blamed
    assert len(runs) <= 5


def test_bisect_knows_when_nothing_or_everything_is_bad(ann_module: Module) -> None:
    assert bisect(ann_module, [Limit()], lambda module: True) is None
    assert bisect(ann_module, [Limit()], lambda module: False) == "input"
    assert bisect(ann_module, [], lambda module: True) is None
