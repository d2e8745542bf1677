"""Pipeline text: what is printed reads back, and what is wrong is told with a way out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmc.ir.diagnostics import NmcError
from nmc.ir.op import Span
from nmc.ir.text.parser import parse
from nmc.passes.base import Pass
from nmc.passes.pipeline import parse_pipeline, print_pipeline, without
from nmc.passes.registry import Registry


@dataclass(frozen=True)
class Options(Pass, name="options", takes="any"):
    """One option of every kind."""

    whole: int = 3
    number: float = 0.5
    flag: bool = False
    word: str = "plain"
    choice: Literal["one", "two"] = "one"
    sizes: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ()
    span: Span = Span(0, 4)
    maybe: float | None = None
    table: dict[str, int] = field(default_factory=dict)
    secret: object = field(default=None, metadata={"hidden": True})


@dataclass(frozen=True)
class Needs(Pass, name="needs", takes="any"):
    """An option without default."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size {self.size} is negative")


REGISTRY = Registry(
    {}, {"twice": "options, options{whole=1}", "loop": "@twice,@ring", "ring": "@loop"}
).adding({"options": Options, "needs": Needs}, "this test")
NUMBERS = st.floats(allow_nan=False)
SPANS = st.tuples(st.integers(-9, 99), st.integers(0, 99)).map(lambda pair: Span(pair[0], sum(pair) + 9))
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}", fullmatch=True)
FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(),
    "number": NUMBERS,
    "flag": st.booleans(),
    "word": st.text(),
    "choice": st.sampled_from(["one", "two"]),
    "sizes": st.lists(st.integers()).map(tuple),
    "names": st.lists(st.text() | NAMES).map(tuple),
    "span": SPANS,
    "maybe": st.none() | NUMBERS,
    "table": st.dictionaries(NAMES | st.text(), st.integers(), max_size=4),
}


@given(st.lists(st.builds(Options, **FIELDS), max_size=4))
def test_text_reads_back_as_the_same_passes(passes: list[Options]) -> None:
    text = print_pipeline(passes)
    assert list(parse_pipeline(text, REGISTRY)) == passes
    assert print_pipeline(parse_pipeline(text, REGISTRY)) == text


@given(st.builds(Options, **FIELDS))
def test_options_are_written_like_attributes_of_the_ir(item: Options) -> None:
    """The two parsers agree: the same braces read as module attributes."""
    attrs = str(item).removeprefix("options")
    told = dict(parse(f"module @m ann attributes {attrs or '{}'} {{\n}}\n").attrs)
    defaults = Options()
    assert told == {key: getattr(item, key) for key in FIELDS if getattr(item, key) != getattr(defaults, key)}


@given(st.text(alphabet='ab,{}[]=@:"\\ 01.-/#\n', max_size=30) | st.text())
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        parse_pipeline(text, REGISTRY)
    except NmcError as error:
        assert all(problem.code in ("E0200", "E0201", "E0202") for problem in error.diagnostics)


def test_deep_brackets_are_an_error() -> None:
    with pytest.raises(NmcError, match="nested too deeply"):
        parse_pipeline("options{sizes=" + "[" * 100_000, REGISTRY)


def test_only_options_that_differ_are_printed() -> None:
    assert str(Options()) == "options"
    assert str(Options(number=0.02, sizes=(2, 3))) == "options{number=0.02, sizes=[2, 3]}"


def test_hidden_fields_are_neither_printed_nor_read() -> None:
    assert str(Options(secret="x")) == "options"
    with pytest.raises(NmcError, match="has no option secret"):
        parse_pipeline("options{secret=1}", REGISTRY)


def test_comments_line_breaks_and_a_last_comma_are_allowed() -> None:
    text = "options, // the first\n  options{whole=1},  // the second\n"
    assert parse_pipeline(text, REGISTRY) == (Options(), Options(whole=1))


def test_empty_text_is_an_empty_pipeline() -> None:
    assert parse_pipeline(" // nothing", REGISTRY) == ()


def test_alias_stands_for_its_passes() -> None:
    assert parse_pipeline("needs{size=1},@twice", REGISTRY) == (Needs(1), Options(), Options(whole=1))


def test_alias_that_contains_itself_is_an_error() -> None:
    with pytest.raises(NmcError, match="@loop -> @ring -> @loop"):
        parse_pipeline("@loop", REGISTRY)


def test_unknown_pass_suggests_the_nearest() -> None:
    with pytest.raises(NmcError) as caught:
        parse_pipeline("option", REGISTRY)
    (problem,) = caught.value.diagnostics
    assert (problem.code, problem.hint) == ("E0201", "did you mean options?")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(NmcError) as caught:
        parse_pipeline("nothing, options{whole=x, flag=2, other=3}, needs", REGISTRY)
    told = [(problem.code, problem.message) for problem in caught.value.diagnostics]
    assert told == [
        ("E0201", "unknown pass nothing"),
        ("E0202", "pass options: option whole: 'x' is not of type int"),
        ("E0202", "pass options: option flag: 2 is not of type bool"),
        ("E0202", "pass options has no option other"),
        ("E0202", "pass needs needs option size"),
    ]


def test_option_error_lists_the_options() -> None:
    with pytest.raises(NmcError) as caught:
        parse_pipeline("needs{sise=1}", REGISTRY)
    assert caught.value.diagnostics[0].hint == "options of needs: size: int"


def test_value_that_the_pass_refuses_is_an_option_error() -> None:
    with pytest.raises(NmcError, match=r"E0202.*size -1 is negative"):
        parse_pipeline("needs{size=-1}", REGISTRY)


@pytest.mark.parametrize(
    ("text", "place"),
    [("options,,options", "1:9"), ("options\noptions", "2:1"), ("options{whole=1, whole=2}", "1:18")],
)
def test_syntax_errors_point_at_the_place(text: str, place: str) -> None:
    with pytest.raises(NmcError) as caught:
        parse_pipeline(text, REGISTRY)
    assert caught.value.diagnostics[0].where == f"pipeline:{place}"


def test_passes_are_left_out_by_name() -> None:
    passes = (Options(), Needs(1), Options(whole=2))
    assert without(passes, ["options"]) == (Needs(1),)
    with pytest.raises(NmcError, match=r"(?s)no pass need to leave out.*did you mean needs\?"):
        without(passes, ["need"])
