"""PEs keep up with the tick: the partition cuts for it, routers spare PEs spikes in vain, and runs tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import exact, snn
from nmc.ir.ops.mapped import Neurons
from nmc.ir.target import resolve
from nmc.targets.spinnaker2 import backend
from nmc.targets.spinnaker2.build import RX_PACKETS
from nmc.targets.spinnaker2.cycles import CPI
from nmc.targets.spinnaker2.emit import layout_of
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.engines.exact import ExactEngine
from nmc.targets.spinnaker2.fit import Fit
from nmc.targets.spinnaker2.keys import KeyRange
from nmc.targets.spinnaker2.layout import PeImage
from nmc.targets.spinnaker2.placing import gathered
from nmc.targets.spinnaker2.ways import blocks
from s2_chain import Chain, compile_legal, legalised
from s2_compare import differences
from s2_programs import random_chip, random_input

Array = NDArray[Any]
TICK = 300_000


def dense(inputs: int, neurons: int, high: int = 9) -> Module:
    """A burst of counts onto a dense layer."""
    x = snn.Input(out="x", source="x", shape=(inputs,), encoder="burst", gain=float(high), high=high)
    via = snn.Dense(out="h.x", spikes=x.result, weight=Const("h.w", np.ones((neurons, inputs), np.int8)))
    theta = Const("theta", np.full(1, 50, np.int32))
    h = exact.StBif(out="h", current=(via.result,), theta=theta, offset=theta, levels=8)
    return legalised(Module("dense", "snn", (x, via, h), (("steps", 12),)))


def images(count: int, inputs: int, lit: float) -> Array:
    """Samples of which a share of the pixels is not dark."""
    rng = np.random.default_rng(1)
    return np.where(rng.random((count, inputs)) < lit, rng.random((count, inputs)), 0).astype(np.float32)


def boxes(module: Module) -> list[int]:
    return [part.result.type.size for part in module.of_type(Neurons) if part.core >= 0]


def test_a_dense_layer_of_784_inputs_keeps_140_neurons_a_pe_where_ticks_allow_it() -> None:
    found = Fit(samples=images(8, 784, 0.15)).run(dense(784, 140))
    assert boxes(found) == [140] and found.attr("ticks")["spikes"] == "measured"
    assert len(boxes(Fit(samples=images(8, 784, 0.2)).run(dense(784, 1000)))) <= 20


def test_boxes_are_cut_for_the_fullest_tick_while_pes_are_free() -> None:
    legal, data = dense(784, 600), images(8, 784, 0.9)
    late, kept = Fit(samples=data, realtime=False).run(legal), Fit(samples=data).run(legal)
    peaks = [max(peak for _, peak in item.attr("ticks")["loads"].values()) * CPI for item in (late, kept)]
    assert peaks[0] > 1.05 * TICK and peaks[1] <= TICK and len(boxes(kept)) > len(boxes(late))
    assert "PEs miss a tick" in backend.describe(gathered(late))["warnings"][0]
    assert not backend.describe(gathered(kept))["warnings"]
    assert str(Fit(samples=data).run(legal)) == str(kept)


def test_what_no_cut_can_save_is_told_with_numbers() -> None:
    found = gathered(Fit(samples=images(4, 6000, 1.0)).run(dense(6000, 8)))
    (line,) = backend.describe(found)["warnings"]
    assert "PEs miss a tick of 1 ms at 300 MHz on sample data" in line and "PEs are free" in line


def strided(steps: int = 12) -> Chain:
    """Two layers of kernels, cut into many boxes."""
    rng = np.random.default_rng(3)
    ops: list[Op] = [snn.Input(out="x", source="x", shape=(2, 12, 12), encoder="raster")]
    for name, channels in (("a", 6), ("b", 5)):
        weight = Const(f"{name}.w", rng.integers(-9, 12, (channels, ops[-1].result.shape[0], 3, 3)) / 16)
        via = snn.Conv(
            out=f"{name}.x",
            spikes=ops[-1].result,
            weight=weight,
            stride=(1, 1),
            pad=(1, 1, 1, 1),
            dilation=(1, 1),
        )
        ops += [via, snn.If(out=name, current=(via.result,))]
    ops.append(snn.Output(data=ops[-1].result, decoder="count"))
    return compile_legal(legalised(Module("kernels", "snn", tuple(ops), (("steps", steps),)), bits=8))


def test_spikes_through_kernels_go_only_where_they_are_heard(engines: tuple[str, ...]) -> None:
    legal = strided().legal
    mapped = gathered(Fit(neurons=200, realtime=False).run(legal))
    chain = Chain(legal, mapped, backend.emit(mapped))
    narrow, wide = (layout_of(mapped, ranges=ranges).flows for ranges in (True, False))
    spread = [
        sum(len(flow.targets) for flow in flows["x.p0"]) / len(flows["x.p0"]) for flows in (narrow, wide)
    ]
    assert spread[0] < spread[1]
    rng = np.random.default_rng(4)
    data = {"x": (rng.random((2, 10, 2, 12, 12)) < 0.3).astype(np.uint8)}
    assert chain.differences(data, 14, engines) == []


@pytest.mark.parametrize(("first", "last"), [(0, 16), (3, 29), (5, 6), (8, 8), (1 << 31, 1 << 32)])
def test_blocks_hold_exactly_the_keys_of_a_range(first: int, last: int) -> None:
    found = list(blocks(first, last))
    sizes = [(~item.mask & 0xFFFFFFFF) + 1 for item in found]
    assert sum(sizes) == last - first and all(k.base % n == 0 for k, n in zip(found, sizes, strict=True))
    assert [k.base for k in found] == [first + sum(sizes[:n]) for n in range(len(sizes))]
    assert all(isinstance(item, KeyRange) for item in found)


@pytest.mark.parametrize("seed", range(4))
def test_counted_costs_are_those_of_the_arm_code(seed: int) -> None:
    pytest.importorskip("unicorn")
    image = random_chip(seed, ("stbif", "lif"), 20)
    data = {name: np.sign(values) for name, values in random_input(seed, image, 2, 20).items()}
    mailbox = np.zeros(2 * RX_PACKETS, np.uint32)
    pes = [PeImage(pe.chip, pe.pe, {**pe.regions, "rx": mailbox}) for pe in image.pes]
    engine = ExactEngine(load_chip(replace(image, pes=tuple(pes))), count_instructions=True)
    fullest = engine.run(data, 20).events.fullest
    for place, counter in engine.counters.items():
        counted = max(counter.ticks)  # entries that share a key are searched for once, and counted each
        assert 0.9 * counted < fullest[place] < 1.5 * counted


def test_all_engines_tell_the_same_late_ticks(engines: tuple[str, ...]) -> None:
    image = random_chip(2, ("stbif", "lif"), 20)
    assert differences(image, random_input(2, image, 2, 20), 20, engines) == []  # event counts among them
    mapped = gathered(Fit(samples=images(4, 784, 0.9), realtime=False).run(dense(784, 600)))
    runner = backend.Runner(backend.emit(mapped))
    _, events = runner.run({"x": images(4, 784, 0.9)})
    assert events.late[300_000_000] == 4 * len(boxes(mapped)) <= events.late[150_000_000]
    assert (events + events).late[300_000_000] == 2 * events.late[300_000_000]
    assert backend.event_summary(events, 4)["late_ticks_300_mhz_per_sample"] == len(boxes(mapped))


def test_a_slower_clock_cuts_for_its_ticks_or_warns_with_numbers(tmp_path: Path) -> None:
    slow = tmp_path / "slow.toml"
    slow.write_text('base = "spinnaker2"\nclock = 150\n')
    data, legal = images(8, 784, 0.6), dense(784, 300)
    usual, cut = (Fit(samples=data, target=name).run(legal) for name in ("spinnaker2", str(slow)))
    peaks = [max(peak for _, peak in item.attr("ticks")["loads"].values()) * CPI for item in (usual, cut)]
    assert TICK / 2 < peaks[0] < TICK and peaks[1] < TICK / 2
    late = gathered(Fit(samples=data, target=str(slow), realtime=False).run(legal)).with_attrs(
        target=str(slow)
    )
    (line,) = backend.describe(late)["warnings"]
    assert "miss a tick of 1 ms at 150 MHz on sample data" in line and "a clock of 300, pool" in line


@pytest.mark.parametrize("clock", ["0", "200", "true", '"150"'])
def test_a_clock_that_the_chip_does_not_have_is_refused(tmp_path: Path, clock: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f'base = "spinnaker2"\nclock = {clock}\n')
    with pytest.raises(NmcError, match=r"clock must be 150 or 300 \(MHz\)"):
        resolve(str(path))
