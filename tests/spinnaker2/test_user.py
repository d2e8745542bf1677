"""Models of the user's on the chip: the numbers of the interpreter where they can be held, the same on every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nmc.driver import CompileOptions, compile_model
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops import expressions, snn
from nmc.ir.ops.expressions import OPERATIONS, Fixed
from nmc.ir.ops.neurons import Sparse
from nmc.ir.ops.user import User
from nmc.passes.optimize.retime import Retime
from nmc.program import Program
from nmc.targets.spinnaker2 import backend, layout, machine
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.assemble import assemble
from nmc.targets.spinnaker2.build import PeProgram, build, used_bytes
from nmc.targets.spinnaker2.emit import layout_of, programs
from nmc.targets.spinnaker2.engines import make_engine
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.image import to_image, to_module
from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.layout import ChipImage, Part, PeImage, PopMap
from nmc.targets.spinnaker2.load import load
from nmc.targets.spinnaker2.machine import Machine
from s2_chain import compile_legal, legalised
from s2_programs import random_machine, random_model

Array = NDArray[Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "snn"


def test_the_cells_of_izhikevich_fire_as_in_double_precision(engines: tuple[str, ...]) -> None:
    program = compile_model(EXAMPLES / "izhikevich.snn", CompileOptions(target="spinnaker2"))
    found = {
        name: program.run(
            np.ones((1, 1)), engine=name, probes=["regular.u", "regular.v", "fast.spikes"]
        ).result
        for name in engines
    }
    counts = {name: float(values[0, 0]) for name, values in found["functional"].outputs.items()}
    assert counts == {"regular": 5, "fast": 25, "chattering": 21}
    for other in found.values():
        for probe, seen in found["functional"].probes.items():
            assert np.array_equal(seen, other.probes[probe])
    u = found["exact"].probes["regular.u"][0, :, 0]
    assert u.dtype == np.float32 and u[0] == -13 and (np.diff(u) > 4).sum() == 5  # a jump with each spike


class Single(expressions.Float64):
    """IEEE single precision in place of double, for the interpreter's instructions."""

    def hold(self, numbers: Array) -> Array:
        return np.asarray(numbers, np.float32)

    def apply(self, operation: str, operands: list[Array]) -> Array:
        found = super().apply(operation, operands)
        assert found.dtype in (np.float32, bool)
        return found


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 20))
def test_machine_is_the_instructions_one_after_the_other(seed: int) -> None:
    """Whatever the assembler leaves out, joins or puts into the same register."""
    rng = np.random.default_rng(seed)
    model = random_model(rng)
    fixed = (12, 10) if rng.random() < 0.5 else ()
    made = assemble(**model, fixed=fixed)
    machine.check(made)
    numbers: Any = Fixed(*fixed) if fixed else Single()
    names = (*model["states"], *model["params"], "I")
    held = {name: numbers.hold(rng.normal(0, 2, 7)).astype(made.dtype) for name in names}
    values: list[Any] = [held["I"], *(held[name] for name in (*model["states"], *model["params"]))]
    with np.errstate(all="ignore"):
        fires = machine.run(made, values)
        want = {name: held[name].astype(np.int64) if fixed else held[name] for name in names}

        def after(code: Any) -> dict[str, Any]:
            known = dict(want)
            expressions.run(code, known, numbers)
            return known

        found = after(model["update"])
        want |= {name: found.get(f"{name}.next", want[name]) for name in model["states"]}
        fired = np.broadcast_to(after(model["fire"])["fire"], 7)
        found = after(model["spike"])
        want |= {
            name: np.where(fired, found.get(f"{name}.after", want[name]), want[name])
            for name in model["states"]
        }
    assert fires is not None and np.array_equal(np.broadcast_to(fires, 7), fired)
    for name, have in zip(model["states"], values[1:], strict=False):
        np.testing.assert_array_equal(np.broadcast_to(have, 7), np.broadcast_to(want[name], 7))


def alone(made: Machine, params: dict[str, Array], n: int) -> ChipImage:
    """A chip with one population that hears nothing, all of whose states are seen."""
    law, names = Law("user", machine=made), tuple(f"x{k}" for k in range(made.states))
    program = PeProgram(0, 0, 0, law, n, params, np.zeros((made.states, 1)))
    return ChipImage((build(program),), {}, (), (PopMap("p", (n,), (Part(0, 0, 0, (Span(0, n),)),), names),))


def every_operation(
    fixed: tuple[int, ...], pairs: Array, engines: tuple[str, ...]
) -> dict[str, dict[str, Array]]:
    """Results of every operation on pairs of numbers, by engine; truth values as 1 and 0."""
    code: list[tuple[Any, ...]] = [("c", "lt", "a", "b"), ("d", "ge", "a", 0.0)]
    for name, (wanted, made) in OPERATIONS.items():
        operands = iter("cd" if wanted == "bb" else "ab")
        code.append((f"r.{name}", name, *("c" if kind == "b" and name != "and" and name != "or" else next(operands)
                                          for kind in wanted)))  # fmt: skip
        if made == "b":
            code.append((f"x.{name}", "select", f"r.{name}", 1.0, 0.0))
    ends = {
        f"{name}.next": f"x.{name}" if made == "b" else f"r.{name}" for name, (_, made) in OPERATIONS.items()
    }
    code += [(end, "copy", source) for end, source in ends.items()]
    model = assemble(tuple(OPERATIONS), ("a", "b"), tuple(code), (), (), fixed)
    params = {"p0": pairs[0], "p1": pairs[1]}
    image = alone(model, params, pairs.shape[1])
    found = {}
    for engine in engines:
        probes = (
            make_engine(load_chip(image), engine)
            .run({}, 1, probes=[f"p.x{k}" for k in range(model.states)])
            .probes
        )
        found[engine] = {name: probes[f"p.x{k}"][0, 0] for k, name in enumerate(OPERATIONS)}
    return found


def test_floats_are_the_same_bits_everywhere_whatever_they_are(engines: tuple[str, ...]) -> None:
    """Zeros of both signs, numbers near the ends, subnormal ones, whole and half ones."""
    some = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, 3.4e38, -3.4e38, 1e-45, -1e-45, 1e-38, 8388607.5, -8388609.0,
                     16777217.0, 0.1, -7.3], np.float32)  # fmt: skip
    pairs = np.stack([item.reshape(-1) for item in np.meshgrid(some, some)])
    found = every_operation((), pairs, engines)
    for engine in engines[1:]:
        for name, want in found["functional"].items():
            assert np.array_equal(want.view(np.uint32), found[engine][name].view(np.uint32)), name
    a, b = pairs
    with np.errstate(all="ignore"):
        expected = {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b, "min": np.minimum(a, b), "neg": -a,
                    "max": np.maximum(a, b), "floor": np.floor(a), "select": np.where(a < b, a, b), "lt": a < b,
                    "ne": a != b}  # fmt: skip
    for name, want in expected.items():
        np.testing.assert_array_equal(found["exact"][name], want)
    no_number = found["exact"]["div"][np.isnan(found["exact"]["div"])]
    assert no_number.size == 4 and set(no_number.view(np.uint32).tolist()) == {0x7FC00000}


def test_infinities_and_what_is_no_number_are_the_same_bits_everywhere(engines: tuple[str, ...]) -> None:
    """Ends of a chain of operations that leaves the numbers, and comparisons there."""
    code: list[tuple[Any, ...]] = [
        ("big", "mul", "a", 3e38),
        ("none", "sub", "big", "big"),
        ("low", "neg", "big"),
    ]
    pool, ends = ("big", "none", "low", "a"), []
    for name, (wanted, made) in OPERATIONS.items():
        if wanted in ("nn", "n"):
            for x in pool:
                for y in pool if wanted == "nn" else pool[:1]:
                    code.append((f"{name}.{x}.{y}", name, *(x, y)[: len(wanted)]))
                    if made == "b":
                        code.append((f"{name}.{x}.{y}.n", "select", f"{name}.{x}.{y}", 1.0, 0.0))
                    ends.append(code[-1][0])
    states = tuple(f"s{k}" for k in range(len(ends)))
    code += [(f"{state}.next", "copy", end) for state, end in zip(states, ends, strict=True)]
    model = assemble(states, ("a",), tuple(code), (), ())
    image = alone(model, {"p0": np.array([5.0, -5.0, 0.0], np.float32)}, 3)
    seen = []
    for engine in engines:
        runner = make_engine(load_chip(image), engine)
        runner.run({}, 2)
        seen.append(runner.words((0, 0))["state"])
    assert np.isnan(seen[0].view(np.float32)).sum() > 100 and np.isinf(seen[0].view(np.float32)).sum() > 50
    assert all(np.array_equal(seen[0], other) for other in seen[1:])


@pytest.mark.parametrize("fixed", [(16, 15), (0, 31), (31, 0), (3, 4), (1, 30)], ids=str)
def test_fixed_point_is_that_of_the_interpreter_at_the_ends_too(
    engines: tuple[str, ...], fixed: tuple[int, int]
) -> None:
    numbers, rng = Fixed(*fixed), np.random.default_rng(3)
    most = numbers.most
    some = np.array(
        [0, 1, -1, most, -most - 1, most // 3, *rng.integers(-most - 1, most, 6), *rng.integers(-9, 9, 3)]
    )
    a, b = pairs = np.stack([item.reshape(-1) for item in np.meshgrid(some, some)])
    found = every_operation(fixed, pairs.astype(np.int32), engines)
    one = int(numbers.hold(np.array(1.0)))
    truth = {"c": a < b, "d": a >= 0}
    for name, (wanted, made) in OPERATIONS.items():
        operands = {
            "nn": [a, b],
            "n": [a],
            "b": [truth["c"]],
            "bb": [truth["c"], truth["d"]],
            "bnn": [truth["c"], a, b],
        }
        want = numbers.apply(name, operands[wanted]) * (one if made == "b" else 1)
        for engine in engines:
            np.testing.assert_array_equal(found[engine][name], want, err_msg=f"{engine} {name}")


def network(seed: int, fixed: tuple[int, int] | None) -> tuple[Module, dict[str, Array]]:
    """Two populations with random models of their own that hear an input and each other, and data.

    In fixed point, weights and biases are multiples of the smallest number: they can be stored exactly.
    """
    rng = np.random.default_rng(seed)
    x = snn.Input(out="x", source="x", shape=(5,), encoder="raster")
    model = random_model(rng)
    grid = 2.0 ** -fixed[1] if fixed else 0.0

    def weights(shape: tuple[int, ...]) -> Array:
        return (
            rng.integers(-60, 90, shape) * grid * 2.0 ** int(rng.integers(0, 4))
            if fixed
            else rng.normal(0, 1, shape)
        )

    a_x = snn.Dense(out="a.x", spikes=x.result, weight=Const("a.w", weights((6, 5))))
    a = _population(rng, "a", (a_x,), model, fixed)
    ends: dict[str, Any] = {
        name: Const(f"b.{name}", rng.integers(0, size, 9)) for name, size in (("source", 6), ("target", 4))
    }
    b_x = Sparse(out="b.x", spikes=a.result, weight=Const("b.w", weights((9,))), shape=(4,), delay=3, **ends)
    b_i = snn.Dense(out="b.i", spikes=x.result, weight=Const("b.v", weights((4, 5))), delay=2)
    b = _population(rng, "b", (b_x, b_i), random_model(rng, fires=rng.random() < 0.5), fixed)
    outs = [snn.Output(data=op.result, decoder="count" if op.fire else "last") for op in (a, b)]
    module = Module("net", "snn", (x, a_x, a, b_x, b_i, b, *outs), (("steps", 14),))
    return module, {"x": (rng.random((2, 14, 5)) < 0.5).astype(np.uint8)}


def _population(
    rng: np.random.Generator,
    name: str,
    vias: tuple[Op, ...],
    model: dict[str, Any],
    fixed: tuple[int, int] | None,
) -> User:
    shape = vias[0].result.shape
    more: dict[str, Any] = {} if model["fire"] else {"shows": str(rng.choice(model["states"]))}
    if model["params"]:
        more["values"] = Const(
            f"{name}.values", rng.normal(0, 1, (len(model["params"]), int(rng.choice([1, shape[0]]))))
        )
    if rng.random() < 0.5:
        unit = 2.0 ** -fixed[1] if fixed else 0.125
        more["bias"] = Const(f"{name}.bias", rng.integers(-9, 20, shape) * unit)
    init = Const(f"{name}.init", rng.normal(0, 0.5, (len(model["states"]), shape[0])))
    return User(
        out=name, current=tuple(via.result for via in vias), init=init, fixed=fixed or (), **model, **more
    )


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20), part=st.integers(2, 20))
def test_exactly_stored_fixed_point_networks_are_those_of_the_interpreter(
    engines: tuple[str, ...], seed: int, part: int
) -> None:
    same_as_the_interpreter(seed, (10, part), engines)


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_float_networks_do_the_same_at_every_stage(engines: tuple[str, ...], seed: int) -> None:
    module, data = network(seed, None)
    assert compile_legal(legalised(module)).differences(data, 16, engines) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_many_random_networks_do_the_same(engines: tuple[str, ...], seed: int) -> None:
    same_as_the_interpreter(seed, (seed % 12, seed % 19), engines)
    module, data = network(seed, None)
    assert compile_legal(legalised(module)).differences(data, 16, engines) == []


def same_as_the_interpreter(seed: int, fixed: tuple[int, int], engines: tuple[str, ...]) -> None:
    module, data = network(seed, fixed)
    legal = legalised(module)
    assert set(legal.attr("weight_error").values()) == {0.0}
    chain = compile_legal(legal)
    assert chain.differences(data, 16, engines) == []
    users = module.of_type(User)
    probes = [f"{op.out}.{name}" for op in users for name in op.states] + [
        f"{op.out}.spikes" for op in users if op.fire
    ]
    want = run_snn(module, data, 12, probes=probes).probes
    runner = backend.Runner(chain.files)
    late = {op.out: op.start for op in legal.of_type(s2.User)}
    for op, got in zip(users, legal.of_type(s2.User), strict=True):
        chip = [
            f"{op.out}.{'v' if k == 0 else name}"
            for k, name in enumerate(got.states)
            if k == 0 or name != "v"
        ]
        found = runner.run(data, 12 + late[op.out], probes=chip)[0].probes
        for probe, name in zip(
            chip, [n for k, n in enumerate(got.states) if k == 0 or n != "v"], strict=True
        ):
            have = found[probe][:, late[op.out] :] * 2.0 ** -fixed[1]
            np.testing.assert_array_equal(have, want[f"{op.out}.{name}"])
        if op.fire:
            spikes = runner.run(data, 12 + late[op.out], probes=[f"{op.out}.spikes"])[0].probes[
                f"{op.out}.spikes"
            ]
            np.testing.assert_array_equal(spikes[:, late[op.out] :], want[f"{op.out}.spikes"])


def test_a_population_waits_for_its_start_as_it_began(engines: tuple[str, ...]) -> None:
    """A state that decays and a bias that drives it: nothing of it moves before what it hears can come."""
    module, data = network(5, (10, 8))
    late = Retime(input_delay=1).run(module)
    starts = {op.out: op.start for op in late.of_type(User)}
    assert max(starts.values()) >= 1
    probes = [f"{op.out}.{name}" for op in module.of_type(User) for name in op.states]
    before, after = (run_snn(item, data, 14, probes=probes).probes for item in (module, late))
    for probe in probes:
        shift = starts[probe.split(".")[0]]
        assert np.array_equal(before[probe][:, : 14 - shift], after[probe][:, shift:])


def test_weights_between_the_numbers_of_the_model_are_rounded_and_told() -> None:
    module, _ = network(2, (8, 6))
    rng = np.random.default_rng(0)
    ops = [
        replace(op, weight=Const(op.weight.name, rng.normal(0, 1, op.weight.shape)))
        if isinstance(op, snn.Dense)
        else op
        for op in module.ops
    ]
    legal = legalised(module.with_ops(ops))
    errors = legal.attr("weight_error")
    assert 0 < errors["a.x"] < 0.01 and all(op.shift > 0 for op in legal.of_type(s2.User))


def test_what_shows_a_state_is_no_source_of_spikes() -> None:
    module, _ = network(3, None)
    user = replace(module.of_type(User)[0], fire=(), spike=(), shows="v")
    ops: list[Op] = []
    for op in module.ops:
        if op.out == "a":
            op = user
        elif isinstance(op, snn.ProjectionOp) and op.out == "b.x":
            op = replace(op, spikes=user.result)
        elif isinstance(op, snn.Output) and op.data.name == "a":
            op = replace(op, data=user.result, decoder="last")
        ops.append(op)
    with pytest.raises(NmcError, match=r"E0921.*carries potentials or several spikes a step of snn.user"):
        legalised(module.with_ops(ops))


def test_numbers_beyond_single_precision_are_refused() -> None:
    module, _ = network(3, None)
    user = module.of_type(User)[0]
    update = (("big", "mul", "v", 1e60), ("v.next", "add", "big", "I"))
    ops = [replace(user, update=update) if op is user else op for op in module.ops]
    with pytest.raises(NmcError, match=r"E0921.*1e\+60 is beyond single precision"):
        legalised(module.with_ops(ops))


def test_memory_is_counted_to_the_byte_and_code_is_readable() -> None:
    module, _ = network(7, (10, 8))
    chain = compile_legal(legalised(module))
    counted = [used_bytes(item) for item in programs(chain.mapped, layout_of(chain.mapped))]
    assert counted == [pe.used_bytes() for pe in chain.image.pes]
    shown = to_module(chain.image)
    assert to_image(shown).pes == chain.image.pes and to_image(shown) == chain.image
    text = str(shown)
    assert "table=code.add" in text and "table=user, fields={states=" in text
    again = Program.build(chain.mapped, chain.files, {"target": "spinnaker2"}, {}, {})
    assert again.files == chain.files


def words(made: Machine) -> list[int]:
    return [int(word) for word in machine.encode(made)]


def evil() -> dict[str, Callable[[list[int]], None]]:
    """What hostile words might say: each changes those of a model with two states and one parameter."""
    first = len(machine.HEADER)

    def head(name: str, value: int) -> Callable[[list[int]], None]:
        return lambda data: data.__setitem__(machine.HEADER.index(name), value)

    def line(number: int, half: int, change: Callable[[int], int]) -> Callable[[list[int]], None]:
        at = first + 2 * number + half
        return lambda data: data.__setitem__(at, change(data[at]) & 0xFFFFFFFF)

    return {
        "no operation": line(0, 0, lambda word: word | 255), "an operand out of range": line(0, 1, lambda _: 4095),
        "a far operand": line(0, 1, lambda _: 0xFFFF << 16), "a register not yet written": line(0, 1, lambda _: 6),
        "writes the current": line(0, 0, lambda word: word & ~(4095 << 8)),
        "writes a parameter": line(0, 0, lambda word: word & ~(4095 << 8) | 3 << 8),
        "writes far away": line(0, 0, lambda word: word | 4095 << 8),
        "a third operand": line(0, 0, lambda word: word | 1 << 20),
        "a number as a condition": head("fire", 1), "fires by nothing": head("fire", 4000),
        "no states": head("states", 0), "more states": head("states", 3), "more parameters": head("params", 2),
        "too many states": head("states", 1 << 31), "fewer registers": head("registers", 0),
        "more registers": head("registers", 4000), "more constants": head("constants", 1 << 20),
        "too much code": head("length", 1 << 30), "strange numbers": head("arithmetic", 2),
        "wide numbers": head("arithmetic", 1 | 20 << 8 | 20 << 16), "a wide shift": head("shift", 63),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(evil()))
def test_hostile_code_is_refused(name: str) -> None:
    update = (("t", "mul", "a", 0.5), ("v.next", "add", "t", "I"), ("u.next", "sub", "u", "t"))
    made = assemble(("v", "u"), ("a",), update, (("fire", "gt", "v", 1.0),), (), (8, 8), 2)
    (pe,) = alone(made, {"p0": np.array([3])}, 5).pes
    load(pe)
    data = [int(word) for word in pe.regions["params"]]
    evil()[name](data)
    regions = {**pe.regions, "params": np.array(data, np.uint32)}
    with pytest.raises(NmcError, match="E0912"):
        load(PeImage(0, 0, regions))


def test_numbers_that_are_none_are_refused_in_images() -> None:
    made = assemble(("v",), ("a",), (("v.next", "mul", "a", 0.5),), (), ())
    (pe,) = alone(made, {"p0": np.array([3.0])}, 5).pes
    at = len(words(made)) - 1
    for region, place, told in (
        ("params", at, "constant"),
        ("params", -1, "not finite"),
        ("state", 0, "state"),
    ):
        data = pe.regions[region].copy()
        data[place] = 0x7FC00001
        if region == "params" and place == -1:
            data[-3:] = 0x7F800000
        with pytest.raises(NmcError, match=f"E0912.*{told}"):
            load(PeImage(0, 0, {**pe.regions, region: data}))


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 20))
def test_machines_are_read_back_as_they_were(seed: int) -> None:
    made = random_machine(np.random.default_rng(seed))
    assert machine.decode(machine.encode(made)) == made
    assert made.values <= machine.MAX_VALUES and layout.MODELS[-1] == "user"
