"""Small ONNX models, and their comparison with onnxruntime."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, save

from nmc.frontends.onnx import load_onnx
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.verify import verify_or_raise

Array = NDArray[Any]
Weights = Mapping[str, Array]


def build(
    nodes: Sequence[NodeProto],
    shape: Sequence[int | str | None],
    weights: Weights | None = None,
    *,
    output: str = "y",
    opset: int = 17,
    elem: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model with the input x and one output."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem, shape)],
        [helper.make_tensor_value_info(output, elem, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def model_of() -> Callable[..., ModelProto]:
    """`build`, for tests that save the model themselves."""
    return build


@pytest.fixture
def same_as_ort(tmp_path: Path) -> Callable[..., Module]:
    """Import a model and compare its output with onnxruntime's on random samples; gives the module."""

    def check(*args: Any, batch: int = 3, atol: float = 1e-4, **kwargs: Any) -> Module:
        import onnxruntime

        path = tmp_path / "model.onnx"
        save(build(*args, **kwargs), path)
        module = load_onnx(path)
        verify_or_raise(module, "by the ONNX frontend")
        shape = args[1]
        size = shape[0] if isinstance(shape[0], int) else batch
        data = np.random.default_rng(7).normal(size=(size, *shape[1:])).astype(np.float32)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (want,) = session.run(None, {"x": data})
        (got,) = run_ann(module, {"x": data}).values()
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=atol, rtol=1e-4)
        return module

    return check


@pytest.fixture
def refusals(tmp_path: Path) -> Callable[..., tuple[Diagnostic, ...]]:
    """Import a model that must be refused; gives the diagnostics."""

    def check(model: ModelProto) -> tuple[Diagnostic, ...]:
        path = tmp_path / "bad.onnx"
        save(model, path)
        with pytest.raises(NmcError) as caught:
            load_onnx(path)
        return caught.value.diagnostics

    return check
