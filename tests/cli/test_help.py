"""Help: complete, and true about the defaults."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from nmc import __version__
from nmc.cli.parser import VERBS, build, find_verb

Nmc = Callable[..., Any]

GOLDEN = Path(__file__).parent / "overview.txt"
NAMES = [verb.name for verb in VERBS]


def test_overview_is_as_agreed(nmc: Nmc, request: pytest.FixtureRequest) -> None:
    done = nmc("--help")
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(done.out, encoding="utf-8", newline="\n")
    assert done.code == 0
    assert done.out == GOLDEN.read_text(encoding="utf-8"), "if this is meant: pytest --update-golden"


def test_every_verb_of_the_first_issue_is_there() -> None:
    wanted = (
        "compile run eval check diff verify opt export inspect passes ops targets objdump where demo import"
    )
    wanted += " explain fmt map"
    assert set(NAMES) == set(wanted.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_has_help_and_the_common_options(nmc: Nmc, name: str) -> None:
    done = nmc(name, "--help")
    assert done.code == 0
    assert done.out == nmc("help", name).out
    for option in ("--json", "-q, --quiet", "-v, --verbose", "--traceback"):
        assert option in done.out
    assert max(map(len, done.out.splitlines())) <= 110


def test_version(nmc: Nmc) -> None:
    assert nmc("--version").out == f"nmc {__version__}\n"


def test_no_words_is_an_error_with_help(nmc: Nmc) -> None:
    done = nmc()
    assert (done.code, done.out) == (1, "")
    assert "compile" in done.err


def test_defaults_in_the_help_are_those_of_the_driver() -> None:
    from nmc.driver import CompileOptions

    text = " ".join(build(find_verb("compile")).format_help().partition("\noptions:")[2].split())
    for entry in fields(CompileOptions):
        if entry.name in ("mode", "encoder", "reset", "bits", "seed", "effort", "target"):
            found = re.search(rf"--{entry.name} [^()]*\(default: (\w+)", text)
            assert found and found[1] == str(entry.default), entry.name


def test_choices_are_those_of_the_driver() -> None:
    from typing import get_args, get_type_hints

    from nmc.driver import CompileOptions

    hints = get_type_hints(CompileOptions)
    text = build(find_verb("compile")).format_help()
    for name in ("encoder", "effort"):
        assert "{" + ",".join(get_args(hints[name])) + "}" in text
    assert "{" + ",".join(get_args(hints["reset"])) + ",to-value}" in text, "a .nir file may want the third"
