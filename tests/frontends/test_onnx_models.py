"""Real models: those of the onnx wheel, and ours exported by both exporters of torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.frontends.onnx import load_onnx
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_ann
from nmc.ir.ops import ann
from nmc.ir.verify import verify

#: Elements of all constants, and output shape. The counts are the networks' parameters (VGG-19: 143,667,240,
#: ResNet-50: 25,557,032) plus, for those with batch normalisation, its running statistics.
LIGHT = {
    "bvlc_alexnet": (60_965_224, (1000,)),
    "densenet121": (8_146_154, (1000, 1, 1)),
    "inception_v1": (6_998_552, (1000,)),
    "inception_v2": (11_234_794, (1000,)),
    "resnet50": (25_610_152, (1000,)),
    "shufflenet": (1_420_152, (1000,)),
    "squeezenet": (1_235_496, (1000, 1, 1)),
    "vgg19": (143_667_240, (1000,)),
    "zfnet512": (87_250_536, (1000,)),
}


def light(name: str) -> Path:
    import onnx

    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_are_imported_without_spreading_their_weights(name: str) -> None:
    module = load_onnx(light(name))
    assert not verify(module)
    assert sum(const.type.size for const in module.consts) == LIGHT[name][0]
    (output,) = module.of_type(ann.Output)
    assert output.data.shape == LIGHT[name][1]


def onnxruntime_output(path: Path, name: str, data: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: data})[0]


@pytest.mark.parametrize("net", ["mlp", "cnn"])
@pytest.mark.parametrize("exporter", ["", "_dynamo"])
def test_our_networks_compute_what_onnxruntime_does(shared: Path, net: str, exporter: str) -> None:
    path = shared / "data" / "models" / f"dev_{net}_float{exporter}.onnx"
    images = np.load(shared / "data" / "mnist_test.npz")["x"][:16]
    data = (images / 255).astype(np.float32)[:, None]
    module = load_onnx(path)
    (got,) = run_ann(module, {"x": data}).values()
    np.testing.assert_allclose(got, onnxruntime_output(path, "x", data), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("exporter", ["", "_dynamo"])
@pytest.mark.parametrize(("net", "count"), [("mlp_q8", 2), ("cnn_q4", 3)])
def test_each_rounding_of_a_quantised_network_is_reported(
    shared: Path, net: str, count: int, exporter: str
) -> None:
    with pytest.raises(NmcError) as caught:
        load_onnx(shared / "data" / "models" / f"dev_{net}_float{exporter}.onnx")
    assert [item.code for item in caught.value.diagnostics] == ["E0301"] * count


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx")
def test_the_node_tests_of_onnx_pass_or_are_refused(tmp_path: Path) -> None:
    from onnx import save
    from onnx.backend.test.loader import load_model_tests

    passed = set()
    for case in load_model_tests(kind="node"):
        (inputs, outputs), *_ = case.data_sets or [([], [])]
        if (
            case.model is None
            or not inputs
            or not all(isinstance(item, np.ndarray | np.generic) for item in inputs)
        ):
            continue
        save(with_constants(case.model, inputs), tmp_path / "m.onnx")
        try:
            module = load_onnx(tmp_path / "m.onnx")
        except NmcError as error:
            assert all(item.code.startswith("E03") and item.where for item in error.diagnostics)
            continue
        if "softmax" not in case.name:  # dropped: computes something else on purpose
            assert not verify(module)
            results = run_ann(module, {module.of_type(ann.Input)[0].out: inputs[0]})
            for got, want in zip(results.values(), outputs, strict=True):
                np.testing.assert_allclose(got, want, atol=1e-3, rtol=1e-3, err_msg=case.name)
            passed.add(case.model.graph.node[0].op_type)
    assert {"Conv", "AveragePool", "MaxPool", "LRN", "Reshape", "Clip", "Slice", "Split"} <= passed


def with_constants(model: Any, inputs: Sequence[Any]) -> Any:
    """Make all inputs but the first initializers."""
    from onnx import numpy_helper

    names = [name for name in model.graph.node[0].input if name]
    for name, array in zip(names[1:], inputs[1:], strict=False):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return model
