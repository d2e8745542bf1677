"""The linear maps and poolings against loops that anybody can check."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ir_strategies as irs
from nmc.ir.const import Const
from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann, snn
from nmc.ir.types import Type

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]


def _value(array: Array, kind: str = "f32") -> Value:
    return Value("x", Type(kind, array.shape[1:]))


def _window(op: Any, kernel: Ints, out: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Position in the (unpadded) source that each kernel element meets: (kernel index, source index)."""
    for at in product(*map(range, kernel)):
        yield (
            at,
            tuple(
                o * s + k * d - before
                for o, s, k, d, before in zip(out, op.stride, at, op.dilation, op.pad, strict=False)
            ),
        )


def _inside(where: Ints, space: Ints) -> bool:
    return all(0 <= i < extent for i, extent in zip(where, space, strict=True))


def _naive_conv(data: Array, op: Any, weight: Array) -> Array:
    result = np.zeros((len(data), *op.infer().shape))
    outputs, inputs = weight.shape[0] // op.groups, weight.shape[1]
    for b, o in product(range(len(data)), range(weight.shape[0])):
        for out in np.ndindex(*result.shape[2:]):
            total = 0.0
            for at, where in _window(op, weight.shape[2:], out):
                if _inside(where, data.shape[2:]):
                    for c in range(inputs):
                        total += data[(b, o // outputs * inputs + c, *where)] * weight[(o, c, *at)]
            result[(b, o, *out)] = total
    return result


def _naive_pool(data: Array, op: Any) -> Array:
    result = np.zeros((*data.shape[:2], *op.infer().shape[1:]))
    for index in np.ndindex(*result.shape):
        seen, padding = [], 0
        for _, where in _window(op, op.kernel, index[2:]):
            if _inside(where, data.shape[2:]):
                seen.append(data[(*index[:2], *where)])
            else:
                padding += 1
        if isinstance(op, ann.MaxPool):
            result[index] = max(seen, default=-np.inf)
        else:
            result[index] = sum(seen) / max(len(seen) + (padding if op.count_pad else 0), 1)
    return result


@st.composite
def spatial(draw: irs.Draw) -> tuple[irs.Builder, Array]:
    net = irs.Builder(draw)
    shape = draw(irs.shapes.filter(lambda shape: len(shape) > 1))
    data = np.random.default_rng(draw(st.integers(0, 999))).integers(-4, 5, (2, *shape))
    return net, data


@settings(max_examples=60)
@given(spatial())
def test_convolution_is_the_textbook_sum_in_both_levels(case: tuple[irs.Builder, Array]) -> None:
    """1-d and 2-d, groups, stride, dilation, pads of either sign; small integers, so exactly."""
    net, data = case
    weight, fields = net.kernel(data.shape[1:])
    bias = Const("b", np.arange(weight.shape[0], dtype=np.float32) - 1)
    op = ann.Conv(out="y", data=_value(data), weight=weight, bias=bias, **fields)
    expected = _naive_conv(data, op, weight.array())
    shift = bias.array().reshape(-1, *[1] * (data.ndim - 2))
    for dtype in (np.float32, np.float64):
        result = op.run(data.astype(dtype))
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected + shift)
    events = snn.Conv(out="y", spikes=_value(data, "spikes"), weight=weight, **fields)
    np.testing.assert_array_equal(events.run(data), expected)


@pytest.mark.parametrize("kind", ["max", "avg", "avg with padding"])
@settings(max_examples=25)
@given(case=spatial())
def test_poolings_are_the_textbook_ones(kind: str, case: tuple[irs.Builder, Array]) -> None:
    net, data = case
    kernel, fields = net.geometry(data.shape[2:])
    op: ann.MaxPool | ann.AvgPool
    if kind == "max":
        op = ann.MaxPool(out="y", data=_value(data), kernel=kernel, **fields)
    else:
        op = ann.AvgPool(out="y", data=_value(data), kernel=kernel, count_pad=kind != "avg", **fields)
    np.testing.assert_allclose(op.run(data.astype(np.float64)), _naive_pool(data, op), rtol=1e-15)
    assert op.run(data.astype(np.float32)).dtype == np.float32


def test_convolution_of_one_known_example() -> None:
    """A kernel that is not symmetric: correlation, not convolution in the sense of signal processing."""
    data = np.array([[[1.0, 2.0, 3.0]]])
    weight = Const("w", np.array([[[10.0, 1.0]]]))
    op = ann.Conv(out="y", data=_value(data), weight=weight, stride=(1,), pad=(1, 0), dilation=(1,))
    np.testing.assert_array_equal(op.run(data), [[[1.0, 12.0, 23.0]]])


def test_float64_is_kept_through_a_whole_network() -> None:
    tiny = 1.0 + 2.0**-40
    data = np.full((1, 1, 2, 2), tiny)
    x = ann.Input(out="x", shape=(1, 2, 2))
    window: dict[str, Any] = {"kernel": (1, 1), "stride": (1, 1), "pad": (0,) * 4, "dilation": (1, 1)}
    pool = ann.AvgPool(out="p", data=x.result, **window)
    top = ann.MaxPool(out="t", data=pool.result, **window)
    relu = ann.Relu(out="r", data=top.result)
    flat = ann.Reshape(out="f", data=relu.result, shape=(4,))
    dense = ann.Dense(out="d", data=flat.result, weight=Const("w", np.eye(4)))
    module = Module("m", "ann", (x, pool, top, relu, flat, dense, ann.Output(data=dense.result)))
    np.testing.assert_array_equal(run_ann(module, {"x": data}, dtype=np.float64)["d"], np.full((1, 4), tiny))
    assert run_ann(module, {"x": data})["d"].dtype == np.float32


RNG = np.random.default_rng(7)
IMAGE = RNG.normal(size=(2, 3, 4, 4))


def _const(name: str, *shape: int) -> Const:
    return Const(name, RNG.uniform(0.5, 2, shape))


def test_dense_is_a_matrix_product_plus_bias() -> None:
    data, weight, bias = RNG.normal(size=(3, 5)), _const("w", 2, 5), _const("b", 2)
    op = ann.Dense(out="y", data=_value(data), weight=weight, bias=bias)
    w, b = weight.array(), bias.array()
    expected = [[sum(w[o, i] * row[i] for i in range(5)) + b[o] for o in range(2)] for row in data]
    np.testing.assert_allclose(op.run(data), expected, rtol=1e-14)
    spikes = (RNG.random((2, 2, 3)) < 0.5).astype(np.uint8)
    events = snn.Dense(out="y", spikes=_value(spikes, "spikes"), weight=_const("w", 4, 6), shape=(2, 2))
    current = events.run(spikes)
    assert current.shape == (2, 2, 2)
    flat = [[float(events.weight.array()[o] @ row.ravel()) for o in range(4)] for row in spikes]
    np.testing.assert_allclose(current.reshape(2, 4), flat, rtol=1e-14)


def _elementwise() -> dict[str, tuple[Op, Any]]:
    x = _value(IMAGE)
    scale, bias, mean, var = (_const(name, 3) for name in ("scale", "bias", "mean", "var"))
    s, b, m, v = (const.array().reshape(3, 1, 1) for const in (scale, bias, mean, var))
    stats: dict[str, Any] = {"scale": scale, "bias": bias, "mean": mean, "var": var}
    wide, thin = _const("a", 4), _const("o", 3, 1, 1)
    squares = np.pad(IMAGE**2, ((0, 0), (1, 2), (0, 0), (0, 0)))
    energy = squares[:, 0:3] + squares[:, 1:4] + squares[:, 2:5] + squares[:, 3:6]
    return {
        "batchnorm": (ann.BatchNorm(data=x, eps=0.1, **stats), s * (IMAGE - m) / np.sqrt(v + 0.1) + b),
        "affine": (ann.Affine(data=x, scale=wide, offset=thin), IMAGE * wide.array() + thin.array()),
        "relu": (ann.Relu(data=x, limit=0.5), np.where(IMAGE < 0, 0, np.where(IMAGE > 0.5, 0.5, IMAGE))),
        "clip": (ann.Clip(data=x, low=-0.5), np.where(IMAGE < -0.5, -0.5, IMAGE)),
        "lrn": (ann.Lrn(data=x, size=4, alpha=0.4, beta=0.5, bias=2.0), IMAGE / np.sqrt(2 + 0.1 * energy)),
        "reshape": (ann.Reshape(data=x, shape=(6, 8)), IMAGE.reshape(2, 6, 8)),
        "transpose": (ann.Transpose(data=x, perm=(2, 0, 1)), np.einsum("bchw->bwch", IMAGE)),
        "crop": (ann.Pad(data=x, pad=(-1, 0, -2, 0, -1, 0)), IMAGE[:, 1:, :3, 2:]),
    }


@pytest.mark.parametrize("case", _elementwise())
def test_an_op_computes_what_its_documentation_says(case: str) -> None:
    op, expected = _elementwise()[case]
    result = op.run(IMAGE)
    np.testing.assert_allclose(result, expected, rtol=1e-13)
    inferred = op.infer()
    assert inferred is not None
    assert result.shape[1:] == inferred.shape


def test_a_border_has_its_value_and_its_place() -> None:
    data = np.array([[[1.0, 2.0]]])
    op = ann.Pad(data=_value(data), pad=(0, 1, 1, -1), value=9.0)
    np.testing.assert_array_equal(op.run(data), [[[9.0, 1.0], [9.0, 9.0]]])


@settings(max_examples=60)
@given(irs.ann_modules())
def test_every_value_has_the_shape_that_was_inferred(module: Module) -> None:
    rng = np.random.default_rng(0)
    inputs = {op.out: rng.normal(size=(2, *op.shape)) for op in module.of_type(ann.Input)}
    names = [op.out for op in module.ops if op.out]
    kept = run_ann(module, inputs, keep=names)
    assert {name: array.shape for name, array in kept.items()} == {
        name: (2, *module.producers[name].result.shape) for name in names
    }
    output = module.of_type(ann.Output)[0].data.name
    assert list(run_ann(module, inputs)) == [output]
    np.testing.assert_array_equal(run_ann(module, inputs)[output], kept[output])
