"""Presets of the discretisation record, named after the tools that they reproduce (facts/nir.md 1.5, 1.6)."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from nmc.ir.ops.neurons import Reset
from nmc.ir.record import Record

_EULER = Record(0.0, integrator="euler", reset="zero", precision="f32")

#: Each reproduces published traces of its tool (facts/nir.md 1.5) but `spikingjelly`, which follows the order of its
#: `neuronal_charge`, `neuronal_fire`, `neuronal_reset`. Rockpool: 37 of 10,240 entries of the Braille trace differ.
PRESETS = MappingProxyType({
    "nir-exact": Record(0.0),
    "snntorch": replace(_EULER, reset="subtract-guarded"),
    "norse": replace(_EULER, recurrent_bias="late"),
    "spikingjelly": replace(_EULER, compare="ge", reset="to-value"),
    "sinabs": Record(0.0, drive="impulse", compare="ge", reset="subtract", max_spikes=255, precision="f32"),
    "rockpool": Record(0.0, drive="impulse", compare="ge", reset="subtract", max_spikes=2, decay_last=True,
                       precision="f32"),
    "spyx": replace(_EULER, reset="subtract", output_delay=1),
    "lava": replace(_EULER, output_delay=1, precision="f64"),
    "lava-dl": replace(_EULER, compare="ge", output_delay=1, recurrent_bias="dropped", precision="fixed12"),
    "nengo": Record(0.0, reset="zero"),
    "spinnaker2": replace(_EULER, reset="subtract", output_delay=1, bias_site="membrane",
                          quantize="int8-trunc"),
})  # fmt: skip

#: What a preset's tool is not reproduced for: node type -> why it is refused.
REFUSED = MappingProxyType({
    ("nengo", "CubaLIF"): "147 of 10,240 entries of the published trace would differ (facts/nir.md 1.5)",
})  # fmt: skip


def preset(name: str, dt: float, reset: str | None, output_delay: int | None) -> Record:
    """The record of a preset with its step, and what the user sets otherwise.

    Parameters
    ----------
    name : str
        Key of `PRESETS`.
    dt : float
        Length of a step.
    reset : {"zero", "subtract", "to-value"} or None
        Reset instead of the preset's (NIR files do not tell it); snnTorch's "subtract" is its guarded one.
    output_delay : int or None
        Steps instead of the preset's.
    """
    kinds: dict[str, Reset] = {"zero": "zero", "subtract": "subtract", "to-value": "to-value"}
    record = replace(PRESETS[name], dt=dt)
    if reset is not None:
        guarded = name == "snntorch" and reset == "subtract"
        record = replace(record, reset="subtract-guarded" if guarded else kinds[reset])
    return record if output_delay is None else replace(record, output_delay=output_delay)
