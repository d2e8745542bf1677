"""Streams of frames: outputs are those of runs that start anew, and little is sent where frames are alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.cli import main
from nmc.driver import CompileOptions, compile_model
from nmc.ir.diagnostics import NmcError
from nmc.ir.npz import write_npz
from nmc.program import Program

Array = np.ndarray[Any, Any]
Data = tuple[Array, Array]


@pytest.fixture(scope="module", params=["spinnaker2", "fpga"])
def signed(request: pytest.FixtureRequest, repo: Path, calib: Path) -> Program:
    """A program of signed spikes."""
    options = CompileOptions(target=request.param, calib=str(calib), levels=4)
    return compile_model(repo / "examples" / "models" / "digits_cnn.onnx", options)


def streams(x: Array, alike: bool) -> Array:
    """Streams of three frames: of one digit with a few pixels that change, or of three digits."""
    if not alike:
        return x[:60].reshape(20, 3, *x.shape[1:])
    frames = np.repeat(x[:20, None], 3, axis=1)
    frames[:, 1:, 0, 3, 3] = 1 - frames[:, 1:, 0, 3, 3]
    return frames


@pytest.mark.parametrize("alike", [True, False])
def test_each_frame_gives_what_it_gives_alone(signed: Program, unseen: Data, alike: bool) -> None:
    frames = streams(unseen[0], alike)
    found = signed.run_frames(frames)
    alone = signed.run(frames.reshape(60, *frames.shape[2:]))
    np.testing.assert_array_equal(found.logits.reshape(alone.logits.shape), alone.logits)
    spikes = found.summary["spikes_per_sample"] / (3 * alone.summary["spikes_per_sample"])
    assert spikes < 0.6 if alike else spikes < 1.2


def test_run_takes_frames(
    signed: Program, unseen: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed.save(tmp_path / "net.nmx")
    write_npz(tmp_path / "x.npz", {"x": streams(unseen[0], False)})
    words = ["run", str(tmp_path / "net.nmx"), "--input", str(tmp_path / "x.npz"), "--frames", "--json"]
    assert main([*words, "-o", str(tmp_path / "o.npz")]) == 0
    told, written = json.loads(capsys.readouterr().out), np.load(tmp_path / "o.npz")
    assert told["frames"] == 3 and written["logits"].shape == (20, 3, 10)
    np.testing.assert_array_equal(written["logits"].argmax(axis=2), told["predictions"])
    assert main([*words, "--until-quiescent"]) == 1
    assert "E0004" in capsys.readouterr().err


def test_plain_spikes_take_no_differences(program: Program, unseen: Data) -> None:
    with pytest.raises(NmcError, match="E0654"):
        program.run_frames(streams(unseen[0], False))
