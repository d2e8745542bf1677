"""Pricing axons may only help: an attempt that fails does not refuse a network that another attempt can cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.driver import load, opt
from nmc.ir.diagnostics import DoesNotFit
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.ops.mapped import Neurons
from nmc.passes.map import partition, tiling

MODEL = Path(__file__).resolve().parents[2] / "examples" / "models" / "digits_mlp.onnx"


@pytest.fixture
def legalised(tmp_path: Path) -> Module:
    """The digits MLP in Loihi's integers."""
    path = tmp_path / "samples.npz"
    write_npz(path, {"x": np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)})
    return opt(load(MODEL), f'calibrate{{data="{path}"}}, ann-to-snn, retime, loihi-legalize')


def _only_at(monkeypatch: pytest.MonkeyPatch, lawful: Any) -> None:
    """Let the search find something at the prices that are `lawful`, and never the fewest boxes."""

    def search(shape: Any, demand: Any, limits: Any, most: int, first: int = 1, per_axon: float = 0.0) -> Any:
        if not lawful(per_axon):
            return None
        return tiling.best_tiling(shape, demand, limits, most, first + 1, per_axon)

    monkeypatch.setattr(partition, "best_tiling", search)


@pytest.mark.parametrize("lawful", [lambda price: price == 0, lambda price: price > 0])
def test_one_attempt_that_fits_is_enough(
    legalised: Module, monkeypatch: pytest.MonkeyPatch, lawful: Any
) -> None:
    _only_at(monkeypatch, lawful)
    assert partition.Partition().run(legalised).of_type(Neurons)


def test_no_attempt_that_fits_is_refused(legalised: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_at(monkeypatch, lambda price: False)
    with pytest.raises(DoesNotFit, match="E0710"):
        partition.Partition().run(legalised)
