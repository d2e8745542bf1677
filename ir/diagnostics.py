"""What nmc says to a person when something is wrong: diagnostics with a code, a place and a way out.

Every user-facing failure is a list of `Diagnostic` values carried by one `NmcError`, so that all problems of
a run are told at once. The command line maps the exception's class to an exit code (1 user error, 2 does not
fit, 3 internal); nothing below the command line prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Literal

from nmc.ir.dataclass import dataclass

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Diagnostic:
    """One problem, told so that a person can act on it.

    Parameters
    ----------
    code : str
        Stable code such as ``"E0203"``; `docs/errors.md` lists all of them.
    message : str
        What is wrong, with the numbers ("17,310 of 16,384 words").
    severity : {"error", "warning", "note"}
        Only errors stop a run.
    where : str
        File with line and column, ONNX node, op or core that it is about.
    hint : str
        What to do about it.
    """

    code: str
    message: str
    severity: Severity = "error"
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.severity}[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.hint:
            lines.append(f"  help: {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, str]:
        """Give the diagnostic as a JSON object {code, severity, message, location, hint}."""
        fields = asdict(self)
        fields["location"] = fields.pop("where")
        return fields


class NmcError(Exception):
    """A failure that is the user's to mend: exit code 1, no traceback.

    Parameters
    ----------
    diagnostics : Diagnostic or iterable of Diagnostic
        Everything that was found wrong, at least one.
    """

    exit_code = 1

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (
            (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        )
        super().__init__("\n".join(str(d) for d in self.diagnostics))


class DoesNotFit(NmcError):
    """The network exceeds a limit of the target: exit code 2."""

    exit_code = 2


def fail(code: str, message: str, *, where: str = "", hint: str = "") -> NmcError:
    """Make the exception for one error; the caller raises it."""
    return NmcError(Diagnostic(code, message, "error", where, hint))
