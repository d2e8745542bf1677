"""The rewrite driver: rules by annotation, to a fixed point, with locations, names and types kept right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given

import ir_strategies as irs
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann, snn
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify
from nmc.passes.base import Skip
from nmc.passes.explain import ExplainLog, recording
from nmc.passes.graph import dead_code, refresh, replace_uses
from nmc.passes.rewrite import Match, rewrite

if TYPE_CHECKING:
    from decimal import Decimal

X = Loc("m.onnx", "x")


def chain(length: int) -> Module:
    """An input and `length` relus, each with a location."""
    ops: list[Op] = [ann.Input(out="x", shape=(3,), loc=X)]
    for number in range(length):
        ops.append(ann.Relu(out=f"r{number}", data=ops[-1].result, loc=Loc("m.onnx", f"r{number}")))
    return Module("m", "ann", (*ops, ann.Output(data=ops[-1].result, loc=Loc("m.onnx", "y"))))


def merge(relu: ann.Relu, match: Match) -> ann.Relu:
    first = match.made_by(relu.data, ann.Relu)
    match.single_user(first)
    return replace(relu, data=first.data)


def limit(relu: ann.Relu, match: Match) -> ann.Relu:
    return replace(relu, limit=6.0)


def test_rule_applies_to_what_its_annotation_says() -> None:
    module = rewrite(chain(2), "p", limit)
    assert [op.limit for op in module.of_type(ann.Relu)] == [6.0, 6.0]
    assert module.ops[0] is chain(2).ops[0] or module.ops[0] == chain(2).ops[0]


def test_annotation_of_a_local_rule_may_name_local_things() -> None:
    from nmc.ir.ops.ann import Output as LocalOutput
    from nmc.ir.ops.ann import Relu as LocalRelu

    seen: list[str] = []

    def look(op: LocalRelu | LocalOutput, match: Decimal) -> None:
        seen.append(op.name)

    assert rewrite(chain(1), "p", look) == chain(1)
    assert seen == ["ann.relu", "ann.output"]


def test_rule_without_op_class_is_refused() -> None:
    def bare(op, match):  # type: ignore[no-untyped-def]
        return None

    def wrong(op: int, match: Match) -> None:
        return None

    def missing(op: Decimal, match: Match) -> None:
        return None

    for rule, told in (
        (bare, "must annotate"),
        (wrong, "is no op class"),
        (missing, "Decimal.*is not defined"),
    ):
        with pytest.raises(TypeError, match=told):
            rewrite(chain(1), "p", rule)


def test_module_that_no_rule_changes_is_the_same_object() -> None:
    module = chain(2)
    assert rewrite(module, "p", lambda_free_none) is module


def lambda_free_none(op: Op, match: Match) -> None:
    return None


def test_rules_run_to_a_fixed_point_and_keep_the_last_name() -> None:
    module = rewrite(chain(40), "merge", merge)
    assert [op.out for op in module.ops] == ["x", "r39", ""]
    assert verify(module) == ()


def test_locations_of_all_ops_looked_at_are_fused_without_nesting() -> None:
    module = rewrite(chain(40), "merge", merge)
    loc = module.producers["r39"].loc
    assert loc is not None and loc.name == "merge"
    assert loc.parts == tuple(Loc("m.onnx", f"r{number}") for number in range(40))


def test_location_that_a_rule_sets_is_kept() -> None:
    other = Loc("other.onnx", "n")

    def move(relu: ann.Relu, match: Match) -> ann.Relu:
        match.producer(relu.data)
        return replace(relu, limit=6.0, loc=other)

    assert rewrite(chain(1), "p", move).producers["r0"].loc == other


def test_users_looked_at_are_fused_too() -> None:
    def absorb(relu: ann.Relu, match: Match) -> ann.Relu:
        match.users(relu)
        return replace(relu, limit=6.0)

    loc = rewrite(chain(1), "p", absorb).producers["r0"].loc
    assert loc == Loc("p", parts=(Loc("m.onnx", "r0"), Loc("m.onnx", "y")))


def test_several_ops_take_the_place_of_one_and_the_last_carries_the_name() -> None:
    def split(relu: ann.Relu, match: Match) -> tuple[Op, ...]:
        match.require(relu.limit == np.inf, "done")
        first = ann.Relu(out=match.fresh("x"), data=relu.data, limit=8.0)
        return first, replace(relu, data=first.result, limit=4.0)

    module = rewrite(chain(2), "split", split)
    assert [op.out for op in module.ops] == ["x", "x.1", "r0", "x.2", "r1", ""]
    assert verify(module) == ()
    assert module.producers["x.1"].loc == Loc("m.onnx", "r0")


def test_value_as_answer_replaces_all_uses() -> None:
    def drop(relu: ann.Relu, match: Match) -> Value:
        return relu.data

    module = rewrite(chain(5), "drop", drop)
    assert [op.name for op in module.ops] == ["ann.input", "ann.output"]
    assert module.ops[1].operands[0].name == "x"


def test_deleting_an_op_that_is_used_is_refused() -> None:
    def delete(op: ann.Relu | ann.Output, match: Match) -> tuple[Op, ...]:
        return ()

    with pytest.raises(TypeError, match="deletes %r0, which is used"):
        rewrite(chain(1), "p", delete)

    def delete_output(op: ann.Output, match: Match) -> tuple[Op, ...]:
        return ()

    assert [op.out for op in rewrite(chain(2), "p", delete_output).ops] == ["x"]


def test_producer_that_loses_its_last_user_goes_with_what_only_it_used() -> None:
    def shortcut(out: ann.Output, match: Match) -> ann.Output:
        match.require(out.data.name != "x", "done")
        return replace(out, data=Value("x", out.data.type))

    assert [op.out for op in rewrite(chain(5), "p", shortcut).ops] == ["x", ""]


def test_users_see_the_new_type_of_a_result() -> None:
    def widen(op: ann.Input, match: Match) -> ann.Input:
        return replace(op, shape=(7,))

    module = rewrite(chain(30), "p", widen)
    assert verify(module) == ()
    assert module.producers["r29"].result.shape == (7,)


def test_rule_is_tried_again_when_what_it_looked_at_changes() -> None:
    """`%r1` may be limited only once its user is, which the rules reach later."""

    def follow(relu: ann.Relu, match: Match) -> ann.Relu:
        user = match.single_user(relu)
        done = isinstance(user, ann.Output) or (isinstance(user, ann.Relu) and user.limit == 6.0)
        match.require(done, "its user has no limit")
        return replace(relu, limit=6.0)

    assert all(op.limit == 6.0 for op in rewrite(chain(50), "p", follow).of_type(ann.Relu))


def test_rules_that_never_end_are_told_by_name() -> None:
    def grow(relu: ann.Relu, match: Match) -> ann.Relu:
        return replace(relu, limit=1.0 if relu.limit > 1 else 2.0)

    with pytest.raises(NmcError, match=r"E0206.*rules of p never end.*by grow at %r0"):
        rewrite(chain(1), "p", grow)


def test_cost_grows_with_the_number_of_ops() -> None:
    """Calls of the rule, not time: at most four an op on a chain that collapses into one op."""
    calls = 0

    def counted(relu: ann.Relu, match: Match) -> ann.Relu:
        nonlocal calls
        calls += 1
        return merge(relu, match)

    rewrite(chain(1000), "p", counted)
    assert calls <= 4000


def test_constants_that_part_ways_get_names_of_their_own() -> None:
    weight = Const("w", np.array([[1.0]], np.float32))
    x = ann.Input(out="x", shape=(1,))
    a = ann.Dense(out="a", data=x.result, weight=weight)
    b = ann.Dense(out="b", data=a.result, weight=weight)
    module = Module("m", "ann", (x, a, b, ann.Output(data=b.result)))

    def scale(dense: ann.Dense, match: Match) -> ann.Dense:
        factor = 2.0 if dense.out == "a" else 3.0
        return replace(dense, weight=Const("w", np.full((1, 1), factor, np.float32)))

    result = rewrite(module, "p", scale)
    assert [(const.name, const.array().item()) for const in result.consts] == [("w", 2.0), ("w.1", 3.0)]

    def same(dense: ann.Dense, match: Match) -> ann.Dense:
        return replace(dense, weight=Const("w", np.full((1, 1), 5.0, np.float32)))

    assert [const.name for const in rewrite(module, "p", same).consts] == ["w"]


def test_reasons_are_kept_for_explanations() -> None:
    def never(relu: ann.Relu, match: Match) -> None:
        raise Skip("it is Tuesday")

    with recording(ExplainLog("p")) as log:
        rewrite(chain(1), "p", never, limit)
        rewrite(chain(1), "other", never)
    told = [(note.rule, note.reason) for note in log.explanations]
    assert told == [("never", "it is Tuesday"), ("limit", "")]


def test_match_tells_what_is_there_instead() -> None:
    reasons = []

    def ask(relu: ann.Relu, match: Match) -> None:
        for question in (
            lambda: match.made_by(relu.data, ann.Conv, ann.Dense),
            lambda: match.single_user(match.producer(Value("x", relu.data.type))),
            lambda: match.data(Const("w", None, (relu.data.type, "0" * 16))),
        ):
            try:
                question()
            except Skip as skip:
                reasons.append(str(skip))

    module = chain(1)
    twice = module.with_ops([*module.ops[:2], ann.Relu(out="z", data=module.ops[0].result), *module.ops[2:]])
    rewrite(twice, "p", ask)
    assert reasons[:3] == [
        "%x is made by ann.input, not ann.conv or ann.dense",
        "%x has 2 users, not one",
        "the data of constant @w are missing",
    ]


def test_recurrent_ops_are_rewritten_too() -> None:
    module = parse("""module @m snn {
  const @w : f32<1> = splat 0.5
  %x = snn.input() {source=x, shape=[3]} : current<3>
  %a.i = snn.one_to_one(%a, @w) {delay=1} : current<3>
  %a = snn.if(%x, %a.i) : spikes<3>
  snn.output(%a) {decoder=count}
}
""")

    def slower(op: snn.OneToOne, match: Match) -> snn.OneToOne:
        match.made_by(op.spikes, snn.If)
        return replace(op, delay=2)

    result = rewrite(module, "p", slower)
    assert verify(result) == () and result.of_type(snn.OneToOne)[0].delay == 2


def test_refresh_follows_a_changed_shape_through_loops() -> None:
    module = parse("""module @m snn {
  const @w : f32<1> = splat 0.5
  %x = snn.input() {source=x, shape=[3]} : current<3>
  %a.i = snn.one_to_one(%a, @w) {delay=1} : current<3>
  %a = snn.if(%x) : spikes<3>
  %b = snn.if(%a.i) : spikes<3>
  snn.output(%b) {decoder=count}
}
""")
    wider = [replace(op, shape=(5,)) if isinstance(op, snn.Input) else op for op in module.ops]
    result = module.with_ops(refresh(wider))
    assert verify(result) == () and result.producers["b"].result.shape == (5,)


def test_uses_are_replaced_by_name() -> None:
    module = chain(3)
    ops = replace_uses(module.ops, {"r1": module.ops[0].result})
    assert [op.operands[0].name for op in ops[1:]] == ["x", "r0", "x", "r2"]


@given(irs.ann_modules())
def test_dead_code_keeps_what_an_output_needs(module: Module) -> None:
    result = dead_code(module)
    assert verify(result) == ()
    assert result.of_type(ann.Output) == module.of_type(ann.Output)
    assert dead_code(result) is result
    users = result.users
    assert all(op.out in users or not op.out or isinstance(op, ann.Input) for op in result.ops)
