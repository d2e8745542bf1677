"""Pipeline text: ``fold-batchnorm, prune{below=0.02}, @default:loihi``.

Names are separated by commas (a last comma and ``//`` comments are allowed, so that a target can keep its
pipeline as a commented list); options are written like the attributes of the IR; ``@name`` stands for another
pipeline.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, field
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.op import Span, coerce_attr
from nmc.passes.base import Pass, default_of, option_fields
from nmc.passes.registry import Registry, did_you_mean, standard_registry

MAX_TEXT = 1 << 20
_MAX_DEPTH = 32
_MAX_DIGITS = 400
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
# The same tokens as in nmc/ir/text/grammar.lark.
_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<alias>@[A-Za-z][A-Za-z0-9_.:-]*)
    |(?P<span>-?\d+:-?\d+)
    |(?P<number>0x[0-9a-fA-F]+|-?(?:inf|nan)(?![A-Za-z0-9_.-])|-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z][A-Za-z0-9_.-]*)
    |(?P<mark>[\[\]{},=])""",
    re.VERBOSE,
)


def parse_pipeline(text: str, registry: Registry | None = None) -> tuple[Pass, ...]:
    """Read a pipeline.

    Parameters
    ----------
    text : str
        Pipeline text; see the module.
    registry : Registry or None
        Where names are looked up; everything installed by default.

    Raises
    ------
    NmcError
        E0200 (syntax), E0201 (unknown pass or alias), E0202 (option), E0209 and E0210 (see `Registry.find`);
        all problems at once except after a syntax error.
    """
    where = registry or standard_registry()
    passes, problems = [], []
    for step in _expanded(text, where, ()):
        if isinstance(step, Diagnostic):
            problems.append(step)
            continue
        try:
            passes.append(build(where.find(step.name), step.options))
        except NmcError as error:
            problems += error.diagnostics
    if problems:
        raise NmcError(problems)
    return tuple(passes)


def print_pipeline(passes: Iterable[Pass]) -> str:
    """Give the text that `parse_pipeline` reads back."""
    return ",".join(str(item) for item in passes)


def without(passes: Iterable[Pass], names: Iterable[str]) -> tuple[Pass, ...]:
    """Leave passes out by name (``-d NAME``).

    Raises
    ------
    NmcError
        E0201 for a name that the pipeline does not have.
    """
    given, leave = tuple(passes), tuple(names)
    known = {item.name for item in given}
    unknown = [
        Diagnostic("E0201", f"there is no pass {name} to leave out", hint=did_you_mean(name, known))
        for name in leave
        if name not in known
    ]
    if unknown:
        raise NmcError(unknown)
    return tuple(item for item in given if item.name not in leave)


def build(cls: type[Pass], options: dict[str, Any]) -> Pass:
    """Make a pass from parsed options.

    Raises
    ------
    NmcError
        E0202 for every unknown, missing or ill-typed option.
    """
    known = {entry.name: entry for entry in option_fields(cls)}
    hints = typing.get_type_hints(cls)
    problems, given = [], {}
    for key, item in options.items():
        try:
            if key not in known:
                raise ValueError(f"pass {cls.name} has no option {key}")
            given[key] = coerce_attr(item, hints[key])
        except ValueError as error:
            told = str(error) if key not in known else f"pass {cls.name}: option {key}: {error}"
            problems.append(told)
    missing = [name for name, entry in known.items() if name not in given and default_of(entry) is MISSING]
    problems += [f"pass {cls.name} needs option {name}" for name in missing if name not in options]
    if not problems:
        try:
            return cls(**given)
        except ValueError as error:  # from the pass's own __post_init__
            problems.append(f"pass {cls.name}: {error}")
    hint = describe_options(cls)
    raise NmcError([Diagnostic("E0202", problem, hint=hint) for problem in problems])


def describe_options(cls: type[Pass]) -> str:
    """List the options of a pass with type and default, in one line."""
    from nmc.ir.text.printer import print_item

    hints = typing.get_type_hints(cls)
    shown = []
    for entry in option_fields(cls):
        hint = hints[entry.name]
        kind = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
        default = default_of(entry)
        tail = "" if default is MISSING else f" = {print_item(default)}"
        shown.append(f"{entry.name}: {kind.replace('typing.', '')}{tail}")
    return f"options of {cls.name}: {', '.join(shown) or 'none'}"


@dataclass(frozen=True)
class _Step:
    """A pass as it was written."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def _expanded(text: str, registry: Registry, inside: tuple[str, ...]) -> Iterator[_Step | Diagnostic]:
    """Steps of a text with aliases replaced by theirs; what is wrong with one comes as a diagnostic."""
    for step in _Reader(text, f"@{inside[-1]}" if inside else "pipeline").steps():
        if not step.name.startswith("@"):
            yield step
            continue
        name = step.name[1:]
        if name in inside:
            way = " -> ".join(f"@{item}" for item in (*inside, name))
            yield Diagnostic("E0201", f"pipeline @{name} contains itself: {way}")
            continue
        try:
            yield from _expanded(registry.alias(name), registry, (*inside, name))
        except NmcError as error:
            yield from error.diagnostics


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._tokens = list(self._scan())
        self._next = 0

    def _scan(self) -> Iterator[tuple[str, str, int]]:
        if len(self._text) > MAX_TEXT:
            raise fail("E0200", f"{len(self._text):,} characters of pipeline, over {MAX_TEXT:,}")
        position = 0
        while position < len(self._text):
            found = _TOKEN.match(self._text, position)
            if found is None:
                raise self._error(f"unexpected {self._text[position]!r}", position)
            if found.lastgroup != "skip":
                yield str(found.lastgroup), found[0], position
            position = found.end()
        yield "end", "", position

    def _error(self, message: str, position: int) -> NmcError:
        line = self._text.count("\n", 0, position)
        start = self._text.rfind("\n", 0, position) + 1
        shown = self._text[start:].split("\n")[0][:200]
        pointer = " " * (position - start) + "^"
        return fail(
            "E0200",
            f"{message}\n  {shown}\n  {pointer}",
            where=f"{self._where}:{line + 1}:{position - start + 1}",
            hint="a pipeline is pass names separated by commas, options in braces: prune{below=0.02}",
        )

    def _take(self, *wanted: str) -> str:
        """Take the next token, which must be one of the kinds or marks in `wanted`."""
        kind, text, position = self._tokens[self._next]
        if (text if kind == "mark" else kind) not in wanted:
            found = repr(text) if text else "the end"
            raise self._error(f"expected {' or '.join(wanted)}, not {found}", position)
        self._next += kind != "end"
        return text

    def _at(self, *marks: str) -> bool:
        kind, text, _ = self._tokens[self._next]
        return (text if kind == "mark" else kind) in marks

    def steps(self) -> Iterator[_Step]:
        """All steps of the text."""
        while not self._at("end"):
            name = self._take("name", "alias")
            options = self._options(0) if self._at("{") and not name.startswith("@") else {}
            yield _Step(name, options)
            if not self._at("end"):
                self._take(",", "end")

    def _options(self, depth: int) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        self._take("{")
        while not self._at("}"):
            kind, _, position = self._tokens[self._next]
            key = self._take("name", "string")
            key = json.loads(key) if kind == "string" else key
            self._take("=")
            if key in pairs:
                raise self._error(f"{key} is given twice", position)
            pairs[key] = self._item(depth + 1)
            if not self._at("}"):
                self._take(",", "}")
        self._take("}")
        return pairs

    def _item(self, depth: int) -> Any:
        kind, text, position = self._tokens[self._next]
        if depth > _MAX_DEPTH:
            raise self._error("brackets are nested too deeply", position)
        if text == "{":
            return self._options(depth)
        if text == "[":
            return self._list(depth)
        self._take("number", "string", "name", "span")
        try:
            return _scalar(kind, text)
        except ValueError as error:
            raise self._error(str(error), position) from None

    def _list(self, depth: int) -> tuple[Any, ...]:
        items = []
        self._take("[")
        while not self._at("]"):
            items.append(self._item(depth + 1))
            if not self._at("]"):
                self._take(",", "]")
        self._take("]")
        return tuple(items)


def _scalar(kind: str, text: str) -> Any:
    """Value of a token.

    Raises
    ------
    ValueError
        When it is too long, a span that runs backwards, or a string with a bad escape.
    """
    if kind == "string":
        return json.loads(text)
    if kind == "name":
        return _WORDS.get(text, text)
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"number {text[:20]}... has too many digits")
    if kind == "span":
        start, stop = text.split(":")
        return Span(int(start), int(stop))
    if text.startswith("0x"):
        return int(text, 16)
    return float(text) if any(char in text for char in ".eEin") else int(text)
