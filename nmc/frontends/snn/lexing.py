"""From text to statements: tokens, lines and blocks, before any grammar looks at them.

Lines end statements except inside brackets; a statement word at the start of a line ends brackets that somebody
forgot to close, so that one such mistake costs one statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from nmc.frontends.snn.automaton import Token, table
from nmc.frontends.snn.problems import Fault, Problems
from nmc.ir.dataclass import dataclass

#: Words that begin a statement and may stand nowhere else.
STARTERS = frozenset(
    [
        "network",
        "import",
        "weights",
        "param",
        "let",
        "neuron",
        "synapse",
        "input",
        "pop",
        "probe",
        "output",
        "place",
        "assert",
        "for",
        "if",
        "module",
    ]
)
KEYWORDS = STARTERS | frozenset(
    ["else", "as", "in", "on", "with", "every", "or", "and", "not", "true", "false"]
)
#: What units are made of.
UNIT_LETTERS = "".join(sorted(set("nsumsHzkMHzuVmVsteps%")))
MAX_DEPTH = 40
MAX_TOKENS = 20_000
_OPEN = {"LPAR": "RPAR", "LSQB": "RSQB"}
_CLOSE = frozenset(_OPEN.values())


@dataclass
class Line:
    """Tokens of one statement or block head, and the block that follows it."""

    tokens: list[Token] = field(default_factory=list)
    block: list[Line] | None = None
    faulty: bool = False


def tokens_of(text: str, file: str) -> Iterator[Token]:
    """Lex; keywords after a dot and before ``=`` inside a statement are plain names (``W.input``)."""
    held: Token | None = None
    before = "NEWLINE"
    for token in table().lex(text, file):
        if held is not None:
            if before == "DOT" or (token.type == "EQUAL" and before in ("COMMA", "LPAR")):
                held = held._replace(type="NAME")
            yield held
            before, held = held.type, None
        if token.value in KEYWORDS and token.type != "NAME":
            held = token
        else:
            yield token
            before = token.type
    if held is not None:
        yield held


class Splitter:
    """Cuts a file's tokens into nested lines."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._top: list[Line] = []
        self._open: list[tuple[list[Line], Token | None]] = [(self._top, None)]
        self._line = Line()
        self._brackets: list[Token] = []
        self._fresh = True
        self._line_start = 0

    def split(self, tokens: Iterator[Token]) -> list[Line]:
        """Give the lines of the file, with their blocks."""
        for token in tokens:
            self._take(token)
        self._end()
        for _, brace in self._open[1:]:
            if brace is not None:
                self._fault(brace, "this block is not closed", "add a } after its last statement")
        return self._top

    def _take(self, token: Token) -> None:
        kind = token.type
        if kind == "NEWLINE":
            self._fresh = True
            if not self._brackets:
                self._end()
            return
        if self._fresh and self._brackets and token.value in STARTERS and kind != "NAME":
            self._unclosed()
        if self._brackets and token.value == "->" and self._line_start:
            self._arrow()
        elif self._fresh:
            self._line_start = len(self._line.tokens)
        self._fresh = False
        if self._brackets or kind not in ("SEMI", "LBRACE", "RBRACE"):
            self._add(token)
        elif kind == "SEMI":
            self._end()
        elif kind == "LBRACE":
            self._begin_block(token)
        else:
            self._end_block(token)

    def _add(self, token: Token) -> None:
        self._line.tokens.append(token)
        if token.type in _OPEN:
            self._brackets.append(token)
            if len(self._brackets) == MAX_DEPTH:
                self._fault(token, f"more than {MAX_DEPTH} brackets inside each other", "")
                self._line.faulty = True
        elif token.type in _CLOSE:
            self._close(token)
        if len(self._line.tokens) == MAX_TOKENS:
            self._fault(token, f"a statement of more than {MAX_TOKENS:,} words", "put the data into a file")
            self._line.faulty = True

    def _close(self, token: Token) -> None:
        if self._brackets and _OPEN[self._brackets[-1].type] == token.type:
            self._brackets.pop()
            return
        if not self._line.faulty:
            hint = f"{self._brackets[-1].value} is open" if self._brackets else "no bracket is open"
            self._fault(token, f"{token.value} closes nothing", hint)
        self._line.faulty = True
        self._brackets = self._brackets[:-1]

    def _unclosed(self) -> None:
        if not self._line.faulty:
            self._fault(
                self._brackets[-1], "this bracket is not closed", "close it before the next statement"
            )
        self._line.faulty = True
        self._brackets = []
        self._end()

    def _arrow(self) -> None:
        """No bracket holds an arrow: the line that it stands on is a statement of its own."""
        moved = self._line.tokens[self._line_start :]
        self._line.tokens = self._line.tokens[: self._line_start]
        self._unclosed()
        self._line.tokens = moved

    def _end(self) -> None:
        if self._brackets:
            self._unclosed()
            return
        if self._line.tokens:
            self._open[-1][0].append(self._line)
        self._line = Line()

    def _begin_block(self, token: Token) -> None:
        self._line.block = []
        block = self._line.block
        if not self._line.tokens:
            self._fault(token, "a block without a head", "blocks belong to for, if, else and module")
        else:
            self._open[-1][0].append(self._line)
        if len(self._open) == MAX_DEPTH:
            self._fault(token, f"more than {MAX_DEPTH} blocks inside each other", "")
        self._open.append((block, token))
        self._line = Line()

    def _end_block(self, token: Token) -> None:
        self._end()
        if len(self._open) == 1:
            self._fault(token, "} closes nothing", "no block is open")
            return
        self._open.pop()

    def _fault(self, token: Token, message: str, hint: str) -> None:
        self._problems.add(Fault("E0364", token.pos, message, hint))
