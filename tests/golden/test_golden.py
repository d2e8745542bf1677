"""Every ``CASE.nmc`` here names a command in its first line; what it prints is kept in a file beside it.

``// RUN: nmc opt [--load-pass FILE] --passes TEXT [--explain PASS]`` gives ``CASE.expect`` (the module) and,
when asked to explain, ``CASE.explain``; ``// RUN: not nmc opt ...`` must fail and gives ``CASE.error``.
``pytest --update-golden`` writes these files; read the diff before you commit it.
"""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from nmc.ir.diagnostics import NmcError
from nmc.ir.text.parser import parse
from nmc.passes.load_file import load_pass_file
from nmc.passes.manager import ManagerOptions, run_pipeline
from nmc.passes.pipeline import parse_pipeline
from nmc.passes.registry import standard_registry

HERE = Path(__file__).parent
CASES = sorted(HERE.rglob("*.nmc"))
TEXTS = sorted([*CASES, *HERE.rglob("*.expect")])


def name(path: Path) -> str:
    return path.relative_to(HERE).as_posix()


def command(text: str) -> tuple[bool, argparse.Namespace]:
    """Whether the command of a case must fail, and its options."""
    first = text.split("\n", 1)[0]
    found = re.fullmatch(r"// RUN: (not )?nmc opt (.*)", first)
    assert found, f"the first line must be the command, not {first!r}"
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--passes", required=True)
    parser.add_argument("--explain", default="")
    parser.add_argument("--load-pass", action="append", default=[])
    return found[1] is not None, parser.parse_args(shlex.split(found[2]))


def outputs(case: Path, repo: Path) -> dict[str, str]:
    """What the command of a case gives, by suffix of the file that keeps it."""
    text = case.read_text(encoding="utf-8")
    fails, options = command(text)
    told: list[str] = []
    try:
        registry = standard_registry()
        for file in options.load_pass:
            registry = registry.adding(load_pass_file(repo / file), file)
        manager = ManagerOptions(explain=options.explain, sink=told.append)
        result = run_pipeline(parse(text), parse_pipeline(options.passes, registry), manager)
    except NmcError as error:
        assert fails, f"unexpected failure:\n{error}"
        return {".error": f"{error}\n"}
    assert not fails, "the command succeeded, but must fail"
    explained = {".explain": "\n".join(told) + "\n"} if options.explain else {}
    return {".expect": str(result.module), **explained}


@pytest.mark.parametrize("case", CASES, ids=name)
def test_command_gives_the_expected_text(case: Path, repo: Path, request: pytest.FixtureRequest) -> None:
    for suffix, text in outputs(case, repo).items():
        kept = case.with_suffix(suffix)
        if request.config.getoption("--update-golden"):
            kept.write_text(text, encoding="utf-8", newline="\n")
        assert kept.exists(), f"no {name(kept)}; run pytest --update-golden and read it"
        assert text == kept.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", TEXTS, ids=name)
def test_text_prints_as_it_was_read(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("//"))
    assert str(parse(text, file=str(file))) == body


def test_no_expected_text_lacks_its_case() -> None:
    kept = [path for suffix in ("expect", "error", "explain") for path in HERE.rglob(f"*.{suffix}")]
    assert [name(path) for path in kept if not path.with_suffix(".nmc").exists()] == []
