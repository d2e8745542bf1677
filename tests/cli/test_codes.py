"""Error codes: every one that the source uses is documented, and every documented one is used."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmc.report.codes import CODES, GROUPS, markdown

Nmc = Callable[..., Any]

CODE = re.compile(r"\bE[01]\d{3}\b")


def sources(repo: Path) -> list[Path]:
    """All Python files of ours but the table itself, each once."""
    files = [file for folder in ("ir", "passes", "targets") for file in sorted((repo / folder).rglob("*.py"))]
    links = {item.name for item in (repo / "nmc").iterdir() if item.is_symlink()}
    own = [
        file
        for file in sorted((repo / "nmc").rglob("*.py"))
        if file.relative_to(repo / "nmc").parts[0] not in links
    ]
    return [file for file in [*files, *own] if file.name != "codes.py"]


def used(text: str) -> set[str]:
    """Codes that a file raises: strings that are a code and nothing else."""
    nodes = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return {value for value in nodes if isinstance(value, str) and CODE.fullmatch(value)}


def test_every_code_that_is_used_is_documented(repo: Path) -> None:
    mentioned = {
        (code, file) for file in sources(repo) for code in CODE.findall(file.read_text(encoding="utf-8"))
    }
    unknown = sorted(f"{code} in {file}" for code, file in mentioned if code not in CODES)
    assert not unknown, f"add to nmc/report/codes.py: {unknown}"


def test_every_documented_code_is_used(repo: Path) -> None:
    found = set().union(*(used(file.read_text(encoding="utf-8")) for file in sources(repo)))
    assert len(found) > 50
    assert set(CODES) == found


def test_every_code_has_a_title_a_paragraph_and_a_group() -> None:
    for code, entry in CODES.items():
        assert CODE.fullmatch(code) and code[:3] in GROUPS
        assert entry.title and not entry.title.endswith(".")
        assert entry.text.endswith((".", ").")) and "\n" not in entry.text
    titles = [entry.title for entry in CODES.values()]
    assert len(titles) == len(set(titles))


def test_documentation_is_up_to_date(repo: Path) -> None:
    path = repo / "docs" / "errors.md"
    assert path.read_text(encoding="utf-8") == markdown(), "run: python -m nmc.report.codes"


@pytest.mark.parametrize("word", ["E0710", "e0710"])
def test_explain_prints_the_paragraph(nmc: Nmc, word: str) -> None:
    done = nmc("explain", word)
    assert done.code == 0 and done.out.startswith("E0710: ")
    assert nmc("explain", word, "--json").facts["title"] == CODES["E0710"].title


def test_explain_without_a_code_lists_all(nmc: Nmc) -> None:
    assert {item["code"] for item in nmc("explain", "--json").facts["codes"]} == set(CODES)
