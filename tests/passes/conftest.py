"""Small modules and passes that the tests of the pass core share."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from nmc.ir.module import Module
from nmc.ir.text.parser import parse
from nmc.passes.base import Pass
from nmc.passes.registry import Registry

ANN = """module @m ann {
  const @w : f32<2x1x2> = [1.0, 2.0, 3.0, 4.0]
  const @scale : f32<2> = [2.0, 3.0]
  const @zero : f32<2> = splat 0.0
  const @one : f32<2> = splat 1.0
  %x = ann.input() {shape=[1, 4]} : f32<1x4>  #0
  %c = ann.conv(%x, @w) {stride=[1], pad=[0, 0], dilation=[1]} : f32<2x3>  #1
  %n = ann.batchnorm(%c, @scale, @zero, @zero, @one) {eps=0.0} : f32<2x3>  #2
  %y = ann.relu(%n) : f32<2x3>  #3
  ann.output(%y)  #4
}
#0 = "m.onnx" "x"
#1 = "m.onnx" "/conv"
#2 = "m.onnx" "/norm"
#3 = "m.onnx" "/relu"
#4 = "m.onnx" "y"
"""
SNN = """module @m snn attributes {steps=8} {
  const @w : f32<2x3> = [1.0, -0.25, 0.5, -0.5, 0.125, 1.0]
  %x = snn.input() {source=x, shape=[3], encoder=rate} : spikes<3>  #0
  %fc = snn.dense(%x, @w) : current<2>  #1
  %y = snn.if(%fc) : spikes<2>  #2
  snn.output(%y) {decoder=count}  #3
}
#0 = "m.onnx" "x"
#1 = "m.onnx" "/fc"
#2 = "m.onnx" "/relu"
#3 = "m.onnx" "y"
"""


@dataclass(frozen=True)
class Act(Pass, name="act", takes="any"):
    """Do what a test says."""

    change: Callable[[Module], Module] = field(default=lambda module: module, metadata={"hidden": True})

    def run(self, module: Module) -> Module:
        return self.change(module)


@pytest.fixture
def ann_module() -> Module:
    """A convolution, a batch normalisation and a relu."""
    return parse(ANN)


@pytest.fixture
def snn_module() -> Module:
    """A dense layer of spiking neurons."""
    return parse(SNN)


@pytest.fixture
def act() -> type[Act]:
    """A pass that calls the function that it is given."""
    return Act


@pytest.fixture
def registry() -> Registry:
    """An empty registry to add passes to."""
    return Registry({})
