"""Of a number of steps the best is made: levels, code and schedule by what the answer then loses."""

from typing import Any

import numpy as np
import pytest

from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.ops import ann, exact, snn
from nmc.passes.quantize.budget import SPIKES, Setting, choose_in_steps
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits
from trained_nets import network


def found(steps: int, kinds: list[str], **options: Any) -> tuple[list[Setting], Setting, int]:
    module, net = network(6, kinds)
    told: list[Setting] = []
    budget = choose_in_steps(module, net.samples(96), steps, sink=told.append, **options)
    assert tuple(told) == budget.table and budget.setting in told
    return told, budget.setting, int(budget.module.attr("steps"))


@pytest.mark.parametrize("steps", [4, 9])
def test_the_answer_after_so_many_steps_is_the_nearest(steps: int) -> None:
    told, chosen, lasts = found(steps, ["conv", "skip"])
    assert lasts == steps and chosen.divergence <= 1.02 * min(item.divergence for item in told)
    assert {item.code for item in told} <= set(SPIKES) and len(told) > 3


def test_more_steps_lose_less() -> None:
    few, many = (found(steps, ["conv", "skip"])[1].divergence for steps in (3, 20))
    assert many < few


def test_what_it_says_of_a_setting_is_what_running_it_gives() -> None:
    module, net = network(6, ["conv", "skip"])
    data = net.samples(96)
    budget = choose_in_steps(module, data, 5, codes=("stbif",))
    held = data[72:]
    (source,) = budget.module.of_type(snn.Input)
    outputs = run_snn(budget.module, {source.source: held}).outputs
    given = next(iter(outputs.values())).reshape(len(held), -1)
    real = trained_logits(module, {"v0": held})
    assert budget.setting.divergence == float(f"{divergence(real, given):.3g}")
    assert budget.setting.agreement == (given.argmax(axis=1) == real.argmax(axis=1)).mean()


def test_a_setting_that_is_settled_gives_the_integers() -> None:
    module, net = network(6, ["conv"])
    data = net.samples(96)
    for code in ("bit-serial", "phased-if", "graded"):
        budget = choose_in_steps(module, data, 12, codes=(code,))
        assert budget.setting.settled and not budget.module.of_type(exact.StBif)
        (source,) = budget.module.of_type(snn.Input)
        given = next(iter(run_snn(budget.module, {source.source: data}, 12).outputs.values()))
        one = choose_in_steps(module, data, 12, codes=("graded",)).module
        if budget.setting.levels == one.of_type(exact.Graded)[0].levels:
            assert np.array_equal(given.reshape(len(data), -1), integer_logits(one, {"v0": data}))


def test_digits_fill_the_steps_that_they_have() -> None:
    """Behind the step of the input, the digits of each layer on the longest path."""
    module, net = network(6, ["conv"])
    longest = 0
    for steps in (3, 5, 9):
        (setting,) = choose_in_steps(module, net.samples(64), steps, codes=("bit-serial",)).table
        assert setting.levels > longest
        longest = setting.levels


def test_steps_that_are_left_carry_a_digit_more_of_some_layers() -> None:
    """Two layers one behind the other: an even number of steps leaves one behind the input's, for either layer."""
    module, net = network(6, ["conv", "conv"])
    relus = [op.out for op in module.of_type(ann.Relu)]
    fits = choose_in_steps(module, net.samples(64), 1 + 2 * len(relus), codes=("bit-serial",)).table
    assert [item.wider for item in fits] == [()]
    left = choose_in_steps(module, net.samples(64), 2 + 2 * len(relus), codes=("bit-serial",))
    assert [item.wider for item in left.table] == [(), (relus[0],), (relus[-1],)]
    assert left.setting.divergence <= left.table[0].divergence * 1.02
    one = next(item for item in left.table if item.wider)
    assert f"{one.levels} levels ({2 * one.levels + 1} in {relus[0]})" in str(one)
    found = {op.out: op.levels for op in left.module.of_type(exact.BitSerial)}
    wide = left.setting.levels
    assert found == {name: 2 * wide + 1 if name in left.setting.wider else wide for name in relus}


def test_too_few_steps_for_a_code_are_refused() -> None:
    module, net = network(6, ["conv", "skip"])
    with pytest.raises(NmcError, match="E0407"):
        choose_in_steps(module, net.samples(64), 1, codes=("bit-serial",))


def test_maxima_leave_digits_out() -> None:
    told, _, _ = found(6, ["conv", "max"])
    assert {item.code for item in told} == {"stbif", "phased-if"}
