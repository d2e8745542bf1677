"""ONNX's own backend tests: what is imported computes what they say, and the number of those only grows."""

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def backend(repo: Path) -> ModuleType:
    """``benchmarks/onnx_backend.py`` as a module."""
    import sys

    spec = importlib.util.spec_from_file_location("onnx_backend", repo / "benchmarks" / "onnx_backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["onnx_backend"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kind", "passed", "argmax"),
    [("pytorch-converted", 69, 7), ("pytorch-operator", 21, 0), ("simple", 3, 0)],
)
def test_no_case_computes_something_else(backend: ModuleType, kind: str, passed: int, argmax: int) -> None:
    outcomes = backend.run_all((kind,))
    count = Counter(item.status for item in outcomes)
    assert [item for item in outcomes if item.status == "failed"] == []
    assert count["passed"] >= passed
    assert count["argmax"] >= argmax
    refused = [item for item in outcomes if item.status == "refused"]
    assert all(code.startswith("E03") for item in refused for code in item.codes)
    assert all(item.codes for item in refused)
