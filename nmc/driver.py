"""From a file to a compiled program: the public functions behind the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nmc
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.ir.target import resolve
from nmc.passes.base import Pass
from nmc.passes.manager import ManagerOptions, PipelineResult, run_pipeline
from nmc.recipe import parse
from nmc.recipe import pipeline_for as pipeline_for
from nmc.searching import searched

if TYPE_CHECKING:
    from nmc.program import Program

Stage = Callable[[str], None]

#: Time steps of a run where nothing else says how many.
STEPS = 32


@dataclass(frozen=True)
class CompileOptions:
    """How to compile.

    Parameters
    ----------
    target : str
        Name of a target, or a TOML file of one's own chip.
    calib : str
        ``.npz`` with sample data for thresholds and traffic; labels are not needed.
    mode : {"exact", "rate-if"}
        How a trained network is converted: into whole counts that every run reproduces, or into rates.
    levels : int
        Largest count of a neuron in the exact mode; 0 for the default (`nmc.recipe.LEVELS`, fewer where `steps` asks
        for it).
    accuracy_drop : float or None
        Percentage points of accuracy that may be lost: the fewest levels that lose no more on calibration data are
        taken; with `steps` and signed spikes the levels and the input schedule that lose least after so many steps, at
        which the run then ends, settled or not.
    method : str
        Of calibration (see ``nmc passes calibrate``); empty for its default.
    early_exit : bool
        Calibrate the margin at which a run may end early (exact mode).
    steps : int
        Time steps of a run, latency included; 0 for as many as the exact mode needs, or 32.
    encoder : {"constant", "rate"}
        How data enter: as constant current or as Bernoulli spikes.
    reset : {"subtract", "zero"}
        Soft or hard reset.
    bits : int
        Weight bits.
    layer_bits : str
        Those of single layers (``fc:4,conv2:6``), or of a weight on average (``auto:5``; see ``nmc passes quantize``).
    seed : int
        Of everything random.
    effort : {"fast", "normal", "best"}
        Of the placement.
    raw : bool
        Leave uint8 data as they are instead of dividing by 255.
    approximate : bool
        Let straight lines stand for smooth activations (pass ``approximate``).
    freeze_plasticity : bool
        Fix the weights of synapses that learn at their initial values (pass ``freeze-plasticity``).
    passes : str
        Pipeline text instead of the target's own.
    without : tuple of str
        Names of passes to leave out.
    load_pass : tuple of str
        Python files with passes to add.
    params : tuple of (str, str)
        Overrides of the ``param`` statements of a ``.snn`` program.
    read : LoadOptions or None
        Time step, convention and semantics of a ``.nir`` file.
    device : str
        The FPGA whose resources are limits, for targets that are built for one.
    target_rate : float
        Samples a second that it must do; 0 for as many as it does.
    synthesize : bool
        Place and route, and make a bitstream.
    shell : {"", "words", "uart", "axis"}
        Interface of what is synthesised; empty for that of the device.
    pins : str
        File with the pins of a board (.lpf, .pcf); empty: the tools choose them.
    hint : str
        An earlier program of the same target: cores keep the sites that their neurons had.
    """

    target: str = "loihi"
    calib: str = ""
    mode: Literal["exact", "rate-if"] = "exact"
    levels: int = 0
    accuracy_drop: float | None = None
    method: Literal["", "mse", "max", "percentile", "ltb", "auto"] = ""
    early_exit: bool = False
    steps: int = 0
    encoder: Literal["constant", "rate"] = "constant"
    reset: Literal["subtract", "zero"] = "subtract"
    bits: int = 8
    layer_bits: str = ""
    seed: int = 0
    effort: Literal["fast", "normal", "best"] = "normal"
    raw: bool = False
    approximate: bool = False
    freeze_plasticity: bool = False
    passes: str = ""
    without: tuple[str, ...] = ()
    load_pass: tuple[str, ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    read: LoadOptions | None = None
    device: str = ""
    target_rate: float = 0.0
    synthesize: bool = False
    shell: Literal["", "words", "uart", "axis"] = ""
    pins: str = ""
    hint: str = ""


@dataclass(frozen=True)
class LoadOptions:
    """What NIR files do not tell (see `nmc.frontends.nir.load_nir`).

    Parameters
    ----------
    dt : float or None
        Length of a time step, in the unit of the file's time constants.
    convention : str
        How the exporter wrote resistances; ``auto`` finds out.
    semantics : str
        Whose arithmetic a step does.
    reset : {"zero", "subtract", "to-value"} or None
        Instead of that of the semantics.
    """

    dt: float | None = None
    convention: str = "auto"
    semantics: str = "nir-exact"
    reset: str | None = None


def load(
    path: str | Path, params: Mapping[str, object] | None = None, options: LoadOptions | None = None
) -> Module:
    """Read a network.

    Parameters
    ----------
    path : str or Path
        ``.onnx``, ``.snn``, ``.nir`` or ``.nmc``.
    params : mapping of str to value
        Overrides of the ``param`` statements of a ``.snn`` program.
    options : LoadOptions or None
        Time step, convention and semantics of a ``.nir`` file.

    Raises
    ------
    NmcError
        E0001 for another kind of file, and whatever its reader finds.
    """
    path = Path(path)
    if not path.exists():
        raise fail("E0001", "no such file", where=str(path))
    if path.suffix != ".nir" and options not in (None, LoadOptions()):
        hint = "--dt, --convention, --semantics and a --reset of neurons belong to .nir files"
        raise fail("E0004", "only .nir files need a time step or a convention", where=str(path), hint=hint)
    if path.suffix == ".onnx":
        from nmc.frontends.onnx import load_onnx

        return load_onnx(path)
    if path.suffix == ".snn":
        from nmc.frontends.snn import load_snn

        return load_snn(path, params)
    if params:
        raise fail("E0004", "only .snn programs have params", where=str(path))
    if path.suffix == ".nir":
        from nmc.frontends.nir import load_nir

        return load_nir(path, **asdict(options or LoadOptions()))
    if path.suffix == ".nmc":
        from nmc.ir.text.sidefile import load as load_text
        from nmc.ir.verify import verify_or_raise

        module = load_text(path)
        verify_or_raise(module, f"({path})")
        return module
    raise fail(
        "E0001",
        f"cannot read {path.suffix or 'a file without suffix'}",
        where=str(path),
        hint="give .onnx, .snn, .nir or .nmc",
    )


load_module = load


def opt(
    module: Module, passes: str, *, load_pass: tuple[str, ...] = (), manager: ManagerOptions | None = None
) -> Module:
    """Run a pipeline given as text over a module."""
    return run_pipeline(module, parse(passes, load_pass), manager).module


def compile_model(
    source: str | Path | Module,
    options: CompileOptions | None = None,
    manager: ManagerOptions | None = None,
    progress: Stage | None = None,
) -> Program:
    """Compile a network for a target.

    Parameters
    ----------
    source : path or Module
        What to compile, at any level before ``image``.
    options : CompileOptions or None
        How.
    manager : ManagerOptions or None
        Dumps and checks between passes.
    progress : callable
        Called with the name of each stage.

    Raises
    ------
    NmcError
        For everything that the user can mend; `DoesNotFit` when the network exceeds the target.
    """
    return compile_traced(source, options, manager, progress)[0]


def compile_traced(
    source: str | Path | Module,
    options: CompileOptions | None = None,
    manager: ManagerOptions | None = None,
    progress: Stage | None = None,
    loaded: Module | None = None,
) -> tuple[Program, PipelineResult]:
    """Compile and also give what the pass manager saw (timings, dumps, explanations).

    `loaded` is the network in `source`, where the caller has read it already.
    """
    from nmc.program import Program, backend_of

    options, manager = options or CompileOptions(), manager or ManagerOptions()
    tell = progress or (lambda stage: None)
    tell("read")
    module = loaded or (
        source if isinstance(source, Module) else load(source, dict(options.params), options.read)
    )
    options, cut = searched(module, options, tell)
    passes = cut.pipeline if cut else pipeline_for(options, module)
    if module.level == "snn" and not module.attr("spike_code"):
        module = module.with_attrs(steps=options.steps or module.attr("steps") or STEPS)
    kept = _Kept(manager.observe)
    watching = replace(manager, on_pass=lambda name, *_: tell(name), observe=kept.look)
    result = run_pipeline(module, passes, watching)
    if result.module.level != "mapped":
        hint = "end the pipeline with the target's allocation"
        raise fail("E0705", f"the pipeline ends at level {result.module.level}, not mapped", hint=hint)
    tell("emit")
    final = cut.ended(result.module) if cut else _lasting(result.module, options.steps)
    final = final.with_attrs(seed=options.seed, source_sha256=_source_hash(source))
    backend = backend_of(resolve(options.target).name)
    files = backend.emit(final)
    synthesis, made = backend.synthesize(final, options, tell) if options.synthesize else ({}, {})
    tell("measure")
    report = _report(final, options, backend, files) | ({"synthesis": synthesis} if synthesis else {})
    manifest = _manifest(source, options, passes, final)
    integer = kept.integer if final.attr("spike_code") else None
    return Program.build(final, files, manifest, report, backend.places(final), made, integer), result


@dataclass
class _Kept:
    """Keeps the integer network that a pipeline makes on its way."""

    other: Callable[[str, Module], None] | None
    integer: Module | None = None

    def look(self, name: str, module: Module) -> None:
        """Look at what a pass gave."""
        if name == "quantize":
            self.integer = module
        if self.other is not None:
            self.other(name, module)


def integer_network(source: str | Path | Module, options: CompileOptions | None = None) -> Module:
    """The integer network that a trained network becomes for a target: what `compile_model` puts on the chip.

    Parameters
    ----------
    source : path or Module
        A trained network, level ``ann``.
    options : CompileOptions or None
        As `compile_model`.

    Raises
    ------
    NmcError
        E0705 where the pipeline makes no integer network, and whatever its passes refuse.
    """
    options = options or CompileOptions()
    module = source if isinstance(source, Module) else load(source, dict(options.params), options.read)
    options, cut = searched(module, options, lambda stage: None)
    passes = cut.pipeline if cut else pipeline_for(options, module)
    names = [item.name for item in passes]
    if "quantize" not in names:
        raise fail("E0705", "this pipeline makes no integer network", hint="leave --mode and --passes away")
    return run_pipeline(module, passes[: names.index("quantize") + 1]).module


def _lasting(module: Module, steps: int) -> Module:
    """The module with as many steps as asked for: an exact network that is done earlier waits."""
    return (
        module.with_attrs(steps=max(steps, module.attr("steps", 0))) if module.attr("spike_code") else module
    )


def compile(source: str | Path | Module, *, target: str = "loihi", **options: Any) -> Program:
    """Compile a network; keyword arguments are those of `CompileOptions`."""
    return compile_model(source, CompileOptions(target=target, **options))


def _source_hash(source: str | Path | Module) -> str:
    data = str(source).encode() if isinstance(source, Module) else Path(source).read_bytes()
    return hashlib.sha256(data).hexdigest()


def _manifest(
    source: str | Path | Module, options: CompileOptions, passes: tuple[Pass, ...], module: Module
) -> dict[str, Any]:
    from nmc.passes.pipeline import print_pipeline

    name = source.name if isinstance(source, Module) else Path(source).name
    shown = asdict(options)
    shown["calib"] = _file_hash(options.calib)
    shown["pins"] = _file_hash(options.pins)
    shown["hint"] = _file_hash(options.hint)
    shown["load_pass"] = [_file_hash(path) for path in options.load_pass]
    profile = Path(options.target).read_text() if options.target.endswith(".toml") else ""
    bare = tuple(replace(item, **({"data": ""} if hasattr(item, "data") else {})) for item in passes)
    return {
        "nmc": nmc.__version__, "target": resolve(options.target).name, "profile": profile,
        "steps": module.attr("steps", 0), "latency": module.attr("latency", {}), "seed": options.seed,
        "source": {"name": name, "sha256": module.attr("source_sha256")}, "options": shown,
        "pipeline": print_pipeline(bare), "probes": _probes(module),
    }  # fmt: skip


def _probes(module: Module) -> dict[str, Any]:
    """What the network asks to record of its populations; the synaptic state ``i`` is ``u`` on chips."""
    asked = dict(module.attr("probes") or {})
    sent = {op.out for op in module.of_type(snn.InputOp)}
    found = {}
    for name, entry in asked.items():
        population, _, what = name.rpartition(".")
        if population not in sent:  # what the host sends it knows
            found[f"{population}.{'u' if what == 'i' else what}"] = dict(entry)
    return found


def _file_hash(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def _report(module: Module, options: CompileOptions, backend: Any, files: dict[str, bytes]) -> dict[str, Any]:
    target = resolve(options.target)
    use = backend.describe(module)
    lines = module.attr("approximations")
    return {
        "network": module.name,
        "target": target.name,
        "steps": module.attr("steps", 0),
        "latency_steps": max(module.attr("latency", {}).values(), default=0),
        "cores": {"used": len(use["cores"]), "available": target.cores},
        "neurons": sum(row["neurons"] for row in backend.layers(module)),
        "synapses": use["synapses"],
        "packing": module.attr("packing"),
        "memory": _memory(use["cores"], target.limits),
        "placement": module.attr("placement"),
        "layers": backend.layers(module),
        "energy": _predicted(module, options, backend, files),
        **({"approximations": lines} if lines else {}),
        **{name: use[name] for name in ("deadline", "sizing", "warnings") if use.get(name)},
    }


def _memory(cores: dict[int, dict[str, int]], limits: Any) -> list[dict[str, Any]]:
    """Of each resource the core that uses most of it, and the share of all used cores' that lies idle."""
    rows = []
    for resource in dict.fromkeys(name for used in cores.values() for name in used):
        core = max(cores, key=lambda number: cores[number].get(resource, 0))
        used, limit = cores[core].get(resource, 0), limits[resource]
        total = sum(held.get(resource, 0) for held in cores.values())
        idle = 1 - total / (limit * len(cores))
        rows.append({
            "resource": resource, "used": used, "limit": limit, "core": core, "percent": round(100 * used / limit, 1),
            "total": total, "fragmentation": round(100 * idle, 1),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (-row["percent"], row["resource"]))


def _predicted(
    module: Module, options: CompileOptions, backend: Any, files: dict[str, bytes]
) -> dict[str, Any] | None:
    """Events and energy of a few calibration samples on the emulator; None without data."""
    sources = {op.source: op.in_time for op in module.of_type(snn.InputOp) if op.source}
    if not options.calib or len(sources) != 1:
        return None
    from nmc.passes.data import fit_input, load_samples

    x, _ = load_samples(options.calib, limit=8, raw=options.raw)
    runner = backend.Runner(files)
    ((name, shape),) = runner.sources.items()
    _, events = runner.run({name: fit_input(x, shape, in_time=sources[name])})
    return {**backend.event_summary(events, len(x)), "samples": len(x), "data": "calibration"}
