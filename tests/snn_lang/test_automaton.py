"""Running lark's table ourselves: the same tokens, trees and refusals as lark's own parser."""

import json
import random
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark, Transformer, v_args
from lark.exceptions import UnexpectedInput

from nmc.frontends.snn import automaton
from nmc.frontends.snn.automaton import END, STARTS, Refused, Table, Token, make_table, table
from nmc.frontends.snn.tree import Builder

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.snn"))
LINES = [line for path in EXAMPLES for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
WORDS = [
    "->", ":", ",", "(", ")", "[", "]", ".", "..", "=", "**", "*", "/", "+", "-", "@", "not", "true", "10 ms", "3", "n",
    '"x"', "for", "if", "in", "and", "==", "v'",
]  # fmt: skip


@pytest.fixture(scope="module")
def peer() -> Lark:
    own = {name: item for name, item in vars(Builder).items() if not name.startswith("__")}
    both: Any = v_args(inline=True)(type("Both", (Transformer,), own))
    options: dict[str, Any] = {"parser": "lalr", "lexer": "basic", "maybe_placeholders": True}
    return Lark(_grammar(), start=list(STARTS), transformer=both(), **options)


def _grammar() -> str:
    return files("nmc.frontends.snn").joinpath("grammar.lark").read_text(encoding="utf-8")


def _by_lark(peer: Lark, tokens: list[Token]) -> Any:
    parser: Any = peer.parse_interactive(start="statement")
    feed: Any = parser.parser_state.feed_token
    at = 0
    try:
        for at, token in enumerate(tokens):  # noqa: B007 (known after an error)
            feed(token)
        at = len(tokens)
        return feed(Token(END, "", 0, 0, ""), True)
    except UnexpectedInput:
        return Refused(at, frozenset(parser.accepts()))


def _by_us(tokens: list[Token]) -> Any:
    plan = table().plan("statement", tuple(token.type for token in tokens))
    return plan if isinstance(plan, Refused) else table().build(plan, tokens, Builder())


def _changed(line: str, seed: int) -> str:
    rng = random.Random(seed)
    words = line.split(" ")
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(words) + 1)
        words[at : at + rng.randint(0, 1)] = rng.choices(WORDS, k=rng.randint(0, 2))
    return " ".join(words)


@settings(max_examples=100, deadline=None)
@given(line=st.sampled_from(LINES), seed=st.integers(0, 1 << 20))
def test_trees_and_refusals_are_those_of_lark(peer: Lark, line: str, seed: int) -> None:
    tokens = list(table().lex(_changed(line, seed), "a.snn"))
    if tokens:
        assert _by_us(tokens) == _by_lark(peer, tokens)


def test_tokens_are_those_of_lark(peer: Lark) -> None:
    rng = random.Random(7)
    text = "".join(rng.choices("abz_{}019.\"'#\n\r\t =+-*/%<>()[]:;,@msHzVelrowinthé", k=20_000))
    want = [(token.type, str(token), token.line, token.column) for token in peer.lex(text)]
    assert [token[:4] for token in table().lex(text, "")] == want


def test_grammar_is_free_of_conflicts_and_collisions() -> None:
    pytest.importorskip("interegular")
    Lark(_grammar(), parser="lalr", lexer="basic", start=list(STARTS), maybe_placeholders=True, strict=True)


def test_a_table_that_is_kept_is_the_one_that_was_made() -> None:
    made = json.loads(json.dumps(make_table(_grammar())))
    assert Table.of(made).states == table().states and Table.of(made).rules == table().rules


def test_a_damaged_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fresh = automaton.table.__wrapped__
    first = fresh()
    [kept] = (tmp_path / "nmc").iterdir()
    for damage in ("{}", kept.read_text(encoding="utf-8")[:-9]):
        kept.write_text(damage, encoding="utf-8")
        assert fresh().states == first.states
    assert json.loads(kept.read_text(encoding="utf-8"))["starts"] == first.starts


def test_a_place_that_cannot_be_written_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert automaton.table.__wrapped__().states == table().states
