"""Ways out of a network that does not fit: only those that were tried, and with which it does."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.target import Target, resolve

if TYPE_CHECKING:
    from nmc.driver import CompileOptions
    from nmc.ir.module import Module

#: Weight bits that are tried, the most first.
_BITS = (6, 4, 2)
#: How many times the chips are tried, and the chips of nmc's own that are tried instead.
_CHIPS = (2, 4)
_TARGETS = ("loihi", "spinnaker2", "fpga")
#: Shares of the rate asked for that are tried, the most first.
_RATES = (0.9, 0.5, 0.2, 0.1, 0.01)
#: Codes of what only making an image shows: memory of a PE, keys, entries of a router.
_LATE = ("E0903", "E0925", "E0926")
_CHIPS_LINE = re.compile(r"^chips[ \t]*=.*$", re.MULTILINE)


@dataclass(frozen=True)
class _Way:
    """A kind of change, how a person makes it, and the options that it gives."""

    kind: str
    text: str
    options: CompileOptions


def with_ways_out(error: DoesNotFit, module: Module, options: CompileOptions) -> DoesNotFit:
    """The refusal with what was tried and fits instead of general advice; as it is where nothing did."""
    emitted = any(item.code in _LATE for item in error.diagnostics)
    found = ways_out(module, options, emitted=emitted)
    if not found:
        return error
    *others, last = error.diagnostics
    own = f"{last.hint}; " if last.code == "E0713" else ""  # a place is better changed than the chip
    tried = replace(last, hint=f"{own}tried, and it fits: " + "; or ".join(found))
    return DoesNotFit([*(replace(item, hint="") for item in others), tried])


def ways_out(module: Module, options: CompileOptions, *, emitted: bool = False) -> list[str]:
    """Try fewer weight bits, a larger device, a lower rate, more chips and other chips, each by itself.

    Each is tried up to the partition, which tells what fits but for what the image alone does.

    Parameters
    ----------
    module : Module
        The network as it was read.
    options : CompileOptions
        With which it does not fit.
    emitted : bool
        Make the image too.

    Returns
    -------
    list of str
        The smallest change of each kind with which it fits, in words that can be followed to the letter.
    """
    if options.accuracy_drop is not None or options.passes or options.hint:
        return []  # a search is too slow to repeat; a pipeline or a mapping of one's own is for this chip
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in _candidates(options, Path(folder)):
            if way.kind not in found and _fits(module, way.options, emitted):
                found[way.kind] = way.text
    return list(found.values())


def _candidates(options: CompileOptions, folder: Path) -> Iterator[_Way]:
    for bits in _BITS:
        if bits < options.bits:
            yield _Way("bits", f"--bits {bits}", replace(options, bits=bits))
    target = resolve(options.target)
    yield from _sized(options, target)
    own = options.target.endswith(".toml")
    for times in _CHIPS:
        chips = times * target.chips
        text = Path(options.target).read_text(encoding="utf-8") if own else f'base = "{target.name}"\n'
        path = folder / f"{chips}.toml"
        path.write_text(f"chips = {chips}\n{_CHIPS_LINE.sub('', text, count=1)}", encoding="utf-8")
        line = f"chips = {chips} in {options.target}"
        if not own:
            line = f'--target with a TOML file that says base = "{target.name}" and chips = {chips}'
        yield _Way("chips", line, replace(options, target=str(path)))
    for name in _TARGETS:
        if name != target.name and not options.device and not options.target_rate:
            yield _Way("target", f"--target {name}", replace(options, target=name))


def _sized(options: CompileOptions, target: Target) -> Iterator[_Way]:
    """Devices with more of what there is than the one asked for, the smallest first, and lower rates."""
    devices = target.data.get("devices", {})
    name = options.device or str(target.data.get("device", ""))
    if name in devices:
        larger = [other for other in devices if devices[other]["luts"] > devices[name]["luts"]]
        for other in sorted(larger, key=lambda item: int(devices[item]["luts"])):
            yield _Way("device", f"--device {other}", replace(options, device=other))
    rate = options.target_rate or float(target.data.get("target_rate", 0.0))
    for share in _RATES if rate else ():
        lower = float(f"{rate * share:.2g}")
        yield _Way("rate", f"--target-rate {lower:g}", replace(options, target_rate=lower))


def _fits(module: Module, options: CompileOptions, emitted: bool) -> bool:
    """Whether the pipeline gets through its partition, or to an image."""
    from nmc.driver import STEPS
    from nmc.passes.manager import run_pipeline
    from nmc.program import backend_of
    from nmc.recipe import pipeline_for

    if module.level == "snn" and module.attr("steps") is None:
        module = module.with_attrs(steps=options.steps or STEPS)
    try:
        passes = pipeline_for(options, module)
        ends = [number for number, item in enumerate(passes) if item.gives == "mapped"]
        if not emitted:
            run_pipeline(module, passes[: ends[0] + 1] if ends else passes)
        else:
            backend_of(resolve(options.target).name).emit(run_pipeline(module, passes).module)
    except NmcError:
        return False
    return True
