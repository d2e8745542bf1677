"""Reducing keeps the failure and nothing that it does not need."""

import pytest
from hypothesis import given, settings

import ir_strategies as irs
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify
from nmc.passes.reduce import reduce_module


def relus(count: int) -> Module:
    """A chain of relus; the one in the middle has a limit."""
    ops: list[Op] = [ann.Input(out="x", shape=(64,))]
    for number in range(count):
        limit = 6.0 if number == count // 2 else float("inf")
        ops.append(ann.Relu(out=f"r{number}", data=ops[-1].result, limit=limit))
    return Module("m", "ann", (*ops, ann.Output(data=ops[-1].result)))


def has_limit(module: Module) -> bool:
    limited = {op.out for op in module.of_type(ann.Relu) if op.limit == 6.0}
    return bool(limited) and bool(module.of_type(ann.Output))


def test_only_what_the_failure_needs_is_left() -> None:
    small = reduce_module(relus(40), has_limit)
    assert [op.name for op in small.ops] == ["ann.input", "ann.relu", "ann.output"]
    assert small.ops[0].result.shape == (1,)
    assert has_limit(small) and verify(small) == ()


def test_constants_that_do_not_matter_become_zero(ann_module: Module) -> None:
    def fails(module: Module) -> bool:
        return bool(module.of_type(ann.Conv)) and bool(module.of_type(ann.Output))

    small = reduce_module(ann_module, fails)
    assert [op.name for op in small.ops] == ["ann.input", "ann.conv", "ann.output"]
    assert not small.consts[0].array().any()


def test_module_that_does_not_fail_is_refused(ann_module: Module) -> None:
    with pytest.raises(ValueError, match="does not fail to begin with"):
        reduce_module(ann_module, lambda module: False)


def test_tests_are_bounded() -> None:
    asked = []

    def fails(module: Module) -> bool:
        asked.append(module)
        return has_limit(module)

    reduce_module(relus(40), fails, max_tests=5)
    assert len(asked) == 6


@settings(max_examples=30)
@given(irs.ann_modules())
def test_results_are_well_formed_print_and_fail(module: Module) -> None:
    kind = type(module.ops[len(module.ops) // 2])

    def fails(candidate: Module) -> bool:
        assert verify(candidate) == ()
        return bool(candidate.of_type(kind))

    small = reduce_module(module, fails, max_tests=100)
    assert small.of_type(kind) and len(small.ops) <= len(module.ops)
    assert parse(str(small)).name == small.name
