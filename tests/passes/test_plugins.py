"""Passes from elsewhere: files, installed packages, targets; what is broken harms nobody else."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

import nmc.targets
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.ir.text.parser import parse
from nmc.passes.load_file import load_pass_file
from nmc.passes.manager import run_pipeline
from nmc.passes.optimize.dead_code import DeadCode
from nmc.passes.pipeline import parse_pipeline
from nmc.passes.registry import Entry, Registry, standard_registry
from nmc.passes.table import PASSES

PRUNED = "[1.0, 0.0, 0.5, -0.5, 0.0, 1.0]"
RUN = """
import sys
from nmc.ir.text.parser import parse
from nmc.passes.manager import run_pipeline
from nmc.passes.pipeline import parse_pipeline
print(run_pipeline(parse(sys.stdin.read()), parse_pipeline("prune{below=0.3}")).module)
"""


@pytest.fixture
def installed(repo: Path, tmp_path: Path) -> Path:
    """A folder on which the plug-in package is installed, without a network."""
    source, target = tmp_path / "source", tmp_path / "site"
    shutil.copytree(repo / "tests" / "data" / "plugin_prune", source)
    try:
        recent = tuple(map(int, version("setuptools").split(".")[:2])) >= (70, 1)
    except PackageNotFoundError:
        pytest.skip("setuptools is not installed here, and building without isolation needs it")
    if recent or find_spec("wheel"):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, "--no-build-isolation", "--target", target, source], check=True, cwd=tmp_path)
        return target
    # Without `wheel`, a setuptools this old cannot make an installable file; the metadata alone will do.
    code = "import setuptools; setuptools.setup()"
    subprocess.run([sys.executable, "-c", code, "-q", "egg_info"], check=True, cwd=source)
    return source


def test_pass_from_a_file_runs(repo: Path, snn_module: Module) -> None:
    table = load_pass_file(repo / "examples" / "passes" / "prune.py")
    assert list(table) == ["prune"]
    passes = parse_pipeline("prune{below=0.3},dead-code", standard_registry().adding(table, "prune.py"))
    result = run_pipeline(snn_module, passes)
    assert PRUNED in str(result.module)
    assert result.module.producers["fc"].loc == snn_module.producers["fc"].loc


def test_pass_from_an_installed_package_runs(installed: Path, repo: Path, snn_module: Module) -> None:
    environment = {"PYTHONPATH": f"{installed}:{repo}", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=str(snn_module), env=environment, text=True, capture_output=True,
        check=False, cwd=installed.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PRUNED in done.stdout
    assert parse(done.stdout).producers.keys() == snn_module.producers.keys()


def test_file_without_a_pass_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nothing.py"
    file.write_text("from nmc.passes.optimize.dead_code import DeadCode\n", encoding="utf-8")
    with pytest.raises(NmcError, match="E0208.*defines no pass"):
        load_pass_file(file)


@pytest.mark.parametrize(
    ("text", "told", "line"),
    [
        ("x = 1\nraise ValueError('no')\n", "ValueError: no", ":2"),
        ("def f(:\n", "SyntaxError", ":1"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", ":2"),
        ("\n\nimport no_such_package_at_all\n", "ModuleNotFoundError", ":3"),
    ],
)
def test_file_that_fails_is_told_with_its_line(tmp_path: Path, text: str, told: str, line: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(NmcError) as caught:
        load_pass_file(file)
    (problem,) = caught.value.diagnostics
    assert problem.code == "E0208" and told in problem.message and problem.where == f"{file}{line}"


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NmcError, match="E0208.*No such file"):
        load_pass_file(tmp_path / "none.py")


def test_loading_a_file_changes_no_table(repo: Path) -> None:
    load_pass_file(repo / "examples" / "passes" / "prune.py")
    assert "prune" not in standard_registry().entries and "prune" not in PASSES


def test_two_of_one_name_are_an_error_naming_both_when_used(snn_module: Module) -> None:
    registry = standard_registry().adding(
        {"dead-code": type("DeadCode", (DeadCode,), {})}, "plug-in nmc-x 1.0"
    )
    with pytest.raises(NmcError, match=r"E0209.*dead-code is provided by nmc and plug-in nmc-x 1\.0"):
        parse_pipeline("dead-code", registry)
    assert parse_pipeline("fold-affine", registry), "other passes work"
    assert "E0209" in [problem.code for problem in registry.problems()]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_package_at_all:Pass", "ModuleNotFoundError: No module named"),
        ("nmc.passes.optimize.dead_code:Nothing", "has no attribute 'Nothing'"),
        ("nmc.passes.optimize.dead_code:DeadCode", "calls itself dead-code"),
        ("nmc.ir.module:Module", "is no pass class"),
    ],
)
def test_broken_plugin_is_listed_with_its_reason_and_harms_nobody(target: str, reason: str) -> None:
    standard = standard_registry()
    broken = Entry("broken", target, "plug-in nmc-x 1.0")
    registry = Registry({**standard.entries, "broken": (broken,)}, standard.aliases)
    assert parse_pipeline("dead-code", registry) == (DeadCode(),)
    (problem,) = (problem for problem in registry.problems() if "pass broken" in problem.message)
    assert problem.code == "E0210" and "of plug-in nmc-x 1.0 does not load" in problem.message
    assert reason in problem.message
    with pytest.raises(NmcError, match="E0210"):
        parse_pipeline("broken", registry)


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[Path]:
    """A folder whose packages count as targets."""
    nmc.targets.__path__.append(str(tmp_path))
    yield tmp_path
    nmc.targets.__path__.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("nmc.targets.made_up")]:
        del sys.modules[name]


def make_target(folder: Path, init: str, **modules: str) -> None:
    folder.mkdir()
    for name, text in {"__init__": init, **modules}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


def test_target_brings_passes_and_its_commented_default_pipeline(targets: Path) -> None:
    pipeline = """
PASSES = {"tidy": "nmc.targets.made_up.tidy:Tidy"}
DEFAULT = '''
@fold,  // what all targets share
tidy,
'''
"""
    tidy = "from nmc.passes.base import Pass\n\nclass Tidy(Pass, name='tidy'):\n    pass\n"
    make_target(targets / "made_up", "", pipeline=pipeline, tidy=tidy)
    passes = parse_pipeline("@default:made_up")
    assert [item.name for item in passes] == ["fold-batchnorm", "fold-affine", "dead-code", "tidy"]


@pytest.mark.parametrize(
    ("init", "pipeline", "reason"),
    [
        ("", "1 / 0\n", "ZeroDivisionError"),
        ("raise OSError('no chip')\n", "", "OSError: no chip"),
        ("", "PASSES = {}\n", "DEFAULT"),
    ],
)
def test_target_with_a_broken_table_harms_nobody(
    targets: Path, init: str, pipeline: str, reason: str
) -> None:
    make_target(targets / "made_up", init, pipeline=pipeline)
    registry = standard_registry()
    (problem,) = (problem for problem in registry.broken if "target made_up" in problem.message)
    assert problem.code == "E0210" and reason in problem.message
    assert parse_pipeline("dead-code", registry) == (DeadCode(),)


def test_target_without_a_pipeline_is_no_problem(targets: Path) -> None:
    make_target(targets / "made_up", "")
    assert not [problem for problem in standard_registry().broken if "made_up" in problem.message]


@pytest.mark.parametrize("name", sorted(PASSES))
def test_every_built_in_pass_loads_and_has_help(name: str) -> None:
    cls = standard_registry().find(name)
    assert cls.name == name
    assert cls.__doc__ and len(cls.__doc__.split()) >= 5
