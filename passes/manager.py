"""The pass manager: runs a pipeline and gives every pass checks, dumps, timing and reproducers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.module import Module
from nmc.ir.op import Array
from nmc.ir.verify import describe, verify_or_raise
from nmc.passes.base import InternalError, Pass
from nmc.passes.explain import ExplainLog, Explanation, recording
from nmc.passes.pipeline import print_pipeline

if TYPE_CHECKING:
    from nmc.passes.check import Check, Checker

Sink = Callable[[str], None]


def to_stderr(text: str) -> None:
    """Write a line of text to standard error."""
    print(text, file=sys.stderr)


@dataclass(frozen=True)
class ManagerOptions:
    """What the manager does besides running passes.

    Parameters
    ----------
    print_after : collection of str, "all" or "changed"
        Passes after which the module is printed.
    print_dir : Path or None
        Folder for one ``NN-pass.nmc`` (and side file) after each pass, ``00-input.nmc`` for the start.
    verify_each : bool
        Check the module after each pass.
    timing : bool
        Print the time of each pass, with the statistics that it reported.
    bisect_limit : int or None
        Skip optional passes after this many.
    crash_reproducer : Path or None
        Where to write a reproducer when a pass fails in an unforeseen way.
    check_each : mapping of str to array, path of an ``.npz``, or None
        Inputs for the interpreter, which then runs before and after each pass.
    explain : str
        Pass whose rules tell why they did not apply; ``"all"`` for every pass.
    sink : callable
        Takes printed text, without colours.
    on_pass : callable or None
        Called before each pass with its name, its number from 0 and the number of passes.
    observe : callable or None
        Called after each pass with its name and the module it gave.
    """

    print_after: frozenset[str] | Literal["all", "changed"] = frozenset()
    print_dir: Path | None = None
    verify_each: bool = True
    timing: bool = False
    bisect_limit: int | None = None
    crash_reproducer: Path | None = None
    check_each: Mapping[str, Array] | str | Path | None = None
    explain: str = ""
    sink: Sink = to_stderr
    on_pass: Callable[[str, int, int], None] | None = None
    observe: Callable[[str, Module], None] | None = None


@dataclass(frozen=True)
class Timing:
    """When a pass ran.

    Parameters
    ----------
    text : str
        The pass as pipeline text.
    start, seconds : float
        Seconds since the pipeline began, and duration.
    stats : mapping of str to number or str
        What the pass reported, such as solver statistics.
    """

    text: str
    start: float
    seconds: float
    stats: Mapping[str, float | int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        stats = ", ".join(f"{key}={item}" for key, item in self.stats.items())
        return f"{self.seconds * 1e3:10.2f} ms  {self.text}" + (f"  [{stats}]" if stats else "")

    def to_event(self) -> dict[str, Any]:
        """Give a complete event of the Chrome trace format (times in microseconds)."""
        start, length = round(self.start * 1e6), round(self.seconds * 1e6)
        event = {"name": self.text, "cat": "pass", "ph": "X", "ts": start, "dur": length, "pid": 0, "tid": 0}
        return {**event, "args": dict(self.stats)}


@dataclass(frozen=True)
class PipelineResult:
    """What a pipeline gave.

    Parameters
    ----------
    module : Module
        The result.
    timings : tuple of Timing
        One for each pass that ran.
    explanations : tuple of Explanation
        What became of the rules of the pass asked about.
    dumps : tuple of Path
        Files written.
    checks : tuple of Check
        Comparisons of ``check_each``.
    skipped : tuple of str
        Optional passes that the bisect limit left out.
    """

    module: Module
    timings: tuple[Timing, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    dumps: tuple[Path, ...] = ()
    checks: tuple[Check, ...] = ()
    skipped: tuple[str, ...] = ()

    def trace_events(self) -> list[dict[str, Any]]:
        """Give the timings as events of the Chrome trace format."""
        return [timing.to_event() for timing in self.timings]


def run_pipeline(
    module: Module, passes: Iterable[Pass], options: ManagerOptions | None = None
) -> PipelineResult:
    """Run passes in order.

    Parameters
    ----------
    module : Module
        Start of the pipeline.
    passes : iterable of Pass
        See `nmc.passes.pipeline.parse_pipeline`.
    options : ManagerOptions or None
        Checks only, when None.

    Raises
    ------
    NmcError
        E0203 when a pass does not take the level it would get, E0204 for a pass that loses locations, E0205
        for a pass that gives another level than it says, E0207 from ``check_each``, and whatever a pass or
        the verifier raises.
    InternalError
        When a pass fails in an unforeseen way; a reproducer was written if options ask for one.
    """
    queue = tuple(passes)
    check_levels(module.level, queue)
    return _Run(module, queue, options or ManagerOptions()).run()


def check_levels(level: str, passes: Iterable[Pass]) -> str:
    """Give the level after `passes` when they start at `level`.

    Raises
    ------
    NmcError
        E0203 for the first pass that does not take the level it would get.
    """
    before = ""
    for item in passes:
        if level not in item.takes:
            made = f"{before} gives" if before else "the module is"
            raise fail("E0203", f"pass {item.name} takes level {' or '.join(item.takes)}, but {made} {level}")
        level, before = item.gives or level, item.name
    return level


class _Run:
    """One run of a pipeline."""

    def __init__(self, module: Module, passes: Sequence[Pass], options: ManagerOptions) -> None:
        self._module, self._passes, self._options = module, passes, options
        self._checker = None if options.check_each is None else _checker(options.check_each)
        self._log = ExplainLog(options.explain)
        self._began = time.perf_counter()
        self._optional = 0
        self._timings: list[Timing] = []
        self._dumps: list[Path] = []
        self._checks: list[Check] = []
        self._skipped: list[str] = []

    def run(self) -> PipelineResult:
        """Run all passes and print what was asked for."""
        if self._options.verify_each:
            verify_or_raise(self._module, "before the first pass")
        self._dump(0, "input")
        with recording(self._log):
            for index, item in enumerate(self._passes):
                if not self._beyond_limit(item):
                    self._step(index, item)
        self._tell()
        return PipelineResult(
            self._module,
            tuple(self._timings),
            self._log.explanations,
            tuple(self._dumps),
            tuple(self._checks),
            tuple(self._skipped),
        )

    def _beyond_limit(self, item: Pass) -> bool:
        """Count optional passes and skip those beyond the bisect limit."""
        limit = self._options.bisect_limit
        if limit is None or not item.optional:
            return False
        self._optional += 1
        skip = self._optional > limit
        verb = "skipping" if skip else "running"
        self._options.sink(f"bisect: {verb} optional pass {self._optional} {item}")
        if skip:
            self._skipped.append(str(item))
        return skip

    def _step(self, index: int, item: Pass) -> None:
        before = self._module
        if self._options.on_pass is not None:
            self._options.on_pass(item.name, index, len(self._passes))
        after = self._timed(index, item, before)
        _check_gives(item, before, after)
        if self._options.verify_each:
            verify_or_raise(after, f"after pass {item}")
            _check_locations(item, before, after)
        if self._checker is not None:
            self._checks += self._checker.compare(item, before, after)
        self._module = after
        if self._options.observe is not None:
            self._options.observe(item.name, after)
        self._print(item, before, after)
        self._dump(index + 1, item.name)

    def _timed(self, index: int, item: Pass, before: Module) -> Module:
        start = time.perf_counter()
        self._log.stats.clear()
        try:
            after = item.run(before)
            if not isinstance(after, Module):
                raise TypeError(f"run() gave {type(after).__name__}, not a module")
        except NmcError:
            raise
        except Exception as error:  # every other failure is a bug: keep what is needed to repeat it
            raise self._crashed(index, item, error) from error
        seconds = time.perf_counter() - start
        self._timings.append(Timing(str(item), start - self._began, seconds, dict(self._log.stats)))
        return after

    def _crashed(self, index: int, item: Pass, error: Exception) -> InternalError:
        message = f"internal error in pass {item}: {type(error).__name__}: {error}"
        path = self._options.crash_reproducer
        if path is None:
            return InternalError(message)
        try:
            write_reproducer(self._module, self._passes[index:], path)
        except OSError as failure:
            return InternalError(f"{message} (no reproducer: {failure})")
        return InternalError(message, path)

    def _print(self, item: Pass, before: Module, after: Module) -> None:
        wanted = self._options.print_after
        changed = wanted == "changed" and before != after
        if changed or wanted == "all" or (not isinstance(wanted, str) and item.name in wanted):
            self._options.sink(f"// after {item}\n{after}".rstrip("\n"))

    def _dump(self, number: int, name: str) -> None:
        folder = self._options.print_dir
        if folder is None:
            return
        from nmc.ir.text.sidefile import save

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:02}-{name}.nmc"
        save(self._module, path)
        self._dumps.append(path)

    def _tell(self) -> None:
        if self._options.explain:
            notes = [str(note) for note in self._log.explanations]
            self._options.sink(
                "\n".join(notes) or f"{self._options.explain}: no rule met an op that it matches"
            )
        if self._checks:
            self._options.sink("\n".join(map(str, self._checks)))
        if self._options.timing:
            total = sum(timing.seconds for timing in self._timings)
            self._options.sink("\n".join([*map(str, self._timings), f"{total * 1e3:10.2f} ms  in all"]))


def write_reproducer(module: Module, passes: Iterable[Pass], path: Path) -> None:
    """Write a module whose first line is the command that runs `passes` on it."""
    import shlex

    from nmc.ir.npz import write_npz
    from nmc.ir.text.sidefile import blobs

    command = f"nmc opt --passes {shlex.quote(print_pipeline(passes))} {shlex.quote(path.name)}"
    path.write_text(f"// RUN: {command}\n{module}", encoding="utf-8", newline="\n")
    arrays = blobs(module)
    if arrays:
        write_npz(path.with_suffix(".npz"), arrays)


def _checker(data: Mapping[str, Array] | str | Path) -> Checker:
    from nmc.passes.check import Checker

    return Checker(data)


def _check_gives(item: Pass, before: Module, after: Module) -> None:
    expected = item.gives or before.level
    if after.level != expected:
        raise fail("E0205", f"pass {item.name} says that it gives level {expected}, but gave {after.level}")


def _check_locations(item: Pass, before: Module, after: Module) -> None:
    """Every op that a pass makes has a location, when the ops it was given had any."""
    if after is before or after.level == "image" or all(op.loc is None for op in before.ops):
        return  # registers and words have no place in the source; map.json tells where neurons went
    bare = {_key(op) for op in before.ops if op.loc is None}
    lost = [op for op in after.ops if op.loc is None and _key(op) not in bare]
    if lost:
        hint = "build ops with dataclasses.replace, through rewrite(), or with loc=fuse(self.name, ...)"
        raise NmcError(
            Diagnostic("E0204", f"pass {item.name} made {describe(op)} without a location", hint=hint)
            for op in lost
        )


def _key(op: Any) -> tuple[str, ...]:
    """What an op is known by across a pass: its result, else its operands."""
    return (op.out,) if op.out else (op.name, *(value.name for value in op.operands))
