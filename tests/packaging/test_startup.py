"""Starting nmc costs little: `import nmc` and `nmc --help` load none of the heavy packages."""

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("onnx", "ortools", "numpy", "lark", "networkx")
HELP = """
from nmc.cli import main
try:
    code = main(["--help"])
except SystemExit as stop:
    code = stop.code
assert not code, code
"""


def loaded_after(repo: Path, code: str) -> list[str]:
    """The heavy packages that a fresh interpreter has loaded after running `code`."""
    report = (
        f"import json, sys; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]), file=sys.stderr)"
    )
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stderr))


def test_import_nmc_loads_nothing_heavy(repo: Path) -> None:
    assert loaded_after(repo, "import nmc") == []


def test_help_loads_nothing_heavy(repo: Path) -> None:
    assert loaded_after(repo, HELP) == []


def test_a_heavy_import_would_be_seen(repo: Path) -> None:
    assert loaded_after(repo, "import nmc, lark") == ["lark"]


def test_module_run_prints_help(repo: Path) -> None:
    command = [sys.executable, "-m", "nmc", "--help"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compile" in done.stdout
