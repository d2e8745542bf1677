"""sPyNNaker's cost for the network of ``spinnaker2_compile.py``, on a virtual board (which maps and does not simulate).

Run by ``spinnaker2_compile.py --peer-python``, with an interpreter that has sPyNNaker; prints one line of JSON:
``cpu_seconds`` (without imports) and ``peak_bytes``. The connectors make 80 excitatory and 20 inhibitory synapses onto
each neuron, as ours does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

_CONFIG = "[Machine]\nvirtual_board = True\nversion = 5\n[Java]\nuse_java = False\n"


def main() -> None:
    """Build, map and generate the data of the network once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--neurons", type=int, default=20_000)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    os.environ["HOME"] = str(folder)  # the tool writes a configuration and its reports
    (folder / ".spynnaker.cfg").write_text(_CONFIG)
    os.chdir(folder)
    (folder / "spynnaker.cfg").write_text(_CONFIG)
    import pyNN.spiNNaker as sim  # noqa: N813 - the name that PyNN programs use

    start = time.process_time()
    sim.setup(timestep=1.0)
    excitatory = args.neurons * 4 // 5
    cells = {"tau_m": 20.0, "v_thresh": -50.0, "v_reset": -60.0, "v_rest": -65.0, "tau_refrac": 2.0}
    populations = {
        name: sim.Population(size, sim.IF_curr_exp(**cells), label=name)
        for name, size in (("E", excitatory), ("I", args.neurons - excitatory))
    }
    for target in populations.values():
        drive = sim.Population(target.size, sim.SpikeSourcePoisson(rate=800.0))
        sim.Projection(drive, target, sim.OneToOneConnector(), sim.StaticSynapse(weight=0.1, delay=1.0))
        for name, count, weight, delay in (("E", 80, 0.1, 5.0), ("I", 20, 0.5, 3.0)):
            sim.Projection(
                populations[name], target, sim.FixedNumberPreConnector(count),
                sim.StaticSynapse(weight=weight, delay=delay),
                receptor_type="excitatory" if name == "E" else "inhibitory",
            )  # fmt: skip
    sim.run(100)
    sim.end()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"cpu_seconds": round(time.process_time() - start, 1), "peak_bytes": peak}))


if __name__ == "__main__":
    main()
