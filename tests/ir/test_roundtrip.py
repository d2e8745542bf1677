"""Printing and parsing lose nothing, at any level."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ir_strategies as irs
from nmc.ir.const import Const
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Span, Value
from nmc.ir.ops import ann, image, snn
from nmc.ir.text.parser import parse
from nmc.ir.text.printer import print_item, print_module
from nmc.ir.text.sidefile import blobs, load, save
from nmc.ir.types import NUMBER_KINDS, Type
from nmc.ir.verify import verify

LEVELS = {
    "ann": irs.ann_modules,
    "snn": irs.snn_modules,
    "mapped": irs.mapped_modules,
    "image": irs.image_modules,
}


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=70)
@given(data=st.data())
def test_parsing_what_is_printed_gives_the_same_module(level: str, data: st.DataObject) -> None:
    module = data.draw(LEVELS[level]())
    text = print_module(module)
    again = parse(text, blobs(module))
    assert again == module
    assert irs.locs(again) == irs.locs(module)
    assert print_module(again) == text
    assert all(irs.same_bits(a, b) for a, b in zip(again.consts, module.consts, strict=True))


@pytest.mark.parametrize("make", [irs.ann_modules, irs.snn_modules])
@settings(max_examples=50)
@given(data=st.data())
def test_the_networks_of_these_tests_are_well_formed(
    make: Callable[[], st.SearchStrategy[Module]], data: st.DataObject
) -> None:
    assert verify(data.draw(make())) == ()


@settings(max_examples=40)
@given(irs.modules)
def test_files_give_the_same_module_and_bytes_with_and_without_the_side_file(module: Module) -> None:
    with TemporaryDirectory() as folder:
        first, second = Path(folder, "a.nmc"), Path(folder, "b.nmc")
        save(module, first)
        again = load(first)
        assert (again, irs.locs(again)) == (module, irs.locs(module))
        assert all(irs.same_bits(a, b) for a, b in zip(again.consts, module.consts, strict=True))
        save(again, second)
        sides = [path.with_suffix(".npz") for path in (first, second)]
        assert first.read_bytes() == second.read_bytes()
        assert [side.exists() for side in sides] == [bool(blobs(module))] * 2
        if sides[0].exists():
            assert sides[0].read_bytes() == sides[1].read_bytes()
            sides[0].unlink()
        bare = load(first)
        assert bare == module
        assert print_module(bare) == print_module(module)


def _words(const: Const) -> Module:
    return Module("m", "image", (image.Region(words=const, core=0, table="t"),))


AWKWARD_ARRAYS: dict[str, Any] = {
    "nan scalar": np.array(np.nan, np.float32),
    "nan vector": np.array([np.nan, 1.0]),
    "nan with payload": np.array([0x7FC00123, 0xFFC00000], np.uint32).view(np.float32),
    "uniform nan": np.full(30, np.nan, np.float32),
    "negative zero": np.array([-0.0, 0.0], np.float32),
    "uniform negative zero": np.full(5, -0.0),
    "infinities": np.array([np.inf, -np.inf], np.float32),
    "subnormal": np.array([1e-45, 5e-324, 0.1]),
    "empty": np.zeros((3, 0, 2), np.int8),
    "wide uniform": np.broadcast_to(np.int32(7), (1 << 15, 1 << 15)),
    "largest unsigned": np.array([2**64 - 1, 0], np.uint64),
    "smallest signed": np.array([-(2**63), 2**63 - 1]),
    "other byte order": np.arange(20, dtype=">i4"),
    "column order": np.asfortranarray(np.arange(24.0).reshape(4, 6)),
    "every other": np.arange(80)[::4],
    "16 elements": np.arange(16),
    "17 elements": np.arange(17),
}


@pytest.mark.parametrize("case", AWKWARD_ARRAYS)
def test_awkward_arrays_survive_the_files_bit_for_bit(case: str, tmp_path: Path) -> None:
    module = _words(Const("c", AWKWARD_ARRAYS[case]))
    save(module, tmp_path / "m.nmc")
    again = load(tmp_path / "m.nmc")
    assert again == module
    if case != "wide uniform":
        assert irs.same_bits(again.consts[0], module.consts[0])
    else:
        assert (tmp_path / "m.nmc").stat().st_size < 200
        assert again.consts[0].array().strides == (0, 0)


@pytest.mark.parametrize("kind", NUMBER_KINDS)
def test_every_kind_is_stored_in_its_dtype(kind: str, tmp_path: Path) -> None:
    data = (np.arange(40) % 2).astype(np.dtype(NUMBER_KINDS[kind]))
    save(_words(Const("c", data)), tmp_path / "m.nmc")
    const = load(tmp_path / "m.nmc").consts[0]
    assert const.type == Type(kind, (40,))
    np.testing.assert_array_equal(const.array(), data)


def test_equal_bits_are_equal_constants_and_other_bits_are_not() -> None:
    ones = np.ones((2, 3), np.float32)
    assert Const("c", ones) == Const("c", np.broadcast_to(np.float32(1), (2, 3)))
    assert hash(Const("c", ones)) == hash(Const("c", ones.copy()))
    others: list[irs.Array] = [
        ones.astype(np.float64),
        ones.reshape(3, 2),
        -ones,
        np.zeros((2, 3), np.float32),
    ]
    assert all(Const("c", other) != Const("c", ones) for other in others)
    assert Const("c", np.array([0.0])) != Const("c", np.array([-0.0]))
    assert Const("d", ones) != Const("c", ones)


def test_a_constant_cannot_be_written_to_and_does_not_freeze_the_callers_array() -> None:
    mine = np.zeros(3)
    const = Const("c", mine)
    with pytest.raises(ValueError, match="read-only"):
        const.array()[0] = 1
    mine[0] = 1


def test_large_arrays_are_stored_once(tmp_path: Path) -> None:
    data = np.arange(100)
    ops = [image.Region(words=Const(name, data.copy()), core=0, table="t") for name in ("a", "b")]
    assert len(blobs(Module("m", "image", tuple(ops)))) == 1


def test_attributes_are_printed_only_where_they_differ_from_the_default() -> None:
    current = Value("x", Type("current", (1,)))
    plain = snn.If(out="a", current=(current,))
    assert "{" not in str(Module("m", "snn", (plain,))).splitlines()[1]
    negative = snn.If(out="a", current=(current,), v_init=-0.0)
    assert "{v_init=-0.0}" in str(Module("m", "snn", (negative,)))


@settings(max_examples=150)
@given(irs.anything())
def test_any_attribute_value_is_read_back(item: object) -> None:
    module = parse(f"module @m ann attributes {{a={print_item(item)}}} {{}}")
    assert repr(module.attr("a")) == repr(item)


def test_the_text_is_the_documented_one() -> None:
    """The example of docs: constants first, locations last, parts before the whole."""
    conv = Loc("lenet.onnx", "/conv1/Conv")
    both = fuse("ann-to-snn", [conv, Loc("lenet.onnx", "/relu1/Relu")])
    x = snn.Input(out="x", source="x", shape=(1, 4, 4), encoder="rate", loc=Loc("lenet.onnx", "input"))
    weight, bias = Const("conv1.w", np.arange(18, dtype=np.int8).reshape(2, 1, 3, 3)), Const("b", np.zeros(2))
    window = {"stride": (1, 1), "pad": (0, 0, 0, 0), "dilation": (1, 1)}
    i = snn.Conv(out="conv1.i", spikes=x.result, weight=weight, delay=2, loc=conv, **window)  # type: ignore[arg-type]
    relu = snn.If(out="relu1", current=(i.result,), bias=Const("b", bias.array().reshape(2, 1, 1)), loc=both)
    assert str(Module("lenet", "snn", (x, i, relu), (("steps", 64),))) == (
        "module @lenet snn attributes {steps=64} {\n"
        f'  const @conv1.w : i8<2x1x3x3> = blob "{weight.digest}"\n'
        "  const @b : f64<2x1x1> = splat 0.0\n"
        "  %x = snn.input() {source=x, shape=[1, 4, 4], encoder=rate} : spikes<1x4x4>  #0\n"
        "  %conv1.i = snn.conv(%x, @conv1.w) {delay=2, stride=[1, 1], pad=[0, 0, 0, 0], dilation=[1, 1]}"
        " : current<2x2x2>  #1\n"
        "  %relu1 = snn.if(%conv1.i, @b) : spikes<2x2x2>  #3\n"
        "}\n"
        '#0 = "lenet.onnx" "input"\n'
        '#1 = "lenet.onnx" "/conv1/Conv"\n'
        '#2 = "lenet.onnx" "/relu1/Relu"\n'
        "#3 = ann-to-snn[#1, #2]\n"
    )


def test_the_digest_of_a_constant_never_changes() -> None:
    """Files name their blobs by it: another digest makes every stored module unreadable."""
    assert Const("c", np.arange(20, dtype=np.int32)).digest == "8ded1f3e70049f8e"
    assert Const("c", np.full((2, 2), 0.5, np.float32)).digest == "ac30eee423d604db"


def test_modules_that_make_no_sense_print_too() -> None:
    ghost = Value("nowhere", Type("i8", (3, 1)))
    ops = (
        ann.Dense(out="a", data=ghost, weight=Const("w", np.zeros((2, 9)))),
        ann.Dense(out="a", data=ghost, weight=Const("w", np.ones((2, 9)))),
        ann.Output(out="odd", data=ghost),
        ann.Add(out="none", data=()),
        image.Reg(core=Span(1, 2), table=3, fields={"x": [1, None]}),  # type: ignore[arg-type,dict-item]
        ann.Relu(out="b c", data=ghost, limit=None),  # type: ignore[arg-type]
    )
    text = str(Module("m", "nonsense", ops))
    assert text.startswith("module @m nonsense {\n")
    assert [line for line in text.splitlines() if "const" not in line][1:-1] == [
        "  %a = ann.dense(%nowhere, @w)",
        "  %a = ann.dense(%nowhere, @w)",
        "  %odd = ann.output(%nowhere)",
        "  %none = ann.add()",
        "  image.reg() {core=1:2, table=3, fields={x=[1, none]}}",
        "  %b c = ann.relu(%nowhere) {limit=none} : i8<3x1>",
    ]


def test_deeply_nested_and_widely_shared_locations_take_linear_time() -> None:
    """A tree of 2^200 paths and a chain of 5,000 fusions: neither recursion nor repetition."""
    loc = Loc("f", "n")
    for _ in range(200):
        loc = Loc("p", parts=(loc, Loc("q", parts=(loc,))))
    for _ in range(5000):
        loc = Loc("r", parts=(loc, Loc("f", "m")))
    op = ann.Input(out="x", shape=(1,), loc=loc)
    text = str(Module("m", "ann", (op,)))
    assert text.count("\n") == 3 + 2 + 400 + 5000
    again = parse(text)
    assert str(again) == text
    again_loc = again.ops[0].loc
    assert again_loc is not None
    assert list(again_loc.leaves()) == [Loc("f", "n"), Loc("f", "m")]


def test_fusing_leaves_out_what_is_unknown_or_the_same() -> None:
    a, b = Loc("f", "a"), Loc("f", "b")
    assert fuse("p", [None, None]) is None
    assert fuse("p", [a, None, a]) == a
    assert fuse("p", [a, b, None]) == Loc("p", parts=(a, b))
    assert str(fuse("p", [a, b])) == 'f: node "a", f: node "b"'
