"""The verbs, and the options of each; argparse only, built for the one verb that is called."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from nmc.cli import options
from nmc.ir.dataclass import dataclass

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


def _compile(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network (.onnx, .snn, .nir) or IR text (.nmc)")
    options.param(parser)
    options.target(parser)
    options.file(parser, "-o", "what to write (default: the name of MODEL with .nmx)")
    options.file(parser, "--calib", "sample data for thresholds: .npz with x")
    options.raw(parser)
    options.network(parser)
    options.file(parser, "--data", "evaluate on these samples: .npz with x and y")
    parser.add_argument(
        "--limit", metavar="N", type=options.count, help="of --data, only the first N samples"
    )
    options.passes(parser, "pipeline instead of the target's default one")
    options.device(parser, synthesis=True)
    options.nir(parser)
    options.debugging(parser)


def _map(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network (.onnx, .snn, .nir) or IR text (.nmc)")
    options.param(parser)
    options.target(parser)
    options.file(parser, "-o", "also write the compiled network (.nmx)")
    options.file(parser, "--hint", "start from the places of an earlier .nmx: what it has stays where it was")
    options.file(parser, "--picture", "draw the cores on the mesh (.svg)")
    parser.add_argument(
        "--solver-log", action="store_true", help="tell each stage, each bound, and what CP-SAT logs"
    )
    options.file(parser, "--calib", "sample data for thresholds and traffic: .npz with x")
    options.raw(parser)
    options.network(parser)
    options.passes(parser, "pipeline instead of the target's default one")
    options.device(parser, synthesis=False)
    options.nir(parser)


def _check(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network (.onnx, .snn, .nir) or IR text (.nmc)")
    options.param(parser)
    options.target(parser)
    options.file(parser, "--calib", "sample data for thresholds; guessed when not given")
    options.raw(parser)
    options.network(parser)
    options.device(parser, synthesis=False)
    options.nir(parser)


def _run(parser: Parser) -> None:
    options.samples(
        parser, "--input", "samples: .npz with x (not for networks that draw their own)", required=False
    )
    parser.add_argument(
        "--frames", action="store_true",
        help="x is (N, F, ...): streams of frames; state stays, and only differences enter (signed spikes)",
    )  # fmt: skip
    options.file(parser, "-o", "write logits, prediction and probes (.npz)")
    parser.add_argument(
        "--probe", metavar="POP.v", action="append", default=[], help="record a state or .spikes (repeatable)"
    )
    options.early(parser)
    options.engine(parser)


def _eval(parser: Parser) -> None:
    options.samples(parser, "--data", "labelled samples: .npz with x and y")
    options.early(parser)
    options.engine(parser)


def _opt(parser: Parser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="IR text (.nmc), .onnx, or - for standard input"
    )
    options.file(parser, "-o", "write the IR (.nmc, and .npz for large constants) instead of printing it")
    options.passes(parser, "the passes to run; none just reads, checks and prints")
    parser.add_argument("--list", action="store_true", help="list all passes")
    options.debugging(parser)


def _import(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network of any frontend: .onnx, .snn, .nir, .nmc")
    options.param(parser)
    options.nir(parser, reset=True)
    options.file(parser, "-o", "write the IR (.nmc, and .npz for large constants) instead of printing it")


def _export(parser: Parser) -> None:
    what = "a network: .snn, .nir, .onnx, IR text (.nmc) or, for --integer-onnx, a compiled one (.nmx)"
    parser.add_argument("model", metavar="MODEL", nargs="?", help=what)
    options.file(parser, "--nir", "write a NIR file (.nir), the discretisation record in its metadata")
    parser.add_argument(
        "--integer-onnx", metavar="FILE", nargs="?", const="",
        help="write an exact network as ONNX of integer ops, what its spikes compute; data are bytes where --calib "
        "has bytes",
    )  # fmt: skip
    options.file(parser, "-o", "the file of --integer-onnx, where that names none")
    options.file(
        parser, "--calib", "for --integer-onnx of a trained network: sample data to quantise it with"
    )
    parser.add_argument(
        "--levels",
        metavar="L",
        type=options.count,
        default=0,
        help="and its largest spike count (default: 8)",
    )
    parser.add_argument(
        "--accuracy-drop",
        metavar="POINTS",
        type=options.positive,
        help="or the fewest levels that lose no more",
    )
    parser.add_argument(
        "--target", metavar="NAME|FILE.toml", default="",
        help="quantise as for this chip (default: as for chips with wide accumulators, spinnaker2 and fpga)",
    )  # fmt: skip
    options.raw(parser)
    options.param(parser)
    options.nir(parser, reset=True)


def _diff(parser: Parser) -> None:
    what = "a network of any kind: .onnx, .snn, .nir, IR text (.nmc) of any level, or a compiled .nmx"
    parser.add_argument("a", metavar="A", help=what)
    parser.add_argument("b", metavar="B", help="the other one (may be the same file)")
    parser.add_argument("--input", metavar="FILE", help="samples: .npz with x, or .npy")
    parser.add_argument(
        "--limit", metavar="N", type=options.count, help="only the first N samples (default: 16)"
    )
    parser.add_argument(
        "--steps", metavar="T", type=options.count, help="time steps (default: as A or B say)"
    )
    parser.add_argument(
        "--target", metavar="NAME", help="compile B for this chip first, and run its emulator"
    )
    options.file(parser, "--calib", "with --target: sample data for thresholds")
    options.raw(parser)
    options.file(parser, "--html", "write rasters of both, the first difference marked")
    for side in options.SIDES:
        options.param(parser, side)
    for side in options.SIDES:
        options.nir(parser, reset=True, side=side)


def _verify(parser: Parser) -> None:
    options.samples(parser, "--input", "samples: .npz with x (default: random ones)", required=False)
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
        "--core", metavar="N", type=options.natural, action="append", help="only this core (repeatable)"
    )
    options.file(parser, "-o", "write the IR (.nmc, and .npz for memories) instead of printing it")


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
    options.load_pass(parser)


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
    options.target(parser)
    parser.add_argument("--data", metavar="FILE", default="", help="other test samples: .npz with x and y")
    parser.add_argument("--calib", metavar="FILE", default="", help="other calibration samples: .npz with x")
    parser.add_argument("--limit", metavar="N", type=options.count, help="only the first N samples")
    parser.add_argument("--mode", choices=("exact", "rate-if"), help="how it is converted (default: exact)")
    parser.add_argument(
        "--levels", metavar="L", type=options.count, help="activation levels of the exact mode (default: 8)"
    )
    parser.add_argument(
        "--steps", metavar="T", type=options.count, help="time steps a sample (default: as many as it takes)"
    )
    options.file(parser, "-o", "also write the compiled network (.nmx)")


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
