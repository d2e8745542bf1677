"""The verbs, and the options of each; argparse only, built for the one verb that is called."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

#: Wide enough for the option tables, narrow enough for a terminal beside an editor.
_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises errors instead of ending the process, because exit code 2 is taken."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print.

        Raises
        ------
        NmcError
            E0004.
        """
        from nmc.ir.diagnostics import fail

        known = re.findall(r"--[a-z][a-z-]*", self.format_help())
        unknown = re.findall(r"--[a-z][a-z-]*", message) if message.startswith("unrecognized") else []
        near = [found for word in unknown for found in get_close_matches(word, known, 1)]
        hint = f"did you mean {near[0]}?" if near else f"{self.prog} --help lists the options"
        raise fail("E0004", message, hint=hint)


@dataclass(frozen=True)
class Verb:
    """What ``nmc NAME`` does.

    Parameters
    ----------
    name, group, summary : str
        Name, heading in the overview, one line of help.
    module : str
        Module of `nmc.cli` with a function ``NAME_verb``, imported when the verb is called.
    add : callable
        Declares the verb's own arguments.
    """

    name: str
    group: str
    summary: str
    module: str
    add: Callable[[Parser], None]


def find_verb(name: str) -> Verb:
    """Give a verb by name.

    Raises
    ------
    NmcError
        E0005 when there is none of that name.
    """
    table = {verb.name: verb for verb in VERBS}
    if name in table:
        return table[name]
    from nmc.ir.diagnostics import fail

    near = get_close_matches(name, table, 1)
    hint = f"did you mean nmc {near[0]}?" if near else "nmc --help lists all verbs"
    what = "there is no option" if name.startswith("-") else "there is no verb"
    raise fail("E0005", f"{what} {name[:80]}", hint=hint)


def build(verb: Verb) -> Parser:
    """Make the parser of one verb."""

    def formatter(prog: str) -> argparse.HelpFormatter:
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=_WIDTH)

    parser = Parser(
        prog=f"nmc {verb.name}",
        description=verb.summary[0].upper() + verb.summary[1:] + ".",
        formatter_class=formatter,
        allow_abbrev=False,
    )
    verb.add(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.add_argument("-q", "--quiet", action="store_true", help="no summary and no progress")
    group.add_argument("-v", "--verbose", action="store_true", help="tell more")
    group.add_argument("--traceback", action="store_true", help="show where in nmc an error was raised")
    return parser


def overview() -> str:
    """Give the text of ``nmc --help``."""
    lines = [
        "usage: nmc VERB [OPTIONS]",
        "",
        "nmc, the neuromorphic compiler: from an ONNX model to chip images and bit-exact emulators.",
    ]
    for group in dict.fromkeys(verb.group for verb in VERBS):
        lines += ["", f"{group}:"]
        lines += [f"  {verb.name:<9} {verb.summary}" for verb in VERBS if verb.group == group]
    lines += ["", "nmc VERB --help lists the options of a verb; nmc --version tells the version.", ""]
    return "\n".join(lines)


def _count(text: str) -> int:
    return _whole(text, 1)


def _natural(text: str) -> int:
    return _whole(text, 0)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no positive number")
    return number


def _whole(text: str, least: int) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {least} on")
    return int(text)


def _target(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--target",
        metavar="NAME|FILE.toml",
        default="loihi",
        help="the chip (default: loihi; see nmc targets)",
    )


def _file(parser: argparse._ActionsContainer, flag: str, text: str) -> None:
    parser.add_argument(flag, metavar="FILE", type=Path, help=text)


def _raw(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--raw", action="store_true", help="do not divide uint8 samples by 255")


def _network(parser: argparse._ActionsContainer) -> None:
    """Options that shape the converted network; those not given are left to `CompileOptions`."""
    parser.add_argument(
        "--mode", choices=("exact", "rate-if"),
        help="whole counts that every chip reproduces, or firing rates (default: exact)",
    )  # fmt: skip
    parser.add_argument(
        "--levels", metavar="L", type=_count, help="activation levels of the exact mode (default: 8)"
    )
    parser.add_argument(
        "--accuracy-drop", metavar="POINTS", type=_positive,
        help="choose the fewest levels that lose at most so much accuracy on the calibration samples",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=("mse", "max", "percentile", "ltb", "auto"), help="of calibration (default: mse)"
    )
    parser.add_argument(
        "--early-exit", action="store_true", default=None,
        help="find the margin at which a run may end early, on the calibration samples",
    )  # fmt: skip
    text = "time steps a sample (default: as many as the exact mode needs; 32)"
    parser.add_argument("--steps", metavar="T", type=_count, help=text)
    parser.add_argument(
        "--encoder", choices=("constant", "rate"), help="input coding of rates (default: constant)"
    )
    parser.add_argument(
        "--reset", choices=("subtract", "zero", "to-value"),
        help="after a spike (default: subtract; .nir: that of the semantics)",
    )  # fmt: skip
    parser.add_argument("--bits", type=_count, help="bits of a weight (default: 8)")
    parser.add_argument(
        "--layer-bits", metavar="auto:BITS|NAME:BITS,...",
        help="bits of single layers' weights, or of a weight on average (exact mode)",
    )  # fmt: skip
    parser.add_argument(
        "--approximate", action="store_true", default=None,
        help="let straight lines stand for smooth activations; the program tells the error",
    )  # fmt: skip
    parser.add_argument(
        "--freeze-plasticity", action="store_true", default=None,
        help="fix the weights of synapses that learn at their initial values",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="S", type=_natural, help="seed of all random choices (default: 0)")
    parser.add_argument(
        "--effort", choices=("fast", "normal", "best"), help="how hard placement is tried (default: normal)"
    )


def _device(parser: Parser, *, synthesis: bool) -> None:
    """For which FPGA, and how fast."""
    group = parser.add_argument_group("for targets that are built for an FPGA")
    group.add_argument(
        "--device", metavar="NAME", default="",
        help="its resources are limits: ecp5-85k, ecp5-45k, ecp5-25k, up5k",
    )  # fmt: skip
    group.add_argument(
        "--target-rate", metavar="R", type=_positive, default=0.0, help="samples a second that it must do"
    )
    if not synthesis:
        return
    group.add_argument(
        "--synthesize", action="store_true",
        help="place, route and make a bitstream, from the cache of routed shapes where it can be",
    )  # fmt: skip
    group.add_argument(
        "--shell", choices=("words", "uart", "axis"), default="",
        help="interface of the bitstream (default: words; up5k: uart)",
    )  # fmt: skip
    _file(group, "--pins", "pins of your board: .lpf (ECP5) or .pcf (iCE40); else the tools choose them")


def _passes(parser: argparse._ActionsContainer, text: str) -> None:
    parser.add_argument("--passes", metavar="TEXT", default="", help=text)
    parser.add_argument(
        "-d", "--without", metavar="PASS", action="append", default=[], help="leave a pass out (repeatable)"
    )
    parser.add_argument(
        "--load-pass",
        metavar="FILE",
        action="append",
        default=[],
        help="passes from a Python file (repeatable)",
    )
    parser.add_argument("--print-pipeline", action="store_true", help="print the passes and stop")


def _debugging(parser: Parser) -> None:
    group = parser.add_argument_group("looking inside")
    group.add_argument(
        "--print-ir-after", metavar="NAMES|all|changed", default="", help="print the IR after these passes"
    )
    group.add_argument(
        "--print-ir-dir", metavar="D", type=Path, help="write the IR after each pass to a folder"
    )
    group.add_argument("--timing", action="store_true", help="print the time of each pass")
    group.add_argument("--trace", metavar="FILE", type=Path, help="write pass timings for ui.perfetto.dev")
    group.add_argument("--explain", metavar="PASS|all", default="", help="tell why rules did not apply")
    group.add_argument("--check-each", metavar="FILE", help="run these inputs before and after each pass")
    group.add_argument("--bisect-limit", metavar="N", type=_natural, help="run only N optional passes")
    group.add_argument(
        "--crash-dir", metavar="D", type=Path, default=Path(), help="folder for reproducers (default: here)"
    )


def _compile(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network (.onnx, .snn, .nir) or IR text (.nmc)")
    _param(parser)
    _target(parser)
    _file(parser, "-o", "what to write (default: the name of MODEL with .nmx)")
    _file(parser, "--calib", "sample data for thresholds: .npz with x")
    _raw(parser)
    _network(parser)
    _file(parser, "--data", "evaluate on these samples: .npz with x and y")
    parser.add_argument("--limit", metavar="N", type=_count, help="of --data, only the first N samples")
    _passes(parser, "pipeline instead of the target's default one")
    _device(parser, synthesis=True)
    _nir(parser)
    _debugging(parser)


def _map(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network (.onnx, .snn, .nir) or IR text (.nmc)")
    _param(parser)
    _target(parser)
    _file(parser, "-o", "also write the compiled network (.nmx)")
    _file(parser, "--hint", "start from the places of an earlier .nmx: what it has stays where it was")
    _file(parser, "--picture", "draw the cores on the mesh (.svg)")
    parser.add_argument(
        "--solver-log", action="store_true", help="tell each stage, each bound, and what CP-SAT logs"
    )
    _file(parser, "--calib", "sample data for thresholds and traffic: .npz with x")
    _raw(parser)
    _network(parser)
    _passes(parser, "pipeline instead of the target's default one")
    _device(parser, synthesis=False)
    _nir(parser)


def _param(parser: Parser, side: str = "") -> None:
    parser.add_argument(
        f"--{side}param", metavar="NAME=VALUE", action="append", default=[],
        help=f"set a param of a .snn program{_SIDES[side]} (repeatable)",
    )  # fmt: skip


#: What options of `nmc diff` that belong to one side say about it.
_SIDES = {"": "", "a-": ", A only", "b-": ", B only"}


def _nir(parser: Parser, *, reset: bool = False, side: str = "") -> None:
    """What ``.nir`` files do not tell; `reset` unless the verb has one, `side` before the names of `nmc diff`."""
    told = _SIDES[side]
    group = parser.add_argument_group(f"what .nir files do not tell{told}")
    group.add_argument(
        f"--{side}dt", metavar="SECONDS", type=_positive, help="time step, in the file's unit of time"
    )
    group.add_argument(
        f"--{side}convention", metavar="NAME",
        help="what r means: nir, snntorch, spikingjelly, sinabs, rockpool, spyx, norse (as nir), nmc (default: auto)",
    )  # fmt: skip
    group.add_argument(
        f"--{side}semantics", metavar="NAME",
        help="arithmetic of a step: nir-exact (default), snntorch, norse, spikingjelly, sinabs, rockpool, spyx, "
        "lava, lava-dl, nengo, spinnaker2",
    )  # fmt: skip
    if reset:
        group.add_argument(
            f"--{side}reset", choices=("zero", "subtract", "to-value"), help="instead of the semantics' own"
        )


def _check(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network (.onnx, .snn, .nir) or IR text (.nmc)")
    _param(parser)
    _target(parser)
    _file(parser, "--calib", "sample data for thresholds; guessed when not given")
    _raw(parser)
    _network(parser)
    _device(parser, synthesis=False)
    _nir(parser)


def _samples(parser: Parser, flag: str, text: str, required: bool = True) -> None:
    parser.add_argument("program", metavar="NET.nmx", help="a compiled network")
    parser.add_argument(flag, metavar="FILE", required=required, help=text)
    parser.add_argument("--limit", metavar="N", type=_count, help="only the first N samples")
    parser.add_argument("--steps", metavar="T", type=_count, help="time steps (default: as compiled)")
    _raw(parser)


def _engine(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--engine", metavar="NAME", default="functional", help="emulator (default: functional)"
    )


def _margin(text: str) -> float | str:
    try:
        return text if text == "auto" else _positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a margin nor auto") from None


def _early(parser: Parser) -> None:
    parser.add_argument(
        "--early-exit", metavar="MARGIN|auto", nargs="?", const="auto", type=_margin,
        help="take an answer once the largest output exceeds the second by MARGIN; auto (default): by as much as "
        "the program says, or as --calib shows to cost no right answer",
    )  # fmt: skip
    _file(parser, "--calib", "for --early-exit auto: .npz with x, and y for labels instead of late answers")
    parser.add_argument(
        "--until-quiescent", action="store_true",
        help="tell after how many steps nothing was under way any more",
    )  # fmt: skip


def _run(parser: Parser) -> None:
    _samples(parser, "--input", "samples: .npz with x (not for networks that draw their own)", required=False)
    parser.add_argument(
        "--frames", action="store_true",
        help="x is (N, F, ...): streams of frames; state stays, and only differences enter (signed spikes)",
    )  # fmt: skip
    _file(parser, "-o", "write logits, prediction and probes (.npz)")
    parser.add_argument(
        "--probe", metavar="POP.v", action="append", default=[], help="record a state or .spikes (repeatable)"
    )
    _early(parser)
    _engine(parser)


def _eval(parser: Parser) -> None:
    _samples(parser, "--data", "labelled samples: .npz with x and y")
    _early(parser)
    _engine(parser)


def _opt(parser: Parser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="IR text (.nmc), .onnx, or - for standard input"
    )
    _file(parser, "-o", "write the IR (.nmc, and .npz for large constants) instead of printing it")
    _passes(parser, "the passes to run; none just reads, checks and prints")
    parser.add_argument("--list", action="store_true", help="list all passes")
    _debugging(parser)


def _import(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network of any frontend: .onnx, .snn, .nir, .nmc")
    _param(parser)
    _nir(parser, reset=True)
    _file(parser, "-o", "write the IR (.nmc, and .npz for large constants) instead of printing it")


def _export(parser: Parser) -> None:
    what = "a network: .snn, .nir, .onnx, IR text (.nmc) or, for --integer-onnx, a compiled one (.nmx)"
    parser.add_argument("model", metavar="MODEL", nargs="?", help=what)
    _file(parser, "--nir", "write a NIR file (.nir), the discretisation record in its metadata")
    parser.add_argument(
        "--integer-onnx", metavar="FILE", nargs="?", const="",
        help="write an exact network as ONNX of integer ops, what its spikes compute; data are bytes where --calib "
        "has bytes",
    )  # fmt: skip
    _file(parser, "-o", "the file of --integer-onnx, where that names none")
    _file(parser, "--calib", "for --integer-onnx of a trained network: sample data to quantise it with")
    parser.add_argument(
        "--levels", metavar="L", type=_count, default=0, help="and its largest spike count (default: 8)"
    )
    parser.add_argument(
        "--accuracy-drop", metavar="POINTS", type=_positive, help="or the fewest levels that lose no more"
    )
    parser.add_argument(
        "--target", metavar="NAME|FILE.toml", default="",
        help="quantise as for this chip (default: as for chips with wide accumulators, spinnaker2 and fpga)",
    )  # fmt: skip
    _raw(parser)
    _param(parser)
    _nir(parser, reset=True)


def _diff(parser: Parser) -> None:
    what = "a network of any kind: .onnx, .snn, .nir, IR text (.nmc) of any level, or a compiled .nmx"
    parser.add_argument("a", metavar="A", help=what)
    parser.add_argument("b", metavar="B", help="the other one (may be the same file)")
    parser.add_argument("--input", metavar="FILE", help="samples: .npz with x, or .npy")
    parser.add_argument("--limit", metavar="N", type=_count, help="only the first N samples (default: 16)")
    parser.add_argument("--steps", metavar="T", type=_count, help="time steps (default: as A or B say)")
    parser.add_argument(
        "--target", metavar="NAME", help="compile B for this chip first, and run its emulator"
    )
    _file(parser, "--calib", "with --target: sample data for thresholds")
    _raw(parser)
    _file(parser, "--html", "write rasters of both, the first difference marked")
    for side in _SIDES:
        _param(parser, side)
    for side in _SIDES:
        _nir(parser, reset=True, side=side)


def _verify(parser: Parser) -> None:
    _samples(parser, "--input", "samples: .npz with x (default: random ones)", required=False)
    parser.add_argument(
        "--engine",
        metavar="NAME",
        action="append",
        help="only this emulator (repeatable; default: all there are)",
    )


def _fmt(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a .snn program; it is rewritten in place")
    parser.add_argument("--check", action="store_true", help="only tell whether it would change: exit code 1")


def _inspect(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help=".onnx, .nmc or .nmx")
    parser.add_argument("--ir", action="store_true", help="print the IR text")


def _objdump(parser: Parser) -> None:
    parser.add_argument("program", metavar="NET.nmx", help="a compiled network")
    parser.add_argument(
        "--core", metavar="N", type=_natural, action="append", help="only this core (repeatable)"
    )
    _file(parser, "-o", "write the IR (.nmc, and .npz for memories) instead of printing it")


def _where(parser: Parser) -> None:
    parser.add_argument("program", metavar="NET.nmx", help="a compiled network")
    parser.add_argument(
        "place",
        metavar="PLACE",
        nargs="+",
        help='"core 17 cx 5" or "17:5", a neuron "conv1[3,4,5]", or a population',
    )


def _passes_list(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a pass or an @alias")
    parser.add_argument(
        "--load-pass",
        metavar="FILE",
        action="append",
        default=[],
        help="passes from a Python file (repeatable)",
    )


def _ops(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="an op (ann.conv) or a dialect (ann)")


def _targets(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a target, or a TOML file of your own")


def _demo(parser: Parser) -> None:
    parser.add_argument(
        "--model",
        metavar="NAME",
        default="digits-cnn",
        help="digits-cnn (default), digits-mlp or an .onnx file",
    )
    _target(parser)
    parser.add_argument("--data", metavar="FILE", default="", help="other test samples: .npz with x and y")
    parser.add_argument("--calib", metavar="FILE", default="", help="other calibration samples: .npz with x")
    parser.add_argument("--limit", metavar="N", type=_count, help="only the first N samples")
    parser.add_argument("--mode", choices=("exact", "rate-if"), help="how it is converted (default: exact)")
    parser.add_argument(
        "--levels", metavar="L", type=_count, help="activation levels of the exact mode (default: 8)"
    )
    parser.add_argument(
        "--steps", metavar="T", type=_count, help="time steps a sample (default: as many as it takes)"
    )
    _file(parser, "-o", "also write the compiled network (.nmx)")


def _explain(parser: Parser) -> None:
    parser.add_argument(
        "code", metavar="CODE", nargs="?", help="an error code such as E0203; all without one"
    )


_RUN, _TEXT, _INSIDE, _REFERENCE = "build and run", "program text", "look inside", "reference"
VERBS = (
    Verb("compile", _RUN, "compile a trained network for a chip", "compile", _compile),
    Verb("run", _RUN, "run a compiled network on an emulator", "run", _run),
    Verb("eval", _RUN, "measure accuracy, spikes and energy on labelled data", "run", _eval),
    Verb("check", _RUN, "tell whether a network converts and fits a chip, layer by layer", "check", _check),
    Verb(
        "map", _RUN, "map a network to cores: what is proved, from an earlier mapping, a picture", "map", _map
    ),
    Verb("demo", _RUN, "compile the digits network and run it on the emulator", "demo", _demo),
    Verb("import", _TEXT, "turn a network of any frontend into IR text", "importing", _import),
    Verb("export", _TEXT, "write a network in a format of other tools", "export", _export),
    Verb("fmt", _TEXT, "format a .snn program", "formatting", _fmt),
    Verb("opt", _TEXT, "run passes on IR text", "opt", _opt),
    Verb("inspect", _INSIDE, "summarise a model, IR text or a compiled network", "inspect", _inspect),
    Verb(
        "diff", _INSIDE, "tell where the spikes of two networks part, and how alike they are", "diff", _diff
    ),
    Verb("verify", _INSIDE, "show that interpreter, mapped network and all engines agree", "verify", _verify),
    Verb("objdump", _INSIDE, "disassemble the chip image of a compiled network", "inspect", _objdump),
    Verb("where", _INSIDE, "tell which neuron is at a place of the chip, or the reverse", "inspect", _where),
    Verb("passes", _REFERENCE, "list passes and pipelines, or describe one", "listing", _passes_list),
    Verb("ops", _REFERENCE, "list the ops of the IR, or describe one", "listing", _ops),
    Verb("targets", _REFERENCE, "list chips, or every limit of one with its source", "listing", _targets),
    Verb("explain", _REFERENCE, "explain an error code", "explain", _explain),
)
