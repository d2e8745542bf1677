"""What becomes of the nine "light" models of the ONNX package: ``python benchmarks/light_models.py [TARGET]``.

Each is given to ``nmc check`` in a process of its own; one row tells the verdict, the sizes and the CPU time.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

MODELS = ("resnet50", "vgg19", "squeezenet", "densenet121", "inception_v2", "shufflenet", "bvlc_alexnet", "zfnet512",
          "inception_v1")  # fmt: skip
HEADER = ("model", "exit", "verdict", "neurons", "synapses", "of weight 0", "cores", "CPU s")


def light_models() -> Path:
    """The folder of the models."""
    import onnx

    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def check(path: Path, target: str) -> tuple[int, dict[str, Any], float]:
    """Run ``nmc check``; give its exit code, its JSON and the CPU seconds it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "nmc", "check", str(path), "--target", target, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, json.loads(done.stdout), seconds


def row(name: str, target: str) -> tuple[str, ...]:
    """What the table says about a model."""
    code, facts, seconds = check(light_models() / f"light_{name}.onnx", target)
    if not facts["convertible"]:
        verdict = "; ".join(sorted({_reason(item) for item in facts["diagnostics"]}))
        return name, str(code), verdict, "", "", "", "", f"{seconds:.1f}"
    cores = f"{'>= ' if facts['cores_bound'] else ''}{facts['cores']:,}"
    verdict = "fits" if facts["fits"] else "does not fit"
    return (
        name, str(code), verdict, *(f"{facts[key]:,}" for key in ("neurons", "synapses", "zero_weights")), cores,
        f"{seconds:.1f}",
    )  # fmt: skip


def _reason(item: dict[str, Any]) -> str:
    """The code and the place of a refusal."""
    return f"{item['code']}: {item['location'].partition(': ')[2]}"


def main() -> None:
    """Print the table."""
    target = sys.argv[1] if len(sys.argv) > 1 else "loihi"
    print("| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER), sep="\n")
    for name in MODELS:
        print("| " + " | ".join(row(name, target)) + " |", flush=True)


if __name__ == "__main__":
    main()
