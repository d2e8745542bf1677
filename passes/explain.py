"""What passes tell besides their result: why rules did not apply, and statistics such as those of solvers.

The log is found through a context variable, so that a rule needs no extra argument and compilations that run
side by side do not see each other's notes. Without a log, notes cost one look-up and go nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op
from nmc.ir.verify import describe


@dataclass(frozen=True)
class Explanation:
    """What became of one rule at one op.

    Parameters
    ----------
    pass_name, rule : str
        The pass and its rule.
    op : str
        The op and its place.
    reason : str
        Why the rule did not apply; empty when it did.
    """

    pass_name: str
    rule: str
    op: str
    reason: str = ""

    def __str__(self) -> str:
        told = f"not applied: {self.reason}" if self.reason else "applied"
        return f"{self.pass_name}: {self.rule}: {self.op}: {told}"


@dataclass
class ExplainLog:
    """Collects explanations and statistics while passes run.

    Parameters
    ----------
    explain : str
        The pass whose rules are explained; ``"all"`` for every pass, empty for none.
    """

    explain: str = ""
    stats: dict[str, float | int | str] = field(default_factory=dict)
    _notes: dict[tuple[str, str, str], Explanation] = field(default_factory=dict)

    def wants(self, pass_name: str) -> bool:
        """Whether notes about a pass are kept."""
        return self.explain in ("all", pass_name)

    def note(self, pass_name: str, rule: str, op: Op, reason: str = "") -> None:
        """Keep what became of a rule at an op; the last word about the same op counts."""
        if self.wants(pass_name):
            key = (pass_name, rule, op.out or str(op.operands))
            if key not in self._notes or self._notes[key].reason:
                self._notes[key] = Explanation(pass_name, rule, describe(op), reason)

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """All notes, in the order in which the rules first looked at the ops."""
        return tuple(self._notes.values())


_LOG: ContextVar[ExplainLog | None] = ContextVar("nmc_explain_log", default=None)


def current_log() -> ExplainLog | None:
    """The log of the pipeline that is running, if it keeps one."""
    return _LOG.get()


@contextmanager
def recording(log: ExplainLog) -> Iterator[ExplainLog]:
    """Collect notes in `log` inside the ``with`` block."""
    token = _LOG.set(log)
    try:
        yield log
    finally:
        _LOG.reset(token)


def report_stats(**numbers: float | int | str) -> None:
    """Tell ``--timing`` what a pass or solver did (``branches=812, gap=0.0``)."""
    log = _LOG.get()
    if log is not None:
        log.stats.update(numbers)
