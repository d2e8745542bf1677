"""The firmware: its sources, its prebuilt ELF, a rebuild, and the recording of the real chip through its ARM code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.op import Span, Value
from nmc.ir.ops.neurons import Neuron
from nmc.ir.types import Type
from nmc.targets.spinnaker2 import layout, rebuild
from nmc.targets.spinnaker2.build import PeProgram, build
from nmc.targets.spinnaker2.elf import Kernel, kernel, kernel_of
from nmc.targets.spinnaker2.engines import make_engine, memory
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.engines.exact import ExactEngine, _Arm
from nmc.targets.spinnaker2.laws import PARAMS, STATES, Law
from nmc.targets.spinnaker2.layout import LINKS, ChipImage, InputMap, Part, PopMap, Route
from nmc.targets.spinnaker2.ops import Lif
from nmc.targets.spinnaker2.rows import DenseRows, Entry
from s2_programs import random_chip, random_input

Array = NDArray[Any]
HEADER = (rebuild.FOLDER / "layout.h").read_text()


def test_prebuilt_program_is_that_of_the_sources() -> None:
    for firmware in rebuild.FIRMWARES:
        assert (rebuild.FOLDER / firmware.hash).read_text().strip() == rebuild.source_hash(firmware)


def enum(name: str) -> list[str]:
    found = re.search(rf"enum {name} {{([^}}]*)}}", HEADER)
    assert found
    return [item.strip() for item in found[1].split(",") if item.strip()]


def struct(name: str) -> list[str]:
    found = re.search(rf"struct {name} {{([^}}]*)}}", HEADER)
    assert found
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    lists = re.findall(r"u?int32_t ([^;]*);", body)
    return [item.strip() for line in lists for item in line.split(",")]


def test_header_and_layout_say_the_same() -> None:
    assert [item.lower().removeprefix("r_") for item in enum("region")][:-1] == list(layout.REGIONS)
    assert struct("control") == list(layout.CONTROL) and struct("global") == list(layout.GLOBAL)
    assert struct("entry") == list(layout.ENTRY) and struct("geometry") == list(layout.GEOMETRY)
    models = [item.split("=")[0].strip().lower().removeprefix("m_") for item in enum("model")]
    assert models == list(layout.MODELS) == list(PARAMS) == list(STATES)
    assert [item.lower() for item in enum("format")] == list(layout.FORMATS)
    flags = [item.split("=") for item in enum("flag")]
    assert {k.strip()[2:].lower().replace("_", "-"): int(v) for k, v in flags} == layout.FLAGS
    numbers = dict(re.findall(r"#define (\w+) (0x\w+)u", HEADER))
    assert int(numbers["DSPEC_BASE"], 16) == layout.DSPEC_BASE == layout.CODE_BYTES
    assert (
        int(numbers["DSPEC_MAGIC"], 16) == layout.MAGIC
        and int(numbers["DSPEC_VERSION"], 16) == layout.VERSION
    )
    constant = re.search(r"CONSTANT_REGIONS (.*?)\n\n", HEADER, re.DOTALL)
    assert constant
    assert {item.lower() for item in re.findall(r"R_(\w+)\)", constant[1])} == set(layout.CONSTANT)
    assert max(len(params) for params in PARAMS.values()) == layout.MAX_FIELDS


def conditional_accesses(text: bytes) -> list[int]:
    """Addresses of loads and stores inside IT blocks."""
    found, at, left = [], 8, 0
    halves = np.frombuffer(text, "<u2")
    while at // 2 < len(halves):
        half = int(halves[at // 2])
        wide = half >> 11 in (0b11101, 0b11110, 0b11111)
        narrow_access = 0x4800 <= half < 0xA000 or half & 0xF600 == 0xB400
        wide_access = half & 0xFE00 in (0xE800, 0xEC00) or half & 0xFE00 == 0xF800
        if left and (wide_access if wide else narrow_access):
            found.append(at)
        left = max(left - 1, 0)
        if half & 0xFF00 == 0xBF00 and half & 0xF:
            left = 4 - (half & -half).bit_length() + 1
        at += 4 if wide else 2
    return found


def test_no_load_or_store_depends_on_a_condition() -> None:
    """Unicorn 2.1.4 forgets to leave the condition when such a load misses the TLB (see `rebuild.FLAGS`)."""
    assert conditional_accesses(kernel().text) == [] == conditional_accesses(kernel(user=True).text)
    ite_ldr = bytes(8) + bytes.fromhex("08bf 1868 7047".replace(" ", ""))  # it eq; ldreq r0, [r3]; bx lr
    assert conditional_accesses(ite_ldr) == [10]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Kernel]:
    """Both programs built anew, by whether they are for models of the user's; skipped without a cross compiler."""
    if rebuild.compiler() is None:
        pytest.skip("no cross compiler")
    found = {}
    for user, firmware in ((False, rebuild.BUILT_IN), (True, rebuild.USER)):
        target = tmp_path_factory.mktemp("firmware") / firmware.elf
        rebuild.compile_firmware(target, firmware)
        found[user] = kernel_of(target.read_bytes())
    return found


def test_a_rebuild_behaves_as_the_prebuilt_program(
    rebuilt: dict[bool, Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("unicorn")
    for seed in range(6):
        image = random_chip(seed, steps=12)
        chip, x = load_chip(image), random_input(seed, image, 1, 12)
        ends = []
        for program in (kernel, rebuilt.__getitem__):
            with monkeypatch.context() as patch:
                patch.setattr(memory, "kernel", program)
                engine = ExactEngine(chip)
            engine.run(x, 12)
            ends.append(
                {
                    place: pe.sram[layout.CODE_BYTES // 4 : -layout.STACK_BYTES // 4].copy()
                    for place, pe in engine.pes.items()
                }
            )
        assert all(np.array_equal(ends[0][place], ends[1][place]) for place in chip.pes)


def test_binutils_read_the_files(tmp_path: Path) -> None:
    from shutil import which

    from nmc.targets.spinnaker2.image import to_files

    if which("readelf") is None:
        pytest.skip("no readelf")
    files = to_files(random_chip(1, ("lif",)))
    path = tmp_path / "pe.elf"
    path.write_bytes(next(data for name, data in files.items() if name.endswith(".elf")))
    told = subprocess.run(["readelf", "-hSWs", path], capture_output=True, text=True, check=True)
    assert not told.stderr and "Version5 EABI, hard-float ABI" in told.stdout
    assert all(f" .{name} " in told.stdout for name in layout.REGIONS) and "reset_handler" in told.stdout


def test_firmware_refuses_damaged_data() -> None:
    pytest.importorskip("unicorn")
    pe = load_chip(random_chip(2, ("if",))).pes
    loaded = next(iter(pe.values()))
    for name in layout.CONSTANT:
        if len(loaded.image.regions[name]):
            sram = memory.new_sram(loaded)
            sram[loaded.image.pointers()[name] // 4] ^= 1
            _Arm(sram, None).boot()
            assert sram[loaded.image.pointers()["control"] // 4] == 3, name


def test_instructions_are_counted() -> None:
    pytest.importorskip("unicorn")
    image = random_chip(4, ("lif",))
    engine = ExactEngine(load_chip(image), count_instructions=True)
    engine.run(random_input(4, image, 2, 3), 3)
    for place, counter in engine.counters.items():
        neurons = engine.pes[place].pe.neurons
        assert len(counter.ticks) == 6 and all(300 + 40 * neurons < n < 40_000 for n in counter.ticks)


def braille(shared: Path) -> tuple[ChipImage, Array, Array]:
    """The recurrent layer of the NIR paper's Braille network as py-spinnaker2 ran it (facts/nir.md 1.5)."""
    from nmc.frontends.nir import load_nir

    folder = shared / "oracles" / "nir"
    module = load_nir(folder / "braille_noDelay_noBias_subtract.nir", semantics="spinnaker2")
    ops = {op.out: op for op in module.ops}
    neuron: Any = ops["lif1.lif"]
    layers: dict[str, Any] = {name: ops[name] for name in ("fc1", "lif1.w_rec")}
    weights = {name: layers[name].weight.array().astype(np.int64) for name in layers}
    assert all(np.array_equal(weights[name], layers[name].weight.array()) for name in weights)
    params = {"scale": neuron.w_in, "alpha": neuron.alpha, "beta": neuron.beta, "gain": neuron.gain,
              "threshold": neuron.threshold}  # fmt: skip
    law = Law("lif", compare=neuron.compare, reset=neuron.reset, start=neuron.start)
    entries = (
        Entry(0, 0xFFFFFF00, DenseRows(weights["fc1"].T)),
        Entry(256, 0xFFFFFF00, DenseRows(weights["lif1.w_rec"].T)),
    )
    program = PeProgram(0, 17, 256, law, 40, {k: c.array() for k, c in params.items()}, np.zeros(1), entries)
    routes = (Route(0, 0xFFFFFE00, 1 << (LINKS + 17)),)
    image = ChipImage((build(program),), {0: routes}, (InputMap("x", (12,), (Part(0, -1, 0, (Span(0, 12),)),)),),
                      (PopMap("h", (40,), (Part(0, 17, 256, (Span(0, 40),)),)),), steps=256)  # fmt: skip
    x = np.load(folder / "braille_test_sample0_input_256x12_label1.npy").astype(np.int32)
    return image, x, np.load(folder / "s2_activity_noDelay_noBias_subtract.npy")


def test_braille_recording_of_the_chip_is_reproduced_by_the_arm_code(
    shared: Path, engines: tuple[str, ...]
) -> None:
    image, x, want = braille(shared)
    for name in engines:
        found = make_engine(load_chip(image), name).run({"x": x[None]}, len(x), probes=["h.spikes"])
        have = found.probes["h.spikes"][0]
        assert have.size == 10_240 and have.sum() == 119 and int((have != want).sum()) == 0


@pytest.mark.parametrize("order", ["synapse-first", "membrane-first"])
@pytest.mark.parametrize("reset", ["zero", "subtract", "to-value", "none"])
def test_lif_is_the_neuron_of_the_networks_in_single_precision(order: Any, reset: Any) -> None:
    rng = np.random.default_rng(5)
    shape = (7,)
    current = Value("i", Type("current", shape))

    def const(name: str, low: float, high: float) -> Const:
        return Const(name, rng.uniform(low, high, shape).astype(np.float32))

    fires = reset != "none"
    common: dict[str, Any] = {
        "alpha": const("alpha", 0, 0.9), "beta": const("beta", 0.5, 1), "gain": const("gain", 0.5, 1.5),
        "leak": const("leak", -0.1, 0.1), "bias": const("bias", -1, 1), "order": order, "compare": "gt", "start": 2,
        "threshold": const("threshold", 1, 3) if fires else None,
        "refractory": Const("r", np.full(shape, 2)) if fires else None,
    }  # fmt: skip
    scale, resting = const("scale", 0.05, 0.2), const("v_reset", -1, 0)
    ours = Lif(current=(current,), scale=scale, reset="to-value" if reset == "zero" else reset,
               v_reset=resting if reset == "to-value" else None, **common)  # fmt: skip
    theirs = Neuron(current=(current,), reset=reset, v_reset=resting if reset == "to-value" else None,
                    precision="f32", **{**common, "bias": None})  # fmt: skip
    states = ours.begin(3), theirs.begin(3)
    for t in range(40):
        sums = rng.integers(-20, 40, (3, *shape)).astype(np.int32)
        scaled = sums.astype(np.float32) * scale.array() + (
            common["bias"].array() if t >= 2 else np.float32(0)
        )
        a = ours.step(states[0], t, sums)
        b = theirs.step(states[1], t, scaled)
        assert np.array_equal(a, b) and np.array_equal(states[0]["v"], states[1]["v"])


@pytest.mark.parametrize("model", list(layout.MODELS))
def test_the_stack_stays_in_its_place(model: Any) -> None:
    """What lies right below the stack is as the program left it: nothing was pushed over it."""
    pytest.importorskip("unicorn")
    for seed in range(2):
        image = random_chip(seed, (model,), 8)
        engine = ExactEngine(load_chip(image))
        mark = np.uint32(0xA5A5A5A5)
        words = layout.STACK_BYTES // 4
        free = {}
        for place, pe in engine.pes.items():
            used = max(
                pe._pointers["rec_payload"] // 4 + len(pe.region("rec_payload")), layout.DSPEC_BASE // 4
            )
            free[place] = slice(used, layout.SRAM_BYTES // 4 - words)
            for part in (pe.sram, pe._fresh[1][-layout.SRAM_BYTES // 4 :]):
                part[len(part) - (layout.SRAM_BYTES // 4 - used) : -words] = mark
        engine.run(random_input(seed, image, 1, 6), 6)
        assert all((pe.sram[free[place]] == mark).all() for place, pe in engine.pes.items())
