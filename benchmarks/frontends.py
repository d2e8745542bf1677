"""CPU seconds of reading networks: the light ONNX models, a long ``.snn`` program.

``python benchmarks/frontends.py`` prints each figure beside its aim; no test asserts a time (machines differ).
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def statements(count: int) -> str:
    """Return a program of about `count` statements: populations and random projections in a chain."""
    lines = ["network big(dt = 1 ms)", "neuron n = lif(tau = 20 ms, v_threshold = 1.0, reset = subtract)"]
    lines.append("pop p0[10] : n")
    for i in range(1, count // 2):
        lines.append(f"pop p{i}[10] : n(tau = {10 + i % 7} ms)")
        lines.append(f"p{i - 1} -> p{i} : fixed_prob(p = 10 %, weight = 0.5 * 3 - 1, delay = 2 ms)")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    import onnx

    from nmc.frontends.onnx import load_onnx
    from nmc.frontends.snn import read_snn

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    rows = [(path.stem, cpu(partial(load_onnx, path)), 10.0) for path in sorted(light.glob("*.onnx"))]
    read_snn(statements(10))  # grammar and imports
    rows.append(("5,000 statements of .snn", cpu(lambda: read_snn(statements(5000))), 3.0))
    print(f"{'network':<28}{'CPU s':>8}{'aim':>8}")
    for name, seconds, aim in rows:
        print(f"{name:<28}{seconds:8.2f}{aim:8.1f}")


if __name__ == "__main__":
    main()
