"""Emulators of Loihi beside ours: the same networks, the same spikes, one thread, CPU time.

``python benchmarks/loihi_emulators.py [--peer-python PYTHON ...] [--rounds N]``

Two networks of facts section 4 (784-128-10 and 784-512-10, dense, 8-bit weights, leaky neurons with a hard reset,
100 steps, 5 % of the inputs spike a step). Every measurement is a fresh process with one thread; the emulators take
turns, the least of N rounds counts. An emulator that no PYTHON can import is left out.

- build: from quantised weights to something that can run. Ours: check, partition, place, allocate, emit, load the
  image. SANA-FE: its Loihi, the network, loading. nengo-loihi: blocks of integers and the emulator, neither
  partition nor image. Imports are not counted.
- run: 100 steps without recording. ``batch 16``: 16 samples in one call; the peers have no batches.
- events: synapses read, zero weights do not occur. SANA-FE always estimates time and energy, in its cheaper way
  (``simple``) or as by default (``detailed``); ours counts the events of its estimate.

Before the figures, one untimed run of each records all spikes of both layers: they must be the interpreter's.
``build x`` and ``run x`` are the other's cost over ours alone, ``x batch`` over our batch: above 1, ours is faster.

Measured 2026-11-22 on two cores of a shared AMD EPYC, 5 rounds, all spikes equal, with
``--peer-python /tmp/peer/bin/python --peer-python /tmp/peer39/bin/python``: Python 3.11.7 with
``pip install sanafe==2.2.9 numpy``, and Python 3.9.18 with
``pip install nengo-loihi==1.1.0 nengo==3.2.0 numpy==1.23.5 scipy==1.10.1``. ::

    784-128-10, 100 steps, 5.0% of the inputs a step
                              build s    run s  M events   M ev/s  build x  run x  x batch
    nmc                         0.084   0.0125      0.52     41.8     1.00   1.00      8.3
    nmc, batch 16               0.085   0.0240      8.30    345.4     1.02   0.12      1.0
    sanafe 2.2.9 simple         3.316   0.0344      0.52     15.2    39.60   2.75     22.7
    sanafe 2.2.9 detailed       2.070   0.0347      0.52     15.1    24.73   2.77     22.9
    nengo-loihi 1.1.0           0.007   0.0389      0.52     13.4     0.08   3.12     25.8

    784-512-10, 100 steps, 4.9% of the inputs a step
                              build s    run s  M events   M ev/s  build x  run x  x batch
    nmc                         0.155   0.0260      2.02     77.8     1.00   1.00      6.6
    nmc, batch 16               0.151   0.0641     32.92    513.3     0.97   0.15      1.0
    sanafe 2.2.9 simple         3.803   0.1088      2.02     18.6    24.53   4.18     27.6
    sanafe 2.2.9 detailed       3.030   0.1167      2.02     17.3    19.54   4.49     29.6
    nengo-loihi 1.1.0           0.011   0.0738      2.02     27.4     0.07   2.84     18.7
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.ir.verify import verify_or_raise
from nmc.passes.map.partition import Partition
from nmc.passes.map.place import Place
from nmc.targets.loihi import backend
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.allocate import Allocate

Array = NDArray[Any]
REPO = Path(__file__).resolve().parent.parent
STEPS, INPUTS, OUTPUTS, RATE, BATCH = 100, 784, 10, 0.05, 16
HIDDEN = (128, 512)
DECAY_V = 128  # of 4096
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LAYERS = ("hidden", "out")

# A worker reads the network (argv 1), writes times or spikes (argv 2), as argv 3 says: "time" or "trace".
SANAFE = """
import sys, time
import numpy as np, sanafe
net, trace, model = np.load(sys.argv[1]), sys.argv[3] == "trace", sys.argv[4]
w1, w2, spikes, vth = net["w1"], net["w2"], net["spikes"][0], net["vth"]
begin = time.process_time()
arch = sanafe.load_loihi()
graph = sanafe.Network()
source = graph.create_neuron_group("in", w1.shape[1])
layers = [
    graph.create_neuron_group(name, len(w), soma_hw_name="loihi_lif", log_spikes=trace, model_attributes={
        "threshold": float(v), "reset": 0.0, "reset_mode": "hard", "reverse_threshold": -131072.0,
        "reverse_reset_mode": "none", "leak_decay": 1 - int(net["decay_v"]) / 4096, "input_decay": 0.0})
    for name, w, v in (("hidden", w1, vth[0]), ("out", w2, vth[1]))
]
cores = arch.cores()
for i in range(w1.shape[1]):
    source[i].set_attributes(soma_hw_name=f"loihi_inputs[{i}]", model_attributes={"spikes": spikes[:, i].tolist()})
for before, after, w in ((source, layers[0], w1), (layers[0], layers[1], w2)):
    before.connect_neurons_dense(after, {"weight": w.T.ravel().astype(float).tolist()})
for group, core in zip((source, *layers), cores):
    group.map_to_core(core)
chip = sanafe.SpikingChip(arch)
chip.load(graph)
built = time.process_time()
found = chip.sim(len(spikes), timing_model=model, processing_threads=1, spike_trace=True if trace else None)
done = time.process_time()
if trace:
    out = {name: np.zeros((len(spikes), len(w)), np.uint8) for name, w in (("hidden", w1), ("out", w2))}
    for t, row in enumerate(found["spike_trace"]):
        for where in row:
            out[where.group_name][t, where.neuron_offset] = 1
    np.savez(sys.argv[2], **out)
else:
    np.savez(sys.argv[2], build=built - begin, run=done - built)
"""

NENGO = """
import sys, time
import numpy as np
from nengo_loihi.block import Axon, LoihiBlock, Synapse
from nengo_loihi.builder import Model
from nengo_loihi.emulator import EmulatorInterface
from nengo_loihi.inputs import SpikeInput
from nengo_loihi.probe import LoihiProbe
net, trace = np.load(sys.argv[1]), sys.argv[3] == "trace"
spikes, vth = net["spikes"][0], net["vth"]
begin = time.process_time()
model = Model()
source = SpikeInput(spikes.shape[1])
for t, row in enumerate(spikes):
    source.add_spikes(t + 1, np.flatnonzero(row), permanent=True)
model.add_input(source)
before, probes = source, {}
for name, w, v in (("hidden", net["w1"], vth[0]), ("out", net["w2"], vth[1])):
    block, n = LoihiBlock(len(w)), len(w)
    cx = block.compartment
    cx.decay_u, cx.decay_v = np.full(n, 4095, np.int32), np.full(n, net["decay_v"], np.int32)
    cx.vth, cx.bias, cx.refract_delay = np.full(n, v << 6, np.int32), np.zeros(n, np.int32), np.ones(n, np.int32)
    cx.vmin, cx.vmax, cx.scale_u, cx.scale_v = -(1 << 23) + 1, (1 << 23) - 1, False, False
    synapse = Synapse(w.shape[1])
    synapse._set_weights_indices(w.T.astype(np.int32) << 6, weight_dtype=np.int32, compression=3)
    block.add_synapse(synapse)
    axon = Axon(w.shape[1])
    axon.target = synapse
    before.add_axon(axon)
    model.add_block(block)
    if trace:
        probes[name] = LoihiProbe(target=block, key="spiked")
        model.add_probe(probes[name])
    before = block
emulator = EmulatorInterface(model, seed=0)
built = time.process_time()
emulator.run_steps(len(spikes))
done = time.process_time()
if trace:
    np.savez(sys.argv[2], **{name: np.array(emulator.collect_probe_output(p)) for name, p in probes.items()})
else:
    np.savez(sys.argv[2], build=built - begin, run=done - built)
"""


@dataclass(frozen=True)
class Emulator:
    """One row of the table: how its worker is started and what its run counts."""

    name: str
    command: tuple[str, ...]
    extra: tuple[str, ...] = ()
    samples: int = 1


def network(hidden: int) -> dict[str, Array]:
    """Weights, thresholds and spikes of a network, drawn from a fixed seed.

    Returns
    -------
    dict
        ``w1`` (hidden, 784) and ``w2`` (10, hidden) mantissas, even and never 0; ``vth`` (2,) threshold mantissas;
        ``decay_v``; ``spikes`` (16, 100, 784), of which the first sample is run alone.
    """
    rng = np.random.default_rng(hidden)
    magnitude = [2 * rng.integers(1, 60, size) for size in ((hidden, INPUTS), (OUTPUTS, hidden))]
    spikes = (rng.random((BATCH, STEPS, INPUTS)) < RATE).astype(np.uint8)
    spikes[:, -1] = 0  # they would arrive after the run: some emulators count them, some do not
    w1, w2 = (m * rng.choice((-1, 1), m.shape, p=(0.45, 0.55)) for m in magnitude)
    return {
        "w1": w1.astype(np.int16), "w2": w2.astype(np.int16), "vth": np.array([1200, 1200]),
        "decay_v": np.array(DECAY_V), "spikes": spikes,
    }  # fmt: skip


def legalised(net: dict[str, Array]) -> Module:
    """Make the module of a network; input spikes take a step, as the peers' do."""
    source = loihi.Input(out="in", source="x", shape=(INPUTS,), kind="raster")
    previous, ops = source.result, [source]
    rows: list[Any] = list(ops)
    for name, key, vth in zip(LAYERS, ("w1", "w2"), net["vth"].tolist(), strict=True):
        dense = loihi.Dense(out=f"{name}.x", spikes=previous, weight=Const(f"{name}.w", net[key]), delay=1)
        lif = loihi.Lif(out=name, current=(dense.result,), du=4096, dv=int(net["decay_v"]), vth=vth)
        rows += [dense, lif]
        previous = lif.result
    rows.append(snn.Output(data=previous, decoder="count"))
    return Module("bench", "snn", tuple(rows), (("target", "loihi"), ("steps", STEPS)))


def build(module: Module) -> backend.Runner:
    """Compile a legalised module and load its image."""
    verify_or_raise(module)
    placed = Place(effort="fast").run(Partition(target="loihi").run(module))
    return backend.Runner(backend.emit(Allocate().run(placed)))


def ours(net: dict[str, Array], out: Path, trace: bool, samples: int) -> None:
    """Be the worker of our own emulator."""
    build(legalised(network(2)))  # imports what is imported late
    spikes = net["spikes"][:samples]
    begin = time.process_time()
    runner = build(legalised(net))
    built = time.process_time()
    probes = [f"{name}.spikes" for name in LAYERS] if trace else []
    result, events = runner.run({"x": spikes}, STEPS, probes=probes, batch=samples)
    done = time.process_time()
    if trace:
        spiked: dict[str, Any] = {name: result.probes[f"{name}.spikes"] for name in LAYERS}
        np.savez(out, events=events.synaptic_events.sum(), **spiked)
    else:
        np.savez(out, build=built - begin, run=done - built)


def peers(pythons: Sequence[str]) -> list[Emulator]:
    """Find the peers that the given interpreters can import; says which are absent."""
    found = []
    for module, package, script, variants in (
        ("sanafe", "sanafe", SANAFE, ("simple", "detailed")),
        ("nengo_loihi", "nengo-loihi", NENGO, ("",)),
    ):
        asked = f"import numpy, {module}, importlib.metadata as m; print(m.version({package!r}))"
        for python in pythons:
            answer = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                name = f"{package} {answer.stdout.split()[-1]}"
                found += [Emulator(f"{name} {v}".strip(), (python, "-c", script), (v,)) for v in variants]
                break
        else:
            print(f"{package} is absent: no --peer-python imports it")
    return found


def work(emulator: Emulator, net: Path, what: str) -> dict[str, Array]:
    """Run a worker in a fresh process of one thread and give what it wrote."""
    out = net.with_suffix(".out.npz")
    command = [*emulator.command, str(net), str(out), what, *emulator.extra]
    subprocess.run(command, cwd=REPO, env={**os.environ, **ONE_THREAD}, stdout=subprocess.DEVNULL, check=True)
    with np.load(out) as file:
        return {key: file[key] for key in file.files}


def check(emulators: Sequence[Emulator], net: dict[str, Array], path: Path) -> dict[int, int]:
    """Compare all spikes with the interpreter's and count the synaptic events of 1 and of 16 samples.

    Raises
    ------
    SystemExit
        If any spike differs, or our emulator counts other events.
    """
    probes = [f"{name}.spikes" for name in LAYERS]
    expected = run_snn(legalised(net), {"x": net["spikes"]}, STEPS, probes=probes).probes
    # what fires in the last step arrives after the run
    arrived = [
        net["spikes"][:, :-1].sum(axis=(1, 2), dtype=np.int64) * len(net["w1"]),
        expected["hidden.spikes"][:, :-1].sum(axis=(1, 2), dtype=np.int64) * OUTPUTS,
    ]
    events = arrived[0] + arrived[1]
    counts = {name: int(expected[f"{name}.spikes"][0].sum()) for name in LAYERS}
    print(f"spikes of the first sample: {counts}")
    for emulator in emulators:
        got, n = work(emulator, path, "trace"), emulator.samples
        differing = sum(int((got[name] != expected[f"{name}.spikes"][:n]).sum()) for name in LAYERS)
        wrong = "events" in got and int(got["events"]) != int(events[:n].sum())
        print(f"  {emulator.name:<24}{differing:>4} differ from the interpreter's")
        if differing or wrong:
            raise SystemExit(f"{emulator.name}: {differing} spikes differ, events {got.get('events')}")
    return {n: int(events[:n].sum()) for n in (1, BATCH)}


def table(emulators: Sequence[Emulator], path: Path, events: dict[int, int], rounds: int) -> None:
    """Measure in turns and print a line an emulator; ratios are above 1 where ours is faster.

    The first two emulators must be ours, alone and in a batch.
    """
    times: dict[str, list[tuple[float, float]]] = {emulator.name: [] for emulator in emulators}
    for _ in range(rounds):
        for emulator in emulators:
            got = work(emulator, path, "time")
            times[emulator.name].append((float(got["build"]), float(got["run"])))
    speed, built = {}, {}
    for emulator in emulators:
        built[emulator.name], ran = (min(item) for item in zip(*times[emulator.name], strict=True))
        speed[emulator.name] = events[emulator.samples] / ran / 1e6
    one, many = (emulator.name for emulator in emulators[:2])
    print(
        f"{'':<24}{'build s':>9}{'run s':>9}{'M events':>10}{'M ev/s':>9}{'build x':>9}{'run x':>7}{'x batch':>9}"
    )
    for emulator in emulators:
        name, count = emulator.name, events[emulator.samples] / 1e6
        ratios = f"{built[name] / built[one]:>9.2f}{speed[one] / speed[name]:>7.2f}{speed[many] / speed[name]:>9.1f}"
        print(
            f"{name:<24}{built[name]:>9.3f}{count / speed[name]:>9.4f}{count:>10.2f}{speed[name]:>9.1f}{ratios}"
        )


def main() -> None:
    """Read the command line and print a table a network; with ``--worker``, be our own worker."""
    parser = argparse.ArgumentParser(description="Loihi emulators, one thread, CPU time")
    parser.add_argument("--peer-python", action="append", default=[], help="interpreter that has a peer")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes each, the least counts")
    parser.add_argument(
        "--worker", nargs=4, metavar=("NET", "OUT", "WHAT", "SAMPLES"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    lacking = [python for python in arguments.peer_python if not shutil.which(python)]
    if lacking or arguments.rounds < 1:
        parser.error(f"no such interpreter: {', '.join(lacking)}" if lacking else "at least one round")
    if arguments.worker:
        net, out, what, samples = arguments.worker
        with np.load(net) as file:
            ours({key: file[key] for key in file.files}, Path(out), what == "trace", int(samples))
        return
    me = (sys.executable, str(Path(__file__).resolve()), "--worker")
    emulators = [
        Emulator("nmc", me, ("1",)), Emulator(f"nmc, batch {BATCH}", me, (str(BATCH),), BATCH),
        *peers(arguments.peer_python),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for hidden in HIDDEN:
            net, path = network(hidden), Path(folder, "net.npz")
            np.savez(path, **net)  # type: ignore[arg-type]  # the stubs take any keyword for allow_pickle
            print(f"\n{INPUTS}-{hidden}-{OUTPUTS}, {STEPS} steps, {rate(net):.1%} of the inputs a step")
            table(emulators, path, check(emulators, net, path), arguments.rounds)


def rate(net: dict[str, Array]) -> float:
    """Share of the inputs that spike in a step."""
    return float(net["spikes"].mean())


if __name__ == "__main__":
    main()
