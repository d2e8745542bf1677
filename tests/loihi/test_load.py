"""What the loader makes of an image: stacks, shared axons, chips, host tables, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.diagnostics import NmcError
from nmc.targets.loihi.binary import from_bytes, to_bytes
from nmc.targets.loihi.emulator.engine import Emulator
from nmc.targets.loihi.emulator.load import load
from nmc.targets.loihi.layout import (
    DENSE,
    DISCRETE,
    POP16,
    POP32,
    SECTIONS,
    TABLES,
    CoreImage,
    Field,
    Header,
    InputMap,
    Ints,
    LoihiImage,
    OutputMap,
    PopMap,
    cx_meta_words,
    pack,
)
from nmc.targets.loihi.synapses import SynFormat, encode_axon_lists

FORMAT = SynFormat(compression=DENSE, fanout_type=1)


def _ints(*values: int) -> Ints:
    return np.array(values, np.int64)


def _tables(n: int, **changes: Any) -> dict[str, Any]:
    """`n` integrate-and-fire compartments with threshold 10 * 64 and nothing connected."""
    fields: dict[str, dict[str, Any]] = {
        "core_cfg": {
            "num_updates": -(-n // 4),
            "delay_bits": 3,
            "neg_vm_limit": 23,
            "pos_vm_limit": 7,
            "ds_offset": 1,
        },
        "cx_profile": {"decay_u": 4095, "refract_delay": 1},
        "vth_profile": {"vth": 10},
    }
    tables: dict[str, Any] = {k: pack(k, v | changes.pop(k, {})) for k, v in fields.items()}
    return tables | {"cx_meta": cx_meta_words(np.ones(n, bool)), "syn_fmt": [0, FORMAT.word()]} | changes


def _lists(*rows: list[int]) -> dict[str, Any]:
    """One discrete in-axon per row; weights for compartments 0, 1, ..."""
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    idx = np.concatenate([np.arange(len(r)) for r in rows])
    lists = encode_axon_lists({1: FORMAT}, offsets, 1, idx, 0, np.concatenate(rows))
    where: dict[str, Any] = {"type": DISCRETE, "ptr": lists.offsets[:-1], "len": np.diff(lists.offsets) - 1}
    return {"syn_mem": lists.words, "syn_map": pack("syn_map", where)}


def _spike_input(core: list[int], axon: list[int], atom: list[int] | None = None) -> InputMap:
    n = len(core)
    return InputMap(
        "in", "spikes", (n,), np.arange(n), _ints(*core), _ints(*axon), _ints(*(atom or ())), 1.0, 0
    )


def _pop(n: int, core: int = 0) -> PopMap:
    return PopMap("p", (n,), np.full(n, core), np.arange(n), np.arange(n))


def _run(image: LoihiImage, spikes: list[list[int]], probe: str = "p.v") -> np.ndarray:
    x = np.array([spikes], np.uint8)
    trace: np.ndarray = Emulator(image).run({"in": x}, x.shape[1], probes=[probe]).probes[probe][0]
    return trace


@pytest.mark.parametrize(("join", "dm_offset"), [(6, 1), (5, 0)])
def test_two_compartments_make_a_soft_reset(join: int, dm_offset: int) -> None:
    """Dendrite 0 keeps v, soma 1 copies it; the soma's spike takes vth off the dendrite one step later.

    With join_op 6 the soma needs dv = 4096, so dm_offset 1 takes 1/4096 off the dendrite's v in each step.
    """
    profile: dict[str, Any] = {
        "decay_u": 4095,
        "decay_v": [0, 4095 if join == 6 else 7],
        "refract_delay": 1,
        "threshold_op": [2, 0],
        "stack_out": [1, 0],
        "stack_in": [0, 2],
        "join_op": [0, join],
    }
    tables = _tables(2, core_cfg={"dm_offset": dm_offset}) | _lists([16], [-10])
    tables["cx_profile"] = pack("cx_profile", profile)
    tables["cx_cfg"] = pack("cx_cfg", {"cx_profile": [0, 1]})
    tables["axon_ptr"] = pack("axon_ptr", {"first": [0, 0], "count": [0, 1]})
    tables["axon_cfg"] = pack("axon_cfg", {"dst_core": 0, "dst_syn_map": 1, "kind": DISCRETE})
    pop = PopMap("p", (1,), _ints(0), _ints(1), _ints(0))
    image = LoihiImage(Header(), (CoreImage(0, tables),), (_spike_input([0], [0]),), (), (pop,))
    drive = [[1], [0], [1], [0], [0], [0]]
    v, spike, expected_v, expected_s = 0, 0, [], []
    for row in drive:
        v = (v * (4096 - dm_offset) >> 12) + 16 * 64 * row[0] - 640 * spike
        spike = int(v > 640)
        expected_v.append(v)
        expected_s.append(spike)
    assert sum(expected_s) >= 3
    assert _run(image, drive)[:, 0].tolist() == expected_v
    assert _run(image, drive, "p.spikes")[:, 0].tolist() == expected_s


def test_bias_inputs_replace_the_bias_of_a_sample() -> None:
    tables = _tables(3, vth_profile={"vth": 1 << 16}) | {"cx_cfg": pack("cx_cfg", {"bias": [5, 6, 7]})}
    x = InputMap("x", "bias", (2,), _ints(1, 0), _ints(0, 0), _ints(0, 2), gain=100.0, bias_exp=2)
    out = OutputMap("y", "v", (3,), _ints(0, 0, 0), _ints(0, 1, 2))
    image = LoihiImage(Header(steps=3), (CoreImage(0, tables),), (x,), (out,))
    y = Emulator(image).run({"x": [[0.125, -1.0], [1e9, 0.0]]}).outputs["y"]
    assert y.tolist() == [[0, 18, 144], [0, 18, 3 * 4095 * 4]]  # mantissas are cut to 0..4095
    with pytest.raises(NmcError, match="E0540"):
        Emulator(image).run({"x": [[np.nan, 0.0]]})


def test_outputs_count_spikes_from_their_first_step() -> None:
    tables = _tables(1) | _lists([12])
    outs = (
        OutputMap("n", "count", (1,), _ints(0), _ints(0), 2),
        OutputMap("s", "spikes", (1, 1), _ints(0), _ints(0), 1),
    )
    image = LoihiImage(Header(), (CoreImage(0, tables),), (_spike_input([0], [0]),), outs)
    result = Emulator(image).run({"in": [[[1], [1], [0], [1], [1]]]}, 5)
    assert result.outputs["n"].tolist() == [[2]]
    assert result.outputs["s"][0, :, 0, 0].tolist() == [0, 1, 0, 1, 1]


@pytest.mark.parametrize("kind", [POP16, POP32])
def test_population_axons_share_weights_across_bases(kind: int) -> None:
    """Two in-axons with the same lists reach compartments 0.. and 4.. ; the atom chooses the list."""
    lists = _lists([2, 4], [6, 8])
    entry: dict[str, Any] = {"type": kind, "ptr": 0, "len": 0, "pop_size": 2}
    bases = {"cx_base": [0, 1] if kind == POP16 else [0, 4]}
    target = _tables(6) | lists | {"syn_map": pack("syn_map", entry | bases)}
    # Core 0 has one compartment per message; its spikes go to (in-axon, atom) (0, 1) and (1, 0).
    source = _tables(2) | _lists([20], [0, 20])
    if kind == POP16:
        words = pack("axon_cfg", {"dst_core": 5, "dst_syn_map": [0, 1], "kind": kind, "atom": [1, 0]})
        ptr: dict[str, Any] = {"first": [0, 1], "count": 1}
    else:
        words = np.stack(
            [
                pack("axon_cfg", {"dst_core": 5, "dst_syn_map": [0, 1], "kind": kind}),
                pack("axon_pop", {"atom": [1, 0]}),
            ],
            axis=1,
        ).reshape(-1)
        ptr = {"first": [0, 2], "count": 2}
    source |= {"axon_cfg": words, "axon_ptr": pack("axon_ptr", ptr)}
    cores = (CoreImage(0, source), CoreImage(5, target))
    image = LoihiImage(Header(), cores, (_spike_input([0, 0], [0, 1]),), (), (_pop(6, 5),))
    v = _run(image, [[1, 0], [0, 1], [0, 0]], "p.u")
    assert (v // 64).tolist() == [[0] * 6, [6, 8, 0, 0, 0, 0], [0, 0, 0, 0, 2, 4]]


def test_messages_to_another_chip_take_a_word_and_are_counted() -> None:
    send = _tables(1) | _lists([20])
    words = np.concatenate(
        [
            pack("axon_cfg", {"dst_core": 3, "dst_syn_map": 0, "kind": DISCRETE, "chip_flag": 1}),
            pack("axon_chip", {"chip": 1}),
            pack("axon_cfg", {"dst_core": 37, "dst_syn_map": 0, "kind": DISCRETE}),
        ]
    )
    send |= {"axon_cfg": words, "axon_ptr": pack("axon_ptr", {"first": 0, "count": 3})}
    receive = _tables(1) | _lists([4])
    cores = (CoreImage(0, send), CoreImage(37, receive), CoreImage(131, receive))
    image = LoihiImage(Header(n_chips=2), cores, (_spike_input([0], [0]),), (), (_pop(1, 131),))
    result = Emulator(image).run({"in": [[[1], [0]]]}, 2, probes=["p.u"])
    assert result.probes["p.u"][0, :, 0].tolist() == [0, 256]
    events = result.events
    assert (events.chip_messages, events.hops_east_west, events.hops_north_south) == (1, 2, 1)
    assert events.messages.tolist() == [2, 0, 0]
    assert events.axon_in.tolist() == [1, 1, 1]


def test_two_sources_of_one_axon_count_twice() -> None:
    tables = _tables(2) | _lists([4])
    inputs = InputMap("in", "spikes", (2,), _ints(0, 1), _ints(0, 0), _ints(0, 0))
    image = LoihiImage(Header(), (CoreImage(0, tables),), (inputs,), (), (_pop(2),))
    assert _run(image, [[1, 1]], "p.u").tolist() == [[8 * 64, 0]]


def _code(image: LoihiImage) -> set[str]:
    with pytest.raises(NmcError) as error:
        load(image)
    return {d.code for d in error.value.diagnostics}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "delay bits": ({"core_cfg": pack("core_cfg", {"num_updates": 1})}, "E0520"),
    "refract 0": ({"cx_profile": pack("cx_profile", {"decay_u": 1})}, "E0521"),
    "noise": ({"cx_profile": pack("cx_profile", {"refract_delay": 1, "enable_noise": 1})}, "E0522"),
    "threshold op 3": ({"cx_profile": pack("cx_profile", {"threshold_op": 3})}, "E0522"),
    "format 0": ({"syn_fmt": [FORMAT.word()]}, "E0523"),
    "run length": ({"syn_fmt": pack("syn_fmt", {"compression": [0, 1], "fanout_type": [0, 1]})}, "E0523"),
    "pointer": ({"syn_map": pack("syn_map", {"type": 1, "ptr": 16383, "len": 1})}, "E0524"),
    "unknown format": ({"syn_mem": [7]}, "E0525"),
    "cut entry": ({"syn_mem": [1 | 63 << 4]}, "E0525"),
    "compartment beyond": ({"syn_mem": [1 | 500 << 10]}, "E0526"),
    "too many updates": ({"cx_meta": cx_meta_words(np.ones(5, bool))}, "E0526"),
    "no in-axon": (
        {
            "axon_ptr": pack("axon_ptr", {"count": 1}),
            "axon_cfg": pack("axon_cfg", {"dst_syn_map": 9, "kind": 1}),
        },
        "E0528",
    ),
    "no core": (
        {
            "axon_ptr": pack("axon_ptr", {"count": 1}),
            "axon_cfg": pack("axon_cfg", {"dst_core": 9, "kind": 1}),
        },
        "E0528",
    ),
    "empty out-axon": ({"axon_ptr": pack("axon_ptr", {"count": 1})}, "E0528"),
    "out-axon range": ({"axon_ptr": pack("axon_ptr", {"first": 4095, "count": 2})}, "E0528"),
    "pop without push": (
        {"cx_profile": pack("cx_profile", {"stack_in": 2, "join_op": 6, "refract_delay": 1})},
        "E0529",
    ),
    "reserved bits": ({"cx_cfg": [1 << 30]}, "E0511"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_broken_tables_are_refused(what: str) -> None:
    changes, code = REFUSED[what]
    image = LoihiImage(Header(), (CoreImage(0, _tables(4) | _lists([2, 4]) | changes),))
    assert code in _code(image)


def test_long_delays_need_delay_bits() -> None:
    fmt = SynFormat(dly_bits=6)
    mem = {"syn_fmt": [0, fmt.word()], "syn_mem": encode_axon_lists({1: fmt}, [0, 1], 1, [0], [7], [2]).words}
    short = CoreImage(0, _tables(4) | _lists([2]) | mem)
    assert _code(LoihiImage(Header(), (short,))) == {"E0527"}
    long = CoreImage(0, _tables(4, core_cfg={"delay_bits": 4}) | _lists([2]) | mem)
    load(LoihiImage(Header(), (long,)))
    many = _tables(800, core_cfg={"delay_bits": 4})
    assert _code(LoihiImage(Header(), (CoreImage(0, many),))) == {"E0526"}


def test_all_problems_are_told_at_once() -> None:
    core = CoreImage(
        0, _tables(4) | REFUSED["noise"][0] | REFUSED["format 0"][0] | REFUSED["empty out-axon"][0]
    )
    other = CoreImage(1, _tables(4) | REFUSED["delay bits"][0])
    image = LoihiImage(Header(profile="loihi9"), (core, other))
    assert {"E0520", "E0522", "E0523", "E0528"} <= _code(image)


def test_host_tables_must_name_what_exists() -> None:
    core = CoreImage(0, _tables(4) | _lists([2]))
    good = LoihiImage(
        Header(),
        (core,),
        (_spike_input([0], [0]),),
        (OutputMap("o", "v", (1,), _ints(0), _ints(3)),),
        (_pop(4),),
    )
    load(good)
    bad = (
        replace(good, inputs=(_spike_input([0], [1]),)),
        replace(good, inputs=(_spike_input([0], [0], [1]),)),
        replace(good, inputs=(InputMap("x", "bias", (1,), _ints(0), _ints(0), _ints(4)),)),
        replace(good, inputs=(InputMap("x", "bias", (1,), _ints(1), _ints(0), _ints(0)),)),
        replace(good, outputs=(OutputMap("o", "v", (1,), _ints(1), _ints(0)),)),
        replace(good, pops=(_pop(5),)),
        replace(good, pops=(_pop(4), _pop(4))),
    )
    for image in bad:
        assert _code(image) == {"E0530"}


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"in": [[[2]]]},
        {"in": [[1]]},
        {"in": [[[1, 0]]]},
        {"in": [[[0]]], "other": [1]},
        {"in": [[["a"]]]},
    ],
)
def test_inputs_must_match_the_image(inputs: dict[str, Any]) -> None:
    core = CoreImage(0, _tables(1) | _lists([2]))
    emulator = Emulator(LoihiImage(Header(), (core,), (_spike_input([0], [0]),)))
    with pytest.raises(NmcError, match="E0540"):
        emulator.run(inputs, 1)


def test_empty_tables_and_runs_are_harmless() -> None:
    core = CoreImage(0, _tables(1, cx_state=pack("cx_state", {"v": 5})) | _lists([2]))
    outs = (OutputMap("o", "spikes", (0, 3), _ints(), _ints()), OutputMap("v", "v", (1,), _ints(0), _ints(0)))
    image = LoihiImage(
        Header(),
        (core,),
        (_spike_input([0], [0]),),
        outs,
        (PopMap("e", (0,), _ints(), _ints(), _ints()),),
    )
    result = Emulator(image).run({"in": np.zeros((2, 0, 1))}, 0, probes=["e.v"])
    assert result.outputs["v"].tolist() == [[5], [5]]
    assert Emulator(image).run({"in": np.zeros((2, 4, 1))}, 4).outputs["o"].shape == (2, 4, 0, 3)
    with pytest.raises(NmcError, match="no sample"):
        Emulator(image).run({"in": np.zeros((0, 4, 1))}, 4)
    assert Emulator(LoihiImage(Header(), ())).run({}, 3).outputs == {}


def test_unknown_probes_are_refused() -> None:
    emulator = Emulator(LoihiImage(Header(), (CoreImage(0, _tables(1)),), (), (), (_pop(1),)))
    with pytest.raises(NmcError, match="E0540"):
        emulator.run({}, 1, probes=["q.v", "p.w"])


def _edges(f: Field) -> st.SearchStrategy[int]:
    """Values of a field: 0, 1 and the ends of its range."""
    return st.sampled_from([0, 1, f.low, f.high]).filter(lambda v: f.low <= v <= f.high)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_hostile_tables_give_a_program_or_diagnostics(data: st.DataObject) -> None:
    tables = {k: np.array(v, np.uint64) for k, v in (_tables(4) | _lists([2, 4], [6])).items()}
    tables |= {"axon_ptr": pack("axon_ptr", {"count": 1}), "axon_cfg": pack("axon_cfg", {"kind": 1})}
    for section in data.draw(st.lists(st.sampled_from(SECTIONS), min_size=1, max_size=2)):
        layout = TABLES[section]
        size = data.draw(st.integers(1, min(6, layout.entries)))
        words = {f.name: data.draw(st.lists(_edges(f), min_size=size, max_size=size)) for f in layout.fields}
        tables[section] = pack(section, words)
    image = LoihiImage(Header(), (CoreImage(0, tables),), (_spike_input([0], [0]),))
    try:
        Emulator(from_bytes(to_bytes(image))).run({"in": np.ones((2, 3, 1))}, 3)
    except NmcError as error:
        assert all(d.code.startswith("E05") for d in error.diagnostics)
