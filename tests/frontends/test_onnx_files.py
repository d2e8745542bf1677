"""Files are untrusted: whatever they hold, the answer is a module or diagnostics, in little memory."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, save

from nmc.frontends.onnx import load_onnx
from nmc.ir.diagnostics import Diagnostic, NmcError

Build = Callable[..., ModelProto]
node = helper.make_node


def normal(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def refused(path: Path, **options: Any) -> Diagnostic:
    with pytest.raises(NmcError) as caught:
        load_onnx(path, **options)
    (found,) = caught.value.diagnostics
    return found


def cnn(model_of: Build) -> ModelProto:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["n"]),
        node("Concat", ["n", "rest"], ["target"], axis=0),
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "b", "b", "b", "v"], ["n1"]),
        node("Clip", ["n1", "low", "high"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], ceil_mode=1),
        node("Reshape", ["p", "target"], ["f"]),
        node("Gemm", ["f", "m", "bm"], ["g"], transB=1),
        node("Softmax", ["g"], ["y"], axis=1),
    ]
    weights = {
        "w": normal(3, 2, 3, 3), "b": normal(3), "v": np.abs(normal(3)), "low": np.float32(0),
        "high": np.float32(6), "zero": np.asarray([0]), "one": np.asarray([1]), "rest": np.asarray([-1]),
        "m": normal(4, 27), "bm": normal(4),
    }  # fmt: skip
    return model_of(nodes, ["N", 2, 8, 8], weights)


def varied(model_of: Build) -> ModelProto:
    """Recurrent, transposed and upsampled layers, quantisation, and patterns of several nodes."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("RNN", ["t", "rw", "rr"], ["steps", ""], hidden_size=3, activations=["Relu"]),
        node("Squeeze", ["steps", "one"], ["rows"]),
        node("Transpose", ["rows"], ["back"], perm=[1, 2, 0]),
        node("ConvTranspose", ["back", "k"], ["c"], strides=[2], pads=[1, 0], output_padding=[1]),
        node("Resize", ["c", "", "scales"], ["z"], mode="nearest"),
        node("Mul", ["z", "up"], ["u"]),
        node("Add", ["u", "half"], ["a"]),
        node("Floor", ["a"], ["f"]),
        node("Clip", ["f", "low", "high"], ["l"]),
        node("Sigmoid", ["l"], ["g"]),
        node("Mul", ["l", "g"], ["silu"]),
        node("QuantizeLinear", ["silu", "s", "qz"], ["q"], axis=1),
        node("DequantizeLinear", ["q", "s", "qz"], ["d"], axis=1),
        node("Pad", ["d", "pads"], ["p"], mode="reflect"),
        node("Gather", ["p", "pick"], ["h"], axis=2),
        node("PRelu", ["h", "slope"], ["pr"]),
        node("ReduceMean", ["pr"], ["y"], axes=[2], keepdims=0),
    ]
    weights = {
        "rw": normal(1, 3, 4), "rr": normal(1, 3, 3), "one": np.asarray([1]), "k": normal(3, 2, 3),
        "scales": np.asarray([1, 1, 1.5], np.float32), "up": np.float32(4), "half": np.float32(0.5),
        "low": np.float32(0), "high": np.float32(4), "s": np.asarray([0.1, 0.2], np.float32),
        "qz": np.asarray([3, -3], np.int8), "pads": np.asarray([0, 0, 2, 0, 0, 1]),
        "pick": np.asarray([[0, -1], [2, 2]]),
        "slope": normal(2, 1, 1),
    }  # fmt: skip
    nodes[-1] = node("Flatten", ["pr"], ["y"])
    return model_of(nodes, ["N", 5, 4], weights)


def survives(path: Path, raw: bytes) -> bool:
    """Whether the bytes still are a model; anything but a module or diagnostics is an error of the test."""
    path.write_bytes(raw)
    try:
        load_onnx(path)
    except NmcError:
        return False
    return True


def test_truncated_models(tmp_path: Path, model_of: Build) -> None:
    raw = cnn(model_of).SerializeToString()
    assert survives(tmp_path / "m.onnx", raw)
    assert not any(survives(tmp_path / "m.onnx", raw[:size]) for size in range(0, len(raw) - 20, 3))


@pytest.mark.parametrize("make", [cnn, varied])
def test_flipped_bytes(tmp_path: Path, model_of: Build, make: Callable[[Build], ModelProto]) -> None:
    raw = make(model_of).SerializeToString()
    assert survives(tmp_path / "m.onnx", raw)
    rng = random.Random(5)
    for _ in range(1000):
        changed = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(raw))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        survives(tmp_path / "m.onnx", bytes(changed))


def test_random_bytes(tmp_path: Path) -> None:
    rng = random.Random(6)
    assert not any(survives(tmp_path / "m.onnx", rng.randbytes(size)) for size in range(200))


def test_missing_and_unfit_files(tmp_path: Path, model_of: Build) -> None:
    assert refused(tmp_path / "no.onnx").code == "E0303"
    assert refused(tmp_path).code == "E0303"
    os.mkfifo(tmp_path / "pipe.onnx")
    assert refused(tmp_path / "pipe.onnx").code == "E0303"
    save(cnn(model_of), tmp_path / "m.onnx")
    found = refused(tmp_path / "m.onnx", max_bytes=100)
    assert (found.code, "of at most 100 bytes" in found.message) == ("E0303", True)


@pytest.mark.parametrize("dims", [[1 << 62, 4], [-1, 4], [5, 4], [1] * 40, [2, 2]])
def test_dims_that_contradict_the_data(tmp_path: Path, model_of: Build, dims: list[int]) -> None:
    model = model_of([node("MatMul", ["x", "w"], ["y"])], ["N", 4], {"w": normal(4, 4)})
    model.graph.initializer[0].dims[:] = dims
    save(model, tmp_path / "m.onnx")
    found = refused(tmp_path / "m.onnx")
    assert (found.code, found.where) == ("E0303", 'm.onnx: tensor "w"')


@pytest.mark.parametrize(
    ("dtype", "field"),
    [
        (TensorProto.FLOAT, "float_data"),
        (TensorProto.DOUBLE, "double_data"),
        (TensorProto.FLOAT16, "int32_data"),
        (TensorProto.BFLOAT16, "int32_data"),
        (TensorProto.INT8, "int32_data"),
        (TensorProto.INT64, "int64_data"),
    ],
)
def test_tensors_in_typed_fields(tmp_path: Path, model_of: Build, dtype: int, field: str) -> None:
    model = model_of([node("MatMul", ["x", "w"], ["y"])], ["N", 2], {"w": normal(2, 3)})
    tensor = helper.make_tensor("w", dtype, [2, 3], [1, -2, 3, 4, 5, 6])
    assert len(getattr(tensor, field)) == 6
    model.graph.initializer[0].CopyFrom(tensor)
    save(model, tmp_path / "m.onnx")
    (const,) = load_onnx(tmp_path / "m.onnx").consts
    np.testing.assert_array_equal(const.array(), np.asarray([[1, 4], [-2, 5], [3, 6]], np.float32))


def external(model_of: Build, **entries: str) -> ModelProto:
    model = model_of([node("MatMul", ["x", "w"], ["y"])], ["N", 4], {"w": normal(4, 4)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with good data beside it and a secret outside of it."""
    inside = tmp_path / "models"
    (inside / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (inside / "sub" / "w.bin").write_bytes(b"head" + normal(4, 4).tobytes())
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    (inside / "linked").symlink_to(tmp_path)
    (inside / "loop.bin").symlink_to(inside / "loop.bin")
    os.mkfifo(inside / "pipe.bin")
    return inside


def test_external_data_beside_the_model(folder: Path, model_of: Build) -> None:
    (folder / "m.onnx").write_bytes(
        external(model_of, location="sub/w.bin", offset="4", length="64").SerializeToString()
    )
    (const,) = load_onnx(folder / "m.onnx").consts
    np.testing.assert_array_equal(const.array(), normal(4, 4).T)


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "sub/../../secret.bin", "/etc/passwd", "link.bin", "linked/secret.bin", "loop.bin",
     "pipe.bin", "", ".", "sub", "no.bin", "..\\secret.bin", "C:\\secret.bin", "a\0b", "x" * 5000],
)  # fmt: skip
def test_external_data_elsewhere_are_refused(folder: Path, model_of: Build, location: str) -> None:
    (folder / "m.onnx").write_bytes(external(model_of, location=location).SerializeToString())
    assert refused(folder / "m.onnx").code == "E0304"


@pytest.mark.parametrize(
    ("offset", "length", "code"),
    [
        ("8", "64", "E0304"),
        ("-4", "64", "E0304"),
        ("9" * 30, "64", "E0304"),
        ("4", "60", "E0303"),
        ("x", "64", "E0304"),
    ],
)
def test_external_data_that_are_too_short(
    folder: Path, model_of: Build, offset: str, length: str, code: str
) -> None:
    model = external(model_of, location="sub/w.bin", offset=offset, length=length)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    assert refused(folder / "m.onnx").code == code


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", ["huge"], ["w"])],
        [node("Expand", ["small", "huge"], ["w"])],
        [node("ConstantOfShape", ["big"], ["a"]), node("Concat", ["a"] * 64, ["w"], axis=0)],
        [node("Range", ["zero", "far", "one"], ["w"])],
        [node("Expand", ["two", "big"], ["a"]), node("Mul", ["a", "a"], ["w"])],
    ],
    ids=lambda nodes: nodes[-1].op_type,
)
def test_constants_that_would_fill_the_memory(tmp_path: Path, model_of: Build, nodes: list[Any]) -> None:
    weights = {
        "huge": np.asarray([1 << 20, 1 << 20]), "big": np.asarray([1 << 15, 1 << 15]), "small": normal(1, 1),
        "zero": np.float64(0), "far": np.float64(1e18), "one": np.float64(1), "two": normal(1 << 15, 1),
    }  # fmt: skip
    save(model_of([*nodes, node("MatMul", ["x", "w"], ["y"])], ["N", 4], weights), tmp_path / "m.onnx")
    assert refused(tmp_path / "m.onnx").code == "E0302"


def test_a_deep_graph_needs_no_recursion(tmp_path: Path, model_of: Build) -> None:
    nodes = [node("Relu", [f"t{index}" if index else "x"], [f"t{index + 1}"]) for index in range(5000)]
    save(model_of(nodes, ["N", 4], output="t5000"), tmp_path / "m.onnx")
    assert len(load_onnx(tmp_path / "m.onnx").ops) == 5002
