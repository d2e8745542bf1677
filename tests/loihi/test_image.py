"""Loihi images: bit fields, synapse lists and the .nmcl container keep what they get and refuse others."""

from __future__ import annotations

import struct
import tomllib
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.diagnostics import NmcError
from nmc.targets.loihi.binary import from_bytes, to_bytes
from nmc.targets.loihi.layout import (
    COMPATS,
    DENSE,
    SECTIONS,
    SPARSE,
    TABLES,
    CoreImage,
    Header,
    InputMap,
    LoihiImage,
    OutputMap,
    PopMap,
    active_compartments,
    cx_meta_words,
    pack,
    unpack,
)
from nmc.targets.loihi.synapses import SynFormat, decode_axons, encode_axon_lists, words_needed
from nmc.targets.loihi.weights import decode_register, effective_weight, encode_register, round_mantissa

TARGET = Path(__file__).resolve().parents[2] / "targets" / "loihi" / "target.toml"


def test_every_number_of_the_target_file_has_a_source() -> None:
    target = tomllib.loads(TARGET.read_text())
    tables = [
        t
        for name in ("mesh", "limits", "axon_words", "ranges", "costs", "codes")
        for t in target[name].values()
    ]
    assert len(tables) > 50
    assert all(t["source"] for t in tables)


def test_memory_sizes_in_code_and_target_file_agree() -> None:
    limits = {k: v["value"] for k, v in tomllib.loads(TARGET.read_text())["limits"].items()}
    sizes = [
        TABLES[n].entries for n in ("cx_cfg", "syn_map", "axon_cfg", "syn_mem", "cx_profile", "vth_profile")
    ]
    names = ("compartments", "in_axons", "out_axon_words", "synapse_words", "cx_profiles", "vth_profiles")
    assert sizes == [limits[n] for n in names]
    assert TABLES["syn_fmt"].entries == limits["synapse_formats"] + 1


@pytest.mark.parametrize("name", TABLES)
def test_fields_fit_their_words(name: str) -> None:
    assert TABLES[name].used_bits <= TABLES[name].word_bits


@given(st.sampled_from(sorted(TABLES)), st.data())
def test_unpack_gives_back_what_was_packed(name: str, data: st.DataObject) -> None:
    values = {
        f.name: data.draw(st.lists(st.integers(f.low, f.high), min_size=3, max_size=3))
        for f in TABLES[name].fields
    }
    words = pack(name, values)
    assert {k: v.tolist() for k, v in unpack(name, words).items()} == values


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("cx_cfg", {"bias": [0, 4096]}),
        ("cx_cfg", {"bias": [-4097]}),
        ("vth_profile", {"vth": 1 << 17}),
        ("vth_profile", {"vth": [0.5]}),
        ("syn_map", {"len": 256}),
        ("cx_cfg", {"weight": 1}),
    ],
)
def test_pack_refuses_what_a_field_cannot_hold(table: str, values: dict[str, object]) -> None:
    with pytest.raises(NmcError, match="E0510"):
        pack(table, values)  # type: ignore[arg-type]


def test_meta_words_mark_the_active_compartments() -> None:
    active = np.array([True, False, True, True, False, True])
    assert active_compartments(cx_meta_words(active)).nonzero()[0].tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("fanout", [1, 2, 3])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("compat", COMPATS)
def test_rounded_weights_survive_their_register(fanout: int, bits: int, compat: str) -> None:
    m = np.arange({1: -256, 2: 0, 3: -255}[fanout], {1: 255, 2: 256, 3: 1}[fanout])
    stored = round_mantissa(m, bits, fanout, 0, compat)  # type: ignore[arg-type]
    register = encode_register(stored, bits, fanout)
    assert int(register.max()) < 1 << bits
    np.testing.assert_array_equal(decode_register(register, bits, fanout), stored)


def test_weights_outside_the_sign_mode_are_refused() -> None:
    for m, fanout in ((-256, 3), (256, 2), (-1, 2), (255, 1)):
        with pytest.raises(NmcError, match="E0512"):
            encode_register([m], 8, fanout)


def test_negative_exponents_floor_each_weight() -> None:
    assert effective_weight([-3, 3, 100], [-1, -1, 7]).tolist() == [-128, 64, 100 << 13]
    assert effective_weight([-256], [7], "brian2loihi").tolist() == [-((1 << 21) - 64)]


FORMATS = {
    1: SynFormat(wgt_bits=8, idx_bits=10, compression=DENSE),
    2: SynFormat(
        wgt_bits=5, idx_bits=12, compression=SPARSE, dly_bits=6, fanout_type=2, wgt_exp=-8, tag_bits=3
    ),
    5: SynFormat(wgt_bits=1, idx_bits=6, compression=DENSE, fanout_type=3, cidx_offset=7, cidx_mult=2),
    15: SynFormat(wgt_bits=4, idx_bits=8, compression=SPARSE, dly_bits=3, wgt_exp=7),
}


def _random_lists(seed: int, lists: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 200, lists)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    total = int(offsets[-1])
    fmt = np.repeat(rng.choice(list(FORMATS), total // 20 + 1), 20)[:total]
    limit = np.array([1 << FORMATS.get(k, SynFormat()).idx_bits for k in range(16)])[fmt]
    idx = np.where(rng.random(total) < 0.1, rng.integers(0, 1 << 12, total), np.arange(total)) % limit
    delay = (
        rng.integers(0, 64, total)
        % np.array([1 << FORMATS.get(k, SynFormat()).dly_bits for k in range(16)])[fmt]
    )
    mantissa = np.zeros(total, np.int64)
    for key, f in FORMATS.items():
        low, high = {1: (-256, 254), 2: (0, 255), 3: (-255, 0)}[f.fanout_type]
        mine = fmt == key
        mantissa[mine] = round_mantissa(
            rng.integers(low, high + 1, int(mine.sum())), f.wgt_bits, f.fanout_type
        )
    return offsets, fmt, idx, delay, mantissa


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_decoder_gives_back_the_lists_that_were_encoded(seed: int, lists: int) -> None:
    offsets, fmt, idx, delay, mantissa = _random_lists(seed, lists)
    coded = encode_axon_lists(FORMATS, offsets, fmt, idx, delay, mantissa)
    words = np.zeros(16, np.uint64)
    words[list(FORMATS)] = [f.word() for f in FORMATS.values()]
    base = np.arange(lists) % 256
    syn_map = pack(
        "syn_map", {"type": 1, "ptr": coded.offsets[:-1], "len": np.diff(coded.offsets) - 1, "cx_base": base}
    )
    tables = CoreImage(0, {"syn_fmt": words, "syn_map": syn_map, "syn_mem": coded.words}).tables
    axons, synapses = decode_axons(tables)
    assert axons.axon.tolist() == list(range(lists))
    np.testing.assert_array_equal(synapses.indptr, offsets)
    for got, expected in (
        (synapses.delay, delay),
        (synapses.mantissa, mantissa),
        (synapses.fmt, fmt),
        (synapses.exponent, np.array([FORMATS[k].wgt_exp for k in fmt])),
    ):
        np.testing.assert_array_equal(got, expected)
    step = np.array([FORMATS[k].cidx_mult + 1 for k in fmt])
    start = np.array([FORMATS[k].cidx_offset for k in fmt])
    np.testing.assert_array_equal(synapses.cx, np.repeat(base, np.diff(offsets)) + start + idx * step)


@pytest.mark.parametrize("fmt", FORMATS.values())
def test_word_count_is_exact(fmt: SynFormat) -> None:
    sizes = np.array([1, 2, 5, 6, 54, 63, 64])
    idx = np.concatenate([np.arange(n) % (1 << fmt.idx_bits) for n in sizes])
    coded = encode_axon_lists({3: fmt}, np.concatenate([[0], np.cumsum(sizes)]), 3, idx, 0, 0)
    assert coded.entries.tolist() == [1] * sizes.size
    np.testing.assert_array_equal(np.diff(coded.offsets), words_needed(coded.entries, sizes, fmt))


def test_a_dense_784_by_128_layer_needs_no_more_words_than_nxtf_counts() -> None:
    """Facts 1, word rounding: NxTF 13,328 words, nengo-loihi 14,112."""
    idx = np.tile(np.arange(128), 784)
    coded = encode_axon_lists({1: FORMATS[1]}, np.arange(785) * 128, 1, idx, 0, 0)
    assert coded.words.size <= 13328


def test_lists_that_do_not_fit_their_format_are_refused() -> None:
    for idx, delay, fmt in ((1 << 10, 0, 1), (0, 1, 1), (0, 64, 2), (0, 0, 3)):
        with pytest.raises(NmcError, match="E0513"):
            encode_axon_lists(FORMATS, [0, 1], fmt, [idx], delay, 0)


arrays = st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=2).map(lambda v: np.array(v, np.int64))
names = st.text(max_size=8).filter(lambda s: s.isprintable())


@st.composite
def images(draw: st.DrawFn) -> LoihiImage:
    header = Header(
        draw(st.integers(1, 16384)),
        draw(st.sampled_from(COMPATS)),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.binary(min_size=32, max_size=32)).hex(),
        draw(st.integers(0, 2**64 - 1)),
    )
    numbers = sorted(draw(st.sets(st.integers(0, header.n_chips * 128 - 1), max_size=3)))
    cores = []
    for number in numbers:
        tables = {}
        for section in draw(st.sets(st.sampled_from(SECTIONS))):
            layout = TABLES[section]
            word = st.integers(0, (1 << layout.word_bits) - 1)
            tables[section] = np.array(draw(st.lists(word, max_size=min(4, layout.entries))), np.uint64)
        cores.append(CoreImage(number, tables))
    kind: Literal["v", "count", "spikes"] = draw(st.sampled_from(("v", "count", "spikes")))
    gain = draw(st.floats(allow_nan=False, allow_infinity=False))
    encoder: dict[str, Any] = {
        "source": draw(names),
        "encoder": draw(st.sampled_from(["bias", "raster", "rate", "pulse"])),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "at": draw(st.integers(0, 2**32 - 1)),
    }
    targets = (draw(arrays), draw(arrays), draw(arrays))
    inputs = [InputMap(draw(names), "bias", (3,), np.array([2, 0]), *targets, gain, 7, **encoder)]
    outputs = [
        OutputMap(draw(names), kind, (1, 2), draw(arrays), draw(arrays), draw(st.integers(0, 9)), gain)
    ]
    pops = [PopMap(draw(names), (2,), draw(arrays), draw(arrays), draw(arrays))] * draw(st.integers(0, 2))
    return LoihiImage(header, tuple(cores), tuple(inputs), tuple(outputs), tuple(pops))


@settings(max_examples=60, deadline=None)
@given(images())
def test_container_round_trip_is_exact(image: LoihiImage) -> None:
    data = to_bytes(image)
    assert from_bytes(data) == image
    assert to_bytes(from_bytes(data)) == data


@settings(max_examples=60, deadline=None)
@given(images(), st.data())
def test_damaged_containers_are_refused(image: LoihiImage, data: st.DataObject) -> None:
    raw = bytearray(to_bytes(image))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(raw), to_bytes(image)[:at], to_bytes(image) + b"\0"):
        with pytest.raises(NmcError) as error:
            from_bytes(damaged)
        assert all(d.code.startswith("E05") for d in error.value.diagnostics)


def _with_valid_checksums(raw: bytearray) -> bytes:
    """Repair all checksums, as an attacker would."""
    count = struct.unpack_from("<I", raw, 8)[0]
    for k in range(min(count, (len(raw) - 16) // 28)):
        at = 16 + 28 * k
        start, length = struct.unpack_from("<QQ", raw, at + 8)
        if start + length <= len(raw):
            struct.pack_into("<I", raw, at + 24, zlib.crc32(raw[start : start + length]))
    struct.pack_into("<I", raw, 12, zlib.crc32(raw[16 : 16 + 28 * count]))
    return bytes(raw)


@settings(max_examples=150, deadline=None)
@given(images(), st.data())
def test_hostile_containers_with_valid_checksums_give_an_image_or_a_diagnostic(
    image: LoihiImage, data: st.DataObject
) -> None:
    raw = bytearray(to_bytes(image))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 4))
        struct.pack_into("<I", raw, at, data.draw(st.sampled_from([0, 1, 255, 2**16, 2**31, 2**32 - 1])))
    hostile = _with_valid_checksums(raw)
    try:
        image = from_bytes(hostile)
    except NmcError as error:
        assert all(d.code.startswith("E05") for d in error.diagnostics)
    else:
        assert to_bytes(image) == hostile


@given(st.binary(max_size=200))
def test_random_bytes_are_no_container(data: bytes) -> None:
    with pytest.raises(NmcError):
        from_bytes(data)
