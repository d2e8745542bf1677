"""Synapses one by one: which pairs are connected, with what weight and delay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nmc.frontends.snn import draw
from nmc.frontends.snn.calls import Arguments, Bound
from nmc.frontends.snn.models import Header
from nmc.frontends.snn.problems import Fault
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import (
    PLAIN,
    STEP,
    VOLT,
    Array,
    Dim,
    Quantity,
    Random,
    View,
    dim_name,
    shape_text,
)  # fmt: skip
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import Loc
from nmc.ir.op import Value
from nmc.ir.ops.neurons import Sparse
from nmc.ir.ops.snn import ProjectionOp

MAX_DELAY = 1 << 20
MAX_DELAYS = 1024


@dataclass(frozen=True)
class Limits:
    """Bounds that keep a wrong number from exhausting the machine.

    Parameters
    ----------
    neurons : int
        Of all populations and inputs.
    synapses : int
        Listed one by one, of one projection.
    pairs : int
        Looked at to draw them, of one projection.
    statements : int
        Executed, those in loops each time.
    """

    neurons: int = 1 << 24
    synapses: int = 1 << 25
    pairs: int = 1 << 28
    statements: int = 50_000


@dataclass(frozen=True)
class Job:
    """One projection to be made."""

    source: View
    target: View
    spikes: Value
    given: Arguments
    number: int
    name: str
    pos: Pos
    loc: Loc
    header: Header
    limits: Limits

    def number_of(self, name: str, absent: Any) -> Any:
        """Give the plain number of an argument, or what stands for its absence."""
        return self.given[name].value.value if name in self.given else absent

    def word_of(self, name: str, absent: Any) -> Any:
        """Give a word or truth value, or what stands for its absence."""
        return self.given[name].value if name in self.given else absent

    def fault(self, message: str, hint: str = "", code: str = "E0376") -> Fault:
        """Make a fault at the projection."""
        return Fault(code, self.pos, message, hint)


@dataclass(frozen=True)
class Pairs:
    """Synapses: flat neurons and the number that keys their random weight and delay."""

    source: Array
    target: Array
    key: Array
    weight: Array | None = None
    delay: Array | None = None


def scaled(job: Job, bound: Bound) -> Array:
    """Give weights as numbers, after checking that they have the unit of the target's membrane."""
    dim: Dim = bound.value.dim
    level = job.target.pop.level
    if level is not None and dim != level:
        what = f"the membrane of {job.target.pop.name} is {dim_name(level)}, this weight is {dim_name(dim)}"
        hint = (
            "multiply it by a unit, such as 1 mV" if level == VOLT else "weights of this model have no unit"
        )
        raise Fault("E0368", bound.pos, what, hint)
    return np.asarray(0.0 if isinstance(bound.value, Random) else bound.value.value)


def one_delay(job: Job) -> int:
    """Give the one delay of a structured projection."""
    if "delay" not in job.given:
        return job.header.delay
    bound = job.given["delay"]
    steps = job.header.in_steps(bound.value, bound.pos, "delay")
    if steps > MAX_DELAY:
        raise Fault("E0373", bound.pos, f"a delay of {steps:,} of at most {MAX_DELAY:,} steps")
    return steps


def many_delays(job: Job) -> bool:
    """Whether each synapse has its own delay."""
    bound = job.given.get("delay")
    return bound is not None and (isinstance(bound.value, Random) or bound.value.is_array)


def bounded(job: Job, count: float, pairs: bool = False) -> None:
    """Refuse more synapses, or pairs to draw them from, than the limits allow."""
    limit = job.limits.pairs if pairs else job.limits.synapses
    if count > limit:
        what = "pairs to draw from" if pairs else "synapses"
        raise job.fault(f"{int(count):,} {what}, of at most {limit:,}", code="E0379")


def _not_self(job: Job, pairs: Pairs) -> Pairs:
    if job.source.pop is not job.target.pop or job.word_of("self", True):
        return pairs
    keep = pairs.source != pairs.target
    return Pairs(pairs.source[keep], pairs.target[keep], pairs.key[keep])


def _fixed_prob(job: Job) -> Pairs:
    rows, columns = job.source.size, job.target.size
    p = float(job.number_of("p", 0))
    bounded(job, rows * columns, pairs=True)
    bounded(job, rows * columns * p)
    key = draw.bernoulli(job.header.seed, job.number, p, rows * columns)
    row, column = np.divmod(key, columns)
    return _not_self(job, Pairs(job.source.flat()[row], job.target.flat()[column], key))


def _fixed_degree(job: Job, rows: View, columns: View) -> Array:
    """Pairs (row, column) as flat numbers, `n` for each row."""
    bounded(job, rows.size * columns.size, pairs=True)
    k = int(job.number_of("n", 0))
    banned = None
    if job.source.pop is job.target.pop and not job.word_of("self", True):
        place = np.full(job.source.pop.size, -1, np.int64)
        place[columns.flat()] = np.arange(columns.size)
        banned = place[rows.flat()]
    free = columns.size - int(banned is not None and bool((banned >= 0).any()))
    if k > free:
        raise job.fault(f"{k} different partners of {free}", "give a smaller n", "E0373")
    bounded(job, rows.size * k)
    return draw.choose(job.header.seed, job.number, rows.size, columns.size, k, banned)


def _fixed_indegree(job: Job) -> Pairs:
    key = _fixed_degree(job, job.target, job.source)
    row, column = np.divmod(key, job.source.size)
    return Pairs(job.source.flat()[column], job.target.flat()[row], key)


def _fixed_outdegree(job: Job) -> Pairs:
    key = _fixed_degree(job, job.source, job.target)
    row, column = np.divmod(key, job.target.size)
    return Pairs(job.source.flat()[row], job.target.flat()[column], key)


def _distance(job: Job) -> Pairs:
    """Pairs with probability p exp(-d^2 / 2 sigma^2) within `radius`, both grids stretched over the target's."""
    if "sigma" not in job.given and "radius" not in job.given:
        raise job.fault("distance needs sigma or radius", code="E0372")
    shapes = job.source.shape, job.target.shape
    if len(shapes[0]) != len(shapes[1]):
        raise job.fault(f"distance between {shape_text(shapes[0])} and {shape_text(shapes[1])}")
    rows, columns = job.source.size, job.target.size
    bounded(job, rows * columns, pairs=True)
    square = np.zeros((rows, columns))
    bounded(job, square.size)
    for axis, (have, want) in enumerate(zip(*shapes, strict=True)):
        there = np.indices(job.target.shape)[axis].reshape(1, -1)
        here = (np.indices(job.source.shape)[axis].reshape(-1, 1) + 0.5) * (want / have) - 0.5
        square += (here - there) ** 2
    flat = square.reshape(-1)
    key = np.arange(flat.size, dtype=np.int64)
    near = flat <= float(job.number_of("radius", np.inf)) ** 2
    u = draw.unit(job.header.seed, job.number, draw.PAIRS, key)
    level = draw.log(u / float(job.number_of("p", 1.0)))
    sigma = float(job.number_of("sigma", np.inf))
    key = key[near & (level < -flat / (2.0 * sigma * sigma))]
    row, column = np.divmod(key, columns)
    return _not_self(job, Pairs(job.source.flat()[row], job.target.flat()[column], key))


def _listed(job: Job) -> Pairs:
    bound = job.given["synapses" if "synapses" in job.given else "path"]
    table = _table(bound)
    if table.ndim != 2 or not 2 <= table.shape[1] <= 4:
        raise Fault("E0376", bound.pos, f"a list of synapses has 2 to 4 columns, this is {shape_text(table.shape)}",
                    "source, target, weight, delay in steps")  # fmt: skip
    bounded(job, len(table))
    ends = table[:, :2]
    sizes = np.array([job.source.size, job.target.size])
    if len(table) and (not np.isfinite(table).all() or (ends < 0).any() or (ends >= sizes).any()
                       or (ends != np.floor(ends)).any()):  # fmt: skip
        message = f"a synapse leaves {job.source.size} sources and {job.target.size} targets"
        raise Fault("E0377", bound.pos, message)
    weight = table[:, 2] if table.shape[1] > 2 else None
    delay = table[:, 3] if table.shape[1] > 3 else None
    for name, column in (("weight", weight), ("delay", delay)):
        if column is not None and name in job.given:
            raise Fault("E0372", job.given[name].pos, f"the list has its own {name}")
    if weight is not None and job.target.pop.level == VOLT:
        raise Fault("E0368", bound.pos, f"the membrane of {job.target.pop.name} is in volts, the list has no unit",
                    "leave out the weights and give weight = W.array * 1 mV")  # fmt: skip
    source, target = (ends[:, axis].astype(np.int64) for axis in (0, 1))
    key = np.arange(len(table), dtype=np.int64)
    return Pairs(job.source.flat()[source], job.target.flat()[target], key, weight, delay)


def _table(bound: Bound) -> Array:
    value = bound.value
    if isinstance(value, np.ndarray):
        return value.astype(np.float64)
    if isinstance(value, Quantity) and value.is_array and value.dim == PLAIN:
        return np.asarray(value.value, np.float64)
    rows = [_row(item, bound) for item in value] if isinstance(value, list) else [_row(value, bound)]
    if len({len(row) for row in rows}) > 1:
        raise Fault("E0369", bound.pos, "the synapses of a list have the same number of columns")
    return np.array(rows, np.float64)


def _row(value: Any, bound: Bound) -> list[float]:
    items = value if isinstance(value, list) else [None]
    good = [item for item in items if isinstance(item, Quantity) and not item.is_array and item.dim == PLAIN]
    if len(good) != len(items):
        message = "a list of synapses is [[source, target, weight, delay], ...] of plain numbers"
        raise Fault("E0369", bound.pos, message)
    return [float(item.value) for item in good]


def weights_of(job: Job, pairs: Pairs) -> Array:
    """One weight, or one a synapse."""
    if pairs.weight is not None:
        return pairs.weight
    if "weight" not in job.given:
        if job.target.pop.level == VOLT:
            raise job.fault("synapses onto membranes in volts need a weight", "add weight = 1 mV", "E0368")
        return np.ones(1)
    bound = job.given["weight"]
    fixed = scaled(job, bound)
    if isinstance(bound.value, Random):
        u = draw.unit(job.header.seed, job.number, draw.WEIGHT, pairs.key)
        return draw.sample(bound.value, u)
    if fixed.ndim and fixed.size != len(pairs.key):
        raise Fault("E0376", bound.pos, f"{fixed.size} weights for {len(pairs.key)} synapses")
    return np.atleast_1d(fixed.reshape(-1).astype(np.float64))


def _delays(job: Job, pairs: Pairs) -> Array:
    """One number of steps, or one a synapse."""
    if pairs.delay is not None:
        steps = pairs.delay
    elif not many_delays(job):
        return np.array([one_delay(job)])
    else:
        bound = job.given["delay"]
        unit = 1.0 if bound.value.dim == STEP else job.header.dt
        if isinstance(bound.value, Random):
            u = draw.unit(job.header.seed, job.number, draw.DELAY, pairs.key)
            steps = np.maximum(np.rint(draw.sample(bound.value, u) / unit), 1.0)
        else:
            steps = bound.value.value.reshape(-1) / unit
    steps = np.asarray(steps)
    if len(steps) != len(pairs.key):
        raise job.fault(f"{len(steps)} delays for {len(pairs.key)} synapses")
    if len(steps) and (
        steps.min() < 0 or steps.max() > MAX_DELAY or np.abs(steps - np.rint(steps)).max() > 1e-6
    ):
        raise job.fault(f"delays of {steps.min():g} to {steps.max():g} steps: they are whole, 0 to {MAX_DELAY:,}",
                        code="E0373")  # fmt: skip
    return np.rint(steps).astype(np.int64)


def sparse(job: Job, pairs: Pairs) -> list[ProjectionOp]:
    """One op for each delay."""
    count = len(pairs.key)
    bounded(job, count)
    weight, delay = weights_of(job, pairs), _delays(job, pairs)
    if delay.size == 1 or not count:
        return [_op(job, job.name, pairs, slice(None), weight, int(delay[0]) if delay.size else 1)]
    levels, group = np.unique(delay, return_inverse=True)
    if len(levels) > MAX_DELAYS:
        raise job.fault(
            f"{len(levels):,} different delays, of at most {MAX_DELAYS:,}", "use a larger dt", "E0379"
        )
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(group))[:-1])
    return [
        _op(job, f"{job.name}/d{level}", pairs, part, weight, int(level))
        for level, part in zip(levels, parts, strict=True)
    ]


def _op(job: Job, name: str, pairs: Pairs, part: Any, weight: Array, delay: int) -> ProjectionOp:
    return Sparse(
        out=name,
        loc=job.loc,
        spikes=job.spikes,
        weight=Const(f"{name}.w", weight if weight.size == 1 else weight[part]),
        source=Const(f"{name}.source", pairs.source[part].astype(np.int32)),
        target=Const(f"{name}.target", pairs.target[part].astype(np.int32)),
        shape=job.target.pop.shape,
        delay=delay,
    )


#: How pairs are found, by connector.
PAIRS: dict[str, Callable[[Job], Pairs]] = {
    "fixed_prob": _fixed_prob, "fixed_indegree": _fixed_indegree, "fixed_outdegree": _fixed_outdegree,
    "distance": _distance, "from_list": _listed, "from_file": _listed,
}  # fmt: skip
