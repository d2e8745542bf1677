"""What the parser says about text that is wrong: the place, the reason, and the nearest right name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.op import Op
from nmc.ir.ops import ann, image
from nmc.ir.optable import dialect_ops, find_op
from nmc.ir.text.parser import parse
from nmc.ir.text.sidefile import load, save


def _wrong(text: str) -> list[tuple[str, str, str]]:
    with pytest.raises(NmcError) as caught:
        parse(text, file="f.nmc")
    return [(problem.code, problem.message, problem.where) for problem in caught.value.diagnostics]


def _in_module(line: str) -> list[tuple[str, str, str]]:
    return _wrong(f"module @m snn {{\n  %x = snn.input() {{source=x, shape=[3]}} : current<3>\n{line}\n}}\n")


def test_a_syntax_error_shows_the_line_and_points_at_the_column() -> None:
    with pytest.raises(NmcError) as caught:
        parse("module @m snn {\n  %x = snn.if(%y &) : spikes<1>\n}\n", file="net.nmc")
    assert str(caught.value) == (
        "error[E0101]: this is not nmc IR\n"
        "    %x = snn.if(%y &) : spikes<1>\n"
        "                   ^\n"
        "  --> net.nmc:2:18\n"
        "  help: expected one of COMMA, RPAR"
    )


def test_a_syntax_error_far_along_a_line_shows_what_is_near() -> None:
    ((_, message, where),) = _wrong("module @m snn { " + " " * 5000 + "& }")
    assert where == "f.nmc:1:5017"
    assert len(message) < 500
    shown, caret = message.splitlines()[1:]
    assert shown[caret.index("^")] == "&"


@pytest.mark.parametrize("text", ["", "   \n", "module", "module @m snn {", 'module @m ann attributes {a="'])
def test_text_that_ends_too_early_is_a_syntax_error(text: str) -> None:
    ((code, _, where),) = _wrong(text)
    assert code == "E0101"
    assert where.startswith("f.nmc:1:")


SYMBOLIC = {
    "%y = snn.inputt() {source=x, shape=[3]} : current<3>": "unknown op snn.inputt; did you mean snn.input?",
    "%y = sn.input() : current<3>": "unknown op sn.input",
    "%y = nothing() : current<3>": "unknown op nothing",
    "%y = os.path() : current<3>": "unknown op os.path",
    "%y = snn.if(%z) : spikes<3>": "%z is not defined",
    "%y = snn.dense(%x, @w) : current<3>": "@w is not defined",
    "%y = snn.dense(@x, @w) : current<3>": "operand spikes cannot be @x",
    "%y = snn.dense(_, @w) : current<3>": "operand spikes must be given",
    "%y = snn.dense(%x) : current<3>": "snn.dense lacks weight",
    "%y = snn.input(%x) {source=x, shape=[3]} : current<3>": "snn.input takes no operand %x here",
    "%y = snn.if(%x) {tau=3} : spikes<3>": (
        "snn.if has no attribute tau; it has start, threshold, v_init, reset, compare"
    ),
    "%y = snn.if(%x) {reset=half} : spikes<3>": "snn.if: attribute reset: 'half' is none of subtract, zero",
    "%y = snn.if(%x) {start=1.5} : spikes<3>": "snn.if: attribute start: 1.5 is not of type int",
    "%y = snn.if(%x) {start=true} : spikes<3>": "snn.if: attribute start: True is not of type int",
    "%y = snn.if(%x) {threshold=true} : spikes<3>": "snn.if: attribute threshold: True is not of type float",
    "%y = snn.if(%x) {start=1, start=2} : spikes<3>": "attribute start is given twice",
    "%y = snn.if(%x)": "%y has no type",
    "%y = snn.if(%x) : spikes<4>": "%y is declared spikes<4>, but snn.if gives spikes<3>",
    "%y = snn.if(%x) : spiks<3>": "unknown element kind 'spiks'",
    "%y = snn.if(%x) : spikes<3x>": "not a type: 'spikes<3x>'",
    "%y = snn.if() : spikes<3>": "snn.if: a population needs a current",
    "%x = snn.if(%x) : spikes<3>": "%x is defined twice",
    "snn.output(%x) : graded<3>": "% is declared graded<3>, but snn.output gives None",
    "snn.output(%x)  #7": "location #7 is used before it is defined",
    "%y = snn.if(%x) {start=5:2} : spikes<3>": "5:2 runs backwards",
}


@pytest.mark.parametrize("line", SYMBOLIC)
def test_a_wrong_op_is_told_with_its_line_and_reason(line: str) -> None:
    found = _in_module(f"  {line}")
    assert SYMBOLIC[line] in [message for _, message, _ in found]
    assert all(where.startswith("f.nmc:3:") for _, _, where in found)
    assert {code for code, _, _ in found} <= {"E0103", "E0104"}


CONSTANTS = {
    "const @c : i8<1> = splat 300": "out of bounds",
    "const @c : u8<2> = [1, -1]": "out of bounds",
    "const @c : i8<2> = [1.5, 1]": "1.5 is no element of i8<2>",
    "const @c : i8<1> = splat true": "true is no element of i8<1>",
    "const @c : f32<1> = [none]": "none is no element of f32<1>",
    'const @c : f32<1> = ["1"]': '"1" is no element of f32<1>',
    "const @c : bool<1> = [1]": "1 is no element of bool<1>",
    "const @c : i8<3> = [1, 2]": "cannot reshape",
    "const @c : spikes<1> = [1]": "a constant cannot be of type spikes<1>",
    "const @c : f32<99999x99999x99999> = splat 0.0": "too many",
    "const @c : i8<1> = [1] const @c : i8<1> = [1]": "constant @c is defined twice",
}


@pytest.mark.parametrize("line", CONSTANTS)
def test_a_wrong_constant_is_told(line: str) -> None:
    ((_, message, where),) = _wrong(f"module @m ann {{\n {line}\n}}")
    assert CONSTANTS[line] in message
    assert where.startswith("f.nmc:2:")


def test_all_problems_are_told_at_once_in_one_pass() -> None:
    found = _wrong(
        "module @m sn {\n"
        "  const @c : i8<1> = [1000]\n"
        "  %a = snn.if(%ghost) : spikes<1>\n"
        "  %b = snn.nope() : spikes<1>\n"
        "}\n"
        "#0 = p[#9]\n"
    )
    assert [(code, where) for code, _, where in found] == [
        ("E0104", "f.nmc:6:8"),
        ("E0103", "f.nmc:1:11"),
        ("E0102", "f.nmc:2:9"),
        ("E0103", "f.nmc:3:15"),
        ("E0103", "f.nmc:4:8"),
    ]


def test_a_location_has_one_meaning() -> None:
    assert _wrong('module @m ann {}\n#0 = "a"\n#0 = "b"\n') == [
        ("E0104", "location #0 is defined twice", "f.nmc:3:1")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "module @m ann attributes {a=" + "[" * 3000 + "]" * 3000 + "} {}",
        "module @m ann { const @c : f32<1> = " + "[" * 3000 + "]" * 3000 + " }",
        "module @m ann { const @c : f32<1> = " + "[" * 90 + "1" + "]" * 90 + " }",
        "module @m ann attributes {a=" + "1" * 9999 + "} {}",
        "module @m ann attributes {a=" + "1" * 9999 + ":2} {}",
        "module @m ann { %x = ann.input() {shape=[1], low=" + "9" * 399 + "} : f32<1> }",
        "module @m ann { %x = ann.input() {shape=[" + "9" * 399 + "]} : f32<1> }",
        "module @m ann { %x = ann.input() {shape=[1]} : f32<" + "9" * 9999 + "> }",
        "module @m ann { const @c : f32<1" + "x1" * 9999 + "> = splat 0.0 }",
        "module @m ann { const @c : f32<0x" + "9" * 100 + "> = splat 0.0 }",
        'module @m ann attributes {a="\\x"} {}',
        "module @m ann { %x = __import__.x() : f32<1> }",
        "module @m ann { %x = " + "a" * 9999 + ".b() : f32<1> }",
    ],
    ids=range(13),
)
def test_hostile_text_is_refused_like_any_other(text: str) -> None:
    assert len(_wrong(text)[0][1]) < 11_000


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.nmc"
    with pytest.raises(NmcError, match="cannot read the file"):
        load(path)
    with pytest.raises(NmcError, match="cannot read the file"):
        load(tmp_path)
    path.write_bytes(b"module \xff")
    with pytest.raises(NmcError, match=r"not UTF-8 text \(byte 7\)"):
        load(path)


def test_a_file_over_the_limit_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmc.ir.text.sidefile.MAX_TEXT_BYTES", 15)
    (tmp_path / "m.nmc").write_text("module @m ann {}")
    with pytest.raises(NmcError, match="more than 15 bytes"):
        load(tmp_path / "m.nmc")


@pytest.mark.parametrize(
    "data",
    [np.arange(21), np.arange(20.0), np.arange(20).reshape(4, 5), np.arange(20) + 1j, np.arange(20)[::-1]],
    ids=["longer", "floats", "other shape", "complex", "other content"],
)
def test_a_side_file_of_another_module_is_noticed(data: Any, tmp_path: Path) -> None:
    const = Const("c", np.arange(20))
    save(Module("m", "image", (image.Region(words=const, core=0, table="t"),)), tmp_path / "m.nmc")
    write_npz(tmp_path / "m.npz", {const.digest: data})
    with pytest.raises(NmcError, match="constant @c: the side file"):
        load(tmp_path / "m.nmc")


def test_a_side_file_in_the_other_byte_order_is_as_good(tmp_path: Path) -> None:
    const = Const("c", np.arange(20))
    save(Module("m", "image", (image.Region(words=const, core=0, table="t"),)), tmp_path / "m.nmc")
    write_npz(tmp_path / "m.npz", {const.digest: np.arange(20).astype(">i8")})
    np.testing.assert_array_equal(load(tmp_path / "m.nmc").consts[0].array(), np.arange(20))


def test_the_data_of_a_constant_without_its_side_file_are_missed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.nmc"
    save(Module("m", "image", (image.Region(words=Const("c", np.arange(20)), core=0, table="t"),)), path)
    path.with_suffix(".npz").unlink()
    with pytest.raises(ValueError, match=r"the data of constant @c .* are missing"):
        load(path).consts[0].array()


@pytest.mark.parametrize("dialect", ["ann", "snn", "map", "image"])
def test_every_op_is_found_by_its_name_and_shows_its_own_text(dialect: str) -> None:
    table = dialect_ops(dialect)
    assert table
    for name, cls in table.items():
        assert find_op(name) is cls
        assert f"{name}(" in (cls.__doc__ or ""), f"{name} has no example"


def test_the_op_table_holds_only_ops_of_its_dialect() -> None:
    assert set(dialect_ops("ann").values()) >= {ann.Conv, ann.Add}
    assert Op not in dialect_ops("ann").values()
    assert dialect_ops("no-such-dialect") == {} == dialect_ops("nosuch")
