"""Retiming shifts every spike train by the latency of its population and changes nothing else."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify
from nmc.passes.optimize.retime import Retime

Draw = Callable[[st.SearchStrategy[Any]], Any]
STEPS = 12


class Net:
    """A random feed-forward network with skips, shared projections and delays."""

    def __init__(self, draw: Draw, populations: int) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))
        self.ops: list[Op] = [snn.Input(out="x", source="x", shape=(3,), encoder="raster")]
        self.spiking: list[Value] = [self.ops[0].result]
        self.currents: list[Value] = []
        for number in range(draw(st.integers(1, populations))):
            self.population(f"p{number}")
        currents = self.inputs(2)
        self.ops.append(snn.Integrator(out="y", current=currents, bias=self.bias("y")))
        self.ops.append(snn.Output(data=self.ops[-1].result))

    def population(self, name: str) -> None:
        neurons = snn.If(
            out=name, current=self.inputs(3), bias=self.bias(name), v_init=self.draw(st.sampled_from([0.0, 0.5])),
            start=self.draw(st.integers(0, 2)), reset=self.draw(st.sampled_from(["subtract", "zero"])),
            compare=self.draw(st.sampled_from(["gt", "ge"])),
        )  # fmt: skip
        self.ops.append(neurons)
        self.spiking.append(neurons.result)

    def inputs(self, most: int) -> tuple[Value, ...]:
        return tuple(self.current() for _ in range(self.draw(st.integers(1, most))))

    def current(self) -> Value:
        if self.currents and self.draw(st.integers(0, 3)) == 0:
            return self.draw(st.sampled_from(self.currents))  # type: ignore[no-any-return]
        source = self.draw(st.sampled_from(self.spiking))
        name, delay = f"c{len(self.currents)}", self.draw(st.sampled_from([0, 0, 0, 1, 3]))
        weight = Const(f"{name}.w", self.rng.normal(size=(3, 3)))
        self.ops.append(snn.Dense(out=name, spikes=source, weight=weight, delay=delay))
        self.currents.append(self.ops[-1].result)
        return self.currents[-1]

    def bias(self, name: str) -> Const | None:
        return Const(f"{name}.b", self.rng.normal(size=3) * 0.3) if self.draw(st.booleans()) else None

    def module(self) -> Module:
        ops = [replace(op, loc=Loc("t", op.out or "out")) for op in self.ops]
        return Module("m", "snn", tuple(ops))


def latencies(before: Module, after: Module) -> dict[str, int]:
    """By how much each population starts later; the host's spikes come in when they come in."""
    old = {op.out: op.start for op in before.of_type(snn.NeuronOp)}
    later = {op.out: op.start - old[op.out] for op in after.of_type(snn.NeuronOp)}
    return {**dict.fromkeys((op.out for op in before.of_type(snn.InputOp)), 0), **later}


def hops(module: Module) -> list[tuple[str, str, int, int]]:
    """(source, target, delay, least) of each use of a projection, for the default options."""
    return [
        (op.spikes.name, user.out, op.delay, 0 if op.spikes.name == "x" else 1)
        for op in module.of_type(snn.ProjectionOp)
        for user in module.users.get(op.out, ())
    ]


def traces(module: Module, steps: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    names = [op.out for op in module.of_type(snn.NeuronOp)]
    raster = rng.integers(0, 2, (2, STEPS, 3)).astype(np.uint8)
    run = run_snn(module, {"x": raster}, steps, probes=[f"{name}.spikes" for name in names])
    return {name: run.probes[f"{name}.spikes"] for name in names}


@given(st.data())
def test_spike_trains_are_shifted_bit_for_bit(data: st.DataObject) -> None:
    module = Net(data.draw, 5).module()
    retimed = Retime().run(module)
    assert verify(retimed) == ()
    shift = latencies(module, retimed)
    before, after = traces(module, STEPS), traces(retimed, STEPS + max(shift.values()))
    for name, late in shift.items():
        if name != "x":
            np.testing.assert_array_equal(after[name][:, late : late + STEPS], before[name])
            assert not after[name][:, :late].any()
    assert retimed.attr("latency") == {"y": shift["y"]}


@given(st.data(), st.integers(1, 2), st.integers(0, 2))
def test_every_delay_is_long_enough(data: st.DataObject, least: int, first: int) -> None:
    module = Net(data.draw, 5).module()
    retimed = Retime(min_delay=least, input_delay=first).run(module)
    for op in retimed.of_type(snn.ProjectionOp):
        if op.out in retimed.users:
            assert op.delay >= (first if op.spikes.name == "x" else least)


def cheapest(module: Module, most: int) -> tuple[int, int] | None:
    """(latency, total delay) by trying all latencies; None when none keeps the longest delay."""
    names = [op.out for op in module.of_type(snn.NeuronOp)]
    table = hops(module)
    for bound in range(len(names) + 1):
        found, possible = [], False
        for tried in itertools.product(range(bound + 1), repeat=len(names)):
            at = {"x": 0, **dict(zip(names, tried, strict=True))}
            delays = [delay + at[target] - at[source] for source, target, delay, _ in table]
            lawful = all(delay >= least for delay, (*_, least) in zip(delays, table, strict=True))
            possible |= lawful
            if lawful and max(delays) <= most:
                found.append(sum(delays))
        if possible:
            return (bound, min(found)) if found else None
    raise AssertionError("as many steps as populations always suffice")


@given(st.data(), st.sampled_from([2, 3, 62]))
def test_total_delay_is_minimal(data: st.DataObject, most: int) -> None:
    module = Net(data.draw, 3).module()
    wanted = cheapest(module, most)
    if wanted is None:
        with pytest.raises(NmcError, match="E0211"):
            Retime(max_delay=most).run(module)
        return
    retimed = Retime(max_delay=most).run(module)
    assert max(latencies(module, retimed).values()) == wanted[0]
    assert sum(delay for *_, delay, _ in hops(retimed)) == wanted[1]


CHAIN = """module @m snn attributes {steps=8} {
  const @w : f64<> = splat 0.75
  %x = snn.input() {source=x, shape=[2], encoder=rate} : spikes<2>  #0
  %a.x = snn.one_to_one(%x, @w) : current<2>  #1
  %a = snn.if(%a.x) : spikes<2>  #1
BODY
}
#0 = "m.onnx" "x"
#1 = "m.onnx" "/a"
#2 = "m.onnx" "/b"
#3 = "m.onnx" "/c"
"""
PAIR = """  %b.a = snn.one_to_one(%a, @w) : current<2>  #2
  %b.c = snn.one_to_one(%c, @w) {{delay={delay}}} : current<2>  #2
  %b = snn.if(%b.a, %b.c) : spikes<2>  #2
  %c.b = snn.one_to_one(%b, @w) : current<2>  #3
  %c = snn.if(%c.b) : spikes<2>  #3
  snn.output(%c) {{decoder=count}}  #3"""
SKIP = """  %b.a = snn.one_to_one(%a, @w) : current<2>  #2
  %b = snn.if(%b.a) : spikes<2>  #2
  %c.b = snn.one_to_one(%b, @w) : current<2>  #3
  %c.a = snn.one_to_one(%a, @w) : current<2>  #3
  %c = snn.if(%c.b, %c.a) : spikes<2>  #3
  snn.output(%c) {decoder=count}  #3"""


def with_body(body: str) -> Module:
    return parse(CHAIN.replace("BODY", body))


def delays(module: Module) -> dict[str, int]:
    return {op.out: op.delay for op in module.of_type(snn.ProjectionOp)}


def test_lawful_loop_keeps_its_delay_in_all() -> None:
    retimed = Retime().run(with_body(PAIR.format(delay=2)))
    assert verify(retimed) == ()
    found = delays(retimed)
    assert found["b.c"] + found["c.b"] == 2
    assert min(found["b.c"], found["c.b"]) == 1


def test_loop_that_is_too_short_is_refused_hop_by_hop() -> None:
    with pytest.raises(NmcError, match="E0213") as caught:
        Retime().run(with_body(PAIR.format(delay=1)))
    text = str(caught.value)
    assert "2 projections has a delay of 1 steps, the target needs 2" in text
    assert 'm.onnx: node "/b"' in text
    assert 'm.onnx: node "/c"' in text
    assert "%a" not in text
    assert caught.value.exit_code == 1


def test_loop_on_itself_is_refused_when_too_short() -> None:
    body = """  %b.a = snn.one_to_one(%a, @w) : current<2>
  %b.b = snn.one_to_one(%b, @w) {delay=1} : current<2>
  %b = snn.if(%b.a, %b.b) : spikes<2>
  snn.output(%b) {decoder=count}"""
    assert delays(Retime().run(with_body(body)))["b.b"] == 1
    with pytest.raises(NmcError, match=r"%b \S*-> %b|%b -> %b"):
        Retime(min_delay=2).run(with_body(body))


def test_delay_beyond_the_range_is_refused_with_its_projection() -> None:
    with pytest.raises(NmcError) as caught:
        Retime(max_delay=1).run(with_body(SKIP))
    (problem,) = caught.value.diagnostics
    assert problem.code == "E0211"
    assert "%c.a needs a delay of 2 steps, the target has 1" in problem.message
    assert problem.where == 'm.onnx: node "/c"'


@pytest.mark.parametrize(("least", "expected"), [(0, 0), (1, 1), (3, 3)])
def test_input_delay_is_that_of_injected_spikes_only(least: int, expected: int) -> None:
    found = delays(Retime(input_delay=least).run(with_body(SKIP)))
    assert found == {"a.x": expected, "b.a": 1, "c.b": 1, "c.a": 2}


def test_output_that_comes_after_the_last_step_is_refused() -> None:
    module = with_body(SKIP).with_attrs(steps=2)
    with pytest.raises(NmcError, match=r"output %c comes 2 steps late, but a run has 2 steps"):
        Retime().run(module)
    assert Retime().run(module.with_attrs(steps=3)).attr("latency") == {"c": 2}


def test_population_with_a_host_current_cannot_be_delayed() -> None:
    body = """  %i = snn.input() {source=i, shape=[2]} : current<2>  #2
  %b.a = snn.one_to_one(%a, @w) : current<2>  #2
  %b = snn.if(%b.a, %i) : spikes<2>  #2
  snn.output(%b) {decoder=count}  #3"""
    with pytest.raises(NmcError, match="E0212"):
        Retime().run(with_body(body))


def test_population_that_fires_by_itself_cannot_be_delayed() -> None:
    body = """  %b.a = snn.one_to_one(%a, @w) : current<2>  #2
  %b = snn.if(%b.a) {v_init=1.5} : spikes<2>  #2
  snn.output(%b) {decoder=count}  #3"""
    with pytest.raises(NmcError, match="E0212"):
        Retime().run(with_body(body))


def test_projection_with_targets_of_different_latency_is_doubled() -> None:
    body = """  %p = snn.one_to_one(%a, @w) : current<2>  #2
  %b = snn.if(%p) : spikes<2>  #2
  %c.b = snn.one_to_one(%b, @w) : current<2>  #3
  %c = snn.if(%c.b, %p) : spikes<2>  #3
  snn.output(%c) {decoder=count}  #3"""
    assert delays(Retime().run(with_body(body))) == {"a.x": 0, "p": 1, "p.d2": 2, "c.b": 1}


@dataclass(frozen=True)
class Decoded:
    steps: int
    scale: float


@pytest.mark.parametrize("want", [Decoded(8, 2.0 * 8 / 7), Decoded(0, 2.0)])
def test_last_value_is_divided_by_the_steps_that_it_sums(want: Decoded) -> None:
    body = """  %y.a = snn.one_to_one(%a, @w) : current<2>  #2
  %y = snn.integrator(%y.a) : graded<2>  #2
  snn.output(%y) {scale=2.0}  #3"""
    retimed = Retime().run(with_body(body).with_attrs(steps=want.steps))
    (output,) = retimed.of_type(snn.Output)
    assert output.scale == pytest.approx(want.scale)
