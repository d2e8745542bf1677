"""The main job, shown: compile a trained network, run it on the emulated chip, and compare every stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import nmc
from nmc.driver import CompileOptions, compile_model, load
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.npz import write_npz
from nmc.passes.data import load_samples
from nmc.passes.manager import ManagerOptions
from nmc.program import Program
from nmc.runtime.evaluate import Evaluation, evaluate
from nmc.runtime.reference import accuracy, float_logits, spiking_logits

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]

#: Networks that ship with nmc, by their name on the command line.
MODELS = {"digits-cnn": "digits_cnn.onnx", "digits-mlp": "digits_mlp.onnx"}
#: scikit-learn's digits from this index on were held out of the training (examples/train/train_digits.py).
HELD_OUT = 1347
#: Stages between the float network and the chip: name, pass that gives it, steps (0: as many as the program has).
_STAGES = {
    "exact": (("integer", "quantize", 1),),
    "rate-if": (("converted", "retime", 0), ("quantised", "partition", 0)),
}


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Parameters
    ----------
    network : str
        Name of the network.
    accuracies : mapping of str to float
        Share of right predictions of each stage: float, then integer (exact mode) or converted and quantised (rates),
        then emulated.
    agree : int
        Samples whose outputs are equal, bit for bit, between the last stage before the chip and the emulated chip.
    evaluation : Evaluation
        The run on the emulator.
    program : Program
        What was compiled.
    """

    network: str
    accuracies: Mapping[str, float]
    agree: int
    evaluation: Evaluation
    program: Program

    def to_json(self) -> dict[str, Any]:
        """Accuracies, agreement, costs and the compiler's report."""
        shown = {f"{stage}_accuracy": share for stage, share in self.accuracies.items()}
        return {
            "network": self.network, **shown, "agree": self.agree, **self.evaluation.to_json(),
            "report": self.program.report,
        }  # fmt: skip

    def text(self) -> str:
        """A summary for people."""
        report, found = self.program.report, self.evaluation
        names = {
            "float": "float network", "converted": "converted to spikes", "quantised": "quantised to registers",
            "integer": "integer network", "emulated": "emulated chip",
        }  # fmt: skip
        last = list(self.accuracies)[-2]
        stages = [f"  {names[stage]:<24}{100 * share:7.2f} %" for stage, share in self.accuracies.items()]
        memory = ", ".join(
            f"{row['resource'].replace('_', ' ')} {row['percent']:.0f} %" for row in report["memory"]
        )
        place = report["placement"] or {"objective": 0, "gap": 0.0, "status": "nothing to place"}
        gap = f"gap to the bound {100 * place['gap']:.1f} %, {place['status']}"
        summary = found.summary
        return "\n".join([
            f"{self.network} on {report['target']}: {found.samples} samples of real data, {found.steps} steps each",
            *stages,
            f"  {last + ' == emulated':<24}{self.agree} of {found.samples} samples, bit for bit",
            f"  cores                   {report['cores']['used']} of {report['cores']['available']}",
            f"  memory high-water       {memory}",
            f"  latency                 {found.latency_steps} steps",
            f"  placement               {place['objective']:,.0f} spike hops a sample ({gap})",
            f"  a sample                {summary['spikes_per_sample']:,.0f} spikes, "
            f"{summary['synaptic_operations_per_sample']:,.0f} synaptic operations",
            *_cost(summary),
        ])  # fmt: skip


def _cost(summary: Mapping[str, float]) -> list[str]:
    """Energy and time, where a target knows them."""
    if "energy_per_sample_j" not in summary:
        return []
    energy, time = 1e6 * summary["energy_per_sample_j"], 1e3 * summary["time_per_sample_s"]
    return [f"  energy, time a sample   {energy:.1f} uJ, {time:.2f} ms (estimate from published event costs)"]


def run_demo(
    *,
    model: str = "digits-cnn",
    target: str = "loihi",
    data: str = "",
    calib: str = "",
    limit: int = 0,
    mode: Literal["exact", "rate-if"] = "exact",
    levels: int = 0,
    steps: int = 0,
    out: Path | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Compile a network, run every stage on labelled data, and compare.

    Parameters
    ----------
    model : str
        One of `MODELS`, or an ONNX file (then `data` must be given).
    target : str
        Target to compile for.
    data : str
        ``.npz`` with ``x`` and ``y``; scikit-learn's held-out digits by default.
    calib : str
        ``.npz`` for calibration; by default the digits that the network was trained on, or `data` itself.
    limit : int
        Only so many samples when positive.
    mode, levels, steps
        As in `nmc.driver.CompileOptions`.
    out : Path or None
        Where to keep the compiled program.
    progress : callable
        Called with (stage, done, total).

    Raises
    ------
    NmcError
        E0003 for an unknown network or missing data, and whatever compiling finds.
    """
    tell = progress or (lambda stage, done, total: None)
    path = _model_path(model, data)
    module = load(path)
    stages: dict[str, Module] = {}
    manager = ManagerOptions(observe=stages.__setitem__)
    with TemporaryDirectory() as folder:
        x, y, sample_file = _data(data, calib, limit, Path(folder))
        options = CompileOptions(target=target, calib=sample_file, mode=mode, levels=levels, steps=steps)
        program = compile_model(path, options, manager, lambda stage: tell(stage, 0, 0))
    if out is not None:
        program.save(out)
    accuracies = {"float": accuracy(float_logits(module, x), y)}
    for stage, name, count in _STAGES[mode]:
        logits = spiking_logits(stages[name], x, count or program.steps, partial(tell, stage))
        accuracies[stage] = accuracy(logits, y)
    found = evaluate(program, x, y, raw=True, progress=lambda done, total: tell("emulated", done, total))
    accuracies["emulated"] = found.accuracy
    agree = int((logits == found.logits).all(axis=1).sum())
    return DemoResult(module.name, accuracies, agree, found, program)


def _model_path(model: str, data: str) -> Path:
    if model in MODELS:
        return Path(nmc.__file__).parent / "data" / MODELS[model]
    if not Path(model).exists():
        raise fail("E0003", f"no network {model!r}", hint=f"give an ONNX file or one of {', '.join(MODELS)}")
    if not data:
        raise fail("E0003", "a network of your own needs labelled data", hint="--data FILE.npz with x and y")
    return Path(model)


def _data(data: str, calib: str, limit: int, folder: Path) -> tuple[Array, Array, str]:
    """Samples, labels, and a file with calibration samples (written to `folder` for the digits)."""
    if data:
        x, y = load_samples(data, limit=limit)
        if y is None:
            raise fail("E0403", "no labels: the demo needs an array y", where=data)
        return x, y, calib or data
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        hint = "pip install 'nmc[demo]', or give --data FILE.npz"
        raise fail("E0003", "the digits come with scikit-learn, which is not installed", hint=hint) from None
    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    sample_file = folder / "calibration.npz"
    write_npz(sample_file, {"x": scaled[:HELD_OUT]})
    stop = HELD_OUT + limit if limit > 0 else len(scaled)
    return scaled[HELD_OUT:stop], labels[HELD_OUT:stop], calib or str(sample_file)
