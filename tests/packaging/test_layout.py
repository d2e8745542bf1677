"""The top-level folders are nmc.ir, nmc.passes and nmc.targets, and nothing else (see pyproject.toml)."""

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

LINKS = {"ir": "../ir", "passes": "../passes", "targets": "../targets", "data": "../examples/models"}


@pytest.fixture(scope="module")
def lister(repo: Path) -> ModuleType:
    """The script behind `make packages`."""
    spec = importlib.util.spec_from_file_location("list_packages", repo / ".ci" / "packages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_package_list_equals_the_folders(repo: Path, lister: ModuleType) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))
    table = project["tool"]["setuptools"]
    assert table["package-dir"] == lister.ROOTS
    assert table["packages"] == lister.find_packages(repo), "run `make packages`"


def test_every_folder_with_modules_is_a_package(repo: Path, lister: ModuleType) -> None:
    known = set(lister.find_packages(repo))
    for package, folder in lister.ROOTS.items():
        for module in (repo / folder).rglob("*.py"):
            inside = module.parent.relative_to(repo / folder)
            if folder == "nmc" and inside.parts[:1] and inside.parts[0] in LINKS:
                continue
            assert ".".join((package, *inside.parts)) in known, f"{module.parent} has no __init__.py"


def test_packages_script_finds_a_new_package_and_not_through_links(
    tmp_path: Path, lister: ModuleType
) -> None:
    for folder in ("nmc/cli", "ir/ops", "passes", "targets"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("nmc", "nmc/cli", "ir", "ir/ops", "passes", "targets"):
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "nmc" / "ir").symlink_to("../ir")
    found = lister.find_packages(tmp_path)
    assert found == ["nmc", "nmc.cli", "nmc.ir", "nmc.ir.ops", "nmc.passes", "nmc.targets"]
    text = lister.rewrite('packages = [\n    "nmc",\n]\nother = 1\n', found)
    assert tomllib.loads(text) == {"packages": found, "other": 1}


def test_packages_script_refuses_a_file_without_the_list(lister: ModuleType) -> None:
    with pytest.raises(ValueError, match="found 0"):
        lister.rewrite("[project]\n", ["nmc"])


@pytest.mark.parametrize("name", sorted(LINKS))
def test_link_is_relative_and_right(repo: Path, name: str) -> None:
    link = repo / "nmc" / name
    assert link.is_symlink() and os.readlink(link) == LINKS[name]
    assert link.resolve().is_dir()


@pytest.mark.parametrize("name", ["ir", "passes", "targets"])
def test_import_by_the_folder_name_is_refused(repo: Path, name: str) -> None:
    command = [sys.executable, "-c", f"import {name}"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"ImportError: this package is nmc.{name}, not '{name}'" in done.stderr


def test_version_is_the_same_everywhere(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))
    code = "import nmc; print(nmc.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == project["project"]["version"]
