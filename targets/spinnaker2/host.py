"""What the host sends into the chip: encoded data and random processes, as packets with payloads."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.ir.op import require
from nmc.ir.ops import snn, sources

_LEVELS = ("snn", "mapped")


@dataclass(frozen=True, kw_only=True)
class Input(snn.Input, name="spinnaker2.input", levels=_LEVELS):
    """An input whose events the host injects: those of ``snn.input``, but no currents and no streams.

    %x = spinnaker2.input() {source=x, shape=[1, 28, 28], encoder=burst, gain=255.0, high=255} : graded<1x28x28>
    """

    def verify(self) -> None:
        """Events only: what enters is spikes or whole numbers."""
        snn.Input.verify(self)
        require(self.encoder != "constant", "the host sends packets; a constant current is none")
        require(not self.stream, "the host starts each sample anew; there are no streams")


@dataclass(frozen=True, kw_only=True)
class Poisson(sources.Poisson, name="spinnaker2.poisson", levels=_LEVELS):
    """Counts of Poisson processes that the host draws, as ``snn.poisson`` does; a count is the payload of a packet.

    %drive = spinnaker2.poisson() {shape=[1000], mean=0.8, seed=42} : graded<1000>
    """


def adopt(op: snn.InputOp) -> Input | Poisson:
    """The same input as an op of this target."""
    given: dict[str, Any] = {spec.name: getattr(op, spec.name) for spec in fields(op)}
    return Poisson(**given) if isinstance(op, sources.Poisson) else Input(**given)


def events_bound(op: snn.InputOp, steps: int) -> tuple[int, int]:
    """The largest payload of one packet, and the largest sum of the payloads that an element sends in `steps` steps.

    Sums of ``bits`` count a digit by its place, as the populations that take digits do.
    """
    if isinstance(op, sources.Poisson):
        return op.most, op.most * steps
    assert isinstance(op, snn.Input)
    largest = max(abs(op.low), abs(op.high))
    if op.encoder in ("rate", "raster"):
        return 1, steps
    if op.encoder in ("count", "bits"):
        return 1, largest
    return largest, largest * (min(op.over, steps) if op.encoder == "const" else 1)
