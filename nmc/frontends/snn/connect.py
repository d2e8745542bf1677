"""Connectors: what a projection becomes. Structure is kept (dense, conv) where it is there, synapses otherwise."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from nmc.frontends.snn.calls import Bound, Param
from nmc.frontends.snn.problems import Fault
from nmc.frontends.snn.synapses import (
    PAIRS,
    Job,
    Pairs,
    bounded,
    many_delays,
    one_delay,
    scaled,
    sparse,
    weights_of,
)
from nmc.frontends.snn.values import (
    PLAIN,
    STEP,
    TIME,
    VOLT,
    Array,
    Ints,
    Random,
    View,
    shape_text,
)  # fmt: skip
from nmc.ir.const import Const
from nmc.ir.op import VerifyError
from nmc.ir.ops import snn
from nmc.ir.ops.snn import ProjectionOp

_WEIGHTS = (PLAIN, VOLT)


_DELAY = Param("delay", (TIME, STEP), array=True, random=True, least=0)
_WEIGHT = Param("weight", _WEIGHTS, array=True, random=True)
_BOTH = (_WEIGHT, _DELAY)
_SELF = Param("self", kind="truth")
_MATRIX = Param("weights", _WEIGHTS, array=True)
_BIAS = Param("bias", _WEIGHTS, array=True)


def _size(name: str, least: int = 1) -> Param:
    return Param(name, whole=True, listing=True, least=least, most=1 << 20)


_CONV = (
    replace(_MATRIX, required=True), _size("kernel"), _size("stride"), _size("pad", 0), _size("dilation"),
    Param("groups", whole=True, least=1), Param("pool", kind="pool"), _BIAS, Param("delay", (TIME, STEP), least=0),
)  # fmt: skip
#: Parameters of each connector, in the order of positional arguments.
CONNECTORS: dict[str, tuple[Param, ...]] = {
    "dense": (_MATRIX, _BIAS, _WEIGHT, _DELAY),
    "conv1d": _CONV,
    "conv2d": _CONV,
    "pool": (replace(_size("size"), required=True), _size("stride"), Param("kind", kind="word", choices=("sum", "avg")),
             Param("weight", _WEIGHTS), Param("delay", (TIME, STEP), least=0)),
    "one_to_one": (*_BOTH, Param("slice", kind="span")),
    "fixed_prob": (Param("p", required=True, least=0, most=1), *_BOTH, _SELF),
    "fixed_indegree": (Param("n", required=True, whole=True, least=0), *_BOTH, _SELF),
    "fixed_outdegree": (Param("n", required=True, whole=True, least=0), *_BOTH, _SELF),
    "distance": (Param("p", least=0, most=1, positive=True), Param("sigma", positive=True),
                 Param("radius", positive=True), *_BOTH, _SELF),
    "from_list": (Param("synapses", kind="any", required=True), *_BOTH),
    "from_file": (Param("path", kind="any", required=True), *_BOTH),
}  # fmt: skip
#: Names in PyNN, NEST, torch and lava.
CONNECTOR_ALIASES = {
    "all_to_all": "dense", "alltoall": "dense", "linear": "dense", "affine": "dense", "fully_connected": "dense",
    "fc": "dense", "gemm": "dense", "onetoone": "one_to_one", "identity": "one_to_one", "conv": "conv2d",
    "fixed_probability": "fixed_prob", "pairwise_bernoulli": "fixed_prob", "bernoulli": "fixed_prob",
    "fixed_number_pre": "fixed_indegree", "fixednumberpre": "fixed_indegree", "fixed_number_post": "fixed_outdegree",
    "fixed_total_number": "fixed_indegree", "sumpool2d": "pool", "avgpool2d": "pool", "avg_pool": "pool",
    "sum_pool": "pool", "distance_dependent": "distance", "gaussian": "distance", "list": "from_list",
}  # fmt: skip
CONNECTOR_ARGUMENT_ALIASES = {
    "w": "weight", "synaptic_weight": "weight", "padding": "pad", "kernel_size": "kernel", "strides": "stride",
    "prob": "p", "p_connect": "p", "probability": "p", "indegree": "n", "outdegree": "n", "k": "n",
    "allow_self_connections": "self", "autapses": "self", "kernel_shape": "kernel", "weights": "weight",
}  # fmt: skip


def connect(kind: str, job: Job) -> list[ProjectionOp]:
    """Make the ops of one projection.

    Raises
    ------
    Fault
        When shapes, units, weights or delays do not fit.
    """
    makers = {"dense": _dense, "conv1d": _conv, "conv2d": _conv, "pool": _pool, "one_to_one": _one_to_one}
    ops = makers[kind](kind, job) if kind in makers else sparse(job, PAIRS[kind](job))
    return [_checked(op, job) for op in ops]


def _checked(op: ProjectionOp, job: Job) -> ProjectionOp:
    try:
        made = op.result.type
        op.verify()
    except (VerifyError, ValueError) as error:
        raise job.fault(str(error)) from None
    if made.shape != job.target.pop.shape:
        name, have = job.target.pop.name, shape_text(job.target.pop.shape)
        extents = ", ".join(map(str, made.shape))
        hint = f"declare pop {name}[{extents}]"
        raise job.fault(f"this gives {shape_text(made.shape)}, but {name} is {have}", hint)
    return op


def _dense(kind: str, job: Job) -> list[ProjectionOp]:
    rows, columns = job.target.size, job.source.size
    if ("weights" in job.given) == ("weight" in job.given):
        raise job.fault("dense takes either an array of weights or weight = number", code="E0372")
    if "weights" in job.given:
        matrix = scaled(job, job.given["weights"])
        if matrix.shape != (rows, columns):
            turned = matrix.shape == (columns, rows)
            hint = "the array is transposed: rows are targets, columns sources" if turned else ""
            message = f"weights are {shape_text(matrix.shape)}, the projection needs {rows} x {columns}"
            raise Fault("E0376", job.given["weights"].pos, message, hint)
    else:
        matrix = np.empty(0)
    if rows * columns > job.limits.pairs:
        raise job.fault(f"{rows * columns:,} of at most {job.limits.pairs:,} weights", code="E0379")
    if not (job.source.whole and job.target.whole) or many_delays(job):
        return sparse(job, _all_pairs(job, matrix))
    if not matrix.size:
        key = np.arange(rows * columns, dtype=np.int64)
        drawn = weights_of(job, Pairs(key, key, key))
        matrix = np.broadcast_to(drawn, (rows, columns)) if drawn.size == 1 else drawn.reshape(rows, columns)
    shape = job.target.pop.shape if len(job.target.pop.shape) > 1 else ()
    weight = Const(f"{job.name}.w", _floats(matrix))
    return [snn.Dense(
        out=job.name, loc=job.loc, spikes=job.spikes, weight=weight, shape=shape, delay=one_delay(job)
    )]  # fmt: skip


def _floats(array: Array) -> Array:
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _all_pairs(job: Job, matrix: Array) -> Pairs:
    count = job.source.size * job.target.size
    bounded(job, count)
    key = np.arange(count, dtype=np.int64)
    row, column = np.divmod(key, job.source.size)
    weight = matrix.reshape(-1) if matrix.size else None
    return Pairs(job.source.flat()[column], job.target.flat()[row], key, weight)


def _axes(job: Job, name: str, count: int, absent: int) -> Ints:
    if name not in job.given:
        return (absent,) * count
    value = job.given[name].value
    found = (
        tuple(int(item.value) for item in value) if isinstance(value, list) else (int(value.value),) * count
    )
    if len(found) != count:
        raise Fault("E0376", job.given[name].pos, f"{name} has {len(found)} numbers for {count} axes")
    return found


def _spatial(kind: str, job: Job) -> Ints:
    if not (job.source.whole and job.target.whole):
        raise job.fault(f"{kind} needs whole populations, not slices")
    space = job.source.pop.shape[1:]
    wanted = {"conv1d": 1, "conv2d": 2}.get(kind, len(space))
    if len(space) != wanted or not space:
        extents = "channels and length" if kind == "conv1d" else "channels, height and width"
        raise job.fault(
            f"{kind} needs {extents}; {job.source.pop.name} is {shape_text(job.source.pop.shape)}"
        )
    return space


def _conv(kind: str, job: Job) -> list[ProjectionOp]:
    space = _spatial(kind, job)
    axes = len(space)
    weight = _floats(scaled(job, job.given["weights"]))
    pos = job.given["weights"].pos
    if weight.ndim != axes + 2:
        message = f"weights are {shape_text(weight.shape)}, {kind} needs {axes + 2} axes"
        raise Fault("E0376", pos, message, "targets, sources per group, then the kernel")
    if "kernel" in job.given and _axes(job, "kernel", axes, 1) != weight.shape[2:]:
        raise Fault("E0376", pos, f"the kernel of these weights is {shape_text(weight.shape[2:])}")
    stride, dilation = _axes(job, "stride", axes, 1), _axes(job, "dilation", axes, 1)
    pad = _axes(job, "pad", axes, 0)
    after = pad
    if "pool" in job.given:
        how, size = job.given["pool"].value
        weight = _through_pool(weight, size, dilation, how == "avg", job)
        after = tuple(size * item - extent % size for item, extent in zip(pad, space, strict=True))
        stride, pad = tuple(size * item for item in stride), tuple(size * item for item in pad)
        dilation = (1,) * axes
    return [snn.Conv(
        out=job.name, loc=job.loc, spikes=job.spikes, weight=Const(f"{job.name}.w", weight), stride=stride,
        pad=pad + after, dilation=dilation, groups=int(job.number_of("groups", 1)), delay=one_delay(job),
    )]  # fmt: skip


def _through_pool(weight: Array, size: int, dilation: Ints, average: bool, job: Job) -> Array:
    """Kernel over the source that does what `weight` does over its pooled source."""
    wide = tuple((k - 1) * d * size + size for k, d in zip(weight.shape[2:], dilation, strict=True))
    if prod(weight.shape[:2]) * prod(wide) > job.limits.synapses:
        raise job.fault(f"a kernel of {shape_text(wide)} after pooling is too large", code="E0379")
    made = np.zeros((*weight.shape[:2], *wide), weight.dtype)
    for offset in np.ndindex(*(size,) * len(wide)):
        steps = tuple(
            slice(o, (k - 1) * d * size + o + 1, d * size)
            for o, k, d in zip(offset, weight.shape[2:], dilation, strict=True)
        )
        made[(slice(None), slice(None), *steps)] = weight
    return made / made.dtype.type(size ** len(wide)) if average else made


def _pool(kind: str, job: Job) -> list[ProjectionOp]:
    space = _spatial(kind, job)
    size = _axes(job, "size", len(space), 1)
    stride = _axes(job, "stride", len(space), 0)
    stride = size if stride == (0,) * len(space) else stride
    channels = job.source.pop.shape[0]
    if channels * prod(size) > job.limits.synapses:
        raise job.fault(f"a window of {shape_text(size)} is too large", code="E0379")
    if "weight" in job.given:
        scale = float(scaled(job, job.given["weight"]))
    elif job.target.pop.level == VOLT:
        raise job.fault("a pool onto membranes in volts needs a weight", "add weight = 1 mV", "E0368")
    else:
        scale = 1.0
    if job.word_of("kind", "sum") == "avg":
        scale /= prod(size)
    weight = np.broadcast_to(np.float64(scale), (channels, 1, *size))
    return [snn.Conv(
        out=job.name, loc=job.loc, spikes=job.spikes, weight=Const(f"{job.name}.w", weight), stride=stride,
        pad=(0,) * 2 * len(space), dilation=(1,) * len(space), groups=channels, delay=one_delay(job),
    )]  # fmt: skip


def _one_to_one(kind: str, job: Job) -> list[ProjectionOp]:
    if "slice" in job.given:
        span, pos = job.given["slice"].value, job.given["slice"].pos
        low, high = job.source.box[0]
        if len(job.source.box) != 1 or not 0 <= span.start < span.stop <= high - low:
            message = f"slice {span.start}..{span.stop} is no part of {job.source.pop.name}"
            raise Fault("E0377", pos, message, "slice the population itself: a[0, 2..4] -> b")
        job = replace(job, source=View(job.source.pop, ((low + span.start, low + span.stop),)))
    if job.source.size != job.target.size:
        raise job.fault(f"{job.source.size} neurons cannot be paired with {job.target.size}")
    weight = job.given.get("weight")
    simple = weight is None or (not isinstance(weight.value, Random) and not weight.value.is_array)
    whole = job.source.whole and job.target.whole and job.source.shape == job.target.shape
    if simple and whole and not many_delays(job):
        scale = np.atleast_1d(weights_of(job, Pairs(*(np.zeros(1, np.int64),) * 3)))
        const = Const(f"{job.name}.w", scale)
        return [
            snn.OneToOne(out=job.name, loc=job.loc, spikes=job.spikes, weight=const, delay=one_delay(job))
        ]
    key = np.arange(job.source.size, dtype=np.int64)
    return sparse(job, Pairs(job.source.flat(), job.target.flat(), key))


def bias_of(job: Job, bound: Bound, kind: str) -> Array:
    """Give the bias of a dense or convolutional projection in the shape of its target.

    Raises
    ------
    Fault
        E0368 or E0376 when unit or shape do not fit.
    """
    numbers = np.atleast_1d(np.asarray(bound.value.value))
    target = job.target
    if bound.value.dim != (target.pop.level or bound.value.dim):
        raise Fault("E0368", bound.pos, f"the bias has not the unit of {target.pop.name}'s membrane")
    if not target.whole:
        raise Fault("E0376", bound.pos, "a bias needs the whole population as target")
    wanted = target.pop.shape[:1] if kind.startswith("conv") else (target.size,)
    if numbers.shape not in (wanted, (1,)):
        raise Fault("E0376", bound.pos, f"the bias has shape {numbers.shape}, it needs {wanted}")
    if numbers.shape == (1,):
        return numbers
    return numbers.reshape(-1, *(1,) * (len(target.pop.shape) - 1)) if kind.startswith("conv") else numbers.reshape(
        target.pop.shape
    )  # fmt: skip
