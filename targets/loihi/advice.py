"""What the ``@`` behind a statement of a program asks of this target: ``@quantize(bits = N)`` behind a projection."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.targets.loihi.layout import WEIGHT_BITS

_QUANTIZE = re.compile(r"quantize\(bits=(\d{1,4})(?:\.0)?\)")
#: What ``relay-delays`` calls the relays of a population.
_RELAY = re.compile(r"\.late\d+_*$")


def weight_bits(module: Module) -> dict[str, int]:
    """Give the weight bits that projections ask for, by name of the projection.

    Parameters
    ----------
    module : Module
        Its attribute ``hints`` maps names of populations, and ``source -> target``, to advice.

    Raises
    ------
    NmcError
        E0640 for advice that this target does not know or that contradicts itself, E0618 for a number of bits that
        Loihi does not have.
    """
    found: dict[str, int] = {}
    problems: list[Diagnostic] = []
    for place, text in dict(module.attr("hints") or {}).items():
        numbers = set()
        for item in str(text).split("; "):
            match = _QUANTIZE.fullmatch(item)
            if match is None or " -> " not in place:
                hint = "known is @quantize(bits = 8) behind a projection"
                problems.append(Diagnostic("E0640", f"Loihi knows no advice {item} for {place}", hint=hint))
            elif int(match[1]) not in WEIGHT_BITS[1:]:
                legal = ", ".join(map(str, WEIGHT_BITS[1:]))
                message = f"Loihi has no weights of {match[1]} bits ({place})"
                problems.append(Diagnostic("E0618", message, hint=f"bits may be {legal}"))
            else:
                numbers.add(int(match[1]))
        names = [op.out for op in _between(module, place)]
        if len(numbers) > 1:
            message = f"{place} is to have weights of {' and '.join(map(str, sorted(numbers)))} bits"
            problems.append(
                Diagnostic("E0640", message, hint="give all projections between the two the same bits")
            )
        elif numbers and not names:
            message = f"{place} has no synapses whose weights could have {numbers.pop()} bits"
            problems.append(Diagnostic("E0640", message))
        elif numbers:
            found |= dict.fromkeys(names, numbers.pop())
    if problems:
        raise NmcError(problems)
    return found


def _between(module: Module, place: str) -> Iterator[snn.ProjectionOp]:
    """Projections from one population to another, through relays too."""
    source, _, target = place.partition(" -> ")
    for op in module.ops:
        if not isinstance(op, snn.ProjectionOp) or _RELAY.sub("", op.spikes.name) != source:
            continue
        if any(user.out == target for user in module.users.get(op.out, ())):
            yield op
