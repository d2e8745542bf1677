"""Program texts of exact networks with numbers and words exchanged: a diagnostic or a run, never anything else."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from exact_nets import random_net
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array
from nmc.ir.ops import snn
from nmc.ir.text.parser import parse
from nmc.ir.text.sidefile import blobs
from nmc.ir.verify import verify
from nmc.passes.convert.delta_stream import DeltaStream
from nmc.passes.convert.readout import Readout
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime

MUTANTS = 200
SPOT = re.compile(r"(?<==)-?[\w.]+|(?<=splat )-?\d+|(?<=: )(?:spikes|graded|current)")
WORDS = [
    "0", "-1", "1", "2", "7", "1000000", "16777216", "-9223372036854775808", "9223372036854775807", "9" * 20, "true",
    "0.5", "[1]", "[0, 0]", "const", "bits", "count", "spread", "graded",
]  # fmt: skip
CODES: list[dict[str, Any]] = [{}, {"schedule": "spread"}, {"code": "phased-if"}, {"code": "bit-serial"}]


def drawn(rng: np.random.Generator) -> Module:
    """A network in some code, perhaps a stream, perhaps with a margin, perhaps retimed."""
    module = random_net(int(rng.integers(0, 200)), pools=bool(rng.random() < 0.5))
    try:
        module = SpikeCode(**CODES[int(rng.integers(0, len(CODES)))]).run(module)
        for item in (DeltaStream(), Readout(margin=9, delay=1), Retime()):
            module = item.run(module) if rng.random() < 0.3 else module
    except NmcError:
        pass
    return module


def mutated(text: str, rng: np.random.Generator) -> str:
    for _ in range(int(rng.integers(1, 3))):
        spots = list(SPOT.finditer(text))
        spot = spots[int(rng.integers(0, len(spots)))]
        text = text[: spot.start()] + WORDS[int(rng.integers(0, len(WORDS)))] + text[spot.end() :]
    return text


def uses(module: Module, data: dict[str, Array]) -> list[Callable[[], object]]:
    """What a user may do with a module that the verifier takes."""
    return [
        lambda: run_snn(module, data, 4),
        lambda: run_snn(module, data, 6, until_quiescent=True),
        lambda: verify(SpikeCode(code="phased-if").run(module)),
        lambda: verify(Retime().run(module)),
        lambda: verify(DeltaStream().run(module)),
        lambda: verify(Readout(margin=3).run(module)),
    ]


def test_a_mutant_is_refused_or_runs() -> None:
    rng = np.random.default_rng(5)
    ran = refused = 0
    for _ in range(MUTANTS):
        original = drawn(rng)
        try:
            module = parse(mutated(str(original), rng), blobs(original))
        except NmcError:
            refused += 1
            continue
        if verify(module):
            refused += 1
            continue
        data = {
            op.source: rng.uniform(-1, 1, (2, 3, *op.shape) if op.stream else (2, *op.shape))
            for op in module.of_type(snn.Input)
        }
        for use in uses(module, data):
            try:
                assert not isinstance(found := use(), tuple) or not found, found
            except NmcError:
                refused += 1
            else:
                ran += 1
    assert ran > MUTANTS / 4 and refused > MUTANTS / 4
