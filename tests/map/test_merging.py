"""Boxes are put together on no more cores than first fit takes, and what the report says of that is so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loihi_chain import legal_module
from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import resolve
from nmc.passes.map.partition import Partition, partition
from nmc.targets.loihi import ops as loihi


def net(*sizes: int) -> Module:
    """Populations of these sizes side by side, all fed by four inputs."""
    x = loihi.Input(out="x", source="x", shape=(4,), kind="raster")
    ops: list[Op] = [x]
    for number, size in enumerate(sizes):
        weight = Const(f"w{number}", np.full((size, 4), 2, np.int16))
        via = loihi.Dense(out=f"d{number}", spikes=x.result, weight=weight)
        lif = loihi.Lif(out=f"p{number}", current=(via.result,), vth=4000, reset="hard")
        ops += [via, lif, snn.Output(data=lif.result)]
    return legal_module(ops)


def packing(module: Module) -> dict[str, Any]:
    return dict(module.attr("packing"))


def test_fewer_cores_than_first_fit_where_there_are() -> None:
    found = Partition(target="loihi").run(net(300, 300, 700, 700))
    assert found.attr("cores") == 2, "first fit puts the small ones together and takes 3"
    assert packing(found)["status"] == "optimal"
    assert packing(found)["limit"] == "compartments"
    sizes: dict[int, int] = {}
    for part in found.of_type(Neurons):
        if part.core != HOST:
            sizes[part.core] = sizes.get(part.core, 0) + len(part.slots)
    assert sizes == {0: 1000, 1: 1000}


def test_an_uneven_cut_saves_a_core_where_no_packing_of_equal_boxes_does() -> None:
    module = net(600, 600, 600)
    plain = packing(partition(module, resolve("loihi"), "loihi"))
    assert (plain["cores"], plain["bound"], plain["bound_any"]) == (3, 3, 2)
    assert plain["status"] == "optimal for these boxes"
    found = Partition(target="loihi").run(module)
    assert (packing(found)["cores"], packing(found)["status"]) == (2, "optimal")
    assert len(found.of_type(Neurons)) - 1 == 4, "one of the three is cut"


def test_what_no_tiling_reaches_is_called_optimal_for_these_tilings(tmp_path: Path) -> None:
    # each population alone leaves 3 of 8 compartments, and a single neuron of another brings 6 more axons
    path = tmp_path / "chip.toml"
    path.write_text('base = "loihi"\n[limits]\ncompartments = 8\nin_axons = 7\n')
    found = packing(Partition(target=str(path)).run(net(5, 5, 5)))
    assert (found["cores"], found["bound"], found["bound_tilings"], found["bound_any"]) == (3, 3, 3, 2)
    assert found["status"] == "optimal for these tilings"


def test_boxes_that_are_kept_apart_say_so() -> None:
    found = packing(Partition(target="loihi", merge=False).run(net(5, 5, 5)))
    assert (found["cores"], found["bound"], found["bound_any"], found["limit"]) == (3, 3, 1, "boxes")
