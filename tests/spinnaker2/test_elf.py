"""Files: what is written is read back, and nothing that is damaged goes further than an error."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.diagnostics import NmcError
from nmc.ir.verify import verify_or_raise
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2.elf import read_pe, read_sections, write_pe
from nmc.targets.spinnaker2.engines import make_engine
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.image import CHIP, from_files, to_files, to_image, to_module
from nmc.targets.spinnaker2.layout import PeImage
from nmc.targets.spinnaker2.load import load
from s2_compare import differences, probes_of, run_all
from s2_programs import MODELS, random_chip, random_input

FILES = to_files(random_chip(1, ("lif", "stbif")))
ELF = next(data for name, data in FILES.items() if name.endswith(".elf"))


@pytest.mark.parametrize("seed", range(4))
def test_files_and_modules_give_the_image_back(seed: int) -> None:
    image = random_chip(seed)
    files = to_files(image)
    assert from_files(files) == image and to_files(from_files(files)) == files
    module = to_module(image)
    verify_or_raise(module)
    assert to_image(module) == image


def test_image_read_from_files_runs_the_same() -> None:
    image = random_chip(5, ("graded", "lif"))
    x, probes = random_input(5, image, 2, 10), probes_of(image)
    found = [
        make_engine(load_chip(item), "functional").run(x, 10, probes=probes)
        for item in (image, from_files(to_files(image)))
    ]
    assert all(np.array_equal(found[0].probes[name], found[1].probes[name]) for name in probes)


def run_quickly(files: dict[str, bytes]) -> None:
    """Do with files what a user would."""
    image = from_files(files)
    chip = load_chip(image)
    if sum(int(np.prod(entry.shape)) for entry in image.inputs) < 10_000:
        x = {entry.name: np.ones((1, 2, *entry.shape), np.int32) for entry in image.inputs}
        make_engine(chip, "functional").run(x, 2)


@settings(max_examples=150)
@given(st.data())
def test_damaged_files_are_errors_and_nothing_else(data: Any) -> None:
    name = data.draw(st.sampled_from(sorted(FILES)))
    raw = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(raw))))
    try:
        run_quickly({**FILES, name: bytes(raw[:cut])})
    except NmcError as error:
        assert {item.code for item in error.diagnostics} <= {"E0911", "E0912", "E0913"}


@settings(max_examples=300)
@given(st.data())
def test_regions_with_any_words_are_checked_before_they_run(data: Any) -> None:
    image = read_pe(ELF)
    regions = {name: words.copy() for name, words in image.regions.items()}
    name = data.draw(st.sampled_from(["global", "params", "table", "index", "geometry", "routing", "rows"]))
    words = regions[name]
    if not len(words):
        return
    for _ in range(data.draw(st.integers(1, 3))):
        value = data.draw(
            st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1), st.integers(0x2000, 0x4000))
        )
        words[data.draw(st.integers(0, len(words) - 1))] = value
    try:
        pe = load(PeImage(image.chip, image.pe, regions))
    except NmcError as error:
        assert {item.code for item in error.diagnostics} == {"E0912"}
        return
    for entry in pe.entries:
        inside = entry.target.size == 0 or (entry.target.min() >= 0 and entry.target.max() < pe.neurons)
        assert inside and (entry.dense is None or entry.dense_at[2] + entry.dense.shape[1] <= pe.neurons)


def damaged(rng: Any, image: PeImage) -> PeImage:
    """The same image with a few words changed."""
    regions = {name: words.copy() for name, words in image.regions.items()}
    for _ in range(int(rng.integers(1, 3))):
        words = regions[str(rng.choice(["global", "params", "table", "index", "geometry", "rows", "state"]))]
        if len(words):
            at, by = int(rng.integers(0, len(words))), int(rng.integers(-4, 5))
            bit = 1 << int(rng.integers(0, 32))
            words[at] = rng.choice(
                [int(rng.integers(0, 20)), int(words[at]) ^ bit, (int(words[at]) + by) % (1 << 32)]
            )
    return PeImage(image.chip, image.pe, regions)


@pytest.mark.parametrize("first", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_what_passes_the_checks_means_the_same_to_all_engines(engines: tuple[str, ...], first: int) -> None:
    """Whatever words an image holds: it is refused, or it runs alike (and the C code does not leave its SRAM)."""
    run = 0
    for seed in range(80) if first == 0 else range(80, 1500):
        rng = np.random.default_rng(seed)
        image = random_chip(seed, (MODELS[seed % len(MODELS)],), 8)
        image = replace(image, pes=tuple(damaged(rng, pe) for pe in image.pes))
        try:
            wrong = differences(image, random_input(seed, image, 1, 8), 8, engines)
        except NmcError as error:
            assert {item.code for item in error.diagnostics} <= {"E0912", "E0913"}
            continue
        v = run_all(image, random_input(seed, image, 1, 8), 8, ["functional"])[2]["functional"].probes["p0.v"]
        assert wrong == [] or np.isnan(v).any(), seed
        run += 1
    assert run > 10


def test_any_bytes_are_no_elf() -> None:
    for raw in (b"", b"\x7fELF", ELF[:51], bytes(4096), ELF[:400]):
        with pytest.raises(NmcError, match="E0911"):
            read_pe(raw)


def test_another_program_text_is_refused() -> None:
    at = next(s for s in read_sections(ELF) if s.name == ".text")
    raw = ELF.replace(at.data, at.data[:100] + b"\0\0\0\0" + at.data[104:])
    with pytest.raises(NmcError, match="compile the network again"):
        read_pe(raw)


def test_data_that_do_not_match_their_checksum_are_refused() -> None:
    image = read_pe(ELF)
    rows = image.regions["rows"].astype("<u4").tobytes()
    with pytest.raises(NmcError, match="E0912"):
        read_pe(ELF.replace(rows, rows[:-1] + bytes([rows[-1] ^ 1])))


def test_equal_images_give_equal_bytes_and_sections_have_the_addresses_of_the_map() -> None:
    image = read_pe(ELF)
    assert write_pe(image) == ELF
    addresses = {s.name[1:]: s.address for s in read_sections(ELF)}
    assert {name: addresses[name] for name in layout.REGIONS} == image.pointers()


@pytest.mark.parametrize("key", ["grid", "inputs", "pops", "outputs", "steps", "attrs"])
def test_chip_table_needs_every_entry(key: str) -> None:
    meta = json.loads(FILES[CHIP])
    del meta[key]
    with pytest.raises(NmcError, match="E0913"):
        from_files({**FILES, CHIP: json.dumps(meta).encode()})
