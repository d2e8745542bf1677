"""What the engines of SpiNNaker2 cost: 784-1000-10 on 21 PEs, 100 ticks x 100 images; 152 PEs; a dense layer.

``python benchmarks/spinnaker2_engines.py [--images N] [--engine NAME ...]``

The network is that of facts/spinnaker2.md 2.3: random integer weights of -15..15 in ``dense8`` rows, leaky neurons in
single precision, 20 PEs of 50 hidden neurons and one of 10 outputs; inputs spike with about the mean intensity of
MNIST digits. The hidden threshold gives about 100 hidden spikes a tick. CPU time of a process of its own with one
thread; ``build`` is from the image to an engine that can run. All engines must give the same spikes.
``crowd`` is 152 PEs of 200 neurons as ARM code: memory and CPU time of building them and of 20 ticks.

Measured 2026-11-28 on two cores of a shared AMD EPYC with a load of 8 (``import numpy``: 0.19 to 0.24 CPU s; 0.125
where the facts were measured), Python 3.11.7, numpy 2.4, Unicorn 2.1.4, 100 images (363 million synaptic events, 36
input and 69 hidden spikes a tick)::

                 build s    run s
    functional     0.05      0.61    (0.52 to 0.66; 1.1 to 1.4 before PEs of one law were one)
    native         0.08      5.0     (3.4 earlier that day)
    exact          0.14     12.2     (9.8 earlier that day)
    152 PEs: 566 MB in all, 90 of them before the engine was built; 1.8 s
    dense layer of 784 inputs: 148 neurons on one PE
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.op import Span
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2.build import PeProgram, build, used_bytes
from nmc.targets.spinnaker2.engines import ENGINES, make_engine
from nmc.targets.spinnaker2.engines.chip import load_chip
from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.layout import LINKS, ChipImage, InputMap, OutputMap, Part, PopMap, Route
from nmc.targets.spinnaker2.rows import DenseRows, Entry

Array = NDArray[Any]
INPUTS, HIDDEN, OUTPUTS, PES, TICKS = 784, 1000, 10, 20, 100
_PARAMS = {
    "scale": np.array([1.0]),
    "alpha": np.array([0.5]),
    "beta": np.array([0.9]),
    "threshold": np.array([160.0]),
}
_LAW = Law("lif", compare="gt", reset="to-value")
_PREFIX = 0xFFFFFC00


def network() -> ChipImage:
    """784-1000-10 on 21 PEs."""
    rng = np.random.default_rng(1)
    first = rng.integers(-15, 16, (INPUTS, HIDDEN))
    second = rng.integers(-15, 16, (HIDDEN, OUTPUTS))
    each = HIDDEN // PES
    parts = [Part(0, k, 0x10000 + (k << 6), (Span(k * each, (k + 1) * each),)) for k in range(PES)]
    last = Part(0, PES, 0x20000, (Span(0, OUTPUTS),))
    programs = [
        _program(k, part.key_base, each, (Entry(0, _PREFIX, DenseRows(first[:, k * each : (k + 1) * each])),))
        for k, part in enumerate(parts)
    ]
    onto = [
        Entry(part.key_base, 0xFFFFFFC0, DenseRows(second[k * each : (k + 1) * each]))
        for k, part in enumerate(parts)
    ]
    programs.append(_program(PES, last.key_base, OUTPUTS, tuple(onto)))
    routes = (
        Route(0, _PREFIX, ((1 << PES) - 1) << LINKS),
        Route(0x10000, 0xFFFFF800, 1 << (LINKS + PES)),
    )
    pops = (PopMap("hidden", (HIDDEN,), tuple(parts)), PopMap("out", (OUTPUTS,), (last,)))
    source = InputMap("x", (INPUTS,), (Part(0, -1, 0, (Span(0, INPUTS),)),))
    return ChipImage(tuple(map(build, programs)), {0: routes}, (source,), pops, (OutputMap("y", "out", "count"),),
                     steps=TICKS)  # fmt: skip


def _program(pe: int, key_base: int, n: int, entries: tuple[Entry, ...]) -> PeProgram:
    return PeProgram(0, pe, key_base, _LAW, n, _PARAMS, np.zeros(1, np.float32), entries)


def images(count: int) -> Array:
    """Spikes (count, TICKS, 784): about 36 a tick, as digits have them in the middle of the picture."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:28, 0:28] - 13.5
    rate = 0.17 * np.exp(-(x**2 + y**2) / 70)
    spikes: Array = (rng.random((count, TICKS, INPUTS)) < rate.reshape(-1)).astype(np.int32)
    return spikes


def crowd() -> ChipImage:
    """152 PEs of 200 neurons, each hearing the one before."""
    rng = np.random.default_rng(3)
    parts = [Part(0, k, k << 8, (Span(k * 200, (k + 1) * 200),)) for k in range(152)]
    programs = [
        _program(
            k,
            part.key_base,
            200,
            (Entry((k - 1) % 152 << 8, 0xFFFFFF00, DenseRows(rng.integers(-15, 16, (200, 200)))),),
        )
        for k, part in enumerate(parts)
    ]
    routes = tuple(
        Route(part.key_base, 0xFFFFFF00, 1 << (LINKS + (k + 1) % 152)) for k, part in enumerate(parts)
    )
    return ChipImage(tuple(map(build, programs)), {0: routes}, (), (PopMap("p", (152 * 200,), tuple(parts)),))


def densest() -> int:
    """Most neurons of a dense layer of 784 inputs on one PE, delays of 1 and leaky neurons."""
    n = 1
    while (
        used_bytes(_program(0, 0, n + 1, (Entry(0, _PREFIX, DenseRows(np.zeros((INPUTS, n + 1), np.int8))),)))
        <= layout.SRAM_BYTES
    ):
        n += 1
    return n


def measure(engine: str, count: int) -> dict[str, Any]:
    """Run 784-1000-10 on an engine."""
    image, data = network(), images(count)
    start = time.process_time()
    ready = make_engine(load_chip(image), engine)
    built = time.process_time()
    found = ready.run({"x": data}, TICKS, probes=["hidden.spikes"])
    done = time.process_time()
    spikes = found.probes["hidden.spikes"]
    digest = hashlib.sha256(spikes.astype(np.int8).tobytes()).hexdigest()[:12]
    return {
        "build": built - start, "run": done - built, "hash": digest,
        "inputs": float(data.sum()) / count / TICKS, "hidden": float(spikes.sum()) / count / TICKS,
        "events": sum(found.events.events.values()),
    }  # fmt: skip


def measure_crowd() -> dict[str, Any]:
    """Memory and time of 152 PEs as ARM code."""
    image = crowd()
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ready = make_engine(load_chip(image), "exact")
    ready.run({}, 20)
    return {"cpu": time.process_time() - start, "before": before / 1024,
            "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip


def main() -> None:
    """Measure in fresh processes and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--engine", action="append", choices=[*ENGINES, "crowd"])
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        found = measure_crowd() if options.worker == "crowd" else measure(options.worker, options.images)
        print(json.dumps(found))
        return
    print(f"dense layer of {INPUTS} inputs: {densest()} neurons on one PE")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    for engine in options.engine or [*ENGINES, "crowd"]:
        words = [sys.executable, __file__, "--worker", engine, "--images", str(options.images)]
        done = subprocess.run(
            words, capture_output=True, text=True, check=True, env={**os.environ, **threads}
        )
        print(engine, done.stdout.strip())


if __name__ == "__main__":
    main()
