"""Three engines, one program: numpy, C and ARM code give the same spikes, potentials, counts and memories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nmc.ir.diagnostics import NmcError
from nmc.ir.op import Span
from nmc.targets.spinnaker2.build import PeProgram, build
from nmc.targets.spinnaker2.engines import make_engine
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.layout import (
    LINKS,
    ChipImage,
    InputMap,
    NocTarget,
    OutputMap,
    Part,
    PopMap,
    Route,
)
from nmc.targets.spinnaker2.load import load
from nmc.targets.spinnaker2.rows import DenseRows, Entry
from s2_compare import differences, run_all
from s2_programs import FORMATS, MODELS, random_chip, random_input, random_law

Array = NDArray[Any]
STEPS = 20


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 20), models=st.lists(st.sampled_from(MODELS), min_size=1, max_size=3))
def test_engines_agree_on_random_programs(engines: tuple[str, ...], seed: int, models: list[str]) -> None:
    image = random_chip(seed, tuple(models), STEPS)
    assert differences(image, random_input(seed, image, 2, STEPS - 2), STEPS, engines) == []


def layer(parts: int, gain: int, weight: int) -> tuple[ChipImage, int]:
    """Two populations of `parts` PEs of three neurons, all to all; the payloads come from outside."""
    rng = np.random.default_rng(parts)
    size = 3 * parts
    dense = rng.integers(-weight, weight + 1, (2, size, size))
    law, params = Law("stbif", levels=9), {"theta": np.array([20 * gain]), "offset": np.array([0])}
    programs: list[PeProgram] = []
    maps: list[PopMap] = []
    for number, name in enumerate("ab"):
        own = [
            Part(0, number * parts + k, (number + 1) << 8 | 4 * k, (Span(3 * k, 3 * k + 3),))
            for k in range(parts)
        ]
        for k, part in enumerate(own):
            heard = ((0, 0xFFFFFF80, slice(None)),) if number == 0 else tuple(
                (before.key_base, 0xFFFFFFFC, slice(3 * i, 3 * i + 3)) for i, before in enumerate(maps[0].parts)
            )  # fmt: skip
            entries = tuple(
                Entry(key, mask, DenseRows(dense[number, rows, 3 * k : 3 * k + 3]), gain=gain)
                for key, mask, rows in heard
            )
            programs.append(PeProgram(0, part.pe, part.key_base, law, 3, params, np.zeros(1), entries))
        maps.append(PopMap(name, (size,), tuple(own)))
    every = [((1 << parts) - 1) << (LINKS + number * parts) for number in range(2)]
    routes = (Route(0, 0xFFFFFF80, every[0]), Route(0x100, 0xFFFFFF80, every[1]))
    source = InputMap("x", (size,), (Part(0, -1, 0, (Span(0, size),)),))
    return ChipImage(tuple(map(build, programs)), {0: routes}, (source,), tuple(maps)), size


@pytest.mark.parametrize(
    ("gain", "weight", "payload"), [(1, 15, 1), (1 << 14, 127, 9), (1 << 20, 127, 1 << 28)]
)
def test_a_layer_on_many_pes_is_summed_exactly_whatever_the_size_of_the_sums(
    engines: tuple[str, ...], gain: int, weight: int, payload: int
) -> None:
    """Single precision, double and integers that wrap: the fast engine joins PEs, and chooses by the largest sum."""
    image, size = layer(5, gain, weight)
    rng = np.random.default_rng(7)
    x = rng.integers(-payload, payload + 1, (3, 9, size)) * (rng.random((3, 9, size)) < 0.4)
    if payload == 1:
        x = np.abs(x)
    found = run_all(image, {"x": x.astype(np.int32)}, 12, ["functional"])[2]["functional"]
    assert np.count_nonzero(found.probes["a.spikes"]) and np.count_nonzero(found.probes["b.v"])
    assert differences(image, {"x": x.astype(np.int32)}, 12, engines) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_engines_agree_on_many_random_programs(engines: tuple[str, ...], seed: int) -> None:
    models = tuple(np.random.default_rng(seed).permutation(MODELS)[:3].tolist())
    image = random_chip(seed, models, STEPS)
    assert differences(image, random_input(seed, image, 2, STEPS - 2), STEPS, engines) == []


def test_random_programs_reach_every_model_format_and_option() -> None:
    fired: dict[str, int] = dict.fromkeys(MODELS, 0)
    formats: set[str] = set()
    for seed in range(12):
        models = tuple(np.random.default_rng(seed).permutation(MODELS)[:3].tolist())
        image = random_chip(seed, models, STEPS)
        _, _, found = run_all(image, random_input(seed, image, 1, STEPS), STEPS, ["functional"])
        for pop, model in zip(image.pops, models, strict=True):
            fired[model] += int(np.count_nonzero(found["functional"].probes[f"{pop.name}.spikes"]))
        formats |= {entry.format for pe in image.pes for entry in load(pe).entries}
    assert formats == set(FORMATS)
    assert all(count > 0 for model, count in fired.items() if model != "readout"), fired
    laws = [random_law(np.random.default_rng(k), "lif") for k in range(40)]
    assert {law.reset for law in laws} == {"none", "subtract", "to-value"} and {
        law.types for law in laws
    } == {1, 2}


def relay(weight: int = 1, delay: int = 1, steps: int = 12, **more: Any) -> ChipImage:
    """Input -> a neuron on chip 0 -> one on chip 1 -> back to the first, every spike goes on."""
    law, params = Law("if"), {"threshold": np.array([1])}

    def program(chip: int, key_base: int, heard: int) -> PeProgram:
        rows = DenseRows(np.full((1, 1), weight), delay)
        entries = (Entry(heard, 0xFFFFFFFF, rows), Entry(7, 0xFFFFFFFF, rows)) if chip == 0 else (
            Entry(heard, 0xFFFFFFFF, rows),)  # fmt: skip
        return PeProgram(
            chip, 5, key_base, law, 1, params, np.zeros(1), entries, noc=(NocTarget(1, 1, 8),), **more
        )

    box = (Span(0, 1),)
    pops = (PopMap("a", (1,), (Part(0, 5, 100, box),)), PopMap("b", (1,), (Part(1, 5, 200, box),)))
    own = 1 << (LINKS + 5)
    routers = {0: (Route(7, 0xFFFFFFFF, own), Route(100, 0xFFFFFFFF, 1), Route(200, 0xFFFFFFFF, own)),
               1: (Route(100, 0xFFFFFFFF, own), Route(200, 0xFFFFFFFF, 1 << 3))}  # fmt: skip
    return ChipImage(
        (build(program(0, 100, 200)), build(program(1, 200, 100))), routers,
        (InputMap("x", (1,), (Part(0, -1, 7, box),)),), pops,
        (OutputMap("n", "b", "count", 0.5, 3), OutputMap("s", "b", "spikes")), (2, 1), steps,
    )  # fmt: skip


def once(at: int = 0) -> dict[str, Array]:
    x = np.zeros((1, at + 1, 1), np.int32)
    x[0, at] = 1
    return {"x": x}


@pytest.mark.parametrize("delay", range(1, 9))
def test_spike_arrives_after_its_delay_and_crosses_chips(engines: tuple[str, ...], delay: int) -> None:
    image = relay(delay=delay, steps=30)
    for name in engines:
        found = make_engine(load_chip(image), name).run(once(2), 30, probes=["a.spikes", "b.spikes"])
        a, b = (np.flatnonzero(found.probes[f"{pop}.spikes"]).tolist() for pop in "ab")
        assert a == list(range(2 + delay, 30, 2 * delay)) and b == list(range(2 + 2 * delay, 30, 2 * delay))
        late = [t for t in b if t >= 3]
        assert found.outputs["n"].tolist() == [[0.5 * len(late)]]
        assert np.flatnonzero(found.outputs["s"]).tolist() == b


def test_counts_are_those_of_the_run(engines: tuple[str, ...]) -> None:
    for name in engines:
        events = make_engine(load_chip(relay()), name).run(once(), 5).events
        assert events.sent == {(0, -1): 1, (0, 5): 2, (1, 5): 2}  # a at 1 and 3, b at 2 and 4
        assert events.received == {(0, 5): 2, (1, 5): 2} and events.events == {(0, 5): 2, (1, 5): 2}
        assert (
            events.updates == {(0, 5): 5, (1, 5): 5}
            and events.packets[0, 5] == 2
            and events.packets[0, -1] == 0
        )
        assert (events + events).sent[1, 5] == 4


def test_mailbox_takes_more_spikes_than_it_holds(engines: tuple[str, ...]) -> None:
    n, law = 100, Law("readout")
    box = (Span(0, n),)
    program = PeProgram(0, 0, 256, law, 1, {}, np.zeros(1), (Entry(0, 0xFFFFFF00, DenseRows(np.ones((n, 1), int))),),
                        rx_packets=7)  # fmt: skip
    image = ChipImage((build(program),), {0: (Route(0, 0xFFFFFF00, 1 << LINKS),)},
                      (InputMap("x", (n,), (Part(0, -1, 0, box),)),),
                      (PopMap("y", (1,), (Part(0, 0, 256, (Span(0, 1),)),)),), (OutputMap("y", "y", "v"),))  # fmt: skip
    for name in engines:
        found = make_engine(load_chip(image), name).run({"x": np.full((2, 3, n), 1, np.int32)}, 3)
        assert found.outputs["y"].tolist() == [[200.0], [200.0]]


def test_sums_wrap_at_32_bits(engines: tuple[str, ...]) -> None:
    image = relay(weight=127)
    x = {"x": np.full((1, 2, 1), 1 << 26, np.int32)}
    seen = [make_engine(load_chip(image), name).run(x, 4, probes=["a.v"]).probes["a.v"] for name in engines]
    first = ((127 << 26) + (1 << 31)) % (1 << 32) - (1 << 31)
    assert seen[0][0, 1, 0] == first - (first >= 1)
    assert all(np.array_equal(seen[0], other) for other in seen[1:])


def test_samples_start_anew(engines: tuple[str, ...]) -> None:
    image = random_chip(3, ("lif", "stbif"), STEPS)
    x = random_input(3, image, 2, STEPS)
    for name in engines:
        engine = make_engine(load_chip(image), name)
        both = engine.run(x, STEPS, probes=["p0.v"]).probes["p0.v"]
        second = engine.run({"x": x["x"][1:]}, STEPS, probes=["p0.v"]).probes["p0.v"]
        assert np.array_equal(both[1:], second)


def test_unknown_engine_and_probe_are_errors() -> None:
    chip = load_chip(relay())
    with pytest.raises(NmcError, match="E0802"):
        make_engine(chip, "warp")
    for wrong in ({}, {"x": np.zeros((1, 3, 2), np.int32)}, {"x": np.zeros((1, 3, 1))}):
        with pytest.raises(NmcError, match="E0401"):
            make_engine(chip, "functional").run(wrong, 3)
    with pytest.raises(NmcError, match="E0540"):
        make_engine(chip, "functional").run(once(), 3, probes=["a.u"])


def test_firmware_counts_keys_that_nobody_knows(engines: tuple[str, ...]) -> None:
    image = relay()
    routes = (*image.routers[0], Route(6, 0xFFFFFFFE, 1 << (LINKS + 5)))
    source = InputMap("x", (1,), (Part(0, -1, 6, (Span(0, 1),)),))
    image = ChipImage(image.pes, {0: routes, 1: image.routers[1]}, (source,),
                      image.pops, image.outputs, (2, 1), 5)  # fmt: skip
    for name in engines[1:]:
        engine = make_engine(load_chip(image), name)
        engine.run(once(), 5)
        assert engine.words((0, 5))["control"][5] == 1


@pytest.mark.parametrize(
    ("routers", "text"),
    [
        ({0: (Route(7, 0xFFFFFFFF, 2),)}, "leads to no chip"),
        ({0: (Route(7, 0xFFFFFFFF, 1),), 1: (Route(7, 0xFFFFFFFF, 1 << 3),)}, "round in circles"),
        ({0: (Route(7, 0xFFFFFFFF, 1 << (LINKS + 9)),)}, "no program"),
        ({0: (Route(7, 0xFFFFFFFE, 1 << LINKS),)}, "out of range"),
    ],
)
def test_wrong_routers_are_refused(routers: dict[int, tuple[Route, ...]], text: str) -> None:
    image = relay()
    wrong = ChipImage(image.pes, routers, image.inputs, image.pops, image.outputs, image.grid, 5)
    with pytest.raises(NmcError, match=text):
        load_chip(wrong)


def test_recording_in_sram_is_what_happened(engines: tuple[str, ...]) -> None:
    image = relay(steps=6, record=("spikes", "v", "payload"), record_ticks=6)
    for name in engines:
        engine = make_engine(load_chip(image), name)
        found = engine.run(once(), 6, probes=["b.spikes", "b.v"])
        words = engine.words((1, 5))
        assert (
            words["rec_spikes"].tolist()
            == found.probes["b.spikes"].reshape(-1).tolist()
            == [0, 0, 1, 0, 1, 0]
        )
        assert words["rec_payload"].tolist() == [0, 0, 1, 0, 1, 0]
        assert words["rec_v"].view(np.int32).tolist() == found.probes["b.v"].reshape(-1).tolist()
