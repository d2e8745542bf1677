"""How the tests call the command line: in the same process, in a folder of their own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.cli import main


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON object on standard output."""
        import json

        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Nmc = Callable[..., Done]


@pytest.fixture
def nmc(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nmc:
    """Run ``nmc WORDS`` in an empty folder; no command may ever show a traceback unasked."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Done:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "--traceback" in words or "Traceback" not in err
        return Done(code, out, err)

    return call


@pytest.fixture(scope="session")
def models(repo: Path) -> Path:
    """The folder of trained networks."""
    return repo / "examples" / "models"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty random samples with labels in the shape of the digits: enough to calibrate and to run."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    random = np.random.default_rng(1)
    np.savez(path, x=random.random((40, 1, 8, 8), np.float32), y=random.integers(0, 10, 40))
    return path


@pytest.fixture(scope="session")
def compiled(models: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled network."""
    from nmc.driver import CompileOptions, compile_model

    path = tmp_path_factory.mktemp("program") / "net.nmx"
    compile_model(models / "digits_mlp.onnx", CompileOptions(calib=str(digits), steps=8)).save(path)
    return path


@pytest.fixture
def unsupported(tmp_path: Path) -> Iterator[Path]:
    """A network with an operator that no firing rate can stand for; its name would colour a terminal."""
    from onnx import TensorProto, helper, save

    node = helper.make_node("Sign", ["x"], ["y"], name="evil\x1b[31m")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    path = tmp_path / "unsupported.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    yield path
