"""What a user gets: the wheel, built from the source archive, holds every file and only ours."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.slow

FOLDERS = {"nmc": "nmc", "ir": "nmc/ir", "passes": "nmc/passes", "targets": "nmc/targets"}


@pytest.fixture(scope="module")
def dist(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel built from it, made from a copy of the tree."""
    top = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
    shutil.copytree(repo, top / "tree", symlinks=True, ignore=skip)
    command = [sys.executable, "-m", "build", "--outdir", str(top / "dist"), str(top / "tree")]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return top / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (file,) = dist.glob("*.whl")
    return zipfile.ZipFile(file)


def recorded(wheel: zipfile.ZipFile) -> set[str]:
    """The installed files, by the wheel's own RECORD."""
    (record,) = (name for name in wheel.namelist() if name.endswith(".dist-info/RECORD"))
    return {line.split(",")[0] for line in wheel.read(record).decode("utf-8").splitlines()}


def test_nothing_but_nmc_at_the_top(wheel: zipfile.ZipFile) -> None:
    tops = {PurePosixPath(name).parts[0] for name in recorded(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nmc"}


def test_every_file_of_the_packages_is_installed(dist: Path, wheel: zipfile.ZipFile) -> None:
    repo = dist.parent / "tree"
    expected = set()
    for folder, place in FOLDERS.items():
        for file in (repo / folder).rglob("*"):
            inside = file.relative_to(repo / folder)
            linked = folder == "nmc" and (repo / folder / inside.parts[0]).is_symlink()
            if file.is_file() and not linked and "__pycache__" not in inside.parts and file.suffix != ".md":
                expected.add(f"{place}/{inside.as_posix()}")
    expected |= {f"nmc/data/{file.name}" for file in (repo / "examples" / "models").glob("digits_*.onnx")}
    assert {name for name in recorded(wheel) if name.startswith("nmc/")} == expected


def test_demo_networks_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    networks = [name for name in recorded(wheel) if name.startswith("nmc/data/digits_")]
    assert networks
    assert all(wheel.getinfo(name).file_size > 0 for name in networks)


def test_licence_and_command_are_declared(wheel: zipfile.ZipFile) -> None:
    (entry,) = (name for name in recorded(wheel) if name.endswith("/entry_points.txt"))
    assert "nmc = nmc.cli:main" in wheel.read(entry).decode("utf-8")
    (metadata,) = (name for name in recorded(wheel) if name.endswith("/METADATA"))
    assert "License-Expression: Apache-2.0" in wheel.read(metadata).decode("utf-8")
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in recorded(wheel))


def test_source_archive_holds_no_links(dist: Path) -> None:
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        assert [member.name for member in archive if member.issym() or member.islnk()] == []
