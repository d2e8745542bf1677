"""A trained network as an exact program for Loihi, and images that it was not calibrated on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.driver import CompileOptions, compile_model
from nmc.ir.npz import write_npz
from nmc.program import Program

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def images() -> tuple[Array, Array]:
    """All digits, (N, 1, 8, 8) float32, with labels."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    return (digits.images / 16.0).astype(np.float32)[:, None], digits.target.astype(np.int64)


@pytest.fixture(scope="session")
def calib(images: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 digits in a file."""
    path = tmp_path_factory.mktemp("data") / "calib.npz"
    write_npz(path, {"x": images[0][:200], "y": images[1][:200]})
    return path


@pytest.fixture(scope="session")
def program(repo: Path, calib: Path) -> Program:
    """The program, without a margin of its own."""
    return compile_model(repo / "examples" / "models" / "digits_mlp.onnx", CompileOptions(calib=str(calib)))


@pytest.fixture(scope="session")
def eager(repo: Path, calib: Path) -> Program:
    """The same with a margin that was found when it was compiled."""
    options = CompileOptions(calib=str(calib), early_exit=True)
    return compile_model(repo / "examples" / "models" / "digits_mlp.onnx", options)


@pytest.fixture
def unseen(images: tuple[Array, Array]) -> tuple[Array, Array]:
    """Sixty digits and labels."""
    return images[0][-60:], images[1][-60:]
