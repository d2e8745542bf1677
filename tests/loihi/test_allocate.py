"""Allocation and emission: what may share a format or a list, and what must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loihi_chain import assert_every_synapse_once, assert_lawful, compile_legal, legal_module, recount
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import image as image_ops
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import Synapses
from nmc.ir.verify import verify
from nmc.passes.map.partition import Partition
from nmc.passes.map.place import Place
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.allocate import Allocate
from nmc.targets.loihi.emit import Emit, build_image
from nmc.targets.loihi.image import to_image

RNG = np.random.default_rng(3)


def raster(*shape: int, out: str = "x") -> loihi.Input:
    return loihi.Input(out=out, source=out, shape=shape, kind="raster")


def dense(out: str, source: Op, size: int, **fields: Any) -> loihi.Dense:
    weight = Const(f"{out}.w", (RNG.integers(1, 120, (size, source.result.type.size)) * 2).astype(np.int16))
    delay = 0 if isinstance(source, loihi.Input) else 1
    return loihi.Dense(**{"out": out, "spikes": source.result, "weight": weight, "delay": delay, **fields})


def lif(out: str, *currents: Op, **fields: Any) -> loihi.Lif:
    return loihi.Lif(out=out, current=tuple(op.result for op in currents), **{"vth": 400, **fields})


def spikes(*shape: int) -> np.ndarray[Any, Any]:
    return (RNG.random(shape) < 0.5).astype(np.uint8)


@pytest.mark.parametrize("compat", ["nmc", "lava", "nengo-loihi", "brian2loihi"])
def test_two_projections_with_a_negative_exponent_are_shifted_as_the_tool_does(compat: Any) -> None:
    """Lava shifts the sum of each projection: two of one format must not be summed before (facts 2.3 row 2)."""
    x = raster(9)
    one, two = (dense(f"p.{n}", x, 5, exp=-5, compat=compat) for n in range(2))
    p = lif("p", one, two, compat=compat, vth=5)
    chain = compile_legal(legal_module([x, one, two, p]))
    result = chain.assert_equal_everywhere({"x": spikes(3, 30, 9)}, 30)
    assert result.probes["p.spikes"].any()


def test_equal_formats_share_a_number() -> None:
    x = raster(9)
    one, two, three = (dense(f"p.{n}", x, 5, exp=exp) for n, exp in enumerate((0, 0, 3)))
    chain = compile_legal(legal_module([x, one, two, three, lif("p", one, two, three)]))
    assert [row["synapse_formats"] for row in recount(chain.image).values()] == [2]


def test_different_rule_sets_are_refused() -> None:
    x = raster(4)
    one = dense("p.x", x, 3, compat="lava")
    module = Place(effort="fast").run(Partition(target="loihi").run(legal_module([x, one, lif("p", one)])))
    with pytest.raises(NmcError, match="E0617.*lava, nmc"):
        build_image(Allocate().run(module))


def test_inputs_without_any_synapse_and_silent_projections_are_kept() -> None:
    x, y = raster(4), raster(2, out="y")
    none = loihi.Dense(out="p.y", spikes=y.result, weight=Const("p.y.w", np.zeros((3, 2), np.int16)), delay=0)
    one = dense("p.x", x, 3)
    p = lif("p", one, none)
    silent = loihi.Diagonal(out="q.x", spikes=p.result, weight=Const("q.w", np.zeros(3, np.int16)))
    q = lif("q", silent, bias=Const("q.b", np.array([9000, 0, 4000], np.int16) // np.int16(4)), vth=300)
    chain = compile_legal(
        legal_module([x, y, one, none, p, silent, q, snn.Output(data=q.result, decoder="count")])
    )
    result = chain.assert_equal_everywhere({"x": spikes(2, 10, 4), "y": spikes(2, 10, 2)}, 20)
    assert result.probes["q.spikes"].any()
    assert assert_every_synapse_once(chain) == 12


def test_shared_lists_are_stored_once() -> None:
    """A kernel is stored once for all positions that see it whole; uniform weights once for all sources."""
    x = raster(1, 20, 20)
    weight = Const("c.w", (RNG.integers(1, 120, (2, 1, 3, 3)) * 2).astype(np.int16))
    conv = loihi.Conv(
        out="c.x", spikes=x.result, weight=weight, delay=0, stride=(1, 1), pad=(1,) * 4, dilation=(1, 1)
    )
    c = lif("c", conv)
    pool = loihi.Dense(out="d.x", spikes=c.result, weight=Const("d.w", np.full((6, 800), 20, np.int16)))
    chain = compile_legal(legal_module([x, conv, c, pool, lif("d", pool)]))
    assert assert_every_synapse_once(chain) == 2 * (20 * 3 - 2) ** 2 + 6 * 800
    use = assert_lawful(chain.image)
    assert sum(row["synapse_words"] for row in use.values()) < 400
    chain.assert_equal_everywhere({"x": spikes(2, 10, 1, 20, 20)}, 12)


def test_memory_ranges_of_a_core_are_disjoint() -> None:
    x = raster(30)
    one = dense("a.x", x, 20)
    a = lif("a", one, reset="soft", reset_mant=100, reset_exp=2)
    two, back = dense("b.x", a, 20), dense("b.r", a, 20, delay=4)
    b = lif("b", two, back)
    mapped = compile_legal(legal_module([x, one, a, two, back, b])).mapped
    links = mapped.of_type(Synapses)
    cores = {part: getattr(mapped.producers[part], "core") for part in {link.target.name for link in links}}  # noqa: B009
    assert len(set(cores.values())) == 1
    for memory in ("axons", "mem"):
        spans = sorted({getattr(link, memory) for link in links})
        assert spans[0].start == 0
        assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]


def test_stages_out_of_order_are_refused() -> None:
    x = raster(4)
    one = dense("p.x", x, 3)
    partitioned = Partition(target="loihi").run(legal_module([x, one, lif("p", one)]))
    with pytest.raises(NmcError, match="E0702"):
        Allocate().run(partitioned)
    with pytest.raises(NmcError, match="E0703"):
        Emit().run(Place(effort="fast").run(partitioned))
    with pytest.raises(NmcError, match="E0701"):
        Partition().run(legal_module([x, one, lif("p", one)]).with_attrs(target=None))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"bias": Const("b", np.zeros(3, np.int16)), "drive": True}, "the host writes the bias registers"),
        ({"reset": "soft"}, "needs a reset weight"),
        ({"reset": "soft", "reset_mant": 9, "refract": 2}, "no refractory time"),
        ({"vth": 1 << 17}, "17 bits"),
        ({"du": 4097}, "outside 0..4096"),
        ({"refract": 64}, "1..63"),
    ],
)
def test_registers_out_of_range_do_not_verify(fields: dict[str, Any], text: str) -> None:
    x, host = raster(4), loihi.Input(out="host", source="h", shape=(3,), kind="bias")
    one = dense("p.x", x, 3)
    drive = {"drive": host.result} if fields.pop("drive", False) else {}
    problems = verify(legal_module([x, host, one, lif("p", one, **fields, **drive)]))
    assert [item.code for item in problems] == ["E0111"] and text in problems[0].message


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"exp": 8}, "-8..7"),
        ({"bits": 7}, "7 weight bits"),
        ({"delay": 64}, "0..63"),
        ({"sign": "inhibitory"}, "leave"),
    ],
)
def test_synapses_out_of_range_do_not_verify(fields: dict[str, Any], text: str) -> None:
    x = raster(4)
    one = dense("p.x", x, 3, **fields)
    problems = verify(legal_module([x, one, lif("p", one)]))
    assert [item.code for item in problems] == ["E0111"] and text in problems[0].message


def test_convolutions_over_three_axes_do_not_verify() -> None:
    x = raster(1, 3, 3, 3)
    weight = Const("w", np.ones((1, 1, 2, 2, 2), np.int16))
    conv = loihi.Conv(
        out="c", spikes=x.result, weight=weight, stride=(1,) * 3, pad=(0,) * 6, dilation=(1,) * 3
    )
    assert "over 3 axes" in str(verify(legal_module([x, conv]))[0])


@pytest.mark.parametrize("fields", [{"steps": "many"}, {"compat": 3}, {"nonsense": 1}, {"seed": True}])
def test_an_image_module_with_a_wrong_header_is_refused(fields: dict[str, object]) -> None:
    module = Module("loihi", "image", (image_ops.Header(fields=fields),))
    with pytest.raises(NmcError, match="E0704"):
        to_image(module)
