"""Populations with a model of their user's: instructions, both arithmetics, spikes and states."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Value, VerifyError
from nmc.ir.ops import expressions, snn
from nmc.ir.ops.expressions import MAX_CODE, OPERATIONS, Code, Fixed, Float64
from nmc.ir.ops.user import User
from nmc.ir.text.parser import parse
from nmc.ir.types import Type
from nmc.ir.verify import verify

Array = np.ndarray[Any, Any]
#: Izhikevich's equations with a step of 0.5 ms.
IZH_UPDATE: Code = (
    ("t.0", "mul", "v", "v"), ("t.1", "mul", 0.04, "t.0"), ("t.2", "mul", 5.0, "v"), ("t.3", "add", "t.1", "t.2"),
    ("t.4", "add", "t.3", 140.0), ("t.5", "sub", "t.4", "u"), ("t.6", "add", "t.5", "I"), ("t.7", "mul", 0.5, "t.6"),
    ("v.next", "add", "v", "t.7"),
    ("s.0", "mul", 0.2, "v"), ("s.1", "sub", "s.0", "u"), ("s.2", "mul", "a", "s.1"), ("s.3", "mul", 0.5, "s.2"),
    ("u.next", "add", "u", "s.3"),
)  # fmt: skip
IZH: dict[str, Any] = {
    "states": ("v", "u"), "params": ("a",), "update": IZH_UPDATE, "fire": (("fire", "ge", "v", 30.0),),
    "spike": (("v.after", "copy", -65.0), ("u.after", "add", "u", 8.0)),
    "init": Const("init", np.array([[-65.0], [-13.0]])), "values": Const("values", np.array([[0.02, 0.1]])),
}  # fmt: skip


def user(**changes: Any) -> User:
    current = Value("c", Type("current", (2,)))
    return User(**{"out": "p", "current": (current,), **IZH, **changes})


def module_of(op: User) -> Module:
    source = snn.Input(out="c", source="c", shape=(2,))
    return Module("m", "snn", (source, op, snn.Output(data=op.result, decoder="count")))


def test_izhikevich_is_what_plain_floats_give() -> None:
    module = module_of(user())
    data = np.array([[10.0, 4.0], [0.0, 15.0]])
    found = run_snn(module, {"c": data}, 400, probes=("p.v", "p.u", "p.spikes"))
    for sample, neuron in np.ndindex(2, 2):
        v, u, a, current = -65.0, -13.0, (0.02, 0.1)[neuron], float(data[sample, neuron])
        for t in range(400):
            square = 0.04 * (v * v) + 5.0 * v
            v, u = v + 0.5 * (square + 140.0 - u + current), u + 0.5 * (a * (0.2 * v - u))
            fired = v >= 30.0
            v, u = (-65.0, u + 8.0) if fired else (v, u)
            here = [float(found.probes[f"p.{what}"][sample, t, neuron]) for what in ("v", "u", "spikes")]
            assert here == [v, u, float(fired)]
    assert found.outputs["p"][:, 0].tolist() != found.outputs["p"][:, 1].tolist()


def integer(whole: int, part: int, operation: str, a: int, b: int) -> int:
    """What Python's integers of any size give for one operation on raw numbers."""
    most = 2 ** (whole + part) - 1
    results: dict[str, Callable[[], int]] = {
        "add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: (a * b) >> part, "neg": lambda: -a,
        "abs": lambda: abs(a), "floor": lambda: (a >> part) << part, "min": lambda: min(a, b),
        "max": lambda: max(a, b),
        "div": lambda: (a << part) // b if b else (most if a > 0 else -most - 1 if a < 0 else 0),
    }  # fmt: skip
    return int(max(-most - 1, min(most, results[operation]())))


@settings(max_examples=300, deadline=None)
@given(
    st.data(),
    st.integers(0, 30),
    st.sampled_from(["add", "sub", "mul", "div", "min", "max", "neg", "abs", "floor"]),
)
def test_fixed_point_is_integer_arithmetic_with_saturation(
    data: st.DataObject, part: int, operation: str
) -> None:
    whole = data.draw(st.integers(1, 31 - part))
    fixed = Fixed(whole, part)
    raws = st.integers(-fixed.most - 1, fixed.most) | st.sampled_from([0, 1, -1, fixed.most, -fixed.most - 1])
    a, b = data.draw(raws), data.draw(raws)
    operands = [np.array([a]), np.array([b])][: len(OPERATIONS[operation][0])]
    assert fixed.apply(operation, operands).tolist() == [integer(whole, part, operation, a, b)]
    assert fixed.hold(fixed.show(operands[0])).tolist() == [a]


def test_what_enters_a_fixed_point_model_is_rounded_as_told() -> None:
    fixed = Fixed(3, 2)
    assert fixed.hold(np.array([0.375, 0.625, -0.375, 99.0, -99.0])).tolist() == [2, 2, -2, 31, -32]
    assert fixed.receive(np.array([0.49, -0.01, np.nan, np.inf])).tolist() == [1, -1, 0, 31]


def test_a_fixed_point_population_runs_on_the_grid_of_its_word() -> None:
    decay: Code = (("t", "mul", "v", 0.9), ("v.next", "add", "t", "I"))
    op = user(states=("v",), params=(), values=None, init=Const("init", np.zeros((1, 1))), update=decay, fixed=(4, 6),
              fire=(("fire", "ge", "v", 3.0),), spike=(("v.after", "sub", "v", 3.0),))  # fmt: skip
    found = run_snn(module_of(op), {"c": np.array([[0.7, 0.3]])}, 50, probes=("p.v", "p.spikes")).probes
    raw, weight = [0, 0], round(0.9 * 64)
    for t in range(50):
        raw = [(v * weight >> 6) + int(np.floor(c * 64)) for v, c in zip(raw, (0.7, 0.3), strict=True)]
        fired = [v >= 192 for v in raw]
        raw = [v - 192 * hit for v, hit in zip(raw, fired, strict=True)]
        assert (found["p.v"][0, t] * 64).tolist() == raw and found["p.spikes"][0, t].tolist() == fired
    assert found["p.spikes"].sum() > 0


def test_a_population_without_a_threshold_shows_a_state() -> None:
    op = user(fire=(), spike=(), shows="u")
    module = module_of(op).with_ops([module_of(op).ops[0], op, snn.Output(data=op.result, decoder="last")])
    assert verify(module) == () and op.result.type.kind == "graded"
    found = run_snn(module, {"c": np.zeros((1, 2))}, 10, probes=("p.u",))
    assert (found.outputs["p"] == found.probes["p.u"][:, -1]).all()


def test_conditions_choose_between_values() -> None:
    code: Code = (("c", "gt", "x", 0.0), ("d", "not", "c"), ("e", "or", "c", "d"), ("n", "neg", "x"),
                  ("y", "select", "c", "x", "n"), ("z", "select", "e", "y", 7.0), ("k", "floor", "x"))  # fmt: skip
    assert expressions.check(code, {"x": "n"})["e"] == "b"
    values = {"x": np.array([-1.5, 2.0])}
    expressions.run(code, values, Float64())
    assert values["z"].tolist() == [1.5, 2.0] and values["k"].tolist() == [-2.0, 2.0]


def test_the_text_form_keeps_every_instruction() -> None:
    module = parse(str(module_of(user(fixed=(15, 16)))))
    op = module.of_type(User)[0]
    assert op.update == IZH_UPDATE and op.fixed == (15, 16) and parse(str(module)) == module


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"update": (("v.next", "pow", "v", 2.0),)}, "no known operation"),
        ({"update": (("v.next", "add", "v", "w"),)}, "w is not a known number"),
        ({"update": (("v.next", "add", "v"),)}, "takes 2 operands"),
        ({"update": (("x.next", "add", "v", "u"),)}, "no state of that name"),
        ({"update": (("v.next", "lt", "v", "u"),)}, "or no number"),
        ({"update": (("v", "add", "v", "u"),)}, "second time"),
        ({"update": (("v.next", "copy", float("inf")),)}, "known number"),
        ({"update": (("v.next",),)}, "no instruction"),
        ({"update": tuple((f"x{i}", "copy", 1.0) for i in range(MAX_CODE + 1))}, "at most"),
        ({"fire": (("fire", "add", "v", "u"),)}, "no truth value"),
        ({"shows": "v"}, "either fires or shows"),
        ({"states": ("v", "I")}, "differ"),
        ({"init": Const("i", np.zeros((3, 1)))}, "rows"),
        ({"values": None}, "belong together"),
        ({"fixed": (16, 16)}, "31 together"),
        ({"bias": Const("b", np.zeros(3))}, "broadcast"),
    ],
)  # fmt: skip
def test_wrong_models_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        replace(user(), **changes).verify()


PIECES = (
    "v",
    "v.next",
    "I",
    "fire",
    "[",
    "]",
    "[]",
    "-1",
    "1e999",
    "nan",
    "none",
    "select",
    "add",
    '"',
    "0",
    "9" * 30,
)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_text_is_read_or_refused(seed: int) -> None:
    rng, text = random.Random(seed), str(module_of(user(fixed=(15, 16))))
    text = "\n".join(line for line in text.splitlines() if "#" not in line) + "\n"
    assert parse(text)
    for _ in range(200):
        damaged = text
        for _ in range(rng.randint(1, 3)):
            at, end = sorted(rng.choices(range(text.index("%p = snn.user"), len(text)), k=2))
            damaged = damaged[:at] + rng.choice(PIECES) + damaged[min(end, at + rng.randint(0, 9)) :]
        try:
            verify(parse(damaged))
        except NmcError as error:
            assert error.diagnostics
