"""Hypothesis strategies for modules of every level, and what the tests need to compare them.

``ann_modules`` and ``snn_modules`` are well-formed and run; ``mapped_modules`` and ``image_modules`` have
attributes drawn from the annotations of the op classes. ``pyproject.toml`` puts this folder on the path.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nmc.ir.const import Const
from nmc.ir.loc import Loc
from nmc.ir.module import Module
from nmc.ir.op import Op, Span, Value, op_fields
from nmc.ir.ops import ann, image, mapped, snn
from nmc.ir.types import NUMBER_KINDS, Type

Draw = Callable[[st.SearchStrategy[Any]], Any]
Ints = tuple[int, ...]
Array = np.ndarray[Any, Any]

#: Strings that a careless printer or lexer takes for something else.
AWKWARD = (
    "", "true", "none", "inf", "-inf", "nan", "0x10", "1:2", "12", "-", "_", "a b", "a-b.c_d", '"', "\\",
    "//", "#1", "{}", "[", "f32<3>", "module", "const", "blob", "é", "\n", "\r\n", "\x00", "\u2028", "\ud800",
    "\U0001f9e0",
)  # fmt: skip

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_./$-]{0,7}", fullmatch=True)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,5}", fullmatch=True)
texts = st.sampled_from(AWKWARD) | st.text(max_size=6)
floats = st.sampled_from([-0.0, float("inf"), float("-inf"), 1e16, 1e22, 5e-324, 0.1]) | st.floats(
    allow_nan=False
)
integers = st.integers(-3, 300) | st.integers(-(2**70), 2**70)


@st.composite
def spans(draw: Draw) -> Span:
    start = draw(st.integers(-5, 1000))
    return Span(start, start + draw(st.integers(0, 1000)))


def anything() -> st.SearchStrategy[Any]:
    """Whatever an attribute can hold (NaN apart, which does not equal itself)."""
    leaves = st.none() | st.booleans() | integers | floats | texts | spans()
    return st.recursive(
        leaves,
        lambda item: st.lists(item, max_size=3).map(tuple) | st.dictionaries(texts, item, max_size=3),
        max_leaves=6,
    )


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    """Values of the annotation of an attribute."""
    origin, args = get_origin(hint), get_args(hint)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(), int: integers, float: floats, str: texts, Span: spans(), object: anything(),
        type(None): st.none(),
    }  # fmt: skip
    if origin in (Union, types.UnionType):
        return st.one_of([fitting(arg) for arg in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return st.lists(fitting(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(fitting(arg) for arg in args))
    if origin is dict:
        return st.dictionaries(texts, fitting(args[1]), max_size=3)
    return plain[hint]


def attributes_of(draw: Draw, cls: type[Op]) -> dict[str, Any]:
    """Draw the attributes of an op class from its annotations; some keep their default."""
    specs = [spec for spec in op_fields(cls) if spec.role == "attr"]
    return {spec.name: draw(fitting(spec.hint)) for spec in specs if not spec.optional or draw(st.booleans())}


@st.composite
def locations(draw: Draw) -> list[Loc | None]:
    """A pool of leaf and fused locations that share their parts."""
    pool = [Loc(draw(texts), draw(texts)) for _ in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(0, 3))):
        pool.append(
            Loc(draw(words), parts=tuple(draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))))
        )
    return [None, *pool]


@st.composite
def arrays(draw: Draw) -> Array:
    """Arrays of every dtype: arbitrary bits, uniform, broadcast from one element, empty."""
    dtype = np.dtype(draw(st.sampled_from(sorted(NUMBER_KINDS.values()))))
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (16,), (17,), (3, 2, 4), (0,), (2, 0, 3), (40,)]))
    if draw(st.booleans()):
        one = draw(hnp.arrays(dtype, ()))
        return np.broadcast_to(one, shape)
    array: Array = draw(hnp.arrays(dtype, shape))
    return array


class Builder:
    """Collects ops with fresh names and drawn locations."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.ops: list[Op] = []
        self.values: list[Value] = []
        self._pool = draw(locations())
        self._taken: set[str] = set()

    def name(self) -> str:
        """A name that no value or constant has yet."""
        name = self.draw(names)
        if name in self._taken:
            name = f"{name}.{len(self._taken)}"
        self._taken.add(name)
        return str(name)

    def const(self, *shape: int) -> Const:
        """Small float32 integers; sums of their products are exact."""
        rng = np.random.default_rng(self.draw(st.integers(0, 999)))
        return Const(self.name(), rng.integers(-3, 4, shape).astype(np.float32))

    def add(self, cls: type[Op], out: str | None = None, **fields: Any) -> Value:
        """Append an op with a result."""
        loc = self.draw(st.sampled_from(self._pool))
        op = cls(out=self.name() if out is None else out, loc=loc, **fields)
        self.ops.append(op)
        self.values.append(op.result)
        return op.result

    def end(self, cls: type[Op], **fields: Any) -> None:
        """Append an op without a result."""
        self.ops.append(cls(loc=self.draw(st.sampled_from(self._pool)), **fields))

    def pick(self, values: list[Value] | None = None) -> Value:
        """An earlier value."""
        value: Value = self.draw(st.sampled_from(self.values if values is None else values))
        return value

    def geometry(self, space: Ints) -> tuple[Ints, dict[str, Any]]:
        """Kernel, and stride, pads (also negative), dilation, of a window that fits `space`."""
        draw = self.draw
        kernel, stride, dilation, before, after = ([0] * len(space) for _ in range(5))
        for axis, extent in enumerate(space):
            kernel[axis], stride[axis] = draw(st.integers(1, 3)), draw(st.integers(1, 3))
            dilation[axis] = draw(st.integers(1, 2))
            before[axis] = draw(st.integers(-(extent // 2), 2))
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            least = reach - extent - before[axis]
            after[axis] = max(draw(st.integers(-(extent // 2), 2)), least)
        pad = (*before, *after)
        return tuple(kernel), {"stride": tuple(stride), "pad": pad, "dilation": tuple(dilation)}

    def kernel(self, source: Ints) -> tuple[Const, dict[str, Any]]:
        """Weights of a convolution over `source` and its other attributes."""
        groups = self.draw(st.sampled_from([g for g in (1, 2, 3) if source[0] % g == 0]))
        window, fields = self.geometry(source[1:])
        outputs = groups * self.draw(st.integers(1, 2))
        return self.const(outputs, source[0] // groups, *window), {**fields, "groups": groups}

    def module(self, level: str) -> Module:
        """What was collected, under a drawn name, with drawn attributes."""
        attrs = self.draw(st.dictionaries(texts, anything(), max_size=2))
        return Module(self.draw(names), level, tuple(self.ops), tuple(attrs.items()))


shapes = st.sampled_from([(4,), (2, 5), (3, 6), (2, 4, 5), (6, 3, 3), (1, 5, 4)])


def _ann_spatial(net: Builder, data: Value) -> None:
    kind = net.draw(st.sampled_from(["conv", "max", "avg", "batchnorm"]))
    channels = data.shape[0]
    if kind == "conv":
        weight, fields = net.kernel(data.shape)
        bias = net.const(weight.shape[0]) if net.draw(st.booleans()) else None
        net.add(ann.Conv, data=data, weight=weight, bias=bias, **fields)
    elif kind == "batchnorm":
        ones = Const(net.name(), np.linspace(1, 2, channels, dtype=np.float32))
        stats: dict[str, Any] = {key: net.const(channels) for key in ("scale", "bias", "mean")}
        net.add(ann.BatchNorm, data=data, var=ones, **stats)
    else:
        window, fields = net.geometry(data.shape[1:])
        cls: type[Op] = ann.MaxPool if kind == "max" else ann.AvgPool
        extra = {"count_pad": net.draw(st.booleans())} if kind == "avg" else {}
        net.add(cls, data=data, kernel=window, **{**fields, **extra})


def _ann_any(net: Builder, data: Value) -> None:
    kind = net.draw(
        st.sampled_from(["relu", "clip", "add", "concat", "flat", "transpose", "pad", "affine", "lrn"])
    )
    rank = len(data.shape)
    if kind == "relu":
        net.add(ann.Relu, data=data, limit=net.draw(st.sampled_from([float("inf"), 6.0, 0.5])))
    elif kind == "clip":
        net.add(ann.Clip, data=data, low=net.draw(st.sampled_from([-0.0, -1.0, float("-inf")])), high=2.0)
    elif kind in ("add", "concat"):
        other = net.pick([value for value in net.values if value.shape == data.shape])
        net.add(ann.Add if kind == "add" else ann.Concat, data=(data, other, data))
    elif kind == "flat":
        flat = net.add(ann.Reshape, data=data, shape=(data.type.size,))
        net.add(ann.Dense, data=flat, weight=net.const(net.draw(st.integers(1, 4)), flat.shape[0]))
    elif kind == "transpose":
        net.add(ann.Transpose, data=data, perm=tuple(net.draw(st.permutations(range(rank)))))
    elif kind == "pad":
        pad = net.draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
        net.add(ann.Pad, data=data, pad=tuple(pad), value=net.draw(st.sampled_from([0.0, -0.0, -1.5])))
    elif kind == "affine":
        net.add(ann.Affine, data=data, scale=net.const(data.shape[-1]), offset=net.const(*[1] * rank))
    else:
        net.add(ann.Lrn, data=data, size=net.draw(st.integers(1, 4)), alpha=0.5)


@st.composite
def ann_modules(draw: Draw) -> Module:
    """Well-formed tensor programs."""
    net = Builder(draw)
    for _ in range(draw(st.integers(1, 2))):
        net.add(ann.Input, shape=draw(shapes), low=draw(st.sampled_from([0.0, -0.0, -1.0])))
    for _ in range(draw(st.integers(0, 6))):
        data = net.pick()
        grow = _ann_spatial if len(data.shape) > 1 and draw(st.booleans()) else _ann_any
        grow(net, data)
    net.end(ann.Output, data=net.values[-1])
    return net.module("ann")


def _project(net: Builder, spikes: Value, delay: int) -> Value:
    kind = net.draw(st.sampled_from(["conv", "dense", "one"] if len(spikes.shape) > 1 else ["dense", "one"]))
    if kind == "conv":
        weight, fields = net.kernel(spikes.shape)
        return net.add(snn.Conv, spikes=spikes, weight=weight, delay=delay, **fields)
    if kind == "one":
        return net.add(snn.OneToOne, spikes=spikes, weight=net.const(spikes.shape[-1]), delay=delay)
    shape = net.draw(st.sampled_from([(), (2, 3), (3, 2)]))
    weight = net.const(6, spikes.type.size)
    return net.add(snn.Dense, spikes=spikes, weight=weight, delay=delay, shape=shape)


def _population(net: Builder, current: Value) -> None:
    """A population on `current`, perhaps recurrent, perhaps with a residual connection."""
    draw, out = net.draw, net.name()
    currents = [current]
    if draw(st.booleans()):  # forward reference to the population itself
        here = Value(out, Type("spikes", current.shape))
        weight = net.const(*[1] * len(current.shape))
        currents.append(net.add(snn.OneToOne, spikes=here, weight=weight, delay=draw(st.integers(1, 3))))
    like = [value for value in net.values if value.type == Type("spikes", current.shape)]
    if like and draw(st.booleans()):
        skip = net.add(
            snn.OneToOne, spikes=net.pick(like), weight=net.const(1), delay=draw(st.integers(0, 2))
        )
        currents.append(skip)
    bias = net.const(*[1] * len(current.shape)) if draw(st.booleans()) else None
    attrs = {
        "threshold": draw(st.sampled_from([1.0, 2.0, 3.5])),
        "v_init": draw(st.sampled_from([0.0, -0.0, 0.5])),
        "reset": draw(st.sampled_from(["subtract", "zero"])),
        "compare": draw(st.sampled_from(["gt", "ge"])),
        "start": draw(st.integers(0, 2)),
    }
    net.add(snn.If, out, current=tuple(currents), bias=bias, **attrs)


@st.composite
def snn_modules(draw: Draw) -> Module:
    """Well-formed spiking networks; the data of their one input is called ``x``."""
    net = Builder(draw)
    encoder = draw(st.sampled_from(["constant", "rate", "raster"]))
    first = net.add(
        snn.Input, source="x", shape=draw(shapes), encoder=encoder, seed=draw(st.integers(-3, 2**64))
    )
    if encoder == "constant":
        _population(net, first)
    for _ in range(draw(st.integers(0, 4))):
        spikes = net.pick([value for value in net.values if value.type.kind == "spikes"])
        _population(net, _project(net, spikes, draw(st.integers(0, 3))))
    last = net.pick([value for value in net.values if value.type.kind == "spikes"])
    result = net.add(snn.Integrator, current=(_project(net, last, 0),))
    net.end(snn.Output, data=result, scale=draw(st.sampled_from([1.0, 0.5, -2.0])))
    return net.module("snn")


@st.composite
def mapped_modules(draw: Draw) -> Module:
    """Populations with parts, synapses and routes whose attributes are arbitrary."""
    net = Builder(draw)
    whole = [net.add(snn.Input, source="x", shape=draw(shapes), encoder="rate") for _ in range(2)]
    parts = []
    for value in (net.pick(whole) for _ in range(draw(st.integers(1, 4)))):
        box = []
        for extent in value.shape:
            start = draw(st.integers(0, extent - 1))
            box.append(Span(start, draw(st.integers(start + 1, extent))))
        rest = {key: item for key, item in attributes_of(draw, mapped.Neurons).items() if key != "box"}
        parts.append(net.add(mapped.Neurons, of=value, box=tuple(box), **rest))
    for _ in range(draw(st.integers(0, 3))):
        ends = {"source": net.pick(parts), "target": net.pick(parts), "via": net.pick(whole)}
        net.end(mapped.Synapses, **ends, **attributes_of(draw, mapped.Synapses))
        net.end(mapped.Route, source=net.pick(parts), **attributes_of(draw, mapped.Route))
    return net.module("mapped")


@st.composite
def image_modules(draw: Draw) -> Module:
    """Registers and words, everything arbitrary."""
    net = Builder(draw)
    for cls in draw(
        st.lists(st.sampled_from([image.Header, image.Reg, image.Region, image.HostMap]), max_size=4)
    ):
        consts = {
            spec.name: Const(net.name(), draw(arrays()))
            for spec in op_fields(cls)
            if spec.role == "const" and (not spec.optional or draw(st.booleans()))
        }
        net.end(cls, **consts, **attributes_of(draw, cls))
    return net.module("image")


modules = ann_modules() | snn_modules() | mapped_modules() | image_modules()


def sample_shape(module: Module) -> Ints:
    """Shape of the input of a network with one input."""
    return module.of_type(snn.Input)[0].shape


def locs(module: Module) -> list[Loc | None]:
    """Locations of all ops, which equality of ops leaves out."""
    return [op.loc for op in module.ops]


def same_bits(left: Const, right: Const) -> bool:
    """Tell whether two constants hold the same bits in the same shape and dtype."""
    a, b = left.array(), right.array()
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
