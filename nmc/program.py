"""The artefact ``.nmx``: a compiled network with its image, its map and its report, in one reproducible file.

What a target's ``backend`` module must provide:

- ``emit(module)`` gives the image files (bytes by name) of a mapped module, ``disassemble(files)`` the module of level
  ``image``; ``describe(module)``, ``layers(module)`` and ``places(module)`` what the report and ``map.json`` hold.
- ``Runner(files, engine)`` has ``sources`` (sample shape by data source), ``timed`` (the sources that take spikes,
  optional) and ``run(data, steps, *, probes, first_sample, batch, progress, trace)``, which gives a
  `nmc.ir.interp.Result` and event counts. ``data``: arrays by source; ``steps`` None: the image's own number.
  ``Result.outputs`` holds the decoded outputs by the name of the value that ``snn.output`` decodes, in the trained
  network's range: an integer of the chip times the ``scale`` of that op in the final module.
- With ``trace=True`` ``Result.traces`` has the same names: (N, T, ...) float64, what each output would be if the run
  had ended after step 1, 2, ... T (the v of a read-out, or the spikes counted so far, times the scale); the last
  entry equals the output. Accuracy by step and early exit are made of it, so that a runner knows of neither.
- ``synthesize(module, options, tell)``, of targets that have it (``--synthesize``): report and files by name.
- Every population can be probed (``NAME.spikes``), which tells when a chip is at rest (`nmc.runtime.quiescence`).
- ``event_summary(events, samples)``: floats a sample, means over samples, keys as in `nmc.runtime.evaluate`.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import NmcError, fail
from nmc.ir.interp import Progress, Result, join_results
from nmc.ir.module import Module
from nmc.ir.npz import npz_bytes, read_npz
from nmc.ir.target import package_of
from nmc.ir.text.parser import parse
from nmc.ir.text.sidefile import blobs
from nmc.passes.data import fit_shape, scale_samples

Array = NDArray[Any]
SCHEMA = "nmc.program/1"
#: More than this many bytes in an artefact are refused before they are read.
MAX_BYTES = 2 << 30


@dataclass(frozen=True)
class Run:
    """What running a program gave.

    Parameters
    ----------
    result : Result
        Outputs (floats in the trained network's range) and probes.
    summary : dict
        Spikes, synaptic operations, energy and time a sample.
    """

    result: Result
    summary: dict[str, float]

    @property
    def logits(self) -> Array:
        """The first output, (N, ...).

        Raises
        ------
        NmcError
            E0401 for a network without outputs.
        """
        if not self.result.outputs:
            raise fail("E0401", "the network has no outputs", hint="record what you want to see with --probe")
        return next(iter(self.result.outputs.values()))


class Program:
    """A compiled network.

    Parameters
    ----------
    manifest : dict
        Target, steps, source and options; hashes of all files.
    texts : mapping of str to bytes
        Members of the artefact other than the manifest, by name.
    """

    def __init__(self, manifest: dict[str, Any], texts: Mapping[str, bytes]) -> None:
        self.manifest = manifest
        self._members = dict(texts)

    @staticmethod
    def build(
        module: Module,
        files: Mapping[str, bytes],
        manifest: dict[str, Any],
        report: dict[str, Any],
        places: dict[str, Any],
        synthesis: Mapping[str, bytes] | None = None,
        integer: Module | None = None,
    ) -> Program:
        """Put a program together: final module, image, what was synthesised, and the integer network it computes."""
        members = {
            "module.nmc": str(module).encode(),
            "module.npz": npz_bytes(blobs(module)),
            "map.json": _json(places),
            "report.json": _json(report),
            **{f"image/{name}": data for name, data in files.items()},
            **{f"synthesis/{name}": data for name, data in (synthesis or {}).items()},
        }
        if integer is not None:
            members |= {
                "integer.nmc": str(integer).encode(),
                "integer.npz": npz_bytes(blobs(integer)),
            }
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
        return Program({"schema": SCHEMA, **manifest, "files": hashes}, members)

    @property
    def target(self) -> str:
        """Name of the target whose image this is."""
        return str(self.manifest["target"])

    @property
    def steps(self) -> int:
        """Time steps of a run."""
        return int(self.manifest["steps"])

    @property
    def files(self) -> dict[str, bytes]:
        """The image files, by name."""
        return {name[6:]: data for name, data in self._members.items() if name.startswith("image/")}

    @property
    def synthesis(self) -> dict[str, bytes]:
        """Bitstream and what is still to be loaded, by name; empty where nothing was synthesised."""
        return {name[10:]: data for name, data in self._members.items() if name.startswith("synthesis/")}

    @cached_property
    def report(self) -> dict[str, Any]:
        """What the compiler reported: cores, memory, placement, latency, energy."""
        return self._read_json("report.json")

    @cached_property
    def map(self) -> dict[str, Any]:
        """Where every neuron lives, by population."""
        from nmc.runtime.places import check_places

        return check_places(self._read_json("map.json"))

    @cached_property
    def module(self) -> Module:
        """The final module, mapped level."""
        return self._read_module("module")

    @cached_property
    def integer(self) -> Module | None:
        """The integer network whose read-outs the chip gives; None for a program of another mode."""
        return self._read_module("integer") if "integer.nmc" in self._members else None

    def _read_module(self, name: str) -> Module:
        if f"{name}.npz" not in self._members:
            raise fail("E0804", f"{name}.npz is missing")
        arrays = read_npz(io.BytesIO(self._members[f"{name}.npz"]))
        text = self._members.get(f"{name}.nmc", b"").decode("utf-8", "replace")
        return parse(text, arrays, file=f"{name}.nmc")

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._members[name])
        except (KeyError, ValueError, RecursionError) as error:
            raise fail("E0804", f"{name} is missing or damaged: {error}") from None
        if not isinstance(found, dict):
            raise fail("E0804", f"{name} holds no object")
        return found

    def image_module(self) -> Module:
        """The image files, disassembled."""
        module: Module = backend_of(self.target).disassemble(self.files)
        return module

    def to_bytes(self) -> bytes:
        """The artefact's bytes: a ZIP without compression and with fixed dates, the same for the same program."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, data in {"manifest.json": _json(self.manifest), **self._members}.items():
                info = zipfile.ZipInfo(name)
                info.create_system = 3
                archive.writestr(info, data)
        return stream.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the artefact.

        Raises
        ------
        NmcError
            E0805 when the file cannot be written.
        """
        try:
            Path(path).write_bytes(self.to_bytes())
        except OSError as error:
            raise fail("E0805", f"cannot write the program: {error.strerror}", where=str(path)) from None

    @staticmethod
    def open(path: str | Path) -> Program:
        """Read an artefact.

        Raises
        ------
        NmcError
            E0803 for a file that is no artefact, is damaged, or names a place outside itself; E0804 for members
            that do not match their hashes.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                members = _members(archive)
        except NmcError as error:
            raise NmcError([_with_place(item, str(path)) for item in error.diagnostics]) from None
        except FileNotFoundError:
            raise fail("E0803", "no such file", where=str(path)) from None
        except Exception as error:  # zipfile and zlib raise a dozen kinds on damaged files
            raise fail("E0803", f"not a compiled program: {error}", where=str(path)) from None
        return _checked(members, str(path))

    def runner(self, engine: str = "functional") -> Any:
        """Load the image into an emulator of its target; see the target's ``backend.Runner``."""
        return backend_of(self.target).Runner(self.files, engine)

    def run(
        self,
        x: Array | None = None,
        *,
        raw: bool = False,
        steps: int | None = None,
        probes: Sequence[str] = (),
        first_sample: int = 0,
        engine: str = "functional",
        batch: int = 128,
        progress: Progress | None = None,
        trace: bool = False,
        until_quiescent: bool = False,
    ) -> Run:
        """Run samples on the emulator.

        Parameters
        ----------
        x : (N, ...) array or None
            Samples; uint8 is divided by 255 unless `raw`. Spike trains are (N, T, ...) of 0 and 1. None for a program
            whose inputs draw their spikes themselves: one sample.
        steps : int or None
            Time steps a sample; what it was compiled for by default.
        probes : sequence of str
            ``population.spikes``, ``.u`` or ``.v``.
        first_sample : int
            Data-set number of the first sample (keys the random encoder).
        engine : str
            Engine of the target's emulator.
        batch : int
            Samples computed at once; does not change the result.
        progress : callable
            Called with (samples done, samples in all).
        trace : bool
            Also give the outputs after each step (`Result.traces`).
        until_quiescent : bool
            Run until the network is at rest, `steps` at most; gives `Result.settled`.

        Raises
        ------
        NmcError
            E0401 for samples of another shape or none, E0406 for a network that never rests, E0540 for unknown
            probes, E0806 for a network with several inputs.
        """
        runner = self.runner(engine)
        if steps is not None and steps < 1:
            raise fail("E0401", f"{steps} steps are none")
        data = {} if x is None and not runner.sources else self._data(runner, x, raw)
        more: dict[str, Any] = {"trace": True} if trace else {}
        if until_quiescent:
            how = {"steps": steps, "probes": list(probes), "batch": batch, "progress": progress, **more}
            return self._until_rest(runner, data, first_sample, how)
        result, events = runner.run(
            data, steps, probes=probes, first_sample=first_sample, batch=batch, progress=progress, **more
        )
        return Run(result, backend_of(self.target).event_summary(events, 1 if x is None else len(x)))

    def run_frames(
        self,
        x: Array,
        *,
        raw: bool = False,
        steps: int | None = None,
        engine: str = "functional",
        batch: int = 128,
        progress: Progress | None = None,
    ) -> Run:
        """Run streams of frames: the chip keeps its state, and only what changes from frame to frame is sent.

        Parameters
        ----------
        x : (N, F, ...) array
            Streams of frames; uint8 is divided by 255 unless `raw`.
        steps : int or None
            Time steps a frame; what it was compiled for by default.
        engine, batch, progress
            As `run`.

        Returns
        -------
        Run
            Outputs (N, F, ...), those of a run that starts anew with each frame; the summary's means are of streams.

        Raises
        ------
        NmcError
            E0401 for data of another shape, E0654 for a program that cannot take differences.
        """
        from nmc.runtime.frames import check_frames, ends

        check_frames(self.module, self.target)
        runner, each = self.runner(engine), self.steps if steps is None else steps
        if x.ndim < 3 or not x.shape[1] or each < 1:
            raise fail(
                "E0401", f"frames are (N, F, ...), not an array of shape {x.shape} for {each} steps each"
            )
        ((name, item),) = self._data(runner, x.reshape(-1, *x.shape[2:]), raw).items()
        data = {name: item.reshape(*x.shape[:2], *item.shape[1:])}
        result, events = runner.run(data, x.shape[1] * each, batch=batch, progress=progress, trace=True)
        outputs = {key: ends(trace, each) for key, trace in result.traces.items()}
        summary = backend_of(self.target).event_summary(events, len(x))
        return Run(replace(result, outputs=outputs, traces={}), summary)

    def _until_rest(self, runner: Any, data: Mapping[str, Array], first: int, how: dict[str, Any]) -> Run:
        """Run groups of samples with the spikes of all populations recorded, and tell when each was at rest."""
        from nmc.runtime.quiescence import watch_of

        watch, asked = watch_of(self.module, self.target), how["probes"]
        count, samples = how["steps"] or self.steps, min((len(item) for item in data.values()), default=1)
        size, results, summaries = watch.group(count), [], []
        for start in range(0, samples, size):
            part = {name: item[start : start + size] for name, item in data.items()}
            probes = list(dict.fromkeys([*asked, *watch.probes]))
            result, events = runner.run(part, first_sample=first + start, **{**how, "probes": probes})
            here = min(size, samples - start)
            settled = watch.settled(result.probes, here, count)
            results.append(
                replace(result, probes={name: result.probes[name] for name in asked}, settled=settled)
            )
            summaries.append((here, backend_of(self.target).event_summary(events, here)))
        means = {
            name: sum(here * found[name] for here, found in summaries) / samples for name in summaries[0][1]
        }
        return Run(join_results(results), means)

    def _data(self, runner: Any, x: Array | None, raw: bool) -> dict[str, Array]:
        """The samples in the shape that the program's one input takes, by its name."""
        if len(runner.sources) != 1:
            raise fail(
                "E0806", f"the program takes {len(runner.sources)} inputs: {', '.join(runner.sources)}"
            )
        ((name, shape),) = runner.sources.items()
        if x is None:
            raise fail("E0401", f"no data for input {name}", hint="nmc run takes them with --input FILE.npz")
        if name not in getattr(runner, "timed", ()):
            return {name: fit_shape(scale_samples(x, raw=raw), shape)}
        if x.ndim < 2 or not len(x):
            raise fail(
                "E0401", f"input {name} takes spike trains (N, T, ...), not an array of shape {x.shape}"
            )
        return {name: fit_shape(x.reshape(-1, *x.shape[2:]), shape).reshape(*x.shape[:2], *shape)}

    def takes_spikes(self) -> bool:
        """Whether the data of this program are spike trains."""
        return bool(getattr(self.runner(), "timed", ()))

    @property
    def probes(self) -> dict[str, dict[str, Any]]:
        """What the network's own ``probe`` statements record: period and box by probe name."""
        found = self.manifest.get("probes", {})
        if not isinstance(found, dict) or not all(map(_lawful_probe, found.values())):
            raise fail("E0804", "the manifest's probes are damaged")
        return found

    def where(self, place: str) -> list[str]:
        """Answer which neuron is in a place, or where a neuron is.

        Parameters
        ----------
        place : str
            ``core 17 cx 5`` or ``17:5`` for a compartment, ``conv1[3,4,5]`` for a neuron, ``conv1`` for a population.

        Raises
        ------
        NmcError
            E0807 when there is no such place.
        """
        from nmc.runtime.places import find_place

        return find_place(self.map, place)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(json.dumps(self.report, indent=1))}</pre>"


def _lawful_probe(entry: Any) -> bool:
    """Whether a probe of a manifest names a period and a box, if anything."""
    if not isinstance(entry, dict) or type(entry.get("every", 1)) is not int or entry.get("every", 1) < 1:
        return False
    box = entry.get("box", "0:1")
    return isinstance(box, str) and re.fullmatch(r"\d{1,9}:\d{1,9}(, \d{1,9}:\d{1,9}){0,7}", box) is not None


def thinned(run: Run, asked: Mapping[str, Mapping[str, Any]]) -> Run:
    """Keep of each recording the steps and the neurons that its ``probe`` statement names.

    Parameters
    ----------
    run : Run
        Recordings are (N, T, *shape).
    asked : mapping of str to mapping
        By probe name: ``every`` (steps) and ``box`` such as ``0:10, 2:4``; recordings not named stay whole.
    """
    kept: dict[str, Array] = {}
    for name, data in run.result.probes.items():
        entry = asked.get(name, {})
        cuts = [item.partition(":")[::2] for item in str(entry.get("box", "")).split(",") if item]
        box = tuple(slice(int(start), int(stop)) for start, stop in cuts)
        if len(box) > data.ndim - 2:
            raise fail("E0804", f"the manifest's probe {name} does not fit its population")
        kept[name] = data[(slice(None), slice(None, None, int(entry.get("every", 1))), *box)]
    return replace(run, result=replace(run.result, probes=kept))


def backend_of(target: str) -> Any:
    """The module that emits and runs images of a target."""
    if not target.isidentifier():
        raise fail("E0721", f"there is no target {target!r}")
    try:
        return importlib.import_module(f"{package_of(target)}.backend")
    except ModuleNotFoundError:
        raise fail("E0721", f"there is no target {target!r}", hint="nmc targets lists them") from None


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, default=_plain) + "\n").encode()


def _plain(item: Any) -> Any:
    if isinstance(item, np.generic):
        return item.item()
    raise TypeError(f"{type(item).__name__} is no JSON")


def _members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    if total > MAX_BYTES or len(infos) > 4096:
        raise fail("E0803", f"{len(infos)} members of {total:,} bytes are more than any program has")
    members: dict[str, bytes] = {}
    for info in infos:
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
            raise fail("E0803", f"member {info.filename!r} points outside the program")
        if info.compress_type != zipfile.ZIP_STORED or info.filename in members:
            raise fail("E0803", f"member {info.filename!r} is compressed or there twice; nmc writes neither")
        members[info.filename] = archive.read(info)
    return members


def _with_place(item: Any, path: str) -> Any:
    from dataclasses import replace

    return replace(item, where=path)


def _checked(members: dict[str, bytes], where: str) -> Program:
    try:
        manifest = json.loads(members.pop("manifest.json"))
        schema, hashes = manifest["schema"], dict(manifest["files"])
        _ = str(manifest["target"]), int(manifest["steps"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise fail(
            "E0803", "not a compiled program: its manifest is missing or damaged", where=where
        ) from None
    if schema != SCHEMA:
        raise fail(
            "E0803", f"a program of another version ({schema!r}; this nmc reads {SCHEMA})", where=where
        )
    found = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    if found != hashes:
        wrong = sorted(name for name in found.keys() | hashes.keys() if found.get(name) != hashes.get(name))
        raise fail("E0804", f"members differ from the manifest: {', '.join(wrong[:5])}", where=where)
    return Program(manifest, members)
