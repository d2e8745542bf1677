"""Mutated programs: never another exception than NmcError, never more work than bounded, and fmt is idempotent."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nmc.frontends.snn import format_text, read_snn
from nmc.frontends.snn.synapses import Limits
from nmc.ir.diagnostics import NmcError

SMALL = Limits(neurons=20_000, synapses=100_000, pairs=400_000, statements=2_000)
PIECES = (
    "(", ")", "[", "]", "{", "}", ",", ":", ";", "=", "->", "..", ".", "@", "#", '"', "$", "%", "+", "-",
    "*", "/", "//", "**", "<", "==", "and", "or", "not", "for", "if", "else", "module", "pop", "let",
    "neuron", "0", "1", "-1", "1e400", "99999999999999999999", "10 %", "1 ms", "1 mV", "1 step", "true",
    "W", "E", "N", "normal(0, 1)", "uniform(1 ms, 2 ms)", "h{i}", "'", "v'", "state", "update {", "I",
    "threshold", "reset {", "select(v > 1, v, 0)", "with hebb", "model {", "fixed(8, 8)",
    "\n", "\x00", "\xe9", "\t", " ",
)  # fmt: skip


def mutants(sources: list[str], seed: int, count: int) -> list[str]:
    """Programs with a few changes each."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        text = rng.choice(sources)
        for _ in range(rng.randint(1, 6)):
            at, length = rng.randrange(len(text) + 1), rng.randint(0, 12)
            kind = rng.randrange(4)
            if kind == 0:
                text = text[:at] + text[at + length :]
            elif kind == 1:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            elif kind == 2:
                other = rng.choice(sources)
                start = rng.randrange(len(other))
                text = text[:at] + other[start : start + rng.randint(1, 60)] + text[at:]
            else:
                text = text[:at] + rng.choice(PIECES) + text[at + length :]
        made.append(text)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_mutants_give_a_module_or_diagnostics(seed: int, examples: Path) -> None:
    sources = [path.read_text() for path in sorted(examples.glob("*.snn"))]
    for text in mutants(sources, seed, 500):
        try:
            read_snn(text, folder=examples, params={"N": 60}, limits=SMALL)
        except NmcError as error:
            assert all(item.code.startswith(("E03", "E01")) for item in error.diagnostics)


class _Spent(Exception):
    """More calls than any of these programs may take."""


def calls_of(work: Callable[[], object], most: int) -> int:
    """Count the Python calls that a piece of work makes: the same on any machine, unlike its time."""
    done = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal done
        done += event == "call"
        if done > most:
            raise _Spent

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    except NmcError as error:
        assert all(item.code.startswith(("E03", "E01")) for item in error.diagnostics)
    finally:
        sys.setprofile(before)
    return done


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_ten_thousand_mutants_take_a_bounded_amount_of_work(seed: int, examples: Path) -> None:
    sources = [path.read_text() for path in sorted(examples.glob("*.snn"))]
    for text in mutants(sources, seed, 1000):
        calls_of(lambda text=text: read_snn(text, folder=examples, params={"N": 60}, limits=SMALL), 2_000_000)  # type: ignore[misc]


def test_formatting_mutants_is_idempotent(examples: Path) -> None:
    sources = [path.read_text() for path in sorted(examples.glob("*.snn"))]
    done = 0
    for text in mutants(sources, 9, 300):
        try:
            once = format_text(text)
        except NmcError:
            continue
        done += 1
        assert format_text(once) == once
    assert done > 20


@pytest.mark.parametrize(
    "text",
    ["(" * 50_000, "let a = " + "-" * 50_000 + "1", "let a = " + "1+" * 9_000 + "1", "{" * 50_000,
     "for i in 0..9" * 999,
     "let a = " + "9" * 5_000, "module m() { pop a : m() }\npop b : m()", "let a = 9 ** 9 ** 9 ** 9",
     "for i in 0..999999999999 { let a = 1 }", "for i in 0..999999 { }", "for i in 0..9999 { for j in 0..9999 { } }",
     "pop a[99999999] : iaf()", "if 1 > 2 { }" + " else if 1 > 2 { }" * 2_000, "pop h{{i}}[3] : iaf()",
     "neuron a = model { state v = 0; update { v' = " + "-" * 9_000 + "v }; threshold v > 1 }",
     "neuron a = model { state v = 0; update { v' = " + "v + " * 4_000 + "v }; threshold v > 1 }",
     "neuron a = model { state v = 0; update { " + "v' = v;" * 30_000 + " }; threshold v > 1 }",
     "neuron a = model { " + "state v = 0;" * 30_000 + " }", "neuron a = model {" * 3_000,
     "neuron a = model { state v = 0; update { v' = v ** 99999999 }; threshold v > 1 }",
     "pop a[20000] : iaf()\na -> a : fixed_prob(p = 1.0, delay = 1 step)"],
)  # fmt: skip
def test_hostile_programs_end_in_a_diagnostic(text: str) -> None:
    with pytest.raises(NmcError):
        read_snn("network a(dt = 1 ms)\n" + text)
