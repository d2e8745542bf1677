"""The verifier names every problem of a module, at once, with its place."""

from typing import Any

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Span, Value, VerifyError
from nmc.ir.ops import ann, image, mapped, snn
from nmc.ir.text.parser import parse
from nmc.ir.types import Type
from nmc.ir.verify import verify, verify_or_raise

ONES = Const("w", np.ones((3, 3)))


def _codes(module: Module) -> list[str]:
    return [problem.code for problem in verify(module)]


def _messages(level: str, *ops: Op) -> list[str]:
    return [problem.message for problem in verify(Module("m", level, ops))]


def _spikes(name: str, *shape: int) -> Value:
    return Value(name, Type("spikes", shape))


def _population(name: str, *currents: str) -> snn.If:
    return snn.If(out=name, current=tuple(Value(current, Type("current", (3,))) for current in currents))


def _projection(name: str, spikes: str, delay: int = 0) -> snn.Dense:
    return snn.Dense(out=name, spikes=_spikes(spikes, 3), weight=ONES, delay=delay)


def test_all_problems_come_at_once() -> None:
    x = snn.Input(out="x", source="x", shape=(3,), encoder="rate")
    ops = (
        x,
        snn.Dense(out="a", spikes=_spikes("ghost", 3), weight=ONES),
        snn.Dense(out="b", spikes=_spikes("x", 4), weight=Const("w4", np.ones((3, 4)))),
        snn.Dense(out="b", spikes=x.result, weight=Const("w", np.zeros((3, 3)))),
        snn.Dense(out="c", spikes=x.result, weight=Const("w5", np.ones((3, 5)))),
        ann.Relu(out="d", data=x.result),
        snn.Integrator(out="e", current=(Value("a", Type("current", (3,))),), start=-1),
        snn.Dense(out="f", spikes=_spikes("g", 3), weight=ONES),
        snn.If(out="g", current=(Value("f", Type("current", (3,))),)),
    )
    problems = verify(Module("m", "snn", ops))
    assert [(problem.code, problem.message) for problem in problems] == [
        ("E0110", "ann.relu does not belong into level snn"),
        ("E0112", "%b is defined twice"),
        ("E0113", "%ghost is not defined"),
        ("E0113", "%x is spikes<3>, used as spikes<4>"),
        ("E0111", "weights have 5 inputs, operand has 3"),
        ("E0111", "start -1 is negative"),
        ("E0114", "uses %g before its definition without a delay: %f -> %g -> %f"),
        ("E0115", "two constants are named @w"),
    ]
    with pytest.raises(NmcError, match="not well-formed after fuse:") as caught:
        verify_or_raise(Module("m", "snn", ops), "after fuse")
    assert caught.value.diagnostics[1:] == problems


def test_a_problem_names_the_op_and_its_place_in_the_users_file() -> None:
    loc = Loc("p", parts=(Loc("net.onnx", "/fc"), Loc("net.onnx", "/relu")))
    (problem,) = verify(Module("m", "ann", (ann.Relu(out="r", data=_spikes("g", 1), loc=loc),)))
    assert problem.where == '%r = ann.relu (net.onnx: node "/fc", net.onnx: node "/relu")'


def test_a_loop_without_delay_is_printed_hop_by_hop() -> None:
    ops = (
        _projection("a.i", "c"),
        _population("a", "a.i"),
        _projection("b.i", "a"),
        _population("b", "b.i"),
        _projection("side.i", "a"),
        _population("side", "side.i"),
        _projection("c.i", "b"),
        _population("c", "c.i"),
    )
    (problem,) = verify(Module("m", "snn", ops))
    assert problem.code == "E0114"
    assert problem.message == (
        "uses %c before its definition without a delay: %a.i -> %a -> %b.i -> %b -> %c.i -> %c -> %a.i"
    )
    assert problem.where == "%a.i = snn.dense"
    assert "delay of at least 1" in problem.hint


@pytest.mark.parametrize("delay", [1, 7])
def test_a_loop_with_a_delay_is_well_formed(delay: int) -> None:
    assert _messages("snn", _projection("a.i", "a", delay), _population("a", "a.i")) == []


def test_only_the_op_that_looks_ahead_can_delay() -> None:
    """A delay elsewhere in the loop does not help an op that needs this step's value before it is made."""
    x = snn.Input(out="x", source="x", shape=(3,))
    ops = (x, _population("a", "x", "late"), _projection("late", "a", 1))
    assert _messages("snn", *ops) == ["uses %late before its definition without a delay: %a -> %late -> %a"]


def test_a_late_definition_that_is_no_loop_is_told_without_hops() -> None:
    x = snn.Input(out="x", source="x", shape=(3,), encoder="rate")
    assert _messages("snn", _projection("i", "x"), x) == ["uses %x before its definition without a delay"]


@pytest.mark.parametrize("name", ["a b", "%a", "ä", "-a", "a\n", "a@"])
def test_a_name_that_would_not_be_read_back_is_refused(name: str) -> None:
    op = ann.Input(out=name, shape=(1,))
    assert _codes(Module("m", "ann", (op,))) == ["E0112"]
    region = image.Region(words=Const(name, np.zeros(1)), core=0, table="t")
    assert _codes(Module("m", "image", (region,))) == ["E0112"]


def test_an_op_on_wrong_operands_is_not_told_twice() -> None:
    op = snn.Dense(out="i", spikes=_spikes("ghost", 7), weight=ONES, delay=-1)
    assert _messages("snn", op) == ["%ghost is not defined"]


def test_a_name_goes_with_a_result() -> None:
    x = ann.Input(out="x", shape=(1,))
    wrong = [ann.Output(out="y", data=x.result), ann.Relu(data=x.result)]
    message = "an op has a name exactly when it has a result"
    assert _messages("ann", x, *wrong) == [message, message]


def test_an_unknown_level_is_told() -> None:
    assert _messages("silicon") == ["level silicon is none of ann, snn, mapped, image"]


def _value(kind: str, *shape: int) -> Value:
    return Value("v", Type(kind, shape))


def _weights(*shape: int) -> Const:
    return Const("w", np.ones(shape))


WINDOW: dict[str, Any] = {"kernel": (2,), "stride": (1,), "pad": (0, 0), "dilation": (1,)}
CONV: dict[str, Any] = {"stride": (1,), "pad": (0, 0), "dilation": (1,)}
STATS: dict[str, Any] = dict.fromkeys(("scale", "bias", "mean", "var"), Const("w", np.ones(3)))
LINE, FLAT = _value("f32", 2, 5), _value("f32", 6)

BROKEN: dict[str, Op] = {
    "kernel has 3 input channels, operand has 2": ann.Conv(data=LINE, weight=_weights(2, 3, 1), **CONV),
    "3 output channels do not divide into 2": ann.Conv(data=LINE, weight=_weights(3, 1, 1), groups=2, **CONV),
    "kernel of rank 4": ann.Conv(data=LINE, weight=_weights(2, 2, 1, 1), **CONV),
    "window of 6 over 5": ann.Conv(data=LINE, weight=_weights(1, 2, 6), **CONV),
    "window of 0": ann.Conv(data=LINE, weight=_weights(1, 2, 0), **CONV),
    "crops more than 5": ann.Conv(data=LINE, weight=_weights(1, 2, 1), **{**CONV, "pad": (-6, 9)}),
    "must be positive": ann.Conv(data=LINE, weight=_weights(1, 2, 1), **{**CONV, "stride": (0,)}),
    "pad needs 2 entries": ann.Conv(data=LINE, weight=_weights(1, 2, 1), **{**CONV, "pad": (0,)}),
    "bias of shape": ann.Conv(data=LINE, weight=_weights(1, 2, 1), bias=_weights(2), **CONV),
    "bias of shape (3,)": ann.Dense(data=FLAT, weight=_weights(2, 6), bias=_weights(3)),
    "flatten it first": ann.Dense(data=LINE, weight=_weights(2, 10)),
    "weights of rank 1": ann.Dense(data=FLAT, weight=_weights(6)),
    "channels": ann.BatchNorm(data=LINE, **STATS),
    "does not broadcast": ann.Affine(data=LINE, scale=_weights(2), offset=_weights(5)),
    "limit 0.0": ann.Relu(data=LINE, limit=0.0),
    "is above": ann.Clip(data=LINE, low=2.0, high=1.0),
    "1 spatial axes": ann.MaxPool(data=LINE, **{**WINDOW, "kernel": (2, 2)}),
    "sizes must be positive": ann.AvgPool(data=LINE, **{**WINDOW, "dilation": (0,)}),
    "channels and space": ann.MaxPool(data=_value("f32"), **WINDOW),
    "size 0": ann.Lrn(data=LINE, size=0),
    "a sum needs": ann.Add(data=()),
    "operands differ": ann.Add(data=(LINE, FLAT)),
    "a concatenation needs": ann.Concat(data=()),
    "do not match": ann.Concat(data=(LINE, _value("f32", 2, 4)), axis=0),
    "axis 2": ann.Concat(data=(LINE,), axis=2),
    "10 elements": ann.Reshape(data=LINE, shape=(3, 3)),
    "is no order": ann.Transpose(data=LINE, perm=(0, 0)),
    "the border leaves": ann.Pad(data=LINE, pad=(0, -5, 0, 0)),
    "crops more than 2": ann.Pad(data=LINE, pad=(-3, 0, 5, 0)),
    "operand is current": snn.Dense(spikes=_value("current", 3), weight=ONES),
    "delay -1": snn.Dense(spikes=_value("spikes", 3), weight=ONES, delay=-1),
    "3 elements do not": snn.Dense(spikes=_value("spikes", 3), weight=ONES, shape=(2, 2)),
    "do not broadcast": snn.OneToOne(spikes=_value("spikes", 2), weight=_weights(3)),
    "needs a current": snn.If(current=()),
    "currents differ": snn.If(current=(_value("current", 2), _value("current", 3))),
    "must be currents": snn.If(current=(_value("spikes", 2),)),
    "bias (3,)": snn.Integrator(current=(_value("current", 2),), bias=_weights(3)),
    "box of rank 1": mapped.Neurons(of=LINE, box=(Span(0, 1),), core=0, slots=Span(0, 0)),
    "leaves 0:5": mapped.Neurons(of=LINE, box=(Span(0, 1), Span(0, 6)), core=0, slots=Span(0, 0)),
    "3 slots for 2": mapped.Neurons(of=LINE, box=(Span(0, 1), Span(0, 2)), core=0, slots=Span(0, 3), out="n"),
    "core -2": mapped.Neurons(of=LINE, box=(Span(0, 1), Span(0, 2)), core=-2, slots=Span(0, 2), out="n"),
    "not a part": mapped.Synapses(source=LINE, target=LINE, via=LINE),
    "one spike count": mapped.Route(source=LINE, to=(1, 2), spikes=(3,)),
    "words of rank 2": image.Region(words=_weights(2, 2), core=0, table="t"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_every_op_says_what_is_wrong_with_it(message: str) -> None:
    with pytest.raises(VerifyError) as caught:
        BROKEN[message].infer()
        BROKEN[message].verify()
    assert message in str(caught.value)


def test_a_range_that_no_memory_has_is_refused() -> None:
    with pytest.raises(ValueError, match="backwards"):
        Span(3, 2)
    with pytest.raises(ValueError, match="too long"):
        Span(0, 2**63)
    with pytest.raises(NmcError, match="too long"):
        parse("module @m image attributes {a=0:99999999999999999999} {}")
