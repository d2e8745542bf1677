"""Random SpiNNaker2 programs: populations of every model, projections of every row format, recurrent ones too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nmc.ir.op import Span
from nmc.ir.ops.expressions import OPERATIONS, Fixed
from nmc.ir.ops.mapped import slot_order
from nmc.targets.spinnaker2 import laws
from nmc.targets.spinnaker2.assemble import assemble
from nmc.targets.spinnaker2.build import PeProgram, build
from nmc.targets.spinnaker2.laws import PARAMS, Law, params_of
from nmc.targets.spinnaker2.layout import (
    LINKS,
    ChipImage,
    InputMap,
    NocTarget,
    OutputMap,
    Part,
    PopMap,
    Route,
)
from nmc.targets.spinnaker2.machine import Machine
from nmc.targets.spinnaker2.rows import ConvRows, DenseRows, Entry, Rows, SparseRows

Array = NDArray[Any]
FORMATS = ("dense8", "sparse16", "sparse32", "conv")
MODELS = tuple(PARAMS)


def random_code(rng: Generator, known: dict[str, str], length: int, number: int = 0) -> list[tuple[Any, ...]]:
    """Random instructions of all operations; `known` names get kinds of the results too."""
    code: list[tuple[Any, ...]] = []
    for k in range(number, number + length):
        operation = str(rng.choice(list(OPERATIONS)))
        wanted, made = OPERATIONS[operation]
        rooms = {kind: [name for name, of in known.items() if of == kind] for kind in "nb"}
        if not rooms["b"] and "b" in wanted:
            operation, (wanted, made) = "lt", OPERATIONS["lt"]
        operands = [
            round(float(rng.normal(0, 2)), 2)
            if kind == "n" and rng.random() < 0.2
            else str(rng.choice(rooms[kind]))
            for kind in wanted
        ]
        code.append((f"t.{k}", operation, *operands))
        known[f"t.{k}"] = made
    return code


def random_model(rng: Generator, fires: bool = True) -> dict[str, Any]:
    """States, parameters and instructions of a model of the user's, as ``snn.user`` takes them."""
    states = ("v", "u", "w")[: int(rng.integers(1, 4))]
    params = ("a", "b")[: int(rng.integers(0, 3))]
    names = {**dict.fromkeys((*states, *params), "n"), "I": "n"}
    length = int(rng.integers(2, 12))

    def ends(end: str, start: str) -> tuple[tuple[Any, ...], ...]:
        known = dict(names)
        code = [(start, "mul", "v", 0.75), *random_code(rng, {**known, start: "n"}, length)]
        for line in code:
            known[line[0]] = OPERATIONS[line[1]][1]
        for name in states:
            if rng.random() < 0.8 or name == "v":
                pool = [item for item, kind in known.items() if kind == "n"]
                code.append((name + end, "add", str(rng.choice(pool)), "I" if rng.random() < 0.5 else start))
        return tuple(code)

    known = dict(names)
    fire = (*random_code(rng, known, length // 3), ("fire", "gt", str(rng.choice(states)), 0.5))
    return {
        "states": states, "params": params, "update": ends(".next", "s.0"), "fire": fire if fires else (),
        "spike": ends(".after", "s.0") if fires and rng.random() < 0.8 else (),
    }  # fmt: skip


def random_machine(rng: Generator) -> Machine:
    """A random model of the user's, in floats or fixed point."""
    whole = int(rng.integers(1, 17))
    fixed = (whole, int(rng.integers(0, 32 - whole))) if rng.random() < 0.5 else ()
    model = random_model(rng, fires=rng.random() < 0.85)
    return assemble(**model, fixed=fixed, shift=int(rng.integers(0, 9)) if fixed else 0)


def random_law(rng: Generator, model: Any) -> Law:
    """A law with random options."""
    if model == "user":
        return Law("user", start=int(rng.integers(0, 3)), machine=random_machine(rng))
    types = int(rng.integers(1, {"lif": 3, "lif_fixed": 3, "max_pool": 6}.get(model, 2)))
    levels, opened, extra = int(rng.integers(1, 9)), int(rng.integers(0, 4)), 0
    if model == "stbif":
        extra = int(rng.choice([0, 0, 3, 7]))
    elif model == "readout":
        extra = int(rng.choice([0, 5]))
    elif model == "bit_serial":
        extra = int(rng.integers(1, 5))
        levels = (1 << extra) - 1
    return Law(
        model, "ge" if rng.random() < 0.5 else "gt", str(rng.choice(["none", "subtract", "to-value"])),  # type: ignore[arg-type]
        "membrane-first" if rng.random() < 0.5 else "synapse-first", bool(rng.random() < 0.5), types, levels, opened,
        extra, int(rng.integers(0, 3)),
    )  # fmt: skip


def _param(rng: Generator, model: str, name: str, size: int) -> Array:
    """Values of one parameter, in a range in which something happens."""
    if name in ("theta", "threshold"):
        low, high = (3, 60) if model != "lif_fixed" else (1 << 15, 1 << 18)
    else:
        low, high = {
            "refractory": (0, 4), "offset": (-40, 60), "shift": (8, 15), "shift2": (6, 12), "r": (1 << 12, 1 << 16),
            "decay": (0, 1 << 32), "decay2": (0, 1 << 32), "exp_tc": (0, 1 << 15), "i_offset": (-3000, 9000),
            "v_rest": (-40000, 20000),
        }.get(name, (-20, 30))  # fmt: skip
    if isinstance(PARAMS[model][name], float):
        small = name in ("alpha", "alpha2", "beta", "gain", "scale", "scale2")
        values = rng.random(size) if small else rng.normal(0, 3, size) + (8 if name == "threshold" else 0)
        return values.astype(np.float32)
    return rng.integers(low, high, size).astype(np.int64)


def random_params(rng: Generator, law: Law, n: int, period: int) -> dict[str, Array]:
    """All parameters: one value, one a class or one a neuron each; some absent."""
    if law.machine:
        return {name: _word(rng, law.machine, name, int(rng.choice([1, n]))) for name in params_of(law)}
    return {
        name: _param(rng, law.model, name, int(rng.choice([1, 1, period, n])))
        for name in PARAMS[law.model]
        if name in ("theta", "threshold") or rng.random() < 0.8
    }


def _word(rng: Generator, machine: Machine, name: str, size: int) -> Array:
    """Values of a parameter, or of where a state starts, of a model of the user's."""
    values = rng.normal(0.3, 1, size) if name != "scale" else rng.random(size) / 8
    if not machine.fixed:
        return values.astype(np.float32)
    return (
        Fixed(*machine.fixed).hold(values * (1 << machine.shift if name == "scale" else 1)).astype(np.int32)
    )


def random_rows(
    rng: Generator,
    form: str,
    source: tuple[Span, ...],
    target: tuple[Span, ...],
    law: Law,
    kernel: tuple[Array, int],
) -> Rows:
    """Synapses of one format between two boxes; `kernel` is that of the whole projection, and its groups."""
    sources, n = (int(np.prod([len(span) for span in box])) for box in (source, target))
    delay, kind = int(rng.integers(1, 9)), int(rng.integers(0, law.types))
    if form == "dense8":
        first = int(rng.integers(0, n))
        weights = rng.integers(-20, 25, (sources, int(rng.integers(1, n - first + 1))))
        return DenseRows(weights, delay, kind, first)
    if form == "conv":
        return ConvRows(kernel[0], (2, 1), (1, 0, 1, 1), (1, 2), kernel[1], source, target, delay, kind)
    count = int(rng.integers(0, 3 * n))
    low = 0 if form == "sparse16" and law.types > 1 else -15
    return SparseRows(
        "sparse16" if form == "sparse16" else "sparse32", sources, rng.integers(0, sources, count),
        rng.integers(0, n, count), rng.integers(low, 16, count) * (1 if form == "sparse16" else 3),
        rng.integers(1, 9, count), rng.integers(0, min(law.types, 2), count), law.types,
    )  # fmt: skip


def boxes(rng: Generator, shape: tuple[int, int, int]) -> list[tuple[Span, ...]]:
    """A population whole, or cut along one axis."""
    axis = int(rng.integers(-1, 3))
    whole = tuple(Span(0, extent) for extent in shape)
    if axis < 0 or shape[axis] < 2:
        return [whole]
    cut = int(rng.integers(1, shape[axis]))
    return [(*whole[:axis], span, *whole[axis + 1 :]) for span in (Span(0, cut), Span(cut, shape[axis]))]


def random_chip(seed: int, models: tuple[str, ...] = MODELS, steps: int = 20) -> ChipImage:
    """One input and a population of each of `models`, with random projections between all of them."""
    rng = np.random.default_rng(seed)
    shapes = [(4, 5, 6), *((int(rng.choice([2, 4])), 3, 4) for _ in models)]
    names = ["x", *(f"p{k}" for k in range(len(models)))]
    parts: list[list[Part]] = []
    pe, page = 0, 0
    for number, shape in enumerate(shapes):
        found = []
        for box in boxes(rng, shape):
            found.append(Part(0, -1 if number == 0 else pe * 3 % 152, page << 8, box))
            page += int(rng.integers(1, 4))
            pe += number > 0
        parts.append(found)
    kernels = {
        (a, b): (rng.integers(-9, 12, (shapes[b][0], shapes[a][0] // 2, 3, 2)), 2)
        for a in range(len(shapes))
        for b in range(1, len(shapes))
    }
    programs, reach = _programs(rng, models, shapes, parts, kernels, steps)
    routes = _routes(parts, reach)
    pops = tuple(PopMap(names[k], shapes[k], tuple(parts[k])) for k in range(1, len(shapes)))
    outputs = tuple(OutputMap(f"y{k}", pop.name, "v" if k % 2 else "count") for k, pop in enumerate(pops))
    images = sorted((build(item) for item in programs), key=lambda image: (image.chip, image.pe))
    return ChipImage(
        tuple(images), {0: routes}, (InputMap("x", shapes[0], tuple(parts[0])),), pops, outputs, (1, 1), steps
    )


def _programs(
    rng: Generator, models: tuple[str, ...], shapes: Any, parts: Any, kernels: Any, steps: int
) -> Any:
    programs: list[PeProgram] = []
    reach: dict[int, set[int]] = {}
    for number, model in enumerate(models, 1):
        law = random_law(rng, model)
        for part in parts[number]:
            n = int(np.prod([len(span) for span in part.box]))
            period = len(part.box[0])
            params = random_params(rng, law, n, period)
            given = {
                **params,
                "v_init": rng.integers(-5, 5, n),
                "offset": params.get("offset", rng.integers(-40, 60, n)),
            }
            if law.machine:
                given |= {name: _word(rng, law.machine, name, n) for name in law.states}
            given = {
                name: value if value.size in (1, n) else np.resize(value, n) for name, value in given.items()
            }
            entries = []
            for origin, sources in enumerate(parts):
                for source in sources:
                    for _ in range(int(rng.integers(0, 3)) if origin else 2):
                        rows = random_rows(
                            rng, str(rng.choice(FORMATS)), source.box, part.box, law, kernels[origin, number]
                        )
                        entries.append(
                            Entry(source.key_base, 0xFFFFFF00, rows, 0, int(rng.choice([1, 1, 1, -2, 3])))
                        )
                        reach.setdefault(source.key_base, set()).add(part.pe)
            programs.append(PeProgram(
                0, part.pe, part.key_base, law, n, params, laws.initial_v(law, given), tuple(entries), period,
                tuple(str(item) for item in rng.permutation(["spikes", "v", "payload"])[: int(rng.integers(0, 4))]),
                int(rng.integers(1, steps + 5)), int(rng.choice([1, 3, 64])), (NocTarget(1, 2, 8),),
            ))  # fmt: skip
    return programs, reach


def _routes(parts: Any, reach: Any) -> tuple[Route, ...]:
    found = []
    for part in (part for group in parts for part in group):
        bits = sum(1 << (LINKS + pe) for pe in reach.get(part.key_base, ()))
        if bits:
            found.append(Route(part.key_base, 0xFFFFFF00, bits))
    return tuple(found)


def random_input(seed: int, image: ChipImage, batch: int, steps: int) -> dict[str, Array]:
    """Payloads of the input: mostly spikes, sometimes graded ones."""
    rng = np.random.default_rng(seed)
    shape = image.inputs[0].shape
    spikes = rng.random((batch, steps, *shape)) < 0.15
    size = rng.choice([1, 1, 1, -2, 5], (batch, steps, *shape))
    return {"x": (spikes * size).astype(np.int32)}


def neuron_order(box: tuple[Span, ...], shape: tuple[int, ...]) -> Array:
    """Row-major index of each neuron of a box."""
    grid = np.arange(int(np.prod(shape))).reshape(shape)
    return slot_order(grid[tuple(span.slice() for span in box)])
