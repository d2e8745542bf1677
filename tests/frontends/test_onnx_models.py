"""Real models: those of the onnx wheel, and ours exported by both exporters of torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.frontends.onnx import load_onnx
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_ann
from nmc.ir.ops import ann
from nmc.ir.verify import verify
from nmc.passes.convert.ann_to_snn import AnnToSnn

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


def with_random_weights(name: str, path: Path) -> Any:
    """Save a light model with random numbers in place of its constant weights, without its last Softmax."""
    from onnx import helper, load, numpy_helper, save

    rng, model = np.random.default_rng(0), load(light(name))
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            shape = tuple(int(extent) for extent in shapes[node.input[0]])
            spread = np.sqrt(2 / max(int(np.prod(shape[1:])), 1))
            weight = (
                rng.normal(size=shape) * spread
                if len(shape) > 1
                else 0.5 + np.abs(rng.normal(size=shape)) / 4
            )
            tensor = numpy_helper.from_array(weight.astype(np.float32), node.output[0])
            model.graph.initializer.append(tensor)
        elif node.op_type != "Softmax":
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(kept[-1].output[0], 1, None))
    save(model, path)
    return model


def compare_random(name: str, folder: Path) -> None:
    path = folder / "model.onnx"
    with_random_weights(name, path)
    module = load_onnx(path)
    (x,) = module.of_type(ann.Input)
    data = np.random.default_rng(1).random((1, *x.shape)).astype(np.float32)
    (got,) = run_ann(module, {x.out: data}).values()
    want = onnxruntime_output(path, x.out, data)
    assert np.ptp(want) > 0
    np.testing.assert_allclose(got, want, atol=1e-4 * float(np.abs(want).max()))


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet"])
def test_small_light_models_compute_what_onnxruntime_does(name: str, tmp_path: Path) -> None:
    compare_random(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50"])
def test_large_light_models_compute_what_onnxruntime_does(name: str, tmp_path: Path) -> None:
    compare_random(name, tmp_path)


def test_channel_shuffles_are_index_maps() -> None:
    ops = {op.out: op for op in load_onnx(light("shufflenet")).ops}
    shuffles = [op for op in ops.values() if isinstance(op, ann.Transpose)]
    assert len(shuffles) == 16
    assert all(isinstance(ops[op.data.name], ann.Reshape) for op in shuffles)


@pytest.mark.parametrize(("name", "count"), [("bvlc_alexnet", 2), ("zfnet512", 2), ("inception_v1", 2)])
def test_local_response_normalisation_is_refused_node_by_node(name: str, count: int) -> None:
    module = load_onnx(light(name))
    layers = module.of_type(ann.Lrn)
    assert len(layers) == count
    with pytest.raises(NmcError) as caught:
        AnnToSnn().run(module)
    told = {
        item.where for item in caught.value.diagnostics if item.code == "E0601" and "ann.lrn" in item.message
    }
    assert told == {str(op.loc) for op in layers}


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
