"""From a calibrated network to an integer one that every target can run exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import NmcError, fail
from nmc.ir.module import Module
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.data import byte_scale, fit_shape, load_samples
from nmc.passes.quantize.certificate import certificate
from nmc.passes.quantize.lower import Lowering, Settings
from nmc.passes.quantize.mixed import assign_bits
from nmc.passes.quantize.scales import Form
from nmc.passes.quantize.tape import Tape
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits
from nmc.passes.quantize.unclear import FEW_LEVELS, READ, least_clear

Array = NDArray[Any]
#: Samples that are read where no number is given and levels are not few.
_READ = 1000
#: `narrow_inputs` tries no fewer levels than these.
_FEWEST_INPUT_LEVELS = 4
#: It takes fewer levels than asked for only where the divergence is below this share of that with all of them.
_NARROWED = 0.75


@dataclass(frozen=True)
class Quantize(Pass, name="quantize", takes="ann", gives="snn"):
    """Replace each relu by a population that counts in whole steps, and all weights by integers.

    A relu of threshold s with `levels` L becomes ``snn.graded``: its count c in 0..L stands for the activation
    c * s / L, and ``c = clip(floor((S + offset) / theta), 0, L)`` with S the integer sum of weighted counts. Whatever
    lies between two relus (pooling, sums, concatenations) becomes one projection from each source, so that residual
    sums are rounded once. A relu that was trained with steps keeps its own number. `bits` is the width of a weight
    with its sign; scales are chosen per channel, or so that a population has one threshold (`uniform`); `theta_max`
    and `theta_digits` (significant bits) bound thresholds, `accumulator` the proved range of membranes,
    `readout_accumulator` that of read-outs where it is another (`unipolar`: for codes of plain spikes, whose counts
    never fall). Where a chain that begins with an average is no single projection, or a neuron would hear more than
    `fan_in` neurons through it, a population of the rounded means stands in between (the certificate lists them as
    `relays`). `layer_bits` ("relu1:4,fc:6") sets the width of single layers by the name of their result; "auto:5"
    lowers those that cost least until a weight has 5 bits on average, or `drop` percent of the samples would be
    answered otherwise (no layer may be wider than 8 bits then). `narrow_inputs` halves `input_levels` where that brings
    the outputs clearly nearer to the trained network's on the samples: accumulators bound the largest sum, so that
    fewer levels leave more bits to the weights of wide layers. `bias_correction` moves biases by the
    mean error of a layer on the calibration data, and `refit` (which needs it) takes the weights that bring the layer's
    sums, as it hears counts, nearest to the trained network's (least squares, drawn towards the trained weights;
    synapses without weight stay so). The first `limit` samples are read (0: 1,000, or 2,000 with 4 levels or fewer,
    of which the half counts whose answers are the least clear). The certificate in the module
    says what was done and lost.

        before: %2 = ann.relu(%1, @2.threshold) : f32<8x14x14>
        after:  %2 = snn.graded(%2.from.x, @2.theta, @2.offset) {levels=8, bound=12345} : graded<8x14x14>
    """

    exact = False  # real numbers become counts

    data: str = ""
    bits: int = 8
    levels: int = 8
    input_levels: int = 255
    theta_max: int = 0
    theta_digits: int = 0
    uniform: bool = False
    accumulator: int = 32
    readout_accumulator: int = 0
    unipolar: bool = False
    narrow_inputs: bool = False
    fan_in: int = 0
    layer_bits: str = ""
    drop: float = 100.0
    bias_correction: bool = True
    refit: bool = True
    limit: int = 0
    raw: bool = False
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})
    layer_levels: tuple[tuple[str, int], ...] = field(default=(), metadata={"hidden": True})
    certify: bool = field(default=True, metadata={"hidden": True})

    def __post_init__(self) -> None:
        ranges = {"bits": (2, 16), "levels": (1, 1 << 20), "input_levels": (1, 1 << 20), "accumulator": (8, 52),
                  "theta_digits": (0, 62), "theta_max": (0, 1 << 62), "limit": (0, 1 << 30)}  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"option {name} is {getattr(self, name)}, not in {low}..{high}")
        if self.readout_accumulator and not 8 <= self.readout_accumulator <= 52:
            raise ValueError(f"option readout_accumulator is {self.readout_accumulator}, not 0 or in 8..52")

    def run(self, module: Module) -> Module:
        """Convert, or refuse with every reason at once."""
        inputs = self._inputs(module)
        if self.layer_bits.startswith("auto:"):
            return self._mixed(module, inputs)
        if self.narrow_inputs:
            return self._narrowed(module, inputs)
        made, work = self._lowered(module, inputs)
        if not self.certify:
            return made
        return made.with_attrs(
            certificate=certificate(
                self._told(module, inputs), work.layers, module, made, inputs, work.relays
            )
        )

    def _lowered(self, module: Module, inputs: Mapping[str, Array]) -> tuple[Module, Lowering]:
        """The integer network, without certificate."""
        corrects = self._corrects(module)
        tape = Tape(module, inputs) if inputs and (corrects or module.of_type(ann.SumPool)) else None
        form = self._forms(module)
        work = Lowering(
            Settings(
                form, self._readouts(form), self.levels, self.input_levels, self.fan_in, self.layer_levels
            ),
            taken={op.out for op in module.ops},
            corrector=tape.correction if tape and corrects else None,
            observe=tape.observe if tape else None,
            collect=tape.collect if tape else None,
            refitter=tape.refitted if tape and corrects and self.refit else None,
        )
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            for op in module.ops:
                work.convert(op)
        if work.problems:
            raise NmcError(work.problems)
        return module.with_ops(work.ops, level="snn").with_attrs(steps=1, calibration=None), work

    def _corrects(self, module: Module) -> bool:
        """Whether biases are corrected: not where only weights of 8 bits differ from a network trained with steps."""
        trained = all(op.levels for op in module.of_type(ann.Relu))
        return self.bias_correction and not (trained and self.bits >= 8)

    def _narrowed(self, module: Module, inputs: Mapping[str, Array]) -> Module:
        """Choose the levels of the inputs by what the outputs lose on the samples."""
        given = replace(self, narrow_inputs=False)
        if not inputs:
            return given.run(module)
        real, found, levels = trained_logits(module, inputs), dict[int, float](), self.input_levels
        while levels >= min(_FEWEST_INPUT_LEVELS, self.input_levels):
            try:
                tried = replace(given, input_levels=levels)._lowered(module, inputs)[0]
                found[levels] = float(f"{divergence(real, integer_logits(tried, inputs)):.3g}")
            except NmcError:
                if levels // 2 < _FEWEST_INPUT_LEVELS:
                    raise
            if found and found.get(levels, 0.0) > min(found.values()):
                break
            levels //= 2
        most = max(found)
        best = min(found, key=lambda count: found[count])
        best = best if found[best] < _NARROWED * found[most] else most
        made = replace(given, input_levels=best, certify=True).run(module)
        return made.with_attrs(certificate={**made.attr("certificate"), "input_levels_tried": found})

    def _mixed(self, module: Module, inputs: Mapping[str, Array]) -> Module:
        """Choose the widths of all layers, then quantise with them."""
        if not inputs:
            hint = "give sample data: --calib FILE.npz (labels are not needed)"
            raise fail("E0404", "layer_bits=auto needs sample data", hint=hint)
        average = parse_average(self.layer_bits)
        _, work = replace(self, layer_bits="")._lowered(module, {})
        sizes = {layer.source: sum(item.size for item in layer.scaled.weights) for layer in work.layers}

        def quantised(bits: Mapping[str, int]) -> Module:
            return replace(self, layer_bits=print_layer_bits(bits))._lowered(module, inputs)[0]

        found = assign_bits(module, inputs, sizes, quantised, average, self.drop / 100)
        made = replace(self, layer_bits=print_layer_bits(found.bits), certify=True).run(module)
        chosen = {
            "average_bits": float(f"{found.average:.3g}"),
            "disagreement": found.disagreement,
            "cost": found.cost,
        }
        return made.with_attrs(certificate={**made.attr("certificate"), **chosen})

    def _inputs(self, module: Module) -> dict[str, Array]:
        """Calibration data by input name; empty without any (or for a network of several inputs)."""
        samples, ops = self.samples, module.of_type(ann.Input)
        if samples is None and self.data:
            limit = self.limit or (READ if self.levels <= FEW_LEVELS else _READ)
            samples, _ = load_samples(self.data, limit=limit, raw=self.raw)
        if samples is None or len(ops) != 1 or not len(samples):
            return {}
        return least_clear(module, {ops[0].out: fit_shape(np.asarray(samples), ops[0].shape)}, self.levels)

    def _forms(self, module: Module) -> Any:
        """The form of integers of each layer."""
        given = parse_layer_bits(self.layer_bits)
        names = {op.out for op in module.of_type(ann.Relu)} | {
            op.data.name for op in module.of_type(ann.Output)
        }
        unknown = sorted(set(given) - names)
        if unknown:
            hint = f"layers are named by their results: {', '.join(sorted(names))}"
            raise fail("E0202", f"quantize: layer_bits names no layer {', '.join(unknown)}", hint=hint)

        def form(name: str) -> Form:
            bits = given.get(name, self.bits)
            return Form(
                bits, self.theta_max, self.theta_digits, self.uniform, self.accumulator, self.unipolar
            )  # fmt: skip

        return form

    def _readouts(self, form: Any) -> Any:
        """The form of integers of each readout."""
        if not self.readout_accumulator:
            return form
        return lambda name: replace(form(name), accumulator=self.readout_accumulator)

    def _told(self, module: Module, inputs: Mapping[str, Array]) -> dict[str, Any]:
        """What the certificate says about how it was done."""
        digest = hashlib.sha256()
        for name in sorted(inputs):
            digest.update(np.ascontiguousarray(inputs[name], np.float32).tobytes())
        corrected = bool(inputs) and self._corrects(module)
        count = min((len(data) for data in inputs.values()), default=0)
        told = {"method": "graded", "bits": self.bits, "levels": self.levels, "input_levels": self.input_levels,
                "uniform": self.uniform, "accumulator": self.accumulator,
                "bias_correction": corrected, "refit": corrected and self.refit, "samples": count}  # fmt: skip
        calibration = module.attr("calibration")
        told = {**told, "calibration": calibration} if calibration else told
        scale = byte_scale(self.data, raw=self.raw) if self.data and self.samples is None else 0
        told = {**told, "bytes": scale} if scale else told
        return {**told, "data": digest.hexdigest()} if inputs else told


def parse_layer_bits(text: str) -> dict[str, int]:
    """Read ``name:4,other:6``.

    Raises
    ------
    NmcError
        E0202 for anything else.
    """
    given = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, bits = item.rpartition(":")
        if not name or not bits.isdecimal() or len(bits) > 2 or not 2 <= int(bits) <= 16:
            raise fail("E0202", f"quantize: layer_bits {item!r} is not NAME:BITS with 2..16 bits")
        given[name] = int(bits)
    return given


def parse_average(text: str) -> float:
    """Read ``auto:5`` or ``auto:4.5``.

    Raises
    ------
    NmcError
        E0202 for anything else.
    """
    try:
        average = float(text.removeprefix("auto:"))
    except ValueError:
        average = 0.0
    if not 2 <= average <= 8:
        raise fail("E0202", f"quantize: layer_bits {text!r} is not auto:BITS with 2..8 bits on average")
    return average


def print_layer_bits(bits: Mapping[str, int]) -> str:
    """Write what `parse_layer_bits` reads."""
    return ",".join(f"{name}:{width}" for name, width in bits.items())
