"""The checker that watches every mapping made in the tests: each kind of damage is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from loihi_chain import compile_legal, legal_module
from mapping_checker import complaints
from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops.mapped import HOST, Neurons, Route, Synapses
from nmc.targets.loihi import ops as loihi


@pytest.fixture(scope="module")
def mapped() -> Module:
    rng = np.random.default_rng(0)
    x = loihi.Input(out="x", source="x", shape=(40,), kind="raster")
    weight = Const("a.w", (2 * rng.integers(-20, 20, (1500, 40))).astype(np.int16))
    dense = loihi.Dense(out="a.x", spikes=x.result, weight=weight)
    lif = loihi.Lif(out="a", current=(dense.result,), vth=400)
    again = Const("b.w", (2 * rng.integers(-20, 20, (30, 1500))).astype(np.int16))
    back = loihi.Dense(out="b.x", spikes=lif.result, weight=again)
    return compile_legal(
        legal_module([x, dense, lif, back, loihi.Lif(out="b", current=(back.result,), vth=400)])
    ).mapped


def damaged(module: Module, kind: type[Op], change: Callable[[Op], Op]) -> Module:
    """The module with its last op of a kind changed, of those on cores."""
    last = [op for op in module.ops if isinstance(op, kind) and getattr(op, "core", 0) != HOST][-1]
    return module.with_ops([change(op) if op is last else op for op in module.ops])


def test_a_lawful_mapping_has_no_complaints(mapped: Module) -> None:
    assert complaints(mapped) == []
    assert len({part.core for part in mapped.of_type(Neurons) if part.core != HOST}) > 1


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (Neurons, {"box": (Span(0, 7),)}, "neurons in"),
        (Neurons, {"core": 999}, "on core 999"),
        (Neurons, {"slots": Span(2000, 2030)}, "compartments"),
        (Route, {"to": (5, 5)}, "goes to"),
        (Synapses, {"mem": Span(0, 9)}, "memory overlap"),
    ],
)
def test_damage_is_found(mapped: Module, kind: type[Op], change: dict[str, object], words: str) -> None:
    found = complaints(damaged(mapped, kind, lambda op: replace(op, **change)))  # type: ignore[arg-type]
    assert any(words in line for line in found)


def test_parts_and_memories_that_share_a_core_must_not_overlap(mapped: Module) -> None:
    home = next(part.core for part in mapped.of_type(Neurons) if part.core != HOST)
    together = mapped.map_ops(
        lambda op: (
            replace(op, core=home, slots=Span(0, len(op.slots)))
            if isinstance(op, Neurons) and op.core != HOST
            else op
        )
    )
    found = " ".join(complaints(together))
    assert "over" in found and "axons overlap" in found and "memory overlap" in found


def test_notes_that_contradict_themselves_are_found(mapped: Module) -> None:
    note = {**dict(mapped.attr("placement")), "objective": 3, "bound": 4, "status": "optimal"}
    assert complaints(mapped.with_attrs(placement=note))
