"""What compiling for SpiNNaker2 costs: a balanced network of 20,000 neurons with 100 synapses each.

``python benchmarks/spinnaker2_compile.py [--neurons N] [--effort fast|normal|best]
[--peer-python /venv/bin/python]``

80 % of the neurons excite; every neuron has 80 excitatory and 20 inhibitory synapses from random others and a Poisson
source of its own. CPU time and memory of this process, from the network in memory to the image; the phases are the
passes. Beside it runs sPyNNaker in virtual mode, where an interpreter has it (``pip install sPyNNaker==1!7.4.1`` into
an environment of its own; no Java); otherwise its known figure is told.

Measured 2026-11-28 on two cores of a shared AMD EPYC with a load of 4 to 8 (``import numpy``: about 0.25 CPU s)::

    10.96 s  212 MB  nmc, 79 PEs, 2,020,000 synapses (6.7 s on a quiet day)
   164.10 s 3300 MB  sPyNNaker (15.0 times ours, 15.6 times the memory)
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.driver import CompileOptions, compile_model
from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.ops.sources import Poisson
from nmc.ir.types import Type

Array = NDArray[Any]
#: sPyNNaker 1!7.4.1 on a virtual board.
_KNOWN = (
    "sPyNNaker is not here (--peer-python FILE): not run; it took 135.6 CPU s and 2,692 MB for 20,000 neurons"
)


def _random(
    name: str, source: Value, target: int, count: int, weight: float, delay: int, seed: int
) -> Sparse:
    """`count` synapses onto each target, from sources by lot."""
    rng = np.random.default_rng(seed)
    ends = {
        "target": np.repeat(np.arange(target), count),
        "source": rng.integers(0, source.type.size, target * count),
    }
    lists = {end: Const(f"{name}.{end}", index.astype(np.int32)) for end, index in ends.items()}
    return Sparse(
        out=name, spikes=source, weight=Const(f"{name}.w", np.array([weight])), delay=delay, shape=(target,),
        source=lists["source"], target=lists["target"],
    )  # fmt: skip


def network(neurons: int) -> Module:
    """The balanced network."""
    sizes = {"E": neurons * 4 // 5, "I": neurons - neurons * 4 // 5}
    values = {name: Value(name, Type("spikes", (size,))) for name, size in sizes.items()}
    const = {name: Const(name, np.array([value])) for name, value in
             {"beta": 0.95, "threshold": 20.0, "v_reset": 10.0, "refractory": 2}.items()}  # fmt: skip
    ops: list[Op] = []
    for number, (name, size) in enumerate(sizes.items()):
        drive = Poisson(out=f"drive{name}", shape=(size,), mean=0.8, seed=3 + number)
        weight = Const(f"{name}.d.w", np.array([0.1]))
        given = snn.OneToOne(out=f"{name}.d", spikes=drive.result, weight=weight, delay=1)
        excite = _random(f"{name}.e", values["E"], size, 80, 0.1, 5, 10 + number)
        inhibit = _random(f"{name}.i", values["I"], size, 20, -0.5, 3, 20 + number)
        current = (given.result, excite.result, inhibit.result)
        cells = Neuron(
            out=name, current=current, beta=const["beta"], threshold=const["threshold"], v_reset=const["v_reset"],
            refractory=const["refractory"], reset="to-value",
        )  # fmt: skip
        ops += [drive, given, excite, inhibit, cells]
    return Module("balanced", "snn", tuple(ops), (("steps", 100),))


def main() -> None:
    """Compile once and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--neurons", type=int, default=20_000)
    parser.add_argument("--effort", choices=("fast", "normal", "best"), default="normal")
    parser.add_argument(
        "--peer-python", metavar="FILE", default=sys.executable, help="an interpreter that has sPyNNaker"
    )
    args = parser.parse_args()
    module = network(args.neurons)
    start = time.process_time()

    def tell(stage: str) -> None:
        print(f"{time.process_time() - start:7.2f} s  {stage}")

    program = compile_model(module, CompileOptions(target="spinnaker2", effort=args.effort), progress=tell)
    seconds = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = program.report
    fullest = report["memory"][0]
    print(f"{seconds:7.2f} s  all of it; {memory:.0f} MB at most")
    used = f"{report['cores']['used']} PEs, {fullest['resource']} {fullest['percent']} %"
    print(f"{report['synapses']:,} synapses on {used}")
    if _has_peer(args.peer_python):
        _beside(args.peer_python, args.neurons, seconds, memory)
    else:
        print(f"{_KNOWN} (facts/spinnaker2.md 3, another machine)")


def _has_peer(python: str) -> bool:
    """Whether an interpreter is there and has sPyNNaker."""
    words = [python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('spynnaker') is None)"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _beside(python: str, neurons: int, seconds: float, memory: float) -> None:
    """Run sPyNNaker on the same network, in another interpreter, and print both ratios."""
    script = Path(__file__).with_name("peers_spynnaker.py")
    words = [python, str(script), "--neurons", str(neurons)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    peer, peak = found["cpu_seconds"], found["peak_bytes"] / 2**20
    print(
        f"{peer:7.2f} s  sPyNNaker ({peer / seconds:.1f} times ours); {peak:.0f} MB ({peak / memory:.1f} times)"
    )


if __name__ == "__main__":
    main()
