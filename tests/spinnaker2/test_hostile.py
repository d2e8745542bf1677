"""Images made to do harm: damaged inside, with all lengths, checksums and hashes right again."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.driver import CompileOptions, compile_model
from nmc.ir.diagnostics import NmcError
from nmc.program import Program
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2.elf import read_pe, write_pe
from nmc.targets.spinnaker2.engines import make_engine
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.image import from_files, to_files
from nmc.targets.spinnaker2.layout import ChipImage, PeImage
from s2_programs import MODELS, random_chip

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CODES = {"E0401", "E0540", "E0911", "E0912", "E0913"}
#: Words that have hurt loaders before: signs, ends of ranges, places just past a region.
EVIL = (
    0,
    1,
    2,
    7,
    8,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x1FFFC,
    0x20000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
REGIONS = ("global", "params", "table", "index", "geometry", "rows", "routing", "state")


def worse(rng: np.random.Generator, pe: PeImage) -> PeImage:
    """A PE with some words changed and regions longer or shorter; writing it makes checksums fit again."""
    regions = {name: words.copy() for name, words in pe.regions.items()}
    for _ in range(int(rng.integers(1, 4))):
        name = str(rng.choice(REGIONS))
        words = regions[name]
        if rng.random() < 0.1:
            regions[name] = (
                np.resize(words, max(0, words.size + int(rng.integers(-3, 4)))) if words.size else words
            )
        elif words.size:
            at = int(rng.integers(words.size))
            near = int(words[at]) + int(rng.integers(-5, 6))
            words[at] = int(rng.choice(EVIL)) if rng.random() < 0.6 else near % (1 << 32)
    return PeImage(pe.chip, pe.pe, regions)


def attack(seed: int, engines: tuple[str, ...]) -> bool:
    """Damage an image, write and read it, run what is let through; whether it ran."""
    rng = np.random.default_rng(seed)
    image = random_chip(seed, (MODELS[seed % len(MODELS)],), 6)
    files = to_files(replace(image, pes=tuple(worse(rng, pe) for pe in image.pes)))
    try:
        chip = load_chip(from_files(files))
        x = {"x": rng.integers(-3, 4, (1, 5, *image.inputs[0].shape)).astype(np.int32)}
        for name in engines:
            make_engine(chip, name).run(x, 6)
    except NmcError as error:
        assert {item.code for item in error.diagnostics} <= CODES
        return False
    return True


@pytest.mark.parametrize("first", [0, pytest.param(200, marks=pytest.mark.slow)])
def test_damage_with_right_checksums_is_refused_or_harmless(engines: tuple[str, ...], first: int) -> None:
    """C and ARM code run what the checks let through: nothing may leave the SRAM, hang or crash."""
    ran = [attack(seed, engines) for seed in range(first, 200 if first == 0 else 3000)]
    assert 0 < sum(ran) < len(ran)


def geometry(pe: PeImage, **changes: int) -> PeImage:
    """A PE whose first convolution is another."""
    words = pe.regions["geometry"].copy()
    for name, value in changes.items():
        words[layout.GEOMETRY.index(name)] = value & 0xFFFFFFFF
    return PeImage(pe.chip, pe.pe, {**pe.regions, "geometry": words})


def convolution() -> tuple[ChipImage, int]:
    """A chip with a convolution, and the number of its PE."""
    for seed in range(40):
        image = random_chip(seed, ("if",), 6)
        for number, pe in enumerate(image.pes):
            if pe.regions["geometry"].size:
                return image, number
    raise AssertionError


@pytest.mark.parametrize(
    "changes",
    [{"kernel_y": 1 << 14}, {"kernel_x": 1 << 14}, {"channels": 1 << 14}, {"width": 1 << 14}, {"dilation_x": 1 << 14},
     {"tc0": 1 << 14, "tc1": (1 << 14) + 1, "kernel_y": 1 << 14}, {"y0": -(1 << 14)}, {"pad_y": 1 << 14},
     {"ty0": -5}, {"ty1": 1 << 14}, {"tx0": -(1 << 14)}, {"kernel_stride": 1 << 14}, {"stride_x": 0},
     {"group_in": 1 << 14, "group_out": 1 << 14}, {"c0": 1 << 14}],
    ids=str,
)  # fmt: skip
def test_an_evil_convolution_takes_neither_memory_nor_time(
    engines: tuple[str, ...], changes: dict[str, int]
) -> None:
    image, number = convolution()
    pes = list(image.pes)
    pes[number] = geometry(pes[number], **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        chip = load_chip(from_files(to_files(replace(image, pes=tuple(pes)))))
        for name in engines:
            make_engine(chip, name).run({"x": np.ones((1, 3, *image.inputs[0].shape), np.int32)}, 4)
    except NmcError as error:
        assert {item.code for item in error.diagnostics} == {"E0912"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_a_crowd_of_evil_convolutions_is_stopped_by_their_sum() -> None:
    """Each of these entries alone would be let through; together they would unfold to gigabytes."""
    image, number = convolution()
    pes = list(image.pes)
    regions = dict(pes[number].regions)
    table = regions["table"].reshape(-1, layout.ENTRY_WORDS)
    conv = next(
        row for row in table if layout.FORMATS[int(row[layout.ENTRY.index("info")]) & 255] == "conv"
    ).copy()
    conv[layout.ENTRY.index("count")] = 1 << 20
    regions["table"] = np.tile(conv, 300)
    words = regions["global"].copy()
    words[layout.GLOBAL.index("entries")] = 300
    image_of = PeImage(pes[number].chip, pes[number].pe, {**regions, "global": words})
    shift = 4 * (regions["table"].size - table.size)
    for name in ("rows", "stride"):  # pointers into regions that now lie further back
        image_of.regions["table"].reshape(-1, layout.ENTRY_WORDS)[:, layout.ENTRY.index(name)] += np.uint32(
            shift
        )
    pes[number] = image_of
    with pytest.raises(NmcError, match="its kernels stand for"):
        load_chip(replace(image, pes=tuple(pes)))


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_model(EXAMPLES / "snn" / "xor.snn", CompileOptions(target="spinnaker2", effort="fast"))


def rebuilt(program: Program, files: dict[str, bytes]) -> Program:
    """A program file around other image files, with their hashes."""
    manifest = {name: item for name, item in program.manifest.items() if name != "files"}
    return Program.build(program.module, files, manifest, program.report, program.map)


@pytest.mark.parametrize("engine", ["functional", "native", "exact"])
def test_a_program_file_with_right_hashes_gets_no_further(
    program: Program, engine: str, engines: tuple[str, ...], tmp_path: Path
) -> None:
    """From the file on the disk to a run: a clean error or an answer, and no file but the one that is read."""
    ends = set()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        files = dict(program.files)
        name = str(rng.choice(sorted(name for name in files if name.endswith(".elf"))))
        files[name] = write_pe(worse(rng, read_pe(files[name])))
        if seed % 3 == 0:
            files["chip.json"] = json.dumps(_worse_map(rng, json.loads(files["chip.json"]))).encode()
        path = tmp_path / "evil.nmx"
        rebuilt(program, files).save(path)
        try:
            Program.open(path).run(None, engine=engine)
            ends.add("ran")
        except NmcError as error:
            ends |= {item.code for item in error.diagnostics}
    assert ends - {"ran"} and ends - {"ran"} <= CODES
    assert [item.name for item in tmp_path.iterdir()] == ["evil.nmx"]


def _worse_map(rng: np.random.Generator, meta: Any) -> Any:
    """``chip.json`` with one number changed."""
    places: list[Callable[[Any], None]] = []

    def visit(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, dict | list):
                visit(value)
            elif isinstance(value, int) and key != "steps":
                places.append(lambda new, node=node, key=key: node.__setitem__(key, new))  # type: ignore[misc]

    visit(meta)
    if places:
        places[int(rng.integers(len(places)))](int(rng.choice([-1, 0, 3, 1 << 16, 1 << 31, 1 << 40])))
    return meta


def test_names_that_lead_out_of_the_folder_are_refused(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path / "good.nmx")
    out = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "good.nmx") as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("../escaped.elf", b"x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "evil.nmx").write_bytes(out.getvalue())
    with contextlib.suppress(NmcError):
        Program.open(tmp_path / "in" / "evil.nmx").run(None)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["good.nmx", "in"]
