"""Choose levels, spike code and input schedule for a run of a given number of steps.

The choice is made by what the answer after so many steps loses against the trained network on samples that did not
calibrate: of codes that are done by then all of it is the loss of counting in few levels, of signed spikes, which have
an answer at every step, also what has not settled yet. Labels are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import NmcError, fail
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann, exact, snn
from nmc.passes.convert.spike_code import Code, SpikeCode
from nmc.passes.data import fit_shape
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.search import prepared
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits
from nmc.passes.quantize.unclear import FEW_LEVELS

Array = NDArray[Any]
Schedule = Literal["burst", "spread"]

#: Codes whose events are single spikes, signed or not; ``graded`` ones carry numbers.
SPIKES: tuple[Code, ...] = ("stbif", "bit-serial", "phased-if")
#: Levels of signed spikes that are tried, those from half to one and a half times the steps; of the other codes the
#: most that fit (of binary digits one more for some layers, where steps are left).
LADDER = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
#: More than these differ from the trained network by the rounding of weights only.
_MOST = 255
#: Samples held out, at most; at least a quarter of all.
_HELD = 512
#: Share of the least divergence within which fewer levels are taken: they cost fewer events.
_NEAR = 1.02


@dataclass(frozen=True)
class Setting:
    """One way to use the steps, and what it gives on the samples held out.

    Parameters
    ----------
    levels : int
        Largest count.
    code : str
        Spike code.
    schedule : str
        How the input enters.
    divergence : float
        Of the answers from the trained network's (see `divergence`).
    agreement : float
        Share of samples whose largest output is that of the trained network.
    drop : float
        Predicted loss of accuracy in percentage points: of right answers, without labels of agreement.
    settled : bool
        Whether the run is proved to be over by then, whatever the data.
    wider : tuple of str
        Relus whose counts have one binary digit more than those of `levels`.
    """

    levels: int
    code: Code
    schedule: Schedule
    divergence: float
    agreement: float
    drop: float
    settled: bool
    wider: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f" ({2 * self.levels + 1} in {', '.join(self.wider)})" if self.wider else ""
        rest = "" if self.settled else ", may end before all has settled"
        return (
            f"{self.code}, {self.levels} levels{more}, {self.schedule}: agreement {self.agreement:.2%}, "
            f"divergence {self.divergence:.3g}{rest}"
        )


@dataclass(frozen=True)
class Budget:
    """The chosen setting, the network with its spikes, and all that were tried.

    Parameters
    ----------
    setting : Setting
        The chosen one.
    module : Module
        Level ``snn``, its attribute ``steps`` the number asked for.
    table : tuple of Setting
        In the order in which they were tried.
    """

    setting: Setting
    module: Module
    table: tuple[Setting, ...]


def choose_in_steps(
    module: Module,
    data: Array,
    steps: int,
    labels: Array | None = None,
    *,
    codes: Sequence[Code] = SPIKES,
    schedules: Sequence[Schedule] = ("burst", "spread"),
    base: Quantize | None = None,
    uneven: bool = True,
    sink: Callable[[Setting], None] | None = None,
) -> Budget:
    """Find the setting whose answers after `steps` steps come nearest to the trained network's.

    Parameters
    ----------
    module : Module
        A trained network with one input and one output, level ``ann``.
    data : (N, ...) array
        Samples in the range that the network takes; the last quarter of them, at most 512, is held out.
    steps : int
        Time steps, without the latency of a chip.
    labels : (N,) array, optional
        Right answers, for the loss that is told; they do not change the choice.
    codes : sequence of str
        Spike codes that may be taken.
    schedules : sequence of str
        How the input may enter.
    base : Quantize, optional
        Further options of the quantisation.
    uneven : bool
        Whether some layers may have a binary digit more than the others where steps are left.
    sink : callable, optional
        Is given each setting once it is known.

    Raises
    ------
    NmcError
        E0404 for fewer than four samples, E0407 where no code gives an answer in so many steps.
    """
    work = _Trials(
        prepared(module, np.asarray(data), free=True),
        np.asarray(data),
        labels,
        steps,
        schedules,
        base or Quantize(),
        uneven,
    )
    found: list[tuple[Setting, Module]] = []
    for made in (item for code in codes for item in work.settings(code)):
        found.append(made)
        if sink:
            sink(made[0])
    if not found:
        raise fail("E0407", f"no spike code among {', '.join(codes)} gives an answer in {steps} steps")
    least = min(item.divergence for item, _ in found)
    near = [made for made in found if made[0].divergence <= _NEAR * least]
    setting, network = min(near, key=lambda made: (not made[0].settled, made[0].levels))
    return Budget(setting, network.with_attrs(steps=steps), tuple(item for item, _ in found))


class _Trials:
    """The data, split, and the integer networks made so far."""

    def __init__(
        self,
        module: Module,
        data: Array,
        labels: Array | None,
        steps: int,
        schedules: Sequence[Schedule],
        base: Quantize,
        uneven: bool = True,
    ) -> None:
        inputs = module.of_type(ann.Input)
        if len(inputs) != 1 or len(data) < 4:
            told = f"a search needs one input and four samples; {len(inputs)} and {len(data)} are there"
            raise fail("E0404", told)
        shaped = fit_shape(data, inputs[0].shape)
        cut = len(shaped) - min(_HELD, max(1, len(shaped) // 4))
        self._module, self._base, self._steps, self._schedules = module, base, steps, schedules
        self._uneven = uneven
        self._first, self._held = shaped[:cut], {inputs[0].out: shaped[cut:]}
        self._labels = None if labels is None else np.asarray(labels)[cut:]
        self._real = trained_logits(module, self._held)
        self._made: dict[tuple[int, tuple[str, ...]], Module] = {}

    def settings(self, code: Code) -> Iterator[tuple[Setting, Module]]:
        """What a code can do in the steps."""
        if code != "stbif":
            levels = self._most(code)
            for wider in self._wider(levels, code) if levels else ():
                yield self._tried(levels, code, "burst", wider)
            return
        for levels in (count for count in LADDER if self._steps <= 2 * count <= 3 * max(self._steps, 2)):
            for schedule in self._schedules:
                if schedule == "burst" and levels > self._steps > 1:
                    continue  # at once, a count grows by one a step: there is no time for the upper ones
                made = self._tried(levels, code, schedule)
                yield made
                if made[0].settled:
                    break  # in another schedule the same

    def _most(self, code: Code) -> int:
        """The most levels with which a code of fixed times is done; 0 for none."""
        network, best = self._any(), 0
        for levels in (2**bits - 1 for bits in range(1, 9)) if code == "bit-serial" else range(1, _MOST + 1):
            if self._bound(network, levels, code) > self._steps:
                break
            best = levels
        return best

    def _any(self) -> Module:
        """An integer network of whatever levels."""
        return next(iter(self._made.values()), None) or self._integer(FEW_LEVELS)

    def _wider(self, levels: int, code: Code) -> list[tuple[str, ...]]:
        """Which relus may have a digit more in the steps that are left: none, the first that can, the last that can."""
        found: list[tuple[str, ...]] = [()]
        if code != "bit-serial" or levels >= _MOST or not self._uneven:
            return found
        network = self._any()
        relus = {op.out for op in self._module.of_type(ann.Relu) if not op.levels}
        names = [op.out for op in network.of_type(exact.Graded) if op.out in relus]
        for order in (names, names[::-1]):
            kept: list[str] = []
            for name in order:
                if self._bound(network, levels, code, (*kept, name)) <= self._steps:
                    kept.append(name)
            wider = tuple(name for name in names if name in kept)
            if wider not in found:
                found.append(wider)
        return found

    def _bound(self, network: Module, levels: int, code: Code, wider: tuple[str, ...] = ()) -> int:
        """Steps of a run with other levels than the network was made with; too many where the code cannot carry it."""

        def other_levels(op: Op) -> Op:
            own = 2 * levels + 1 if op.out in wider else levels
            return replace(op, levels=own) if isinstance(op, exact.Graded) else op

        other = network.map_ops(other_levels)
        try:
            return int(SpikeCode(code=code, schedule="burst").run(other).attr("steps"))
        except NmcError:
            return self._steps + 1

    def _integer(self, levels: int, wider: tuple[str, ...] = ()) -> Module:
        """The integer network with so many levels."""
        if (levels, wider) not in self._made:
            own = tuple((name, 2 * levels + 1) for name in wider)
            samples = self._first if levels <= FEW_LEVELS else self._first[: self._base.limit or 1000]
            few = samples if levels <= FEW_LEVELS else samples[:256]
            calibrate = Calibrate(samples=few, levels=levels, layer_levels=own)
            quantize = replace(self._base, samples=samples, levels=levels, layer_levels=own)
            self._made[levels, wider] = quantize.run(calibrate.run(self._module))
        return self._made[levels, wider]

    def _tried(
        self, levels: int, code: Code, schedule: Schedule, wider: tuple[str, ...] = ()
    ) -> tuple[Setting, Module]:
        """Quantise, choose the code, and compare on the samples held out."""
        network = self._integer(levels, wider)
        coded = SpikeCode(code=code, schedule=schedule).run(network)
        settled = coded.attr("steps") <= self._steps
        found = integer_logits(network, self._held) if settled else self._in_time(coded)
        apart = float(f"{divergence(self._real, found):.3g}")
        answers, trained = found.argmax(axis=1), self._real.argmax(axis=1)
        agreement = float((answers == trained).mean())
        drop = 100 * (1 - agreement)
        if self._labels is not None:
            drop = 100 * float((trained == self._labels).mean() - (answers == self._labels).mean())
        return Setting(levels, code, schedule, apart, agreement, drop, settled, wider), coded

    def _in_time(self, coded: Module) -> Array:
        """Outputs after the steps, (N, elements)."""
        (source,) = coded.of_type(snn.Input)
        (held,) = self._held.values()
        outputs = run_snn(coded, {source.source: held}, self._steps).outputs
        return next(iter(outputs.values())).reshape(len(held), -1)
