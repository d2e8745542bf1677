"""CP-SAT as every step of mapping runs it: one worker, a fixed seed, deterministic limits; and who hears its log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand every line that CP-SAT logs within the block to `listener`; what is found stays the same.

    Parameters
    ----------
    listener : callable
        Gets a text of one or more lines.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def solver(limit: float, what: str) -> cp_model.CpSolver:
    """Make a solver that ends after the same steps on every machine.

    Parameters
    ----------
    limit : float
        Deterministic time.
    what : str
        The question, for the log.
    """
    from ortools.sat.python import cp_model

    made = cp_model.CpSolver()
    made.parameters.num_workers = 1
    made.parameters.random_seed = 1
    made.parameters.max_deterministic_time = limit
    made.parameters.max_time_in_seconds = float("inf")
    listener = _listener.get()
    if listener is not None:
        listener(f"-- CP-SAT: {what}, deterministic time {limit:.3g} at most --")
        made.parameters.log_search_progress = True
        made.parameters.log_to_stdout = False
        made.log_callback = listener
    return made
