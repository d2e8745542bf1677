"""Whatever a file holds, reading it gives a module or an `NmcError`: no traceback, no hang."""

import io
import struct
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ir_strategies as irs
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.npz import npz_bytes, read_npz, write_npz
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify

#: One module a level, with every construct of the grammar.
SEEDS = (
    """module @net ann attributes {a=[1, {b=none}], "c d"="e\\n", f=0:5} {
  const @w : f32<2x3> = [1.0, -2.5, inf, 0.0, 3e-07, -0.0]
  const @b : f32<2> = splat 0.5
  %x = ann.input() {shape=[3], low=-1.0, high=1.0} : f32<3>  #0
  %y = ann.dense(%x, @w, @b) : f32<2>  #2
  %z = ann.relu(%y, _) {limit=6.0} : f32<2>
  %s = ann.add(%y, %z) : f32<2>
  ann.output(%s)  #1
}
#0 = "net.onnx" "x"
#1 = "net.onnx"
#2 = fold[#0, #1]
""",
    """module @net snn {
  const @w : i8<3x3> = blob "00112233aabbccdd"
  const @k : f32<2x1x3x3> = blob "0123456789abcdef"
  %x = snn.input() {source=x, shape=[1, 5, 5], encoder=rate} : spikes<1x5x5>
  %i = snn.conv(%x, @k) {stride=[1, 2], pad=[1, 1, -1, 0], dilation=[1, 1]} : current<2x3x2>
  %r = snn.one_to_one(%p, @one) {delay=1} : current<2x3x2>
  const
  %p = snn.if(%i, %r) {threshold=2.0, reset=zero} : spikes<2x3x2>
  snn.output(%p) {decoder=count}
}
""".replace("  const\n", "").replace("  %x", '  const @one : f32<1> = splat 1.0\n  %x', 1),
    """module @net mapped {
  %x = snn.input() {source=x, shape=[4, 4], encoder=rate} : spikes<4x4>
  %x.0 = map.neurons(%x) {box=[0:4, 2:4], core=-1, slots=0:8} : pop<4x2>
  map.synapses(%x.0, %x.0, %x) {axons=0:784, mem=0:72, formats=[1]}
  map.route(%x.0) {to=[4, 5], spikes=[120, 98]}
}
""",
    """module @net image { // a comment
  const @words : u32<4> = [1, 2, 3, 4294967295]
  image.header() {fields={profile=loihi1, compat="a b"}}
  image.reg() {core=4, table=cx, index=0, fields={decay_u=4095, decay_v=0}}
  image.region(@words) {core=0x10, table=syn_mem}
}
""",
)  # fmt: skip

_TOKENS = """%x @w _ ( ) { } [ ] , = : #0 #9 f32<3> pop<> i8<0x3> splat blob const module attributes inf -nan
    none true 1 -1 1e999 0xff 1:0 -5:5 " "\\u12" "a" // \x00 é snn.if ann.conv map.neurons image.header
    loihi.x delay=-1 shape=[0,3] pad=[9] kernel=[]"""
PIECES = (*_TOKENS.split(), "9" * 500, "\n")


@st.composite
def mutated(draw: irs.Draw) -> str:
    """A seed with some cuts, repetitions, swaps and insertions."""
    text: str = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(start + draw(st.sampled_from([0, 1, 1, 2, 5, 40])), len(text))
        other = draw(st.integers(0, len(text)))
        middle = draw(
            st.sampled_from(
                ["", text[start:stop] * 2, text[other : other + 8], draw(st.sampled_from(PIECES))]
            )
        )
        text = text[:start] + middle + text[stop:]
    return text


@pytest.mark.parametrize("seed", SEEDS, ids=["ann", "snn", "mapped", "image"])
def test_the_seeds_are_read_and_printed(seed: str) -> None:
    module = parse(seed)
    assert len(module.ops) > 2
    assert parse(str(module)) == module


@settings(max_examples=1000)
@given(mutated())
def test_damaged_text_is_read_or_refused(text: str) -> None:
    try:
        module = parse(text)
    except NmcError as error:
        assert error.diagnostics
        return
    verify(module)
    assert str(parse(str(module))) == str(module)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join) | st.text(max_size=60))
def test_tokens_in_any_order_are_read_or_refused(body: str) -> None:
    for text in (body, f"module @m snn {{ {body} }}", f"module @m ann attributes {{ a = {body} }} {{}}"):
        try:
            parse(text)
        except NmcError as error:
            assert error.diagnostics


def _read(data: bytes) -> dict[str, Any] | None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "m.npz")
        path.write_bytes(data)
        try:
            return read_npz(path)
        except NmcError as error:
            assert [problem.code for problem in error.diagnostics] == ["E0120"]
            return None


GOOD = npz_bytes({"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.array(1.5), "c": np.zeros((0, 2))})


def test_arrays_are_read_back_in_dtype_and_shape() -> None:
    read = _read(GOOD)
    assert read is not None
    assert {name: (array.dtype.str, array.shape) for name, array in read.items()} == {
        "a": ("<i2", (2, 3)),
        "b": ("<f8", ()),
        "c": ("<f8", (0, 2)),
    }
    np.testing.assert_array_equal(read["a"], [[0, 1, 2], [3, 4, 5]])


def test_the_same_arrays_give_the_same_bytes_whenever_they_are_written(tmp_path: Path) -> None:
    arrays = {"a": np.arange(9)[::3], "b": np.asfortranarray(np.ones((2, 3)))}
    write_npz(tmp_path / "1.npz", arrays)
    write_npz(tmp_path / "2.npz", {name: np.array(array, order="C") for name, array in arrays.items()})
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    assert all(
        info.date_time == (1980, 1, 1, 0, 0, 0) for info in zipfile.ZipFile(tmp_path / "1.npz").infolist()
    )


def test_what_numpy_compresses_is_read_too() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros((100, 100)))
    read = _read(stream.getvalue())
    assert read is not None
    assert read["a"].shape == (100, 100)


@settings(max_examples=150)
@given(st.integers(0, len(GOOD) - 1))
def test_a_cut_side_file_is_refused(length: int) -> None:
    assert _read(GOOD[:length]) is None


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bits_are_refused_or_harmless(flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for position, mask in flips:
        data[position] ^= mask
    read = _read(bytes(data))
    assert read is None or all(isinstance(array, np.ndarray) for array in read.values())


def _zip(member: bytes, name: str = "a.npy") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, member)
    return stream.getvalue()


def _npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + body


HOSTILE = {
    "huge shape": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 100000)}"),
    "shape beyond 64 bits": _npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({1 << 61},)}}"),
    "overflow to zero": _npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({1 << 32}, {1 << 32})}}"),
    "negative shape": _npy("{'descr': '<i1', 'fortran_order': False, 'shape': (-2, -3)}", b"abcdef"),
    "fewer bytes": _npy("{'descr': '<i1', 'fortran_order': False, 'shape': (7,)}", b"abcdef"),
    "more bytes": _npy("{'descr': '<i1', 'fortran_order': False, 'shape': (5,)}", b"abcdef"),
    "objects": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n(S'true'\ntR."),
    "hidden objects": _npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}", b"12345678"),
    "no dtype": _npy("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}", b"1"),
    "shape of text": _npy("{'descr': '<i1', 'fortran_order': False, 'shape': 'ab'}", b"1"),
    "code": _npy("__import__('os').system('true')"),
    "deep header": _npy("(" * 5000 + ")" * 5000),
    "long header": _npy("{'descr': '<i1', 'fortran_order': False, 'shape': ()}" + " " * 20000, b"1"),
    "unknown version": _npy("{'descr': '<i1', 'fortran_order': False, 'shape': ()}", b"1", b"\x09\x00"),
    "no magic": b"not an array at all",
    "empty member": b"",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_are_refused(case: str) -> None:
    assert _read(_zip(HOSTILE[case])) is None


def _deflated(member: bytes) -> bytearray:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", member)
    return bytearray(stream.getvalue())


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = _deflated(_npy("{'descr': '<i1', 'fortran_order': False, 'shape': (4000000,)}", bytes(4_000_000)))
    assert len(bomb) < 5000
    assert _read(bytes(bomb)) is not None
    monkeypatch.setattr("nmc.ir.npz.MAX_BYTES", 1 << 20)
    monkeypatch.delattr(zipfile.ZipFile, "open")
    assert _read(bytes(bomb)) is None


def test_a_bomb_that_lies_about_its_size_is_cut_at_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = _deflated(_npy("{'descr': '<i1', 'fortran_order': False, 'shape': (4000000,)}", bytes(4_000_000)))
    entry = bomb.index(b"PK\x01\x02")
    bomb[entry + 24 : entry + 28] = struct.pack("<I", 300)  # uncompressed size in the directory
    monkeypatch.setattr("nmc.ir.npz.MAX_BYTES", 1 << 20)
    assert _read(bytes(bomb)) is None


def test_the_sum_of_all_members_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    write_npz(path, {"a": np.zeros(100), "b": np.zeros(100)})
    monkeypatch.setattr("nmc.ir.npz.MAX_BYTES", 1500)
    with pytest.raises(NmcError, match=r"holds 1,856 bytes of arrays, over the limit of 1,500"):
        read_npz(path)
    monkeypatch.setattr("nmc.ir.npz.MAX_BYTES", 2000)
    assert set(read_npz(path)) == {"a", "b"}


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NmcError, match="no such file"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(NmcError, match=r"not a readable \.npz"):
        read_npz(tmp_path)
    assert _read(b"") is None
    assert _read(_zip(b"text", "readme.txt")) == {}


def test_an_empty_module_is_a_module() -> None:
    assert parse("module @m ann {}") == Module("m", "ann")
