"""What a start of nmc costs beside a bare interpreter, in CPU time.

``python benchmarks/startup.py [RUNS]`` prints the median CPU time of each command over RUNS fresh processes,
the ratio to the bare interpreter and the difference. The aim: ``nmc --help`` within 60 ms of the interpreter;
no test asserts a time (machines differ), the test checks what is imported (``test_startup.py``).
POSIX only: the CPU time of children comes from ``resource``.
"""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
AIM_MS = 60.0
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import nmc": ["-c", "import nmc"],
    "nmc --help": ["-m", "nmc", "--help"],
    "nmc targets": ["-m", "nmc", "targets"],
}


def cpu_ms(arguments: list[str]) -> float:
    """Return the CPU time, user and system, of one fresh interpreter with these arguments.

    Parameters
    ----------
    arguments : list of str
        What follows ``python`` on the command line; run in the checkout, output thrown away.

    Returns
    -------
    float
        Milliseconds.

    Raises
    ------
    subprocess.CalledProcessError
        If the command fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=REPO, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Measure all commands in turn, so that a drift of the machine touches all alike, and print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        cpu_ms(arguments)  # fills the bytecode and file caches
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            times[name].append(cpu_ms(arguments))
    bare = statistics.median(times["bare interpreter"])
    print(
        f"{'command':<18}{'CPU ms':>8}{'ratio':>8}{'more ms':>9}   (median of {runs}; aim: +{AIM_MS:.0f} ms)"
    )
    for name, samples in times.items():
        median = statistics.median(samples)
        print(f"{name:<18}{median:>8.1f}{median / bare:>8.2f}{median - bare:>9.1f}")


if __name__ == "__main__":
    main()
