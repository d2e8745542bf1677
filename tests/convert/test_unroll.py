"""``unroll`` changes the ops, not the results, and what it makes can become neurons."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann, snn
from nmc.ir.ops.ann_layers import ConvTranspose, Rnn, Take
from nmc.ir.ops.ann_pointwise import LeakyRelu
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify
from nmc.passes.convert.ann_to_snn import AnnToSnn
from nmc.passes.convert.unroll import Unroll
from nmc.passes.quantize.calibrate import Calibrate

Array = NDArray[Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def network(shape: tuple[int, ...], make: type[Op], **fields: Any) -> Module:
    x = ann.Input(out="x", shape=shape)
    y = make(out="y", data=x.result, **fields)  # type: ignore[call-arg]
    module = Module("m", "ann", (x, y, ann.Output(data=y.result)))
    assert verify(module) == ()
    return module


def same(module: Module, *basic: type[Op]) -> Module:
    """Unroll, compare on random data, and check which ops are left."""
    unrolled = Unroll().run(module)
    assert verify(unrolled) == ()
    assert all(isinstance(op, (ann.Input, ann.Output, ann.Affine, *basic)) for op in unrolled.ops)
    data = {"x": normal(6, *module.of_type(ann.Input)[0].shape)}
    (want,), (got,) = run_ann(module, data).values(), run_ann(unrolled, data).values()
    np.testing.assert_allclose(got, want, atol=1e-5)
    return unrolled


@pytest.mark.parametrize("shape", [(), (3, 1), (3, 4)])
@pytest.mark.parametrize("factor", [0.1, 2.0, -1.0])
def test_leaky_relu(shape: tuple[int, ...], factor: float) -> None:
    slope = Const("slope", np.asarray(normal(*shape) * factor, np.float32))
    same(network((3, 4), LeakyRelu, slope=slope), ann.Relu, ann.Add)


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1.0, 1.0), (0.0, 0.5), (0.2, np.inf), (-np.inf, 0.3), (-2.0, -0.5), (-np.inf, -0.5), (-9.2e18, 2.0)],
)
def test_cuts(low: float, high: float) -> None:
    same(network((3, 4), ann.Clip, low=low, high=high), ann.Relu)


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "pad", "dilation", "groups"),
    [
        ((4, 5), (4, 3, 3), (2,), (0, 0), (1,), 1),
        ((4, 5), (4, 3, 2), (3,), (1, -1), (2,), 2),
        ((2, 4, 5), (2, 3, 3, 2), (2, 1), (1, 0, 1, 0), (1, 2), 1),
        ((4, 3, 3), (4, 1, 2, 2), (2, 2), (0, 0, 0, 0), (1, 1), 4),
        ((2, 3, 3), (2, 2, 1, 1), (3, 2), (0, 0, -2, -1), (1, 1), 1),
    ],
)
def test_transposed_convolution(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> None:
    module = network(
        shape, ConvTranspose, weight=Const("w", normal(*kernel)), bias=Const("b", normal(kernel[1] * groups)),
        stride=stride, pad=pad, dilation=dilation, groups=groups,
    )  # fmt: skip
    same(module, ann.Conv, ann.Reshape, ann.Pad)


@pytest.mark.parametrize("reverse", [False, True])
def test_recurrent_layer(reverse: bool) -> None:
    consts = {"weight": (3, 4), "recurrent": (3, 3), "bias": (3,)}
    fields: dict[str, Any] = {name: Const(name, normal(*shape)) for name, shape in consts.items()}
    module = network((5, 4), Rnn, fn="relu", reverse=reverse, **fields)
    same(module, ann.Dense, ann.Add, ann.Relu, ann.Reshape, ann.Concat, ann.Pad)


def test_only_the_needed_part_of_a_concatenation_is_kept() -> None:
    text = """module @m ann {
  %x = ann.input() {shape=[4, 3]} : f32<4x3>
  %a = ann.relu(%x) : f32<4x3>
  %c = ann.concat(%x, %a) {axis=0} : f32<8x3>
  %inner = ann.pad(%c) {pad=[-5, 0, -1, 0]} : f32<2x3>
  %whole = ann.pad(%c) {pad=[-4, 0, 0, 0]} : f32<4x3>
  %both = ann.pad(%c) {pad=[-3, 0, -1, 0]} : f32<4x3>
  ann.output(%inner)
  ann.output(%whole)
  ann.output(%both)
}
"""
    module = parse(text)
    unrolled = Unroll().run(module)
    assert verify(unrolled) == ()
    data = {"x": normal(2, 4, 3)}
    outputs = [run_ann(item, data) for item in (module, unrolled)]
    kept = [op.data.name for op in unrolled.of_type(ann.Output)]
    assert kept == ["inner", "a", "both"]
    for old, new in zip([op.data.name for op in module.of_type(ann.Output)], kept, strict=True):
        np.testing.assert_array_equal(outputs[0][old], outputs[1][new])


def test_the_result_converts_to_spikes() -> None:
    """Leaky relus, a hard tanh, nearest upsampling and a recurrent layer: all become populations."""
    x = ann.Input(out="x", shape=(2, 4))
    leaky = LeakyRelu(out="leaky", data=x.result, slope=Const("slope", np.asarray([0.2], np.float32)))
    cut = ann.Clip(out="cut", data=leaky.result, low=-1.0, high=1.0)
    wide = Take(out="wide", data=cut.result, index=Const("i", np.asarray([0, 0, 1, 1])), axis=0)
    consts = {"weight": (3, 4), "recurrent": (3, 3), "bias": (3,)}
    fields: dict[str, Any] = {name: Const(name, normal(*shape) / 2) for name, shape in consts.items()}
    rows = Rnn(out="rows", data=wide.result, fn="relu", **fields)
    module = Module("m", "ann", (x, leaky, cut, wide, rows, ann.Output(data=rows.result)))
    ready = Calibrate(samples=np.abs(normal(16, 2, 4))).run(Unroll().run(module))
    converted = AnnToSnn().run(ready)
    assert verify(converted) == ()
    names = {op.out for op in converted.of_type(snn.If)}
    assert {"leaky.above", "leaky.below", "cut.rest", *(f"rows.h{t}" for t in range(4))} <= names


def test_new_ops_print_and_parse() -> None:
    text = """module @m ann {
  const @i : i64<3> = [0, 0, 1]
  const @s : f32<> = splat 0.25
  const @z : i32<> = splat 3
  const @t : f64<> = splat 1.5
  %x = ann.input() {shape=[2, 2]} : f32<2x2>
  %a = ann.take(%x, @i) {axis=0} : f32<3x2>
  %b = ann.leaky_relu(%a, @s) : f32<3x2>
  %c = ann.quantize(%b, @s, @z) {low=-8, high=7} : f32<3x2>
  %d = ann.activation(%c) {fn=elu, alpha=0.5} : f32<3x2>
  %e = ann.relu(%d, @t) {levels=4} : f32<3x2>
  ann.output(%e)
}
"""
    module = parse(text)
    assert verify(module) == ()
    assert str(module) == text


@pytest.mark.parametrize(
    ("op", "says"),
    [
        ("ann.take(%x, @i) {axis=0} : f32<3>", "indices 0 to 5 of 2 elements"),
        ("ann.relu(%x) {levels=4} : f32<2>", "4 levels of no threshold"),
        ("ann.relu(%x, @v) {levels=4} : f32<2>", "does not broadcast"),
        ("ann.quantize(%x, @v, @i) {low=3, high=3} : f32<2>", "not below high"),
        ("ann.leaky_relu(%x, @v) : f32<2>", "does not broadcast"),
        ("ann.activation(%x) {fn=celu, alpha=0.0} : f32<2>", "parameters 0.0"),
    ],
)
def test_ill_formed_ops_are_told(op: str, says: str) -> None:
    text = f"""module @m ann {{
  const @i : i64<3> = [0, 5, 1]
  const @v : f32<3> = [1.0, 2.0, 3.0]
  %x = ann.input() {{shape=[2]}} : f32<2>
  %y = {op}
  ann.output(%y)
}}
"""
    problems = "\n".join(item.message for item in verify(parse(text)))
    assert says in problems
