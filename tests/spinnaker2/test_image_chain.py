"""The image of a compiled network: bytes, keys, routers and maps say what the mapped module says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops import exact, snn
from nmc.ir.ops.mapped import Neurons
from nmc.ir.text.parser import parse
from nmc.ir.text.sidefile import blobs
from nmc.targets.spinnaker2 import backend, layout
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.build import used_bytes
from nmc.targets.spinnaker2.emit import build_image, layout_of, programs
from nmc.targets.spinnaker2.fit import Fit
from nmc.targets.spinnaker2.image import from_files, to_files, to_image
from nmc.targets.spinnaker2.keys import KeyRange, allocate
from nmc.targets.spinnaker2.layout import LINKS, NocTarget, Route
from nmc.targets.spinnaker2.placing import gathered
from nmc.targets.spinnaker2.router import Flow, compress, noc_targets, plain_tables, tables, wrong_keys
from nmc.targets.spinnaker2.target import chip_data, core_of, load, place_of, place_on_qpe, qpe_of, usable
from nmc.targets.spinnaker2.wiring import neurons_of, pairs, source_mask, whole
from s2_chain import Chain, compile_legal, legalised
from s2_nets import lawful_neurons

Array = NDArray[Any]


def chain(seed: int) -> Chain:
    return compile_legal(legalised(lawful_neurons(seed)))


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_files_bytes_and_text_give_the_same_image_back(seed: int) -> None:
    found = chain(seed)
    image = build_image(found.mapped)
    assert to_files(from_files(found.files)) == found.files == to_files(image)
    listing = backend.disassemble(found.files)
    assert to_files(to_image(listing)) == found.files
    again = parse(str(listing), blobs(listing))
    assert str(again) == str(listing) and to_files(to_image(again)) == found.files
    for stage in (found.legal, found.mapped):
        assert str(parse(str(stage), blobs(stage))) == str(stage)


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_the_memory_that_was_promised_is_what_the_image_takes(seed: int) -> None:
    found = chain(seed)
    image, where = build_image(found.mapped), layout_of(found.mapped)
    for item, pe in zip(programs(found.mapped, where), image.pes, strict=True):
        assert used_bytes(item) == pe.used_bytes() <= layout.SRAM_BYTES
    use = backend.describe(found.mapped)["cores"]
    assert [row["sram_bytes"] for _, row in sorted(use.items())] == [pe.used_bytes() for pe in image.pes]


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_the_image_holds_every_synapse_once(seed: int) -> None:
    found = chain(seed)
    loaded = backend.Runner(found.files).chip
    stored = sum(
        int(np.count_nonzero(entry.weight if entry.dense is None else entry.dense))
        for pe in loaded.pes.values()
        for entry in pe.entries
    )
    wanted = 0
    for op in found.legal.of_type(s2.NeuronOp):
        for value in op.current:
            via = found.legal.producers[value.name]
            assert isinstance(via, s2.SynapseOp)
            wanted += len(pairs(via, whole(op.shape))[0])
    assert stored == wanted


def test_keys_are_disjoint_and_aligned() -> None:
    found = allocate({"a": [3, 3, 2], "b": [1], "c": [1000, 1000], "d": [1]})
    assert found["a"] == [KeyRange(k << 2, 0xFFFFFFFC) for k in range(3)] and found["b"] == [
        KeyRange(16, 0xFFFFFFFF)
    ]
    assert (
        found["c"] == [KeyRange(2048, 0xFFFFFC00), KeyRange(3072, 0xFFFFFC00)] and found["d"][0].base == 4096
    )
    with pytest.raises(DoesNotFit, match="E0925"):
        allocate({f"p{k}": [1 << 20] * 1024 for k in range(5)})


@settings(max_examples=50)
@given(seed=st.integers(0, 1 << 20))
def test_compressed_tables_send_every_key_where_plain_ones_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {
        f"p{k}": rng.integers(1, 40, rng.integers(1, 9)).tolist() for k in range(int(rng.integers(1, 12)))
    }
    keys = allocate(sizes)
    ranges = {key: size for name, found in keys.items() for key, size in zip(found, sizes[name], strict=True)}
    goals = [
        [(int(c), int(pe)) for c, pe in rng.integers((0, 0), (3, 152), (n, 2))] for n in rng.integers(0, 4, 4)
    ]
    flows = [Flow(key, int(rng.integers(3)), frozenset(goals[rng.integers(4)])) for key in ranges]
    plain, short = plain_tables(flows, 3), tables(flows, ranges, 3, layout.ROUTER_ENTRIES)
    for chip, table in plain.items():
        assert len(short[chip]) <= len(table) and wrong_keys(table, short[chip], ranges) == 0
        spans = sorted((r.key, r.key | (~r.mask & 0xFFFFFFFF)) for r in short[chip])
        assert all(a[1] < b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_wrong_compression_is_noticed() -> None:
    before = [Route(0, 0xFFFFFFF0, 1), Route(16, 0xFFFFFFF0, 2)]
    sizes = {KeyRange(0, 0xFFFFFFF0): 16, KeyRange(16, 0xFFFFFFF0): 5}
    assert wrong_keys(before, [Route(0, 0xFFFFFFE0, 1)], sizes) == 5
    assert wrong_keys(before, [Route(0, 0xFFFFFFF0, 1)], sizes) == 5
    assert (
        compress(before) == before and len(compress([Route(0, 0xFFFFFFF0, 1), Route(16, 0xFFFFFFF0, 1)])) == 1
    )
    with pytest.raises(DoesNotFit, match="E0926"):
        tables([Flow(key, 0, frozenset({(0, k)})) for k, key in enumerate(sizes)], sizes, 1, 1)


def test_pes_stand_where_both_numberings_say() -> None:
    assert [qpe_of(pe) for pe in (0, 3, 4, 151)] == [(7, 6), (7, 6), (7, 5), (5, 3)]
    assert place_on_qpe(5) == 1 and chip_data()["grid"]["spinncloud"]["value"][1] == 2
    assert len({qpe_of(pe) for pe in range(152)}) == 38
    assert usable() == 150 == load().cores and load({"chips": 2}).cores == 300
    assert [place_of(core) for core in (0, 149, 150)] == [(0, 2), (0, 151), (1, 2)]
    assert all(core_of(*place_of(core)) == core for core in range(300))


def test_a_packet_goes_to_a_quad_element_once() -> None:
    found = noc_targets(0, [(0, 4), (0, 7), (0, 12), (1, 5)])
    assert found == (NocTarget(6, 5, 0b1000), NocTarget(7, 5, 0b1001))


def test_targets_of_one_source_are_gathered_on_quad_elements() -> None:
    ops: list[Op] = [snn.Input(out="x", source="x", shape=(1,), encoder="raster")]
    for k in range(4):
        via = snn.Dense(out=f"a{k}.x", spikes=ops[0].result, weight=Const(f"a{k}.w", np.ones((1, 1))))
        ops += [via, snn.If(out=f"a{k}", current=(via.result,))]
        for j in range(3):
            name = f"b{k}{j}"
            via = snn.Dense(
                out=f"{name}.x", spikes=ops[-1 - 2 * j].result, weight=Const(f"{name}.w", np.ones((1, 1)))
            )
            ops += [via, snn.If(out=name, current=(via.result,))]
    mapped = Fit().run(legalised(Module("fan", "snn", tuple(ops), (("steps", 9),))))
    order = np.random.default_rng(2).permutation(150).tolist()

    def moved(op: Op) -> Op:
        from dataclasses import replace

        from nmc.ir.ops.mapped import Route as MapRoute

        if isinstance(op, Neurons) and op.core >= 0:
            return replace(op, core=order[op.core])
        return replace(op, to=tuple(sorted(order[c] for c in op.to))) if isinstance(op, MapRoute) else op

    found = gathered(mapped.map_ops(moved))
    told = found.attr("placement")
    assert told["packets"] < told["packets_before"]
    where = layout_of(found)
    again = sum(len(noc_targets(0, where.targets(name))) for name in where.flows)
    assert again == told["packets"]
    cores = [part.core for part in found.of_type(Neurons) if part.core >= 0]
    assert len(set(cores)) == len(cores)


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 20))
def test_source_masks_are_those_of_the_synapses(seed: int) -> None:
    legal = legalised(lawful_neurons(seed))
    rng = np.random.default_rng(seed)
    for via in legal.of_type(s2.SynapseOp):
        shape = via.result.shape
        box = tuple(
            Span(int(a), int(b) + 1) for a, b in (np.sort(rng.integers(0, extent, 2)) for extent in shape)
        )
        unit = np.eye(via.spikes.type.size, dtype=np.int32).reshape(-1, *via.spikes.shape)
        hit = (via.run(unit)[(slice(None), *(span.slice() for span in box))] != 0).reshape(len(unit), -1)
        np.testing.assert_array_equal(source_mask(via, box), hit.any(axis=1))
        grid = np.arange(int(np.prod(shape))).reshape(shape)[tuple(span.slice() for span in box)]
        np.testing.assert_array_equal(neurons_of(shape, box), np.moveaxis(grid, 0, -1).reshape(-1))


def test_a_conv_mask_is_that_of_its_windows() -> None:
    x = snn.Input(out="x", source="x", shape=(4, 7, 6), encoder="raster")
    weight = Const("w", np.ones((6, 2, 3, 2), np.int8))
    via = s2.Conv(out="c", spikes=x.result, weight=weight, format="conv", stride=(2, 1), pad=(1, 0, 1, 1),
                  dilation=(1, 2), groups=2)  # fmt: skip
    box = (Span(1, 4), Span(1, 3), Span(2, 5))
    unit = np.eye(4 * 7 * 6, dtype=np.int32).reshape(-1, 4, 7, 6)
    hit = via.run(unit)[(slice(None), *(span.slice() for span in box))].reshape(len(unit), -1) != 0
    np.testing.assert_array_equal(source_mask(via, box), hit.any(axis=1))


@pytest.mark.parametrize(
    "encoder",
    [{}, {"kind": "data"}, {"kind": "data", "encoder": "constant", "source": "x"}, {"kind": "poisson", "mean": -1.0},
     {"kind": "data", "encoder": "rate", "source": 3},
     {"kind": "data", "encoder": "rate", "source": "x", "gain": 1e999},
     {"kind": "data", "encoder": "count", "source": "x", "high": 9, "over": 2}, {"kind": "data", "bogus": 1}],
)  # fmt: skip
def test_a_wrong_encoder_is_refused(encoder: dict[str, Any]) -> None:
    files = chain(1).files
    meta = json.loads(files["chip.json"])
    meta["inputs"][0]["encoder"] = encoder
    with pytest.raises(NmcError, match="E0913"):
        backend.Runner({**files, "chip.json": json.dumps(meta).encode()})


def test_routes_only_lead_where_somebody_listens() -> None:
    image = build_image(chain(5).mapped)
    pes = {(pe.chip, pe.pe) for pe in image.pes}
    for chip, table in image.routers.items():
        for route in table:
            assert all((chip, pe) in pes for pe in range(152) if route.route >> (LINKS + pe) & 1)


def test_smaller_boxes_leave_more_of_a_tick() -> None:
    x = snn.Input(out="x", source="x", shape=(64,), encoder="burst", gain=9.0, high=9)
    via = snn.Dense(out="h.x", spikes=x.result, weight=Const("h.w", np.ones((800, 64), np.int8)))
    theta = Const("theta", np.full(1, 50, np.int32))
    h = exact.StBif(out="h", current=(via.result,), theta=theta, offset=theta, levels=8)
    legal = legalised(Module("wide", "snn", (x, via, h), (("steps", 12),)))
    margins = []
    for most in (0, 100):
        mapped = gathered(Fit(neurons=most).run(legal))
        assert (
            not most
            or max(part.result.type.size for part in mapped.of_type(Neurons) if part.core >= 0) == most
        )
        margins.append(backend.describe(mapped)["deadline"]["margins"]["300 MHz"])
    assert margins[1] > margins[0] + 0.05
