"""One network on every chip: the same logits, image by image, as the integer network gives."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nmc.driver import CompileOptions, compile_model, integer_network, load
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.ir.op import Array
from nmc.ir.ops import snn
from nmc.passes.quantize.integer import run_integer
from trained_nets import network

TARGETS = ("loihi", "spinnaker2", "fpga")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Array, Array]:
    """File of calibration images, and unseen images with their labels."""
    x, y = load_digits(return_X_y=True)
    images = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    path = tmp_path_factory.mktemp("digits") / "calib.npz"
    write_npz(path, {"x": images[:300]})
    return str(path), images[1500:], y[1500:]


def integers(module: Module, calib: str) -> Module:
    """An integer network that all chips can compute: that of the one with the narrowest registers."""
    return integer_network(module, CompileOptions(target="loihi", calib=calib, levels=4))


def expected(whole: Module, x: Array) -> Array:
    (entry,), (out,) = whole.of_type(snn.Input), whole.of_type(snn.Output)
    return np.asarray(run_integer(whole, {entry.source: x})[out.data.name] * out.scale)


def assert_same_everywhere(module: Module, calib: str, x: Array) -> None:
    whole = integers(module, calib)
    wanted = expected(whole, x)
    for target in TARGETS:
        program = compile_model(whole, CompileOptions(target=target))
        assert program.module.attr("spike_code")["code"] == ("phased-if" if target == "loihi" else "stbif")
        found = program.run(x, raw=True).logits
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, err_msg=target)


def test_digits_have_the_same_logits_on_every_chip(repo: Path, digits: tuple[str, Array, Array]) -> None:
    calib, x, _ = digits
    assert_same_everywhere(load(repo / "examples" / "models" / "digits_mlp.onnx"), calib, x[:24])


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [["conv", "skip"], ["conv", "max"], ["conv", "average"]])
def test_skips_and_pools_have_the_same_logits_on_every_chip(kinds: list[str], tmp_path: Path) -> None:
    module, net = network(3, kinds)
    calib = str(tmp_path / "calib.npz")
    write_npz(Path(calib), {"x": net.samples(40)})
    assert_same_everywhere(module, calib, net.samples(8))


@pytest.mark.slow
def test_convolutions_of_digits_have_the_same_logits_on_every_chip(
    repo: Path, digits: tuple[str, Array, Array]
) -> None:
    calib, x, _ = digits
    assert_same_everywhere(load(repo / "examples" / "models" / "digits_cnn.onnx"), calib, x[:24])


def test_what_a_target_makes_of_the_trained_network_is_its_own_integers(
    repo: Path, digits: tuple[str, Array, Array]
) -> None:
    """Widths differ from chip to chip, so the integers do; each program is equal to those that it holds."""
    calib, x, y = digits
    model = repo / "examples" / "models" / "digits_mlp.onnx"
    for target in TARGETS:
        program = compile_model(model, CompileOptions(target=target, calib=calib))
        assert program.integer is not None
        wanted = expected(program.integer, x[:24])
        np.testing.assert_array_equal(program.run(x[:24], raw=True).logits, wanted, err_msg=target)
        assert (wanted.argmax(axis=1) == y[:24]).mean() > 0.85


@pytest.mark.slow
def test_rates_beside_it_come_near_and_are_not_exact(repo: Path, digits: tuple[str, Array, Array]) -> None:
    calib, x, _ = digits
    model = repo / "examples" / "models" / "digits_mlp.onnx"
    whole = integers(load(model), calib)
    program = compile_model(model, CompileOptions(mode="rate-if", calib=calib))
    logits, wanted = program.run(x[:100], raw=True).logits, expected(whole, x[:100])
    assert program.integer is None and not np.array_equal(logits, wanted)
    assert (logits.argmax(axis=1) == wanted.argmax(axis=1)).mean() > 0.9
