"""How an exporter hid dt in r: every formula of facts/nir.md 1.6 is tried, nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmc.frontends.nir.primitives import Array, Node
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail

CONVENTIONS = ("nir", "snntorch", "spikingjelly", "sinabs", "rockpool", "spyx")
# Norse writes the equations as they stand, tau in seconds and r = 1: its NIR export in the paper's files
ALIASES = {"norse": "nir"}
_CLOSE = 1e-4


@dataclass(frozen=True)
class Convention:
    """What r and the time constants of a file mean.

    Parameters
    ----------
    name : str
        One of `CONVENTIONS`.
    dt : float
        Step, in the unit of the file's time constants.
    evidence : tuple of str
        What was found, for people.
    """

    name: str
    dt: float
    evidence: tuple[str, ...] = ()

    def resistance(self, node: Node) -> Array:
        """The r that NIR's equations need for what the exporter meant."""
        if self.name == "spyx":  # ignores r: a unit step of the current is a unit step of the potential
            tau = _tau(node)
            return np.asarray(1.0 / self.dt) if tau is None else tau / self.dt
        r = node.array("r").astype(np.float64)
        if self.name == "rockpool" and (tau := _tau(node)) is not None:
            return np.asarray(r * np.exp(self.dt / tau))  # it decays after the input
        return r


@dataclass(frozen=True)
class _Fit:
    """A convention that fits, with its dt (None: it must be given); `gain` tells those apart that differ."""

    name: str
    dt: float | None
    gain: str
    why: str


def _tau(node: Node) -> Array | None:
    key = next((key for key in ("tau", "tau_mem") if key in node.fields), None)
    return None if key is None else node.array(key).astype(np.float64)


def choose(nodes: Sequence[Node], wanted: str, dt: float | None, file: str) -> Convention:
    """Find out what r means.

    Parameters
    ----------
    nodes : sequence of Node
        All neurons with an r.
    wanted : str
        One of `CONVENTIONS`, or ``auto``.
    dt : float or None
        Step, where the user gives it.
    file : str
        For the diagnostic.

    Raises
    ------
    NmcError
        E0346 when none or several fit, when dt is needed and not given, or contradicts the file.
    """
    if not nodes:
        return Convention("nir", dt or 1.0, ("no neuron has an r: dt does not matter",))
    if wanted != "auto":
        return _named(nodes, wanted, dt, file)
    fits = [fit for name in CONVENTIONS if (fit := _try(name, nodes, dt)) is not None]
    told = tuple(f"{fit.name}: {fit.why}" for fit in fits)
    sure = [fit for fit in fits if fit.dt is not None]
    distinct = {(fit.gain, f"{fit.dt:.4g}") for fit in sure}
    if len(distinct) == 1:
        best = sure[0]
        assert best.dt is not None
        agreeing = " or ".join(fit.name for fit in sure)
        return Convention(best.name, best.dt, (f"verdict: {agreeing}, dt = {best.dt:.6g}", *told))
    others = [name for name in CONVENTIONS if name not in {fit.name for fit in fits}]
    what = (
        "no exporter's formula fits r"
        if not fits
        else "dt is needed"
        if not sure
        else "several conventions fit"
    )
    raise fail(
        "E0346",
        f"{what}: {'; '.join(told) or 'none'}; {_range(nodes)}; not {', '.join(others) or 'any other'}",
        where=file,
        hint="give --dt, and --convention nir|snntorch|spikingjelly|sinabs|rockpool|spyx",
    )


def _range(nodes: Sequence[Node]) -> str:
    values = np.concatenate([node.array("r").reshape(-1) for node in nodes])
    return f"r is {values.min():.6g} to {values.max():.6g}"


def _named(nodes: Sequence[Node], name: str, dt: float | None, file: str) -> Convention:
    fit = _try(name, nodes, dt, strict=False)
    step = dt if dt is not None else fit.dt if fit is not None else None
    if step is None:
        raise fail(
            "E0346",
            f"dt is needed: the convention {name} does not tell it here",
            where=file,
            hint="give --dt",
        )
    if fit is None and name not in ("nir", "spyx"):
        raise fail(
            "E0346",
            f"r does not follow the formula of {name} with dt = {step:.6g}; {_range(nodes)}",
            where=file,
            hint="use --convention auto to see which formula fits",
        )
    why = fit.why if fit is not None else "as the user says"
    return Convention(name, 1.0 if name == "sinabs" else step, (f"{name}: {why}",))


def _try(name: str, nodes: Sequence[Node], dt: float | None, strict: bool = True) -> _Fit | None:
    """Test the formula of one exporter on all neurons."""
    if name == "nir":
        ones = all(_near(node.array("r"), 1.0) and _near(node.array("w_in", 1.0), 1.0) for node in nodes)
        why = "r = 1, equations as written" + ("" if dt else "; needs dt")
        return _Fit(name, dt, "r", why) if ones or not strict else None
    if name == "sinabs":
        return _sinabs(nodes)
    leaky = all(_tau(node) is not None for node in nodes)
    if name == "spikingjelly" and leaky and all(_near(node.array("r"), 1.0) for node in nodes):
        cuba = any("tau_syn" in node.fields for node in nodes)
        return None if cuba else _Fit(name, dt, "r", "r = 1 (decay_input)" + ("" if dt else "; needs dt"))
    steps = [_steps(name, node) for node in nodes]
    if any(step is None for step in steps):
        return None
    joined = np.concatenate([step.reshape(-1) for step in steps if step is not None])
    if not joined.size:
        return _Fit(name, 1.0, "one", "IF with r = 1") if name == "spyx" else None
    middle = float(np.median(joined))
    if middle <= 0 or not _near(joined, middle):
        return None
    found = float(f"{middle:.3g}")
    wrong = not _near(middle, found) or (dt is not None and not _near(found, dt))
    if wrong or (name == "snntorch" and strict and not _near(found, 1e-4)):
        return None
    formula = {"snntorch": "r = tau/dt", "spikingjelly": "r = tau/dt, IF r = 1/dt",
               "rockpool": "r = tau exp(-dt/tau)/dt", "spyx": "r = 1 - dt/tau"}[name]  # fmt: skip
    return _Fit(name, found, "one", f"{formula} gives dt = {found:.6g} for all {joined.size} neurons")


def _sinabs(nodes: Sequence[Node]) -> _Fit | None:
    """R = 1 everywhere, and time constants counted in steps."""
    taus = [tau for node in nodes if (tau := _tau(node)) is not None]
    plain = all(_near(node.array("r"), 1.0) and "tau_syn" not in node.fields for node in nodes)
    if not plain or any(bool((tau < 1.0).any()) for tau in taus):
        return None
    return _Fit("sinabs", 1.0, "r" if taus else "one", "r = 1, time constants in steps of dt = 1")


def _steps(name: str, node: Node) -> Array | None:
    """The dt that each parameter of a node implies, empty where none does, None where the formula fails."""
    r, tau = node.array("r").astype(np.float64), _tau(node)
    if bool((r <= 0).any()):
        return None
    if tau is None:
        if name == "spikingjelly":
            return np.asarray(1.0 / r)
        return np.zeros(0) if name == "spyx" and _near(r, 1.0) else None
    if name == "spyx":
        return np.asarray(tau * (1.0 - r)) if bool((r < 1.0).all()) else None
    if name == "rockpool":
        return _rockpool(tau, r)
    if bool((r <= 1.0).any()):  # Euler's decay 1 - dt/tau = 1 - 1/r would not be positive
        return None
    found = np.asarray(tau / r).reshape(-1)
    if "tau_syn" in node.fields:
        w_in = node.array("w_in", 1.0).astype(np.float64)
        if bool((w_in <= 0).any()):
            return None
        found = np.concatenate([found, np.asarray(node.array("tau_syn") / w_in).reshape(-1)])
    return found


def _rockpool(tau: Array, r: Array) -> Array | None:
    """Solve r = tau exp(-dt/tau) / dt for dt by Newton's method on x + ln x = -ln r, x = dt / tau."""
    x = np.asarray(1.0 / (1.0 + r))
    for _ in range(50):
        x = np.maximum(x - (x + np.log(x) + np.log(r)) / (1.0 + 1.0 / x), 1e-12)
    return np.asarray(x * tau)


def _near(values: Array | float, to: float) -> bool:
    return bool(np.all(np.abs(np.asarray(values) - to) <= _CLOSE * abs(to)))
