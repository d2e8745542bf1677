"""Choose the width of each layer's weights: narrow ones where they cost least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits

Array = NDArray[Any]

#: Widths that a layer may be lowered to, one after the other.
LADDER = (8, 6, 5, 4, 3, 2)
#: Samples that the cost of a width is measured on.
_SAMPLES = 128


@dataclass(frozen=True)
class Assignment:
    """Widths and what they cost.

    Parameters
    ----------
    bits : dict of str to int
        Bits of each layer's weights.
    average : float
        Bits of a weight on average.
    cost : dict of str to dict of str to float
        Divergence that each layer alone causes at each width, relative to all at the widest, by name and width.
    disagreement : float
        Share of samples whose largest output is not that of the trained network.
    """

    bits: dict[str, int]
    average: float
    cost: dict[str, dict[str, float]]
    disagreement: float


def assign_bits(
    module: Module,
    inputs: Mapping[str, Array],
    sizes: Mapping[str, int],
    quantised: Callable[[Mapping[str, int]], Module],
    average: float,
    drop: float = 1.0,
) -> Assignment:
    """Lower widths greedily until their average is reached.

    Each layer's cost is measured alone; costs are taken to add up (as in HAWQ, Dong et al. 2019), and the next step
    down is the one that costs least for each bit saved. The last steps are undone while the network as a whole
    disagrees with the trained one on more than `drop` of the samples.

    Parameters
    ----------
    module : Module
        The calibrated network, level ``ann``.
    inputs : mapping of str to (N, *shape) array
        Calibration data.
    sizes : mapping of str to int
        Weights of each layer, by the name that `quantised` takes.
    quantised : callable
        Gives the integer network for widths by layer.
    average : float
        Bits of a weight, on average, to come down to.
    drop : float
        Share of samples that may be answered otherwise.

    Returns
    -------
    Assignment
        With the widths of all layers.

    Raises
    ------
    NmcError
        E0607 when even the widest weights disagree on more than `drop`.
    """
    some = {name: data[:_SAMPLES] for name, data in inputs.items()}
    real = trained_logits(module, some)

    def measured(bits: Mapping[str, int]) -> tuple[float, float]:
        found = integer_logits(quantised(bits), some)
        return divergence(real, found), float((found.argmax(axis=1) != real.argmax(axis=1)).mean())

    cost = _costs(sizes, lambda bits: measured(bits)[0])
    steps = _descent(cost, sizes, average)
    while True:
        bits = dict(steps[-1])
        disagreement = measured(bits)[1]
        if disagreement <= drop:
            break
        steps.pop()
        if not steps:
            message = f"with all layers at {LADDER[0]} bits {disagreement:.2%} of the samples are answered otherwise"
            raise fail("E0607", message, hint="use more levels, or allow a larger drop")
    told = {
        name: {str(width): float(f"{item:.3g}") for width, item in row.items()} for name, row in cost.items()
    }
    return Assignment(bits, _average(bits, sizes), told, disagreement)


def _costs(
    sizes: Mapping[str, int], apart: Callable[[Mapping[str, int]], float]
) -> dict[str, dict[int, float]]:
    """Divergence that each layer alone adds at each width."""
    widest = dict.fromkeys(sizes, LADDER[0])
    base = apart(widest)
    cost: dict[str, dict[int, float]] = {}
    for name in sizes:
        lower = {bits: max(apart({**widest, name: bits}) - base, 0.0) for bits in LADDER[1:]}
        cost[name] = {LADDER[0]: 0.0, **lower}
    return cost


def _descent(
    cost: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], average: float
) -> list[dict[str, int]]:
    """All assignments on the way down, the widest first."""
    steps = [dict.fromkeys(sizes, LADDER[0])]
    while _average(steps[-1], sizes) > average:
        bits = steps[-1]
        lower = {name: LADDER[LADDER.index(width) + 1] for name, width in bits.items() if width > LADDER[-1]}
        if not lower:
            break

        def price(name: str, bits: dict[str, int] = bits, lower: dict[str, int] = lower) -> float:
            saved = (bits[name] - lower[name]) * max(sizes[name], 1)
            return (cost[name][lower[name]] - cost[name][bits[name]]) / saved

        cheapest = min(lower, key=price)
        steps.append({**bits, cheapest: lower[cheapest]})
    return steps


def _average(bits: Mapping[str, int], sizes: Mapping[str, int]) -> float:
    return sum(bits[name] * size for name, size in sizes.items()) / max(sum(sizes.values()), 1)
