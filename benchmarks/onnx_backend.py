"""How much of ONNX's own backend tests can be imported, and whether it computes what ONNX says.

``python benchmarks/onnx_backend.py [--all]`` runs every case that the installed ``onnx`` holds as files: networks that
torch exported (``pytorch-converted``, ``pytorch-operator``) and small graphs (``simple``). Axis 0 of an input is its
batch axis; inputs of integers are constants. A last Softmax is dropped on import, so that there the place of the
largest element is compared. ``--all`` lists every case, ``--node`` runs the tests of single operators too, with all
inputs but the first as constants.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("pytorch-converted", "pytorch-operator", "simple")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Parameters
    ----------
    kind, name : str
        Which case.
    status : str
        ``passed``, ``argmax`` (equal but for the dropped Softmax), ``refused`` or ``failed``.
    codes : tuple of str
        Diagnostic codes of a refusal.
    detail : str
        First reason, or largest difference.
    """

    kind: str
    name: str
    status: str
    codes: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """A model with inputs and the outputs that belong to them, one pair of lists a data set."""

    kind: str
    name: str
    model: Any
    data_sets: tuple[tuple[Sequence[Any], Sequence[Any]], ...]


def cases(kind: str) -> Iterator[Case]:
    """All cases of a kind."""
    import onnx

    if kind == "node":
        yield from _node_cases()
        return
    root = Path(onnx.__file__).parent / "backend" / "test" / "data" / kind
    for folder in sorted(root.iterdir()):
        if (folder / "model.onnx").is_file():
            model = onnx.load(folder / "model.onnx")
            data_sets = tuple(
                (_stored(place, "input", model.graph.input), _stored(place, "output", model.graph.output))
                for place in sorted(folder.glob("test_data_set_*"))
            )
            yield Case(kind, folder.name, model, data_sets)


def _node_cases() -> Iterator[Case]:
    """Tests of single operators on one array of floats or more."""
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind="node"):
        sets = tuple(case.data_sets or ())
        inputs = sets[0][0] if sets else []
        arrays = all(isinstance(item, np.ndarray | np.generic) for item in inputs)
        if case.model is not None and len(inputs) > 0 and arrays:
            yield Case("node", case.name, case.model, sets)


def run_case(case: Case, scratch: Path) -> Outcome:
    """Import a case, run it on each of its data sets, and compare with the stored outputs."""
    import onnx

    from nmc.frontends.onnx import load_onnx
    from nmc.ir.diagnostics import NmcError

    graph, path = case.model.graph, scratch / "model.onnx"
    weights = {tensor.name for tensor in graph.initializer}
    names = [info.name for info in graph.input if info.name not in weights]
    argmax = graph.node[-1].op_type in ("Softmax", "LogSoftmax", "ArgMax")
    worst = 0.0
    for inputs, outputs in case.data_sets:
        known = dict(zip(names, inputs, strict=False))
        fixed = [
            name
            for index, (name, array) in enumerate(known.items())
            if array is not None and (array.dtype.kind in "iu" or (case.kind == "node" and index))
        ]
        onnx.save(_with_constants(case.model, {name: known[name] for name in fixed}), path)
        try:
            module = load_onnx(path)
        except NmcError as error:
            told = error.diagnostics
            codes = tuple(sorted({item.code for item in told}))
            return Outcome(case.kind, case.name, "refused", codes, f"{told[0].where}: {told[0].message}")
        worst = max(worst, _difference(module, known, outputs, argmax, _axis(graph.node[-1])))
    status = "failed" if not worst <= TOLERANCE else "argmax" if argmax else "passed"
    return Outcome(case.kind, case.name, status, (), f"largest difference {worst:.2g}")


def _stored(folder: Path, what: str, infos: Any) -> list[Any]:
    """Read the tensors of a data set; None for what is no tensor."""
    import onnx
    from onnx import numpy_helper

    found: list[Any] = []
    for index, info in enumerate(infos):
        path = folder / f"{what}_{index}.pb"
        if not path.is_file():
            break
        if not info.type.HasField("tensor_type"):
            found.append(None)
            continue
        tensor = onnx.TensorProto()
        tensor.ParseFromString(path.read_bytes())
        found.append(numpy_helper.to_array(tensor))
    return found


def _with_constants(model: Any, inputs: dict[str, Any]) -> Any:
    """Copy with these inputs as initializers."""
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name, array in inputs.items():
        copy.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return copy


def _difference(
    module: Any, inputs: dict[str, Any], outputs: Sequence[Any], argmax: bool, axis: int
) -> float:
    """Largest difference, relative to the wanted values where those are above 1; infinite for another shape."""
    from nmc.ir.interp import run_ann
    from nmc.ir.ops import ann

    ops = module.of_type(ann.Input)
    data = {op.out: inputs[op.loc.node] for op in ops}
    wide = any(array.dtype == np.float64 for array in data.values())
    found = run_ann(module, data, dtype=np.float64 if wide else np.float32)
    worst = 0.0
    for op, want in zip(module.of_type(ann.Output), outputs, strict=True):
        got = found[op.data.name]
        if got.shape != want.shape and not argmax:
            return float("inf")
        if argmax:
            worst = max(worst, _moved(got, want, axis))
        else:
            error = np.abs(got - want) / np.maximum(np.abs(want), 1)
            worst = max(worst, float(error.max(initial=0.0)))
    return worst


def _moved(got: Any, want: Any, axis: int) -> float:
    """1 where the largest element along an axis is another one; `want` may hold its number."""
    place = got.argmax(axis)
    wanted = want.reshape(place.shape) if want.dtype.kind in "iu" else want.argmax(axis)
    return float((place != wanted).any())


def _axis(node: Any) -> int:
    """The axis of a Softmax, LogSoftmax or ArgMax; the last one where the node names none."""
    return next((int(entry.i) for entry in node.attribute if entry.name == "axis"), -1)


def run_all(kinds: tuple[str, ...] = KINDS) -> list[Outcome]:
    """Run every case of some kinds."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [run_case(case, Path(folder)) for kind in kinds for case in cases(kind)]


def summary(outcomes: list[Outcome]) -> str:
    """A table of counts."""
    rows: list[tuple[str, ...]] = [("", "cases", "passed", "argmax", "refused", "failed", "refused by code")]
    for kind in (*dict.fromkeys(item.kind for item in outcomes), "all"):
        mine = [item for item in outcomes if kind in (item.kind, "all")]
        count = Counter(item.status for item in mine)
        codes = Counter(code for item in mine for code in item.codes)
        told = ", ".join(f"{code} {number}" for code, number in sorted(codes.items()))
        numbers = [str(count[status]) for status in ("passed", "argmax", "refused", "failed")]
        rows.append((kind, str(len(mine)), *numbers, told))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main() -> int:
    """Print the table; 1 when a case computes something else."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--all", action="store_true", help="list every case")
    parser.add_argument("--node", action="store_true", help="run the tests of single operators too")
    given = parser.parse_args()
    listed = given.all
    outcomes = run_all((*KINDS, "node") if given.node else KINDS)
    for item in outcomes:
        if listed or item.status == "failed":
            print(f"{item.status:<8} {item.kind}/{item.name}  {' '.join(item.codes)}  {item.detail}")
    print(summary(outcomes))
    return int(any(item.status == "failed" for item in outcomes))


if __name__ == "__main__":
    sys.exit(main())
