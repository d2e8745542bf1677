"""Options become pipelines: modes, levels for a number of steps, where a network enters, what contradicts itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exact_nets import chain
from nmc.driver import CompileOptions, compile_model, integer_network, load
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.ops import exact, snn
from nmc.passes.base import Pass
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.quantize.quantize import Quantize
from nmc.recipe import LEVELS, depth, fit_levels, pipeline_for

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def mlp(repo: Path) -> Module:
    """One hidden layer."""
    return load(repo / "examples" / "models" / "digits_mlp.onnx")


@pytest.fixture(scope="module")
def cnn(repo: Path) -> Module:
    """Two convolutions."""
    return load(repo / "examples" / "models" / "digits_cnn.onnx")


@pytest.fixture(scope="module")
def calib(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digits with labels."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    path = tmp_path_factory.mktemp("data") / "calib.npz"
    write_npz(path, {"x": (digits.images[:300] / 16).astype(np.float32)[:, None], "y": digits.target[:300]})
    return str(path)


def names(passes: tuple[Pass, ...]) -> list[str]:
    return [item.name for item in passes]


def only(passes: tuple[Pass, ...], kind: type[Any]) -> Any:
    (found,) = [item for item in passes if isinstance(item, kind)]
    return found


def refused(options: CompileOptions, module: Module | None) -> str:
    with pytest.raises(NmcError) as caught:
        pipeline_for(options, module)
    return caught.value.diagnostics[0].code


def test_the_mode_chooses_the_conversion(mlp: Module) -> None:
    whole, rates = (
        names(pipeline_for(CompileOptions(), mlp)),
        names(pipeline_for(CompileOptions(mode="rate-if"), mlp)),
    )
    assert {"quantize", "spike-code"} <= set(whole) and "ann-to-snn" not in whole
    assert "ann-to-snn" in rates and not {"quantize", "spike-code"} & set(rates)
    assert whole[-1] == rates[-1] == "loihi-allocate"


def test_levels_are_the_default_or_what_is_asked_for(mlp: Module) -> None:
    assert only(pipeline_for(CompileOptions(), mlp), Quantize).levels == LEVELS
    assert only(pipeline_for(CompileOptions(levels=5), mlp), Quantize).levels == 5


def test_options_that_a_pipeline_text_sets_are_left_alone(mlp: Module) -> None:
    text = "calibrate, quantize{levels=3}"
    found = pipeline_for(CompileOptions(passes=text, levels=6, calib="data.npz"), mlp)
    assert (only(found, Quantize).levels, found[0].data) == (3, "data.npz")  # type: ignore[attr-defined]


def test_depth_counts_the_activations_of_the_longest_path(mlp: Module, cnn: Module) -> None:
    assert (depth(mlp), depth(cnn)) == (1, 2)


@pytest.mark.parametrize("steps", [6, 7, 12, 20, 24, 40])
def test_a_run_takes_no_more_steps_than_asked_for(mlp: Module, calib: str, steps: int) -> None:
    program = compile_model(mlp, CompileOptions(steps=steps, calib=calib))
    assert program.steps <= steps
    levels, inputs = fit_levels(mlp, CompileOptions(steps=steps))
    assert 2 <= levels <= LEVELS and inputs >= levels


def test_deeper_networks_fit_as_well(cnn: Module, calib: str) -> None:
    assert compile_model(cnn, CompileOptions(steps=14, calib=calib)).steps <= 14


def test_more_steps_never_give_fewer_levels(cnn: Module) -> None:
    found = [fit_levels(cnn, CompileOptions(steps=steps)) for steps in range(9, 60)]
    assert found == sorted(found) and found[0][0] == 2 and found[-1][0] == LEVELS


def test_too_few_steps_are_refused_with_the_number_that_does(cnn: Module) -> None:
    for levels, enough in ((0, 9), (8, 27)):
        assert refused(CompileOptions(steps=enough - 1, levels=levels), cnn) == "E0407"
        assert fit_levels(cnn, CompileOptions(steps=enough, levels=levels))[0] == (levels or 2)
        with pytest.raises(NmcError, match=f"needs {enough} steps"):
            fit_levels(cnn, CompileOptions(steps=enough - 1, levels=levels))


def test_steps_of_rates_are_only_steps(mlp: Module) -> None:
    pipeline_for(CompileOptions(mode="rate-if", steps=1), mlp)


def test_coding_of_rates_does_not_belong_to_the_exact_mode(mlp: Module) -> None:
    assert refused(CompileOptions(encoder="rate"), mlp) == "E0004"
    assert refused(CompileOptions(reset="zero"), mlp) == "E0004"
    pipeline_for(CompileOptions(mode="rate-if", encoder="rate", reset="zero"), mlp)


def test_hand_written_networks_are_not_converted(repo: Path) -> None:
    module = load(repo / "examples" / "snn" / "xor.snn")
    found = names(pipeline_for(CompileOptions(), module))
    assert found[0] == "neuron-to-if" and found[-1] == "loihi-allocate"
    assert not {"quantize", "calibrate", "spike-code", "ann-to-snn"} & set(found)


def test_an_integer_network_enters_before_its_spike_code_and_a_coded_one_behind_it() -> None:
    whole, coded = chain(3), SpikeCode(code="phased-if", schedule="count").run(chain(3))
    assert names(pipeline_for(CompileOptions(), whole))[0] == "spike-code"
    found = names(pipeline_for(CompileOptions(), coded))
    assert "spike-code" not in found and found[-1] == "loihi-allocate"


def test_a_coded_network_runs_on_the_chip() -> None:
    whole = chain(3, 2)
    coded = SpikeCode(code="phased-if", schedule="count").run(whole)
    x = np.array([[0.9, 0.1], [0.4, 1.0]])
    one, other = (compile_model(module).run(x).logits for module in (whole, coded))
    np.testing.assert_array_equal(one, other)


def test_an_early_exit_is_calibrated_behind_the_spike_code(mlp: Module, calib: str) -> None:
    options = CompileOptions(early_exit=True, calib=calib)
    found = names(pipeline_for(options, mlp))
    assert found[found.index("spike-code") + 1] == "readout"
    assert compile_model(mlp, options).module.of_type(snn.Output)[0].margin > 0
    assert refused(CompileOptions(mode="rate-if", early_exit=True), mlp) == "E0004"


def test_an_early_exit_takes_the_code_with_which_a_chip_answers_soonest(mlp: Module, calib: str) -> None:
    early = CompileOptions(target="spinnaker2", early_exit=True, calib=calib)
    assert only(pipeline_for(early, mlp), SpikeCode).code == "graded"
    assert only(pipeline_for(replace(early, steps=40), mlp), SpikeCode).code == "stbif"
    own = replace(early, passes="@exact:spinnaker2")
    assert only(pipeline_for(own, mlp), SpikeCode).code == "stbif"
    core = pipeline_for(replace(early, target="fpga"), mlp)
    assert only(core, SpikeCode).schedule == "spread"
    order = [name for name in names(core) if name in ("spike-code", "fpga-biases", "readout")]
    assert order == ["spike-code", "fpga-biases", "readout"]  # margins of the spikes that the chip sends


def test_the_search_takes_the_fewest_levels_that_lose_no_more_than_allowed(
    mlp: Module, tmp_path: Path
) -> None:
    """Images of noise, on which answers are close: few levels give other ones."""
    noise = str(tmp_path / "noise.npz")
    write_npz(Path(noise), {"x": np.random.default_rng(0).random((300, 1, 8, 8), dtype=np.float32)})
    programs = [compile_model(mlp, CompileOptions(accuracy_drop=drop, calib=noise)) for drop in (10.0, 60.0)]
    fine, coarse = (program.module.attr("certificate")["levels"] for program in programs)
    assert fine > coarse and programs[0].steps > programs[1].steps


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"calib": ""}, "E0404"),
        ({"levels": 4}, "E0004"),
        ({"mode": "rate-if"}, "E0004"),
    ],
)
def test_a_search_needs_data_and_something_to_choose(
    mlp: Module, calib: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(NmcError) as caught:
        compile_model(mlp, CompileOptions(accuracy_drop=1.0, **({"calib": calib} | options)))
    assert caught.value.diagnostics[0].code == code


def test_a_pass_that_is_left_out_is_gone(mlp: Module) -> None:
    assert "retime" not in names(pipeline_for(CompileOptions(without=("retime",)), mlp))


def test_every_count_stays_within_the_levels(mlp: Module, calib: str) -> None:
    program = compile_model(mlp, CompileOptions(levels=3, calib=calib))
    (hidden, *_) = [name for name in program.map if not name.startswith("logits")]
    spikes = program.run(np.ones((2, 1, 8, 8), np.float32), probes=[f"{hidden}.spikes"]).result
    assert spikes.probes[f"{hidden}.spikes"].sum(axis=1).max() == 3
    assert not program.module.of_type(exact.Graded)


def test_with_a_loss_allowed_signed_spikes_make_the_best_of_any_number_of_steps(
    mlp: Module, calib: str
) -> None:
    """Four steps are too few to settle in, and the program tells what it loses by that."""
    asked = CompileOptions(target="fpga", steps=4, calib=calib)
    assert refused(asked, mlp) == "E0407"
    program = compile_model(mlp, replace(asked, accuracy_drop=50.0))
    told = program.module.attr("budget")
    assert program.steps == told["steps"] == 4 and told["drop"] <= 50
    with pytest.raises(NmcError, match=r"E0407.*after 3 steps"):
        compile_model(mlp, replace(asked, steps=2, accuracy_drop=50.0))


def test_a_chip_that_takes_binary_digits_uses_the_steps_for_these(mlp: Module, calib: str) -> None:
    """Three digits of two layers and the input in eight steps, where signed spikes would need more to settle."""
    asked = CompileOptions(target="spinnaker2", steps=8, calib=calib, accuracy_drop=50.0)
    program, reference = compile_model(mlp, asked), integer_network(mlp, asked)
    told = program.module.attr("budget")
    assert program.module.attr("spike_code")["code"] == "bit-serial" and told["settled"]
    assert program.steps == told["steps"] == 8
    images = np.random.default_rng(1).random((20, 1, 8, 8), dtype=np.float32)
    (source,) = reference.of_type(snn.Input)
    (whole,) = run_snn(reference, {source.source: images}, 1).outputs.values()
    assert np.array_equal(program.run(images).logits.reshape(20, -1), whole.reshape(20, -1))
    early = compile_model(mlp, replace(asked, early_exit=True)).module
    assert early.attr("spike_code")["code"] == "stbif"


def test_a_loss_that_no_setting_keeps_to_in_so_many_steps_is_refused(mlp: Module, tmp_path: Path) -> None:
    noise = str(tmp_path / "noise.npz")
    write_npz(Path(noise), {"x": np.random.default_rng(0).random((300, 1, 8, 8), dtype=np.float32)})
    with pytest.raises(NmcError, match=r"E0607.*after 3 steps"):
        compile_model(mlp, CompileOptions(target="fpga", steps=3, calib=noise, accuracy_drop=0.01))
