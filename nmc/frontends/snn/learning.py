"""Synapses that learn: from the connectors' projections to one ``snn.plastic``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nmc.frontends.snn.calls import Arguments
from nmc.frontends.snn.network import result_of
from nmc.frontends.snn.problems import Fault
from nmc.frontends.snn.synapses import Job
from nmc.frontends.snn.values import PLAIN, Array, Random, SynapseRule, dim_name
from nmc.ir.const import Const
from nmc.ir.op import Op, VerifyError
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Sparse
from nmc.ir.ops.plastic import Plastic
from nmc.ir.ops.snn import ProjectionOp


def learn(rule: SynapseRule, ops: Sequence[ProjectionOp], job: Job) -> list[Op]:
    """Give the ops of a projection whose synapses follow a rule.

    Raises
    ------
    Fault
        E0380 for projections that cannot learn, E0368 and E0373 for numbers that do not fit the weights.
    """
    if rule.kind == "static":
        return list(ops)
    kind = next((op.name.removeprefix("snn.") for op in ops if isinstance(op, snn.Conv)), "")
    if kind:
        hint = "learn through dense, one_to_one or a random connector"
        raise job.fault("the synapses of a convolution share their weights and cannot learn", hint, "E0380")
    if not job.target.pop.fires:
        raise job.fault(f"{job.target.pop.name} never fires, so nothing is learnt from it", code="E0380")
    numbers = _numbers(rule.arguments, job)
    source, target, weight, delay = (np.concatenate(parts) for parts in zip(*map(_listed, ops), strict=True))
    weight = _inside(weight, numbers, job)
    least = int(delay.min(initial=delay[0] if delay.size else ops[0].delay))
    late = (delay - least).astype(np.int32)
    made = Plastic(
        out=job.name, loc=job.loc, spikes=job.spikes, post=result_of(job.target.pop),
        weight=Const(f"{job.name}.w", weight), source=Const(f"{job.name}.source", source.astype(np.int32)),
        target=Const(f"{job.name}.target", target.astype(np.int32)),
        late=Const(f"{job.name}.late", late) if late.any() else None,
        shape=job.target.pop.shape, delay=least, **numbers,
    )  # fmt: skip
    try:
        made.verify()
    except VerifyError as error:
        raise job.fault(str(error)) from None
    return [made]


def _numbers(given: Arguments, job: Job) -> dict[str, Any]:
    """The rule's attributes; plain amplitudes are fractions of the range of the weights."""
    level = job.target.pop.level
    for name in ("w_min", "w_max"):
        if name in given and given[name].value.dim != level:
            have, want = dim_name(given[name].value.dim), dim_name(level or PLAIN)
            raise Fault(
                "E0368", given[name].pos, f"{name} is {have}, weights onto {job.target.pop.name} are {want}"
            )
    low = float(given["w_min"].value.value) if "w_min" in given else 0.0
    high = float(given["w_max"].value.value)
    if low > high:
        raise Fault("E0373", given["w_max"].pos, f"w_max is {high:g}, below w_min of {low:g}")
    found: dict[str, Any] = {"w_min": low, "w_max": high}
    for name in ("a_plus", "a_minus"):
        value = given[name].value
        if value.dim not in (PLAIN, level):
            raise Fault("E0368", given[name].pos, f"{name} is {dim_name(value.dim)}, the weights are not")
        found[name] = float(value.value) * (high - low if value.dim == PLAIN else 1.0)
    for name in ("plus", "minus"):
        tau = np.array([float(given[f"tau_{name}"].value.value)])
        if job.header.integrator == "euler" and tau[0] < job.header.dt:
            bound = given[f"tau_{name}"]
            raise Fault("E0373", bound.pos, f"tau_{name} is shorter than dt", "use integrator = exact")
        found[f"decay_{name}"] = float(job.header.decay(tau)[0])
    if "pairing" in given:
        found["pairing"] = given["pairing"].value
    return found


def _listed(op: ProjectionOp) -> tuple[Array, Array, Array, Array]:
    """Sources, targets, weights and delays of a projection, one each a synapse."""
    weight = op.weight.array().astype(np.float64)
    if isinstance(op, Sparse):
        source, target = op.source.array(), op.target.array()
    elif isinstance(op, snn.Dense):
        rows, columns = weight.shape
        target, source = (item.reshape(-1) for item in np.indices((rows, columns)))
        weight = weight.reshape(-1)
    else:
        source = target = np.arange(op.result.type.size)
        weight = np.broadcast_to(weight, op.result.shape).reshape(-1)
    return source, target, np.broadcast_to(weight, source.shape), np.full(source.shape, op.delay, np.int64)


def _inside(weight: Array, numbers: dict[str, Any], job: Job) -> Array:
    """Weights within their bounds: those drawn from a distribution are cut, others are refused."""
    low, high = numbers["w_min"], numbers["w_max"]
    bound = job.given.get("weight")
    if bound is not None and isinstance(bound.value, Random):
        return np.clip(weight, low, high)
    if weight.size and (weight.min() < low or weight.max() > high):
        message = f"weights of {weight.min():g} to {weight.max():g} leave w_min to w_max, {low:g} to {high:g}"
        raise job.fault(message, "change the weights or the bounds of the synapse", "E0373")
    return np.array(weight)
