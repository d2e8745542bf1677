"""Published spike trains of the NIR paper, bit for bit (facts/nir.md 1.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.frontends.nir import load_nir
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify, verify_or_raise

# The CSV of SpiNNaker2 is aligned with its input; the Braille recording is not.
LIF: list[tuple[str, str, dict[str, Any]]] = [
    ("exact", "nir-exact", {}), ("lava_cpu_fixed", "lava-dl", {}), ("lava_loihi_fixed", "lava-dl", {}),
    ("lava_cpu_float", "lava", {}), ("nengo", "nengo", {}), ("norse", "norse", {}), ("rockpool", "rockpool", {}),
    ("sinabs", "sinabs", {}), ("snntorch", "snntorch", {}), ("snntorch", "snntorch", {"reset": "zero"}),
    ("spinnaker2", "spinnaker2", {"output_delay": 0}), ("spyx", "spyx", {}),
]  # fmt: skip
BRAILLE = [
    ("snntorch", "snntorch", 118),
    ("norse", "norse", 103),
    ("spyx", "spyx", 120),
    ("s2", "spinnaker2", 119),
]


def spikes(path: Path, x: Any, population: str, **options: Any) -> Any:
    module = load_nir(path, **options)
    verify_or_raise(module)
    probe = f"{population}.spikes"
    return run_snn(module, {"input": x[None]}, len(x), probes=[probe]).probes[probe][0]


@pytest.mark.parametrize("file", ["lif_norse.nir", "lif_rockpool.nir"])
@pytest.mark.parametrize(("trace", "semantics", "options"), LIF)
def test_single_neuron_fires_when_the_platform_does(
    traces: Path, file: str, trace: str, semantics: str, options: dict[str, Any]
) -> None:
    x = (np.loadtxt(traces / "lif_norse.csv", delimiter=",")[:, :1] > 0).astype(np.uint8)
    want = np.loadtxt(traces / f"lif_{trace}.csv", delimiter=",")[:, 2]
    population = "1" if file == "lif_norse.nir" else "1_LIFNeuronTorch"
    dt = 1e-4 if file == "lif_norse.nir" else None
    have = spikes(traces / file, x, population, dt=dt, semantics=semantics, **options)
    assert want.sum() == 4 and int((have[:, 0] != want).sum()) == 0


@pytest.mark.parametrize(("platform", "semantics", "count"), BRAILLE)
def test_braille_layer_equals_the_recording(traces: Path, platform: str, semantics: str, count: int) -> None:
    x = np.load(traces / "braille_test_sample0_input_256x12_label1.npy")
    want = np.load(traces / f"{platform}_activity_noDelay_noBias_subtract.npy")
    file = traces / "braille_noDelay_noBias_subtract.nir"
    have = spikes(file, x, "lif1.lif", semantics=semantics)
    assert have.size == 10_240 and have.sum() == count and int((have != want).sum()) == 0


def test_another_preset_does_not_fit_the_recording(traces: Path) -> None:
    x = np.load(traces / "braille_test_sample0_input_256x12_label1.npy")
    want = np.load(traces / "snntorch_activity_noDelay_noBias_subtract.npy")
    have = spikes(traces / "braille_noDelay_noBias_subtract.nir", x, "lif1.lif", semantics="norse")
    assert (have != want).any()


def test_cnn_has_the_published_size(traces: Path) -> None:
    module = load_nir(traces / "cnn_sinabs.nir", semantics="sinabs")
    assert not verify(module)
    assert module.attr("nir") == {"version": "0.2.0", "neurons": 8970, "synapses": 903_680}
    assert sum(op.result.type.size for op in module.of_type(Neuron)) == 8970
    assert [type(op).__name__ for op in module.of_type(snn.ProjectionOp)] == ["Conv"] * 3 + ["Dense"] * 2
    x = (np.random.default_rng(0).random((1, 2, 2, 34, 34)) < 0.1).astype(np.uint8)
    assert run_snn(module, {"input": x}, 2).outputs["12"].shape == (1, 10)


def test_norse_file_needs_dt_and_names_the_candidates(traces: Path) -> None:
    with pytest.raises(NmcError) as caught:
        load_nir(traces / "lif_norse.nir")
    (problem,) = caught.value.diagnostics
    assert problem.code == "E0346" and "nir: r = 1" in problem.message and "--dt" in problem.hint


def test_rockpool_file_tells_its_dt(traces: Path) -> None:
    module = load_nir(traces / "lif_rockpool.nir")
    assert module.attr("convention") == "rockpool" and module.attr("record")["dt"] == 1e-4


def test_wrong_dt_contradicts_the_file(traces: Path) -> None:
    with pytest.raises(NmcError, match="E0346"):
        load_nir(traces / "lif_rockpool.nir", dt=2e-4)


def test_text_form_holds_the_record(traces: Path) -> None:
    module = load_nir(traces / "lif_rockpool.nir", semantics="norse")
    again = parse(str(module))
    assert str(again) == str(module) and again.attr("record")["integrator"] == "euler"
