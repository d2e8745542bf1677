"""Keys of spikes: | population | PE | neuron |, the fields as wide as each population needs them."""

from __future__ import annotations

from collections.abc import Mapping

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit

_SPACE = 1 << 32


@dataclass(frozen=True)
class KeyRange:
    """Keys of a box: neuron i sends `base` + i; `mask` is what all its keys have in common."""

    base: int
    mask: int


def allocate(sizes: Mapping[str, list[int]]) -> dict[str, list[KeyRange]]:
    """Give every box of every population and input keys of its own.

    Parameters
    ----------
    sizes : mapping of str to list of int
        Neurons of each box, by population.

    Raises
    ------
    DoesNotFit
        E0925 when 32 bits do not suffice.
    """
    found: dict[str, list[KeyRange]] = {}
    at = 0
    for name, boxes in sizes.items():
        neuron_bits = max(max(boxes) - 1, 0).bit_length()
        block = 1 << (neuron_bits + (len(boxes) - 1).bit_length())
        at = -(-at // block) * block
        mask = (_SPACE - 1) ^ ((1 << neuron_bits) - 1)
        found[name] = [KeyRange(at + (k << neuron_bits), mask) for k in range(len(boxes))]
        at += block
    if at > _SPACE:
        raise DoesNotFit(Diagnostic("E0925", f"the populations take {at:,} of {_SPACE:,} keys"))
    return found
