"""The law of the core against hand-worked neurons, convolutions and the ops of the reference interpreter."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fpga_rows import ConvGeometry, conv, dense, sparse
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.op import Value
from nmc.ir.ops.exact import StBif
from nmc.ir.types import Type
from nmc.targets.fpga import learning, ops
from nmc.targets.fpga.model import Chip, Spikes
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.words import Error, Op, Register, Writer, word

Array = NDArray[Any]
SHAPE = Shape(neurons=4, axons=4, lanes=1, vb=12, queue=16, targets=8, cuba=False)


def params(count: int = 4, **values: int) -> ops.Neurons:
    """Neurons that are all alike."""
    given = vars(ops.Class(keep=4096)) | values
    return ops.Neurons({name: np.full(count, value) for name, value in given.items()})


def run(shape: Shape, p: ops.Neurons, inputs: list[int]) -> tuple[list[int], list[int]]:
    """Spikes and membranes (after the tick) of neuron 0."""
    state = ops.clear(shape, p, (1,))
    spikes, membranes = [], []
    for t, x in enumerate(inputs):
        ops.accumulate(shape, state, np.full((1, 4), x))
        fired, _, _ = ops.tick(shape, p, state, t)
        spikes.append(int(fired[0, 0]))
        membranes.append(int(state["v"][0, 0]))
    return spikes, membranes


def test_soft_reset_keeps_the_rest() -> None:
    assert run(SHAPE, params(theta=10), [7, 7, 7, 7]) == ([0, 1, 1, 0], [7, 4, 1, 8])


def test_hard_reset_and_refractory_ticks() -> None:
    p = params(theta=10, reset=2, v_reset=-3, limit=2)
    assert run(SHAPE, p, [12, 50, 50, 5, 9]) == ([1, 0, 0, 0, 1], [-3, -3, -3, 2, -3])


def test_strict_compares_with_greater() -> None:
    assert run(SHAPE, params(theta=5, strict=1), [5, 0, 1])[0] == [0, 0, 1]


def test_the_leak_cuts_towards_zero() -> None:
    p = params(theta=2047, keep=2048)
    assert run(SHAPE, p, [7, 0, 0, 0])[1] == [3, 1, 0, 0]
    assert run(SHAPE, p, [-7, 0, 0, 0])[1] == [-3, -1, 0, 0]


def test_the_shift_leak_subtracts() -> None:
    shift = Shape(neurons=4, axons=4, lanes=1, vb=12, queue=16, targets=8, leak="shift")
    assert run(shift, params(theta=2047, keep=2), [10, 0, 0])[1] == [8, 6, 5]


def test_a_late_reset_subtracts_after_the_leak() -> None:
    assert run(SHAPE, params(theta=10, keep=2048, late=1), [14, 0])[1] == [-3, -1]


def test_windows_and_the_bias_that_enters_once() -> None:
    p = params(theta=10, bias=4, once=1, open=1, close=3)
    assert run(SHAPE, p, [20, 0, 0, 0])[0] == [0, 1, 1, 0]
    assert run(SHAPE, params(theta=100, bias=4, open=2), [0, 0, 0, 0])[1] == [0, 0, 4, 8]


def test_saturation_stops_at_the_ends() -> None:
    assert run(SHAPE, params(theta=2047, bias=1500, close=0), [0, 0, 0])[1] == [1500, 2047, 2047]
    assert run(SHAPE, params(theta=2047, bias=-1500, close=0), [0, 0])[1] == [-1500, -2048]


def test_events_wrap_and_so_may_come_in_any_order() -> None:
    state = ops.clear(SHAPE, params(), (1,))
    for x in (2000, 2000, -2000, -1990):
        ops.accumulate(SHAPE, state, np.full((1, 4), x))
    assert int(state["v"][0, 0]) == 10


@given(st.lists(st.integers(-200, 200), min_size=1, max_size=30), st.integers(1, 60), st.integers(-20, 40))
def test_signed_neurons_are_those_of_the_reference(inputs: list[int], theta: int, offset: int) -> None:
    wide = Shape(neurons=4, axons=4, lanes=1, vb=20, queue=16, targets=8)
    op = StBif(
        current=(Value("x", Type("current", (4,))),),
        theta=Const("t", np.array(theta)), offset=Const("o", np.array(offset)), levels=5,
    )  # fmt: skip
    state, want = op.begin(1), []
    for t, x in enumerate(inputs):
        want.append(int(op.step(state, t, np.full((1, 4), x))[0, 0]))
    p = params(theta=theta, bias=offset, once=1, signed=1, limit=5)
    spikes, membranes = run(wide, p, inputs)
    assert spikes == want and membranes[-1] == int(state["v"][0, 0])


def test_a_current_decays_beside_the_membrane() -> None:
    shape = Shape(neurons=4, axons=4, lanes=1, vb=12, queue=16, targets=8, cuba=True)
    assert run(shape, params(theta=2000, keep=4096, keep_i=2048), [8, 0, 0, 0])[1] == [8, 12, 14, 15]


def chip_with(shape: Shape, weights: dict[int, Array]) -> Chip:
    """A chip whose axons have dense rows."""
    writer = Writer(shape)
    dense(writer, 0, {axon: np.asarray(row) for axon, row in weights.items()})
    writer.memory(
        "classes", {name: np.array([value]) for name, value in vars(ops.Class(close=0, keep=4096)).items()}
    )
    chip = Chip(shape)
    chip.run(writer.body())
    return chip


def test_dense_rows_add_their_weights() -> None:
    shape = Shape(neurons=8, axons=4, lanes=4, queue=16, targets=8)
    chip = chip_with(shape, {2: np.arange(8) - 4, 3: np.full(8, 10)})
    chip.run(np.array([word(Op.CLR)], np.uint32))
    none = np.zeros(3, np.int64)
    chip.inject(Spikes(none, none, np.array([2, 3, 2]), np.array([1, -1, 1])))
    assert np.array_equal(chip.cores[0].state["v"][0], 2 * (np.arange(8) - 4) - 10)


def test_sparse_rows_skip_empty_groups() -> None:
    shape = Shape(neurons=16, axons=2, lanes=4, queue=16, targets=8)
    row = np.zeros(16, np.int64)
    row[[1, 13]] = 7, -3
    writer = Writer(shape)
    assert sparse(writer, 0, {1: row}) == 2
    chip = Chip(shape)
    chip.run(writer.body())
    none = np.zeros(1, np.int64)
    chip.inject(Spikes(none, none, np.array([1]), np.array([1])))
    assert np.array_equal(chip.cores[0].state["v"][0], row)
    assert chip.registers[Register.WALKS] == 2


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 1), (2, 0), (3, 2)])
def test_convolutions_share_their_weights(stride: int, pad: int) -> None:
    rng = np.random.default_rng(stride * 10 + pad)
    kernel = rng.integers(-8, 8, (6, 2, 3, 3))
    geometry = ConvGeometry(height=5, width=6, kernel=kernel, stride=stride, pad=pad)
    high, wide = geometry.outputs
    neurons = high * wide * 8
    shape = Shape(
        neurons=neurons, axons=60, lanes=4, vb=16, geometries=64, weight_rows=64, queue=16, targets=8
    )
    writer = Writer(shape)
    conv(writer, 0, geometry)
    chip = Chip(shape)
    chip.run(writer.body())
    for c, y, x in np.ndindex(2, 5, 6):
        chip.cores[0].state["v"][:] = 0
        none = np.zeros(1, np.int64)
        chip.inject(Spikes(none, none, np.array([(c * 5 + y) * 6 + x]), np.array([1])))
        image = np.zeros((2, 5 + 2 * pad, 6 + 2 * pad), np.int64)
        image[c, y + pad, x + pad] = 1
        want = np.zeros((high, wide, 8), np.int64)
        for oy, ox in np.ndindex(high, wide):
            patch = image[:, oy * stride : oy * stride + 3, ox * stride : ox * stride + 3]
            want[oy, ox, :6] = (kernel * patch).sum(axis=(1, 2, 3))
        assert np.array_equal(chip.cores[0].state["v"][0], want.reshape(-1)), (c, y, x)


def test_spikes_arrive_one_tick_and_their_delay_later() -> None:
    shape = Shape(neurons=4, axons=4, lanes=1, delays=4, queue=16, targets=8, cores=2)
    writer = Writer(shape)
    for core in range(2):
        dense(writer, core, {0: np.array([1, 0, 0, 0])})
        values = vars(ops.Class(theta=1, keep=4096))
        writer.memory("classes", {name: np.array([value]) for name, value in values.items()}, core=core)
    one = np.array([0, 1])
    writer.memory("targets", {"axon": one * 0, "core": one * 0 + 1, "delay": np.array([0, 3])})
    writer.memory("pointers", {"base": np.array([0]), "count": np.array([2]), "host": np.array([0])})
    chip = Chip(shape)
    chip.run(writer.body())
    zero = np.zeros(1, np.int64)
    chip.inject(Spikes(zero, zero, zero, zero + 1))
    fired = [chip.step()[0] for _ in range(6)]
    assert [list(zip(item.core, item.index, strict=True)) for item in fired] == [
        [(0, 0)],
        [(1, 0)],
        [],
        [],
        [(1, 0)],
        [],
    ]


def test_a_wheel_without_room_says_so() -> None:
    shape = Shape(neurons=4, axons=4, lanes=1, queue=4, targets=8)
    writer = Writer(shape)
    values = vars(ops.Class(theta=0, keep=4096))
    writer.memory("classes", {name: np.array([value]) for name, value in values.items()})
    four = np.arange(4)
    writer.memory("pointers", {"base": four * 0, "count": four * 0 + 2, "host": four * 0})
    chip = Chip(shape)
    chip.run(writer.body())
    chip.step()
    assert chip.registers[Register.DROPPED] == 4 and chip.registers[Register.ERRORS] & Error.OVERFLOW


def test_samples_side_by_side_are_those_one_by_one() -> None:
    shape = Shape(neurons=8, axons=8, lanes=4, queue=64, targets=16)
    rng = np.random.default_rng(5)
    writer = Writer(shape)
    dense(writer, 0, {axon: rng.integers(-9, 20, 8) for axon in range(8)})
    values = vars(ops.Class(theta=15, keep=3900))
    writer.memory("classes", {name: np.array([value]) for name, value in values.items()})
    all8 = np.arange(8)
    writer.memory("targets", {"axon": all8, "core": all8 * 0, "delay": all8 * 0})
    writer.memory("pointers", {"base": all8, "count": all8 * 0 + 1, "host": all8 * 0})
    given = rng.random((3, 6, 8)) < 0.3
    many, singles = Chip(shape, 3), [Chip(shape) for _ in range(3)]
    for chip in (many, *singles):
        chip.run(writer.body())
    for t in range(6):
        sample, axon = np.nonzero(given[:, t])
        many.inject(Spikes(sample, sample * 0, axon, sample * 0 + 1))
        for number, chip in enumerate(singles):
            mine = axon[sample == number]
            chip.inject(Spikes(mine * 0, mine * 0, mine, mine * 0 + 1))
            chip.step()
        many.step()
    for number, chip in enumerate(singles):
        assert np.array_equal(many.cores[0].state["v"][number], chip.cores[0].state["v"][0])


def test_learning_follows_the_order_of_spikes() -> None:
    one = np.array([10])
    enabled = one * 0 + 1
    args = {"t": 9, "cost": 3 << 8 | 2, "reach": 4 << 12 | 5}
    assert learning.change(one, enabled, np.array([8]), 5, **args) == [11]  # both: +3 - 2
    assert learning.change(one, enabled, np.array([8]), 3, **args) == [8]  # pre too long ago
    assert learning.change(one, enabled, np.array([4]), 3, **args) == [13]  # post too long ago to depress
    assert learning.change(one, enabled, np.array([0]), 3, **args) == [10]  # never spiked
    assert learning.change(one, enabled * 0, np.array([8]), 5, **args) == [10]  # not enabled
    assert learning.change(np.array([127]), enabled, np.array([4]), 3, **args) == [127]


def test_learning_takes_one_sample() -> None:
    with pytest.raises(NmcError, match="one sample at a time"):
        Chip(Shape(stdp=True), 2)
