"""The documentation is true: its commands run, its links lead somewhere, its reference is what the code says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: Pages with commands, in the order in which a reader would go through them: later ones use earlier files.
GUIDES = ("tutorial", "custom-pass", "custom-chip", "ir", "mapping", "diff", "nir", "exact", "fpga")
#: Pages that go on with the files of another.
AFTER = {"nir": ("diff",)}
PAGES = sorted(DOCS.rglob("*.md"))


def name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and MyST give the headings of a page."""
    bare = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#{1,3} (.+)$", bare, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """What a page links to, but for other sites."""
    bare = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)\s]+)\)", bare)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent), "NO_COLOR": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, the tutorial's data and the chip of `custom-chip.md`."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("reader")
    for part in ("models", "passes"):
        shutil.copytree(DOCS.parent / "examples" / part, folder / "examples" / part)
    (folder / "data.py").write_text(blocks(DOCS / "tutorial.md", "python")[0], encoding="utf-8")
    assert run([sys.executable, "data.py"], folder).returncode == 0
    (folder / "small.toml").write_text(blocks(DOCS / "custom-chip.md", "toml")[0], encoding="utf-8")
    return folder


@pytest.mark.parametrize("page", GUIDES)
def test_commands_of_a_page_run(
    page: str, reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nmc.cli import main
    from nmc.targets.fpga.sim.build import simulators

    monkeypatch.chdir(reader)
    shown = [command for name in (*AFTER.get(page, ()), page) for command in commands(DOCS / f"{name}.md")]
    assert shown, f"docs/{page}.md shows no command any more; take it off the list"
    for command in shown:
        if "--engine rtl" in command and not simulators():
            continue  # the simulation of the RTL needs the extra fpga
        words = shlex.split(command)
        assert words[0] == "nmc", f"only commands of nmc can be checked: {command}"
        code = main(words[1:])
        assert code == 0, f"$ {command}\n{capsys.readouterr()}"


def test_every_page_with_commands_is_checked() -> None:
    assert {page.stem for page in PAGES if commands(page)} == set(GUIDES)


def test_python_of_the_tutorial_runs(reader: Path) -> None:
    (reader / "tutorial.py").write_text("\n".join(blocks(DOCS / "tutorial.md", "python")), encoding="utf-8")
    done = run([sys.executable, "tutorial.py"], reader)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9


def test_pass_shown_is_the_example(repo: Path) -> None:
    example = (repo / "examples" / "passes" / "prune.py").read_text(encoding="utf-8")
    assert blocks(DOCS / "custom-pass.md", "python")[0] in example


def test_image_table_has_the_sizes_of_the_code() -> None:
    from nmc.targets.loihi.layout import SECTIONS, TABLES

    rows = re.findall(
        r"^\| `(\w+)` \| ([\d,]+) x (\d+) \|", (DOCS / "loihi.md").read_text(encoding="utf-8"), re.M
    )
    shown = {table: (int(entries.replace(",", "")), int(bits)) for table, entries, bits in rows}
    assert shown == {table: (TABLES[table].entries, TABLES[table].word_bits) for table in SECTIONS}


def test_reference_is_what_the_code_says(repo: Path) -> None:
    done = run([sys.executable, "docs/generate.py", "--check"], repo)
    assert done.returncode == 0, done.stderr


def test_check_tells_pages_that_are_out_of_date(tmp_path: Path, repo: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    page = tmp_path / "docs" / "reference" / "ops.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    done = run([sys.executable, str(tmp_path / "docs" / "generate.py"), "--check"], tmp_path)
    assert (done.returncode, "ops.md" in done.stderr) == (1, True)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)} links to {link}"
        assert not anchor or anchor in anchors(target), (
            f"{name(page)} links to {link}, which has no such heading"
        )


def test_index_lists_every_page() -> None:
    listed = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "index.md")}
    assert {page.resolve() for page in PAGES} - {DOCS / "index.md"} == listed
