"""Loops: a population is cut before all its targets are, and still nothing is over a limit or refused wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from loihi_chain import assert_every_synapse_once, assert_lawful, compile_legal, legal_module, recount
from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.types import Type
from nmc.passes.map.partition import Partition
from nmc.targets.loihi import ops as loihi

Array = np.ndarray[Any, Any]


def recurrent(seed: int) -> Module:
    """One to three populations that project onto themselves and each other, forwards and backwards."""
    rng = np.random.default_rng(seed)
    sizes = {f"p{n}": int(rng.integers(4, 40)) for n in range(int(rng.integers(1, 4)))}
    ops: list[Op] = [loihi.Input(out="x", source="x", shape=(8,), kind="raster")]
    for name, size in sizes.items():
        sources = ["x", name, *(other for other in sizes if other != name and rng.random() < 0.7)]
        currents = [
            _projection(rng, f"{name}.{source}", source, {"x": 8, **sizes}[source], size)
            for source in sources
        ]
        ops += currents
        soft = bool(rng.random() < 0.5)
        ops.append(loihi.Lif(
            out=name, current=tuple(op.result for op in currents), vth=int(rng.integers(20, 400)),
            reset="soft" if soft else "hard", reset_mant=200 if soft else 0, reset_exp=1 if soft else 0,
        ))  # fmt: skip
    return legal_module(ops)


def _projection(rng: np.random.Generator, out: str, source: str, have: int, want: int) -> Op:
    spikes = Value(source, Type("spikes", (have,)))
    delay = 0 if source == "x" else int(rng.integers(1, 4))
    if rng.random() < 0.4:
        weight = Const(f"{out}.w", (rng.integers(1, 100, (want, have)) * 2).astype(np.int16))
        return loihi.Dense(out=out, spikes=spikes, weight=weight, delay=delay)
    pairs = np.flatnonzero(rng.random(have * want) < rng.random())
    target, start = np.divmod(pairs, have)
    return loihi.Sparse(
        out=out, spikes=spikes, delay=delay, shape=(want,),
        weight=Const(f"{out}.w", np.full(1, 2 * int(rng.integers(-100, 100)) + 2, np.int16)),
        source=Const(f"{out}.s", start.astype(np.int32)), target=Const(f"{out}.t", target.astype(np.int32)),
        late=Const(f"{out}.l", rng.integers(0, 4, len(pairs)).astype(np.uint8)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the chips of the examples are written."""
    return tmp_path_factory.mktemp("chips")


def chip(folder: Path, limits: dict[str, int]) -> str:
    path = folder / ("-".join(map(str, limits.values())) + ".toml")
    rows = "\n".join(f"{name} = {value}" for name, value in limits.items())
    path.write_text(f'base = "loihi"\nchips = 1\n[limits]\n{rows}\n')
    return str(path)


TIGHT = st.fixed_dictionaries({
    "compartments": st.integers(4, 40), "in_axons": st.integers(20, 120), "out_axon_words": st.integers(10, 200),
    "synapse_words": st.integers(20, 400),
})  # fmt: skip


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), limits=TIGHT)
def test_what_is_accepted_is_within_every_limit(seed: int, limits: dict[str, int], folder: Path) -> None:
    try:
        chain = compile_legal(recurrent(seed), chip(folder, limits), lot=seed)
    except DoesNotFit:
        event("refused")
        return
    event("accepted")
    assert_lawful(chain.image, limits)
    assert_every_synapse_once(chain)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_fits_one_core_exactly_is_accepted(seed: int, folder: Path) -> None:
    """The limits are exactly what the whole network takes of one core."""
    module = recurrent(seed)
    ((_, use),) = recount(compile_legal(module).image).items()
    limits = {name: use[name] for name in ("compartments", "in_axons", "out_axon_words", "synapse_words")}
    chain = compile_legal(module, chip(folder, {name: max(1, amount) for name, amount in limits.items()}))
    assert_lawful(chain.image, limits)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.3, 0.9))
def test_a_loop_is_cut_further_when_what_it_sends_does_not_fit(seed: int, share: float, folder: Path) -> None:
    """All to all within one population: the fewest boxes under both axon limits are found."""
    size = 10 + seed % 30
    weight = Const("w", np.full((size, size), 6, np.int16))
    x = loihi.Input(out="x", source="x", shape=(size,), kind="raster")
    drive = loihi.Diagonal(out="p.x", spikes=x.result, weight=Const("d", np.full(1, 4, np.int16)), delay=0)
    loop = loihi.Dense(out="p.p", spikes=Value("p", Type("spikes", (size,))), weight=weight)
    p = loihi.Lif(out="p", current=(drive.result, loop.result), vth=100)
    words = max(1, int(size * share))
    boxes = next((n for n in range(1, size + 1) if n * -(-size // n) <= words), 0)
    target = chip(folder, {"out_axon_words": words})
    if not boxes:  # no box of it may send to all others
        with pytest.raises(DoesNotFit):
            Partition(target=target, merge=False).run(legal_module([x, drive, loop, p]))
        return
    found = Partition(target=target, merge=False).run(legal_module([x, drive, loop, p]))
    assert len([part for part in found.of_type(Neurons) if part.core != HOST]) == boxes
