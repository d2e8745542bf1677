"""The same source and options give the same bytes, whatever the hash seed and the number of processors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nmc.ir.npz import write_npz

PROGRAM = """
import sys
from nmc.driver import CompileOptions, compile_model
model, calib, out = sys.argv[1:]
compile_model(model, CompileOptions(calib=calib, effort="fast", steps=16)).save(out)
"""


@pytest.fixture(scope="module")
def calib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    datasets = pytest.importorskip("sklearn.datasets")
    images = datasets.load_digits().images[:64]
    path = tmp_path_factory.mktemp("calib") / "calib.npz"
    write_npz(path, {"x": (images / 16).astype(np.float32)[:, None]})
    return path


def _start(repo: Path, calib: Path, out: Path, seed: str, prefix: list[str]) -> subprocess.Popen[bytes]:
    model = repo / "examples" / "models" / "digits_cnn.onnx"
    command = [*prefix, sys.executable, "-c", PROGRAM, str(model), str(calib), str(out)]
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(repo)}
    return subprocess.Popen(command, env=env, cwd=out.parent)


def test_programs_are_the_same_byte_for_byte(repo: Path, calib: Path, tmp_path: Path) -> None:
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    outs = [tmp_path / f"{name}.nmx" for name in ("one", "two", "pinned")]
    jobs = [
        _start(repo, calib, out, seed, prefix)
        for out, seed, prefix in zip(outs, ("1", "31337", "7"), ([], [], pin), strict=True)
    ]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    first, *others = (out.read_bytes() for out in outs)
    assert len(first) > 10_000
    assert all(other == first for other in others)
