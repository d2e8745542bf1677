"""Which passes a compilation runs, and with which options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from nmc.ir.diagnostics import NmcError, fail
from nmc.ir.module import Module
from nmc.ir.target import resolve
from nmc.passes.base import Pass
from nmc.passes.manager import check_levels

if TYPE_CHECKING:
    from nmc.driver import CompileOptions
    from nmc.passes.map.warm import Homes

#: Levels of the exact mode, unless the caller or the number of steps asks for others.
LEVELS = 8
#: Levels of the input, at most, where a number of steps is asked for.
INPUT_LEVELS = 16
#: Fewer levels than these are no quantisation of a trained network any more.
_FEWEST = 2
#: The choice of a spike code; a network that has one starts behind it.
_CODING = "spike-code"
#: What changes when spikes come, behind that choice: margins are found on the spikes that the chip sends.
_TIMING = (_CODING, "fpga-biases")


def pipeline_for(options: CompileOptions, module: Module | None = None) -> tuple[Pass, ...]:
    """Make the pipeline of a compilation: the target's own or the given one, with the options filled in.

    Parameters
    ----------
    options : CompileOptions
        What the caller asks for; an option that the pipeline text sets itself is left as it is.
    module : Module or None
        What will be compiled: the pipeline begins with the first pass that takes its level. A network that was
        written as a spiking one is not converted.

    Raises
    ------
    NmcError
        E0201 and others for pipeline texts, E0407 when the exact mode does not fit in the steps that are asked for.
    """
    from nmc.passes.pipeline import without

    _check_mode(options, module)
    _check_device(options)
    passes = parse(options.passes or _named(options, module), options.load_pass)
    if options.approximate:
        passes = (*parse("unroll, approximate", ()), *passes)  # tanh of recurrent layers too
    if options.early_exit:
        payloads = takes_payloads(options) and not options.passes and not options.steps
        passes = _with_early_exit(passes, spread=spreads(options), payloads=payloads)
    if options.without:
        passes = without(passes, options.without)
    if module is not None and not options.passes:
        passes = _from_level(passes, module)
    if options.freeze_plasticity and module is not None and module.level == "snn":
        passes = (*parse("freeze-plasticity", ()), *passes)
    given, forced = _given(options, module), _forced(options, module)
    return tuple(_filled(item, given, forced) for item in passes)


def _check_mode(options: CompileOptions, module: Module | None) -> None:
    trained = module is not None and module.level == "ann" and not options.passes
    if trained and options.mode == "exact" and (options.encoder, options.reset) != ("constant", "subtract"):
        hint = "take --mode rate-if for rates, or leave --encoder and --reset away"
        raise fail("E0004", "an encoder and a reset are chosen for rates, not in the exact mode", hint=hint)


def _check_device(options: CompileOptions) -> None:
    """Refuse what only targets that are built for a device have."""
    asked = [
        f"--{name.replace('_', '-')}" for name in ("device", "target_rate", "synthesize", "shell", "pins")
        if getattr(options, name)
    ]  # fmt: skip
    target = resolve(options.target) if asked else None
    if target is None:
        return
    devices = target.data.get("devices")
    if not devices:
        text = f"{target.name} is built for no FPGA, so that {', '.join(asked)} means nothing"
        raise fail("E0004", text, hint="--target fpga")
    if options.device and options.device not in devices:
        raise fail("E0722", f"there is no device {options.device!r}", hint=f"known: {', '.join(devices)}")
    if (options.shell or options.pins) and not options.synthesize:
        raise fail("E0004", "--shell and --pins belong to --synthesize", hint="add --synthesize")


def parse(text: str, load_pass: tuple[str, ...]) -> tuple[Pass, ...]:
    """Parse pipeline text with all installed passes and those of some Python files."""
    from nmc.passes.load_file import load_pass_file
    from nmc.passes.pipeline import parse_pipeline
    from nmc.passes.registry import standard_registry

    registry = standard_registry()
    for path in load_pass:
        registry = registry.adding(load_pass_file(path), path)
    return parse_pipeline(text, registry)


def _named(options: CompileOptions, module: Module | None) -> str:
    """The target's pipeline: hand-written spiking networks need no conversion, whatever the mode."""
    from nmc.passes.registry import standard_registry

    target = resolve(options.target).name
    spiking = module is not None and module.level == "snn" and not _counts(module)
    known = standard_registry().aliases
    for mode in ("snn", "rate-if") if spiking else (options.mode,):
        if f"{mode}:{target}" in known:
            return f"@{mode}:{target}"
    return f"@default:{target}"


def _counts(module: Module) -> bool:
    """Whether a spiking network is an exact one."""
    from nmc.ir.ops import exact

    return bool(module.of_type(exact.ExactOp))


def _coded(module: Module) -> bool:
    """Whether an exact network has its spike code."""
    return module.attr("spike_code") is not None


def spreads(options: CompileOptions) -> bool:
    """Whether the target of a compilation can spread the biases of populations over the first steps."""
    chip = resolve(options.target).data.get("chip", {})
    return bool(chip.get("spread", {}).get("value"))


def takes_payloads(options: CompileOptions) -> bool:
    """Whether events of a target carry numbers, so that a count travels in one (``graded``)."""
    chip = resolve(options.target).data.get("chip", {})
    return bool(chip.get("payloads", {}).get("value"))


def takes_digits(options: CompileOptions) -> bool:
    """Whether the populations of a target can take binary digits, the highest first (``bit-serial``)."""
    chip = resolve(options.target).data.get("chip", {})
    return bool(chip.get("digits", {}).get("value"))


def _with_early_exit(passes: tuple[Pass, ...], *, spread: bool, payloads: bool) -> tuple[Pass, ...]:
    """Put the calibration of the margins behind the choice of the spike code, and choose one that answers early.

    Where events carry numbers the first answer is the last one (``graded``), a step a layer after the start. Else input
    that is spread over the first steps gives the better early answers (facts/conversion.md 3.4), where the target can
    also spread the biases of populations.
    """
    from nmc.passes.convert.spike_code import SpikeCode

    def early(item: Pass) -> Pass:
        if not isinstance(item, SpikeCode) or item.code != "stbif" or item.schedule not in ("", "burst"):
            return item
        if payloads:
            return replace(item, code="graded")
        return replace(item, schedule="spread") if spread else item

    names = [item.name for item in passes]
    if _CODING not in names:
        raise fail("E0004", "an early exit belongs to the exact mode", hint="--mode exact")
    behind = 1 + max(at for at, name in enumerate(names) if name in _TIMING)
    made = [early(item) for item in passes]
    return (*made[:behind], *parse("readout{early_exit=true}", ()), *made[behind:])


def _from_level(passes: tuple[Pass, ...], module: Module) -> tuple[Pass, ...]:
    """The end of a pipeline that takes a module; all of it when no end does."""
    for start in range(len(passes)):
        try:
            check_levels(module.level, passes[start:])
        except NmcError:
            continue
        rest = passes[start:]
        if module.level == "snn" and _coded(module):
            rest = tuple(item for item in rest if item.name != _CODING)
        return rest
    return passes


def _given(options: CompileOptions, module: Module | None) -> dict[str, Any]:
    """Values for options of passes, by name."""
    given: dict[str, Any] = {
        "data": options.calib, "raw": options.raw, "encoder": options.encoder, "reset": options.reset,
        "bits": options.bits, "seed": options.seed, "effort": options.effort,
    }  # fmt: skip
    if options.layer_bits:
        given["layer_bits"] = options.layer_bits
    if options.steps:
        given["steps"] = options.steps
    if options.target.endswith(".toml"):
        given["target"] = options.target
    if options.device or options.target_rate:
        given |= {"device": options.device, "target_rate": options.target_rate}
    if options.hint:
        given["hint"] = _earlier(options)
    if options.method:
        given["method"] = options.method
    if options.accuracy_drop is not None:
        from nmc.passes.convert.grids import COARSE

        given["most"] = COARSE - 1  # relus of a QDQ model get the levels that were found to do
    elif options.levels:
        given["most"] = options.levels
    if options.levels or options.mode == "exact":
        given["levels"] = options.levels or LEVELS
    return given


def _earlier(options: CompileOptions) -> Homes:
    """Where an earlier program of the same target has its neurons."""
    from nmc.ir.target import resolve
    from nmc.passes.map.warm import homes
    from nmc.program import Program

    program = Program.open(options.hint)
    if program.target != resolve(options.target).name:
        raise fail("E0004", f"{options.hint} is for {program.target}, which has other cores")
    return homes(program.module)


def _forced(options: CompileOptions, module: Module | None) -> dict[str, Any]:
    """Values that also replace those of the pipeline text: what a number of steps leaves room for."""
    trained = module is not None and module.level == "ann"
    if not trained or not options.steps or options.mode != "exact" or options.passes:
        return {}
    if options.accuracy_drop is not None and not options.levels:
        return {}  # `nmc.searching` is still to choose
    assert module is not None
    levels, inputs = fit_levels(module, options)
    return {"levels": levels, "input_levels": inputs, "most": levels}


def fit_levels(module: Module, options: CompileOptions) -> tuple[int, int]:
    """Levels, and those of the input, whose exact run takes no more steps than asked for.

    Where populations wait for each other a run takes the input's levels, the network's times its depth, and a step of
    latency for each population.

    Raises
    ------
    NmcError
        E0407 when not even `_FEWEST` levels fit, or not those that the caller asks for.
    """
    deep, most = depth(module), options.levels or LEVELS
    for levels in range(most, _FEWEST - 1, -1):
        left = options.steps - deep * (levels + 1) - 1
        if left >= levels:
            return levels, min(left, max(INPUT_LEVELS, levels))
        if options.levels:
            break
    least = (most if options.levels else _FEWEST) * (deep + 1) + deep + 1
    ways = (
        "--accuracy-drop lets a run of signed spikes end before all has settled, --mode rate-if approximates"
    )
    hint = f"run {least} steps; {ways}"
    asked = f"{most if options.levels else _FEWEST} levels over a depth of {deep}"
    raise fail("E0407", f"the exact mode needs {least} steps for {asked}, not {options.steps}", hint=hint)


def depth(module: Module) -> int:
    """Activations on the longest path of a trained network."""
    from nmc.ir.ops import ann

    deepest: dict[str, int] = {}
    for op in module.ops:
        if op.out:
            own = isinstance(op, ann.Relu)
            deepest[op.out] = max((deepest.get(value.name, 0) for value in op.operands), default=0) + own
    return max(deepest.values(), default=0)


def _filled(item: Pass, given: dict[str, Any], forced: dict[str, Any]) -> Pass:
    changes = {entry.name: given[entry.name] for entry in _open(item) if entry.name in given}
    changes |= {entry.name: forced[entry.name] for entry in fields(item) if entry.name in forced}
    return replace(item, **changes)


def _open(item: Pass) -> Iterable[Any]:
    """Options that the pipeline text has left at their defaults."""
    return (entry for entry in fields(item) if getattr(item, entry.name) == entry.default)
