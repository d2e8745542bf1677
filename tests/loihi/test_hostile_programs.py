"""Whatever the bytes of an .nmx file: a diagnostic, never a traceback, a hang or a file elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_chain import compile_legal, legal_module
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.ops import snn
from nmc.program import SCHEMA, Program
from nmc.targets.loihi import backend
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.binary import from_bytes, to_bytes

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def program() -> Program:
    x = loihi.Input(out="x", source="x", shape=(4,), kind="bias", gain=4080.0, exponent=4)
    a = loihi.Lif(out="a", drive=x.result, vth=4080, reset="soft", reset_mant=255, reset_exp=4)
    weight = Const("b.w", np.arange(-12, 12, 2, dtype=np.int16).reshape(3, 4))
    b_in = loihi.Dense(out="b.x", spikes=a.result, weight=weight)
    b = loihi.Lif(out="b", current=(b_in.result,), reset="none")
    chain = compile_legal(legal_module([x, a, b_in, b, snn.Output(data=b.result)]))
    manifest = {"target": "loihi", "steps": 20, "nmc": "0", "seed": 0}
    return Program.build(chain.mapped, chain.files, manifest, {"cores": 1}, backend.places(chain.mapped))


def use(path: Path) -> str:
    """Open a file and use everything in it; gives the code of what went wrong."""
    try:
        found = Program.open(path)
        _ = found.report, found.map, found.steps, str(found.module)
        _ = str(found.image_module())
        found.run(np.full((2, 4), 0.5, np.float32))
        found.where("0:0")
    except NmcError as error:
        assert error.exit_code in (1, 2)
        return error.diagnostics[0].code
    return ""


def members_of(program: Program) -> Members:
    with zipfile.ZipFile(io.BytesIO(program.to_bytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(members: Members) -> Members:
    """The members with a manifest whose hashes are right."""
    manifest = json.loads(members["manifest.json"])
    rest = {name: data for name, data in members.items() if name != "manifest.json"}
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in rest.items()}
    return {"manifest.json": json.dumps(manifest).encode(), **rest}


def store(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return path


def test_the_untouched_program_runs(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "good.nmx"
    program.save(path)
    assert use(path) == ""
    assert Program.open(path).to_bytes() == program.to_bytes()
    assert use(store(tmp_path / "sealed.nmx", sealed(members_of(program)))) == ""


def test_every_truncation_is_refused(program: Program, tmp_path: Path) -> None:
    data = program.to_bytes()
    for size in range(0, len(data), max(1, len(data) // 150)):
        path = tmp_path / "cut.nmx"
        path.write_bytes(data[:size])
        assert use(path) in ("E0803", "E0804"), size


@settings(max_examples=250)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bits_are_refused_or_harmless(
    place: float, bit: int, program: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(program.to_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "flipped.nmx"
    path.write_bytes(data)
    use(path)


@settings(max_examples=250)
@given(data=st.data())
def test_members_with_right_hashes_and_wrong_contents_end_in_a_diagnostic(
    data: Any, program: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    members = members_of(program)
    name = data.draw(st.sampled_from(sorted(members)))
    raw = bytearray(members[name])
    kind = data.draw(st.sampled_from(["flip", "cut", "drop", "swap"]))
    if kind == "flip":
        for _ in range(data.draw(st.integers(1, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    members[name] = bytes(raw[: data.draw(st.integers(0, len(raw)))] if kind == "cut" else raw)
    if kind == "swap":
        members[name] = members[data.draw(st.sampled_from(sorted(members)))]
    if kind == "drop" and name != "manifest.json":
        del members[name]
    with suppress(ValueError, KeyError, TypeError, AttributeError):  # a damaged manifest stays as it is
        members = sealed(members)
    use(store(tmp_path_factory.mktemp("seal") / "sealed.nmx", members))


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:evil", "image/../../evil", "C:\\evil"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    assert use(store(folder / "evil.nmx", sealed({**members_of(program), name: b"evil"}))) == "E0803"
    assert {path.name for path in tmp_path.rglob("*")} == {"inner", "evil.nmx"}


def test_bombs_are_refused_unread(program: Program, tmp_path: Path) -> None:
    members = {**members_of(program), "image/loihi.nmcl": bytes(50_000_000)}
    path = store(tmp_path / "bomb.nmx", sealed(members), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    assert use(path) == "E0803"
    many = {f"image/{n}": b"" for n in range(5000)}
    assert use(store(tmp_path / "many.nmx", sealed({**members_of(program), **many}))) == "E0803"


def _manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Members], Members]:
    def apply(members: Members) -> Members:
        manifest = json.loads(members["manifest.json"])
        change(manifest)
        return {**members, "manifest.json": json.dumps(manifest).encode()}

    return apply


def _short_map(data: bytes) -> bytes:
    places = json.loads(data)
    places["a"]["core"].pop()
    return json.dumps(places).encode()


BROKEN: dict[str, tuple[Callable[[Members], Members], str]] = {
    "no manifest": (lambda m: {k: v for k, v in m.items() if k != "manifest.json"}, "E0803"),
    "manifest no JSON": (lambda m: {**m, "manifest.json": b"{"}, "E0803"),
    "manifest a list": (lambda m: {**m, "manifest.json": b"[]"}, "E0803"),
    "manifest too deep": (lambda m: {**m, "manifest.json": b"[" * 100_000}, "E0803"),
    "schema": (_manifest(lambda m: m.update(schema=SCHEMA + "1")), "E0803"),
    "schema an object": (_manifest(lambda m: m.update(schema={})), "E0803"),
    "files a number": (_manifest(lambda m: m.update(files=3)), "E0803"),
    "steps text": (_manifest(lambda m: m.update(steps="many")), "E0803"),
    "steps infinite": (_manifest(lambda m: m.update(steps=float("inf"))), "E0803"),
    "target unknown": (_manifest(lambda m: m.update(target="nochip")), "E0721"),
    "target a path": (_manifest(lambda m: m.update(target="../../evil")), "E0721"),
    "target a keyword": (_manifest(lambda m: m.update(target="loihi.backend")), "E0721"),
    "wrong hash": (lambda m: {**m, "map.json": m["map.json"] + b" "}, "E0804"),
    "member missing": (lambda m: {k: v for k, v in m.items() if k != "module.nmc"}, "E0804"),
    "member too many": (lambda m: {**m, "more": b""}, "E0804"),
    "report a list": (lambda m: sealed({**m, "report.json": b"[]"}), "E0804"),
    "report missing": (lambda m: sealed({k: v for k, v in m.items() if k != "report.json"}), "E0804"),
    "map of nothing": (lambda m: sealed({**m, "map.json": b'{"a": 3}'}), "E0804"),
    "map of the wrong length": (lambda m: sealed({**m, "map.json": _short_map(m["map.json"])}), "E0804"),
    "map too deep": (lambda m: sealed({**m, "map.json": b'{"a":' * 100_000}), "E0804"),
    "image missing": (lambda m: sealed({k: v for k, v in m.items() if not k.startswith("image/")}), "E0801"),
    "image empty": (lambda m: sealed({**m, "image/loihi.nmcl": b""}), "E0502"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_manifests_and_members_are_told(case: str, program: Program, tmp_path: Path) -> None:
    change, code = BROKEN[case]
    assert use(store(tmp_path / "broken.nmx", change(members_of(program)))) == code


@pytest.mark.parametrize("name", ["module.nmc", "module.npz"])
def test_a_missing_or_foreign_module_is_told(name: str, program: Program, tmp_path: Path) -> None:
    members = members_of(program)
    for content in (b"", b"PK\x03\x04junk", b"module @m snn {", bytes(range(256))):
        assert use(store(tmp_path / "module.nmx", sealed({**members, name: content}))) != ""
    del members[name]
    assert use(store(tmp_path / "missing.nmx", sealed(members))) != ""


def test_places_that_are_no_files_are_told(tmp_path: Path) -> None:
    assert use(tmp_path / "absent.nmx") == "E0803"
    assert use(tmp_path) == "E0803"
    (tmp_path / "text.nmx").write_text("hello")
    assert use(tmp_path / "text.nmx") == "E0803"


def test_an_image_cannot_ask_for_endless_runs(program: Program) -> None:
    image = from_bytes(program.files[backend.IMAGE])
    endless = to_bytes(replace(image, header=replace(image.header, steps=(1 << 32) - 1)))
    with pytest.raises(NmcError, match="E0401.*4,294,967,295 steps"):
        backend.Runner({backend.IMAGE: endless}).run({"x": np.zeros((1, 4))})
