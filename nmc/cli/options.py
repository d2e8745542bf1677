"""Options that several verbs share, and what their values may be."""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def count(text: str) -> int:
    """A whole number from 1 on."""
    return whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0 on."""
    return whole(text, 0)


def positive(text: str) -> float:
    """A positive number."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no positive number")
    return number


def whole(text: str, least: int) -> int:
    """A whole number from `least` on."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {least} on")
    return int(text)


def target(parser: argparse._ActionsContainer) -> None:
    """The chip."""
    parser.add_argument(
        "--target",
        metavar="NAME|FILE.toml",
        default="loihi",
        help="the chip (default: loihi; see nmc targets)",
    )


def file(parser: argparse._ActionsContainer, flag: str, text: str) -> None:
    """A file that is named by a flag."""
    parser.add_argument(flag, metavar="FILE", type=Path, help=text)


def raw(parser: argparse._ActionsContainer) -> None:
    """Samples as they are."""
    parser.add_argument("--raw", action="store_true", help="do not divide uint8 samples by 255")


def network(parser: argparse._ActionsContainer) -> None:
    """Options that shape the converted network; those not given are left to `CompileOptions`."""
    parser.add_argument(
        "--mode", choices=("exact", "rate-if"),
        help="whole counts that every chip reproduces, or firing rates (default: exact)",
    )  # fmt: skip
    parser.add_argument(
        "--levels", metavar="L", type=count, help="activation levels of the exact mode (default: 8)"
    )
    parser.add_argument(
        "--accuracy-drop", metavar="POINTS", type=positive,
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
    parser.add_argument("--steps", metavar="T", type=count, help=text)
    parser.add_argument(
        "--encoder", choices=("constant", "rate"), help="input coding of rates (default: constant)"
    )
    parser.add_argument(
        "--reset", choices=("subtract", "zero", "to-value"),
        help="after a spike (default: subtract; .nir: that of the semantics)",
    )  # fmt: skip
    parser.add_argument("--bits", type=count, help="bits of a weight (default: 8)")
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
    parser.add_argument("--seed", metavar="S", type=natural, help="seed of all random choices (default: 0)")
    parser.add_argument(
        "--effort", choices=("fast", "normal", "best"), help="how hard placement is tried (default: normal)"
    )


def device(parser: argparse.ArgumentParser, *, synthesis: bool) -> None:
    """For which FPGA, and how fast."""
    group = parser.add_argument_group("for targets that are built for an FPGA")
    group.add_argument(
        "--device", metavar="NAME", default="",
        help="its resources are limits: ecp5-85k, ecp5-45k, ecp5-25k, up5k",
    )  # fmt: skip
    group.add_argument(
        "--target-rate", metavar="R", type=positive, default=0.0, help="samples a second that it must do"
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
    file(group, "--pins", "pins of your board: .lpf (ECP5) or .pcf (iCE40); else the tools choose them")


def load_pass(parser: argparse._ActionsContainer) -> None:
    """Passes of one's own."""
    parser.add_argument(
        "--load-pass",
        metavar="FILE",
        action="append",
        default=[],
        help="passes from a Python file (repeatable)",
    )


def passes(parser: argparse._ActionsContainer, text: str) -> None:
    """A pipeline of one's own."""
    parser.add_argument("--passes", metavar="TEXT", default="", help=text)
    parser.add_argument(
        "-d", "--without", metavar="PASS", action="append", default=[], help="leave a pass out (repeatable)"
    )
    load_pass(parser)
    parser.add_argument("--print-pipeline", action="store_true", help="print the passes and stop")


def debugging(parser: argparse.ArgumentParser) -> None:
    """What to look at while passes run."""
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
    group.add_argument("--bisect-limit", metavar="N", type=natural, help="run only N optional passes")
    group.add_argument(
        "--crash-dir", metavar="D", type=Path, default=Path(), help="folder for reproducers (default: here)"
    )


def param(parser: argparse.ArgumentParser, side: str = "") -> None:
    """Params of ``.snn`` programs."""
    parser.add_argument(
        f"--{side}param", metavar="NAME=VALUE", action="append", default=[],
        help=f"set a param of a .snn program{SIDES[side]} (repeatable)",
    )  # fmt: skip


#: What options of `nmc diff` that belong to one side say about it.
#: Prefix of an option, and what its help says of it.
SIDES = {"": "", "a-": ", A only", "b-": ", B only"}


def nir(parser: argparse.ArgumentParser, *, reset: bool = False, side: str = "") -> None:
    """What ``.nir`` files do not tell; `reset` unless the verb has one, `side` before the names of `nmc diff`."""
    told = SIDES[side]
    group = parser.add_argument_group(f"what .nir files do not tell{told}")
    group.add_argument(
        f"--{side}dt", metavar="SECONDS", type=positive, help="time step, in the file's unit of time"
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


def samples(parser: argparse.ArgumentParser, flag: str, text: str, required: bool = True) -> None:
    """Data, and how much of it."""
    parser.add_argument("program", metavar="NET.nmx", help="a compiled network")
    parser.add_argument(flag, metavar="FILE", required=required, help=text)
    parser.add_argument("--limit", metavar="N", type=count, help="only the first N samples")
    parser.add_argument("--steps", metavar="T", type=count, help="time steps (default: as compiled)")
    raw(parser)


def engine(parser: argparse._ActionsContainer) -> None:
    """What runs the image."""
    parser.add_argument(
        "--engine", metavar="NAME", default="functional", help="emulator (default: functional)"
    )


def margin(text: str) -> float | str:
    """A margin, or ``auto``."""
    try:
        return text if text == "auto" else positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a margin nor auto") from None


def early(parser: argparse.ArgumentParser) -> None:
    """When a run ends."""
    parser.add_argument(
        "--early-exit", metavar="MARGIN|auto", nargs="?", const="auto", type=margin,
        help="take an answer once the largest output exceeds the second by MARGIN; auto (default): by as much as "
        "the program says, or as --calib shows to cost no right answer",
    )  # fmt: skip
    file(parser, "--calib", "for --early-exit auto: .npz with x, and y for labels instead of late answers")
    parser.add_argument(
        "--until-quiescent", action="store_true",
        help="tell after how many steps nothing was under way any more",
    )  # fmt: skip
