"""The compartments of one core: registers, profiles, configuration and state, decoded and checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.targets.loihi.layout import ADD, MAX_CX, PASS, Compat, CoreImage, Ints, active_compartments

NEVER = 1 << 62
# lava fixed_pt clips v to this whatever the registers say (facts 2.3 row 5).
LAVA_V_LIMIT = (1 << 23) - 1


@dataclass(frozen=True, eq=False)
class Compartments:
    """Parameters of the active compartments, in ascending order of compartment number.

    Attributes
    ----------
    cx : compartment numbers; position : their inverse over 1,024 numbers, -1 where inactive
    keep_u, keep_v : 4096 minus the effective decays
    bias : mantissa << exponent
    threshold : vth << 6, out of reach where the compartment never spikes
    refract : refractory delay
    u, v, count : initial state and refractory counter
    somas : positions that add the v of the position before, those of one array after those of the array before
    v_low, v_high : limits of v, None for none
    capacity, max_delay : what delay_bits leaves
    """

    cx: Ints
    position: Ints
    keep_u: Ints
    keep_v: Ints
    bias: Ints
    threshold: Ints
    refract: Ints
    u: Ints
    v: Ints
    count: Ints
    somas: tuple[Ints, ...]
    v_low: int | None
    v_high: int | None
    capacity: int
    max_delay: int


def decode_compartments(image: CoreImage, compat: Compat) -> Compartments:
    """Decode the compartments of a core.

    Raises
    ------
    NmcError
        E0520 registers, E0521 profiles, E0522 features that are not emulated, E0526, E0529 stacks.
    """
    where = f"core {image.core}"
    reg = {name: int(value[0]) for name, value in image.fields("core_cfg").items()}
    problems = _check_registers(reg, where)
    active = active_compartments(image.tables["cx_meta"])
    cx = np.flatnonzero(active)
    capacity = min(MAX_CX, 8192 >> reg["delay_bits"])
    if cx.size and cx[-1] >= min(capacity, 4 * reg["num_updates"]):
        text = (
            f"compartment {cx[-1]} is active, but num_updates {reg['num_updates']} and "
            f"delay_bits {reg['delay_bits']} allow {min(capacity, 4 * reg['num_updates'])} compartments"
        )
        problems.append(Diagnostic("E0526", text, where=where))
    cfg = {name: value[cx] for name, value in image.fields("cx_cfg").items()}
    prof = {name: value[cfg["cx_profile"]] for name, value in image.fields("cx_profile").items()}
    vth = {name: value[cfg["vth_profile"]] for name, value in image.fields("vth_profile").items()}
    problems += _check_profiles(cx, prof, vth["use_soma_vth"], where)
    problems += _check_stacks(cx, prof, where)
    if problems:
        raise NmcError(problems)
    state = {name: value[cx] for name, value in image.fields("cx_state").items()}
    position = np.full(MAX_CX, -1, np.int64)
    position[cx] = np.arange(cx.size)
    v_low, v_high = _v_limits(reg, compat)
    return Compartments(
        cx=cx,
        position=position,
        keep_u=4096 - prof["decay_u"] - reg["ds_offset"],
        keep_v=np.where(prof["join_op"] == PASS, 0, 4096 - prof["decay_v"] - reg["dm_offset"]),
        bias=cfg["bias"] << cfg["bias_exp"],
        threshold=np.where(prof["threshold_op"] == 0, vth["vth"] << 6, NEVER),
        refract=prof["refract_delay"],
        u=state["u"],
        v=state["v"],
        count=state["refract"],
        somas=_chain(prof["stack_in"] == 2),
        v_low=v_low,
        v_high=v_high,
        capacity=capacity,
        max_delay=(1 << reg["delay_bits"]) - 2,
    )


def _chain(pops: NDArray[np.bool_]) -> tuple[Ints, ...]:
    """Positions that pop, by how many pops in a row end there: a chain is worked off from its front."""
    position = np.arange(pops.size)
    last = np.maximum.accumulate(np.where(pops, -1, position)) if pops.size else position
    depth = position - last
    return tuple(np.flatnonzero(depth == level) for level in range(1, int(depth.max(initial=0)) + 1))


def _v_limits(reg: dict[str, int], compat: Compat) -> tuple[int | None, int | None]:
    if compat == "brian2loihi":
        return None, None
    if compat == "lava":
        return -LAVA_V_LIMIT, LAVA_V_LIMIT
    return -(1 << reg["neg_vm_limit"]) + 1, (1 << (9 + 2 * reg["pos_vm_limit"])) - 1


def _check_registers(reg: dict[str, int], where: str) -> list[Diagnostic]:
    problems = []
    if not 1 <= reg["delay_bits"] <= 6:
        problems.append(Diagnostic("E0520", f"delay_bits {reg['delay_bits']} is not in 1..6", where=where))
    if reg["neg_vm_limit"] > 23:
        problems.append(Diagnostic("E0520", f"neg_vm_limit {reg['neg_vm_limit']} exceeds 23", where=where))
    if reg["num_updates"] > MAX_CX // 4:
        problems.append(
            Diagnostic("E0520", f"num_updates {reg['num_updates']} exceeds {MAX_CX // 4}", where=where)
        )
    if reg["num_stdp"]:
        problems.append(Diagnostic("E0522", "learning is not emulated", where=where))
    return problems


def _check_profiles(cx: Ints, prof: dict[str, Ints], dynamic_vth: Ints, where: str) -> list[Diagnostic]:
    spikes = prof["threshold_op"] == 0
    rules = (
        (
            spikes & (prof["refract_delay"] == 0),
            "E0521",
            "refract_delay must be 1..63 in a spiking compartment",
        ),
        (~np.isin(prof["threshold_op"], (0, 2)), "E0522", "only threshold_op 0 and 2 are emulated"),
        (prof["enable_noise"] > 0, "E0522", "noise is not emulated (its generator is not public)"),
        (prof["bap_action"] > 0, "E0522", "bap_action is not emulated"),
        (~np.isin(prof["stack_in"], (0, 2)), "E0522", "only stack_in 0 and 2 are emulated"),
        (~np.isin(prof["stack_out"], (0, 1)), "E0522", "only stack_out 0 and 1 are emulated"),
        (
            ~np.isin(prof["join_op"], (0, PASS, ADD)),
            "E0522",
            "only join_op 0, 5 (pass), 6 (add) are emulated",
        ),
        (dynamic_vth > 0, "E0522", "dynamic thresholds are not emulated"),
    )
    return _tell(rules, cx, where)


def _check_stacks(cx: Ints, prof: dict[str, Ints], where: str) -> list[Diagnostic]:
    """A pop needs a push in the compartment right before it, and a join; pushers do not spike."""
    pops, pushes = prof["stack_in"] == 2, prof["stack_out"] == 1
    fed = np.zeros(cx.size, bool)
    fed[1:] = pushes[:-1] & (np.diff(cx) == 1)
    rules = (
        (pops & ~fed, "E0529", "a compartment pops, but the one right before it does not push"),
        (pops != (prof["join_op"] > 0), "E0529", "stack_in 2 and join_op 5 or 6 go together"),
        (pushes & (prof["threshold_op"] != 2), "E0529", "a compartment that pushes must have threshold_op 2"),
    )
    return _tell(rules, cx, where)


def _tell(rules: tuple[tuple[NDArray[np.bool_], str, str], ...], cx: Ints, where: str) -> list[Diagnostic]:
    found = ((np.flatnonzero(mask), code, text) for mask, code, text in rules)
    return [
        Diagnostic(code, f"{text} (compartment {cx[bad[0]]}, {bad.size} in all)", where=where)
        for bad, code, text in found
        if bad.size
    ]
