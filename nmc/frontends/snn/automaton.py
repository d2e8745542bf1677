"""The automaton of ``grammar.lark``: lark makes its table once, this file runs it.

What the automaton does depends on the types of the tokens alone, so it is worked out once for statements of the same
form and then only replayed. The table is kept in the user's cache as JSON: with it, lark is not even imported.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.frontends.snn.node import NamedTuple
from nmc.frontends.snn.syntax import Pos
from nmc.ir.dataclass import dataclass

if TYPE_CHECKING:
    from lark import Lark
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

STARTS = ("statement", "expr", "separator")
#: Of the kept table; another one is another file.
FORMAT = 2
END = "$END"


class Token(NamedTuple):
    """A word of a program, and where it stands (line and column from 1)."""

    type: str
    value: str
    line: int
    column: int
    file: str

    @property
    def pos(self) -> Pos:
        """Its place in diagnostics."""
        return Pos(self.line, self.column, max(len(self.value), 1), self.file)


class Build(NamedTuple):
    """How the children of a reduced rule become the arguments of a method of the tree's builder.

    Parameters
    ----------
    method : str
        Name of the method; empty for a rule that only repeats (its children are handed up as a list).
    size : int
        How many symbols are reduced.
    single : bool
        Whether a single argument is handed up as it is.
    picks : sequence of (index, expand, nones)
        The symbols that count; `expand` puts the children of a list in its place, `nones` absent optional symbols
        stand before it.
    nones : int
        Absent optional symbols at the end.
    """

    method: str
    size: int
    single: bool
    picks: Sequence[tuple[int, bool, int]]
    nones: int

    @property
    def idle(self) -> bool:
        """Whether it hands up its only child as it is."""
        return self.single and self.size == 1 and len(self.picks) == 1 and not self.picks[0][1]

    def arguments(self, children: Sequence[Any]) -> list[Any]:
        """Choose and order the children."""
        found: list[Any] = []
        for index, expand, nones in self.picks:
            if nones:
                found += [None] * nones
            if expand:
                found += children[index]
            else:
                found.append(children[index])
        return found + [None] * self.nones if self.nones else found


class Refused(NamedTuple):
    """The token (its index) at which the automaton stopped, and the types that it would have taken there."""

    at: int
    accepted: frozenset[str]


@dataclass(frozen=True, eq=False)
class Table:
    """Terminals, states and rules of a grammar, as plain data.

    Parameters
    ----------
    terminals : sequence of (name, regular expression)
        In the order in which they are tried.
    words : mapping
        Of each name of a terminal, the texts that are other terminals instead (keywords).
    ignored : frozenset of str
        Terminals between the tokens.
    states : sequence of mapping
        From a symbol to the next state, or to ``-1 - rule`` for a rule to reduce.
    rules : sequence of (origin, Build)
        The rules.
    starts, ends : mapping
        Of each start symbol, its first and last state.
    """

    terminals: Sequence[tuple[str, str]]
    words: Mapping[str, Mapping[str, str]]
    ignored: frozenset[str]
    states: Sequence[Mapping[str, int]]
    rules: Sequence[tuple[str, Build]]
    starts: Mapping[str, int]
    ends: Mapping[str, int]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Table:
        """Read it from `data`, as JSON has it."""
        rules = [(origin, Build(*build)) for origin, build in data["rules"]]
        return cls(**{**data, "rules": rules, "ignored": frozenset(data["ignored"])})

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """All terminals as one regular expression; one of them matches anything."""
        return re.compile("|".join(f"(?P<{name}>{regexp})" for name, regexp in self.terminals))

    def lex(self, text: str, file: str) -> Iterator[Token]:
        """Cut a text into tokens."""
        words, ignored = self.words, self.ignored
        line, line_start = 1, 0
        for match in self.pattern.finditer(text):
            kind = match.lastgroup or ""
            if kind in ignored:
                continue
            value = match.group()
            if kind in words:
                kind = words[kind].get(value, kind)
            yield Token(kind, value, line, match.start() - line_start + 1, file)
            if kind == "NEWLINE":
                line, line_start = line + 1, match.end()

    @cached_property
    def plan(self) -> Callable[[str, tuple[str, ...]], tuple[int, ...] | Refused]:
        """What to do for tokens of these types: -1 to take the next one, or the number of a rule to reduce.

        The forms of the latest statements are remembered.
        """
        return lru_cache(maxsize=256)(self._plan)

    def _plan(self, start: str, types: tuple[str, ...]) -> tuple[int, ...] | Refused:
        steps: list[int] = []
        stack = [self.starts[start]]
        for index, kind in enumerate([*types, END]):
            if not self._advance(stack, kind, self.ends[start], steps):
                return Refused(index, self._accepted(stack, self.ends[start]))
        return tuple([step for step in steps if step < 0 or not self.rules[step][1].idle])

    def _advance(self, stack: list[int], kind: str, end: int, steps: list[int]) -> bool:
        """Take one token: reduce what it ends, then shift it; False where it cannot follow."""
        while (found := self.states[stack[-1]].get(kind)) is not None:
            if found >= 0:
                stack.append(found)
                steps.append(-1)
                return True
            origin, build = self.rules[-1 - found]
            del stack[len(stack) - build.size :]
            stack.append(self.states[stack[-1]][origin])
            steps.append(-1 - found)
            if kind == END and stack[-1] == end:
                return True
        return False

    def _accepted(self, stack: list[int], end: int) -> frozenset[str]:
        kinds = (kind for kind in self.states[stack[-1]] if kind.isupper())
        return frozenset(kind for kind in kinds if self._advance(list(stack), kind, end, []))

    def build(self, plan: Sequence[int], values: Sequence[Any], builder: object) -> Any:
        """Follow a plan with the values of the tokens; `builder` has a method for each rule."""
        stack: list[Any] = []
        rest = iter(values)
        for step in plan:
            if step < 0:
                stack.append(next(rest))
                continue
            build = self.rules[step][1]
            at = len(stack) - build.size
            arguments = build.arguments(stack[at:])
            del stack[at:]
            if not build.method:
                stack.append(arguments)
            elif build.single and len(arguments) == 1:
                stack.append(arguments[0])
            else:
                stack.append(getattr(builder, build.method)(*arguments))
        return stack[-1]


@cache
def table() -> Table:
    """The table of the ``.snn`` grammar, from the user's cache where there is one."""
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    where = _cache_file(grammar)
    if where is not None:
        try:
            return Table.of(json.loads(where.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):  # none yet, or not ours: it is made anew
            pass
    text = json.dumps(make_table(grammar))
    if where is not None:
        _keep(where, text)
    return Table.of(json.loads(text))


def _cache_file(grammar: str) -> Path | None:
    import hashlib

    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    try:
        folder = Path(base) / "nmc"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError):
        return None
    return folder / f"snn-{hashlib.sha256(grammar.encode()).hexdigest()[:16]}-{FORMAT}.json"


def _keep(where: Path, text: str) -> None:
    """Write in one move, so that no other process reads half a table."""
    part = where.with_suffix(f".{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(where)
    except OSError:  # a cache that cannot be written is no reason to fail
        part.unlink(missing_ok=True)


def make_table(grammar: str) -> dict[str, Any]:
    """Let lark make the LALR table of a grammar, as plain data.

    Raises
    ------
    lark.exceptions.GrammarError
        When the grammar is wrong or ambiguous.
    """
    from lark import Lark

    made = Lark(grammar, parser="lalr", lexer="basic", start=list(STARTS), maybe_placeholders=True)
    return {**_lexical(made), **_syntactic(made)}


def _syntactic(made: Lark) -> dict[str, Any]:
    """States and rules, numbered as they are met from the starts on (lark numbers them by chance)."""
    table: Any = made.parser.parser._parse_table
    states = [table.start_states[start] for start in STARTS]
    numbers: dict[int, int] = {old: new for new, old in enumerate(states)}
    rules: dict[Rule, int] = {}
    rows: list[dict[str, int]] = []
    for old in states:  # grows while it is walked
        row: dict[str, int] = {}
        for symbol, (_, found) in sorted(table.states[old].items()):
            if isinstance(found, int):
                if found not in numbers:
                    numbers[found] = len(states)
                    states.append(found)
                row[symbol] = numbers[found]
            else:
                row[symbol] = -1 - rules.setdefault(found, len(rules))
        rows.append(row)
    return {
        "states": rows,
        "rules": [(rule.origin.name, _build(rule)) for rule in rules],
        "starts": {start: numbers[table.start_states[start]] for start in STARTS},
        "ends": {start: numbers[table.end_states[start]] for start in STARTS},
    }


def _lexical(made: Lark) -> dict[str, Any]:
    """Terminals in the order in which lark tries them; keywords are texts of another terminal, as in lark."""
    from lark.lexer import PatternStr

    def order(item: TerminalDef) -> tuple[int, int, int, str]:
        return -item.priority, -item.pattern.max_width, -len(item.pattern.value), item.name

    texts = [item for item in made.terminals if isinstance(item.pattern, PatternStr)]
    words: dict[str, dict[str, str]] = {}
    for item in made.terminals:
        if item in texts:
            continue
        known = {
            text.pattern.value: text.name
            for text in texts
            if text.priority == item.priority and _begins(item.pattern.to_regexp(), text.pattern.value)
        }
        if known:
            words[item.name] = known
    inner = {name for known in words.values() for name in known.values()}
    kept = sorted((item for item in made.terminals if item.name not in inner), key=order)
    return {
        "terminals": [(item.name, item.pattern.to_regexp()) for item in kept],
        "words": words,
        "ignored": sorted(made.ignore_tokens),
    }


def _begins(regexp: str, text: str) -> bool:
    found = re.match(regexp, text)
    return found is not None and found.group() == text


def _build(rule: Rule) -> Build:
    """What lark's own tree builder does with a rule's children."""
    absent: Iterable[bool] = rule.options.empty_indices or [False] * len(rule.expansion)
    nones = [len(run) for run in "".join(str(int(flag)) for flag in absent).split("0")]
    picks, waiting = [], 0
    for at, symbol in enumerate(rule.expansion):
        waiting += nones[at]
        if symbol.is_term and getattr(symbol, "filter_out", False):
            continue
        picks.append((at, not symbol.is_term and symbol.name.startswith("_"), waiting))
        waiting = 0
    name = rule.alias or rule.origin.name
    method = "" if name.startswith("_") else name
    single = bool(rule.options.expand1) and not rule.alias
    return Build(method, len(rule.expansion), single, picks, waiting + nones[-1])
