"""What every placer answers: a placement and what is proved about it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.dataclass import dataclass


@dataclass(frozen=True)
class Placement:
    """A placement and what is proved about it.

    Attributes
    ----------
    site : tuple[int, ...]
        Site of each part, all different.
    objective : int
        Sum over all ordered pairs of parts of traffic[i, j] * distance[site_i, site_j].
    bound : int
        Proven lower bound on the objective of every lawful placement.
    gap : float
        (objective - bound) / objective, 0.0 if the objective is 0.
    status : str
        "optimal" if the bound reaches the objective, else "feasible".
    method : str
        Steps that led to the answer, e.g. "snake+anneal+cp-sat", "levels+anneal".
    bounds : tuple[tuple[str, int], ...]
        Every bound computed, by name.
    """

    site: tuple[int, ...]
    objective: int
    bound: int
    gap: float
    status: str
    method: str
    bounds: tuple[tuple[str, int], ...]

    @property
    def bound_name(self) -> str:
        """The bound that is largest (the first of equals)."""
        return max(self.bounds, key=lambda item: item[1])[0]


def report(site: ArrayLike, objective: int, proved: Mapping[str, int], method: str) -> Placement:
    """The answer with the best bound and the gap it leaves."""
    bound = max(proved.values())
    gap = (objective - bound) / objective if objective else 0.0
    status = "optimal" if bound == objective else "feasible"
    chosen: NDArray[np.int64] = np.asarray(site, np.int64)
    return Placement(tuple(chosen.tolist()), objective, bound, gap, status, method, tuple(proved.items()))
