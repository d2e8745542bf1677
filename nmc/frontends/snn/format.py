"""``nmc fmt``: one way to write a program. Comments, lines and words stay; spaces and indentation are made even."""

from __future__ import annotations

from nmc.frontends.snn.automaton import Token
from nmc.frontends.snn.lexing import UNIT_LETTERS, tokens_of
from nmc.frontends.snn.parse import parse
from nmc.frontends.snn.problems import Problems

_INDENT = "    "
_BINARY = frozenset({"EQUAL", "MULOP", "POW", "CMP"})
_TIGHT_AFTER = frozenset({"LPAR", "LSQB", "DOT", "AT", "RANGE"})
_TIGHT_BEFORE = frozenset({"RPAR", "RSQB", "COMMA", "DOT", "RANGE", "SEMI"})
_VALUES = frozenset({"NAME", "TEMPLATE", "PRIMED", "NUMBER", "STRING", "RPAR", "RSQB", "TRUE", "FALSE"})


def format_text(text: str, file: str = "<text>") -> str:
    """Give a program in its one form.

    Raises
    ------
    NmcError
        E0362 to E0364 when the text cannot be read.
    """
    problems = Problems()
    parse(text, file, problems)
    problems.raise_if_any()
    return _Formatter().run(text)


class _Formatter:
    """Writes line by line."""

    def __init__(self) -> None:
        self._blocks = 0
        self._brackets: list[str] = []
        self._lines: list[str] = []

    def run(self, text: str) -> str:
        """Format a program that can be read."""
        lines = text.replace("\r\n", "\n").split("\n")
        found: list[list[Token]] = [[] for _ in lines]
        for token in tokens_of(text.replace("\r\n", "\n"), ""):
            if token.type != "NEWLINE":
                found[token.line - 1].append(token)
        for line, tokens in zip(lines, found, strict=True):
            self._line(tokens, _comment(line, tokens))
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return "\n".join([*self._lines, ""]) if self._lines else ""

    def _line(self, tokens: list[Token], comment: str) -> None:
        if not tokens and not comment:
            if self._lines and self._lines[-1]:
                self._lines.append("")
            return
        closing = 0
        for token in tokens:
            if token.type not in ("RBRACE", "RPAR", "RSQB"):
                break
            closing += 1
        inner = max(len(self._brackets) - closing, 0) if self._brackets else 0
        blocks = self._blocks - (closing if not self._brackets else 0)
        indent = _INDENT * max(blocks + min(inner, 1), 0)
        code = self._code(tokens)
        joined = f"{code}  {comment}" if code and comment else code or comment
        self._lines.append(indent + joined)

    def _code(self, tokens: list[Token]) -> str:
        parts: list[str] = []
        before: Token | None = None
        unary = False
        for token in tokens:
            if before is not None and not unary and self._space(before, token):
                parts.append(" ")
            unary = token.type == "ADDOP" and (before is None or before.type not in _VALUES)
            parts.append(_shown(token))
            self._count(token)
            before = token
        return "".join(parts)

    def _space(self, before: Token, token: Token) -> bool:
        if token.type in _TIGHT_BEFORE or before.type in _TIGHT_AFTER:
            return False
        if before.type == "COMMA":
            return True
        if "COLON" in (token.type, before.type) and self._brackets:
            return False
        if token.type == "LPAR":
            return before.type not in ("NAME", "TEMPLATE", "RPAR", "RSQB")
        if token.type == "LSQB":
            return before.type not in ("NAME", "TEMPLATE", "RSQB", "RPAR")
        return True

    def _count(self, token: Token) -> None:
        if token.type in ("LPAR", "LSQB"):
            self._brackets.append(token.type)
        elif token.type in ("RPAR", "RSQB") and self._brackets:
            self._brackets.pop()
        elif token.type == "LBRACE":
            self._blocks += 1
        elif token.type == "RBRACE":
            self._blocks -= 1


def _shown(token: Token) -> str:
    text = token.value
    if token.type != "NUMBER":
        return text
    digits = text.rstrip(UNIT_LETTERS).rstrip()
    unit = text[len(digits) :].strip()
    return f"{digits} {unit}" if unit else text


def _comment(line: str, tokens: list[Token]) -> str:
    """The comment at the end of a line: what follows the last token."""
    end = tokens[-1].column - 1 + len(tokens[-1].value) if tokens else 0
    rest = line[end:].strip()
    return rest if rest.startswith("#") else ""
