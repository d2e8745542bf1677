"""Cut populations into boxes for cores, and choose the shape that holds them."""

from __future__ import annotations

from dataclasses import replace

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.target import Target, resolve
from nmc.passes.base import Pass
from nmc.passes.map.partition import partition
from nmc.targets.fpga.demands import FpgaDemands
from nmc.targets.fpga.fitting import fit_shape
from nmc.targets.fpga.layout import layout_of
from nmc.targets.fpga.shape import Shape


@dataclass(frozen=True)
class Fit(Pass, name="fpga-partition", takes="snn", gives="mapped"):
    """Cut populations into boxes, put boxes together on cores, and choose the shape of the core (attribute ``shape``).

    All cores are equally far from each other, so that nothing is placed. A target with a device or a rate of samples
    (its own, or the options ``device`` and ``target_rate``) gets the cheapest shape that reaches it
    (`nmc.targets.fpga.sizing`); else a core has 4 lanes, and as many cores are
    taken as the limits of one ask for. Fields that the user's ``[shape]`` fixes are kept.

        before: %2 = fpga.neuron(%2.x, ...) : graded<1000>
        after:  %2.p0 = map.neurons(%2) {box=[0:1000], core=0, slots=0:1000} : pop<1000>
    """

    target: str = ""
    device: str = ""
    target_rate: float = 0.0

    def run(self, module: Module) -> Module:
        """Partition and choose, or refuse with every limit that is exceeded."""
        from nmc.targets.fpga import sizing

        target = resolve(self.target or module.attr("target", "") or "fpga")
        name = self.target or target.name
        asked = {"device": self.device, "target_rate": self.target_rate}
        target = replace(target, data={**target.data, **{key: item for key, item in asked.items() if item}})
        sized = bool(target.data["device"] or target.data["target_rate"])
        return sizing.choose(module, target, name).mapped if sized else partitioned(module, target, name)


def partitioned(module: Module, target: Target, name: str) -> Module:
    """Partition for a target as it is, with the shape that fits."""
    return with_shape(partition(module, target, name), target)


def with_shape(mapped: Module, target: Target) -> Module:
    """Note the shape that holds a mapped module."""
    demands = target.demands
    assert isinstance(demands, FpgaDemands)
    shape = fit_shape(mapped, layout_of(mapped, demands), target.data["shape"], demands.lanes)
    return mapped.with_attrs(shape=shape.to_json())


def shape_of(mapped: Module) -> Shape:
    """The shape that was chosen for a mapped module.

    Raises
    ------
    NmcError
        E0702 where none was.
    """
    if mapped.attr("shape") is None:
        raise fail("E0702", "no shape has been chosen for the module; run fpga-partition first")
    return Shape.from_json(dict(mapped.attr("shape") or {}))
