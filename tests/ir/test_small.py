"""The interpreter's populations in small number types give what the laws in int64 give, bit for bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact_nets import random_data, random_net
from nmc.ir.const import Const
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import StatefulOp
from nmc.ir.ops import exact, kernels, snn
from nmc.ir.results import Result
from nmc.ir.small import floor_counts, reaches, small_populations
from nmc.passes.convert.spike_code import SpikeCode

CODES: tuple[dict[str, Any], ...] = (
    {}, {"schedule": "spread", "over": 5}, {"schedule": "const", "over": 3}, {"schedule": "count"},
    {"code": "phased-if"}, {"code": "graded", "schedule": "spread"}, {"code": "bit-serial"},
)  # fmt: skip


def _law(module: Module, data: dict[str, np.ndarray[Any, Any]], **options: Any) -> Result:
    """The run with the ops' own steps: a recorder may look at every state."""
    return run_snn(module, data, recorder=lambda t, op, item, state: None, **options)


def _assert_same(found: Result, law: Result) -> None:
    for name, values in law.outputs.items():
        assert np.array_equal(found.outputs[name], values)
        assert np.array_equal(found.traces[name], law.traces[name])
    assert found.spikes.keys() == law.spikes.keys()
    for name, values in law.spikes.items():
        assert found.spikes[name].dtype == np.int64
        assert np.array_equal(found.spikes[name], values)
    settled = [None if result.settled is None else result.settled.tolist() for result in (found, law)]
    assert settled[0] == settled[1]


@pytest.mark.parametrize("options", CODES, ids=str)
@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 20))
def test_a_run_in_small_types_is_the_run_of_the_laws(options: dict[str, Any], seed: int) -> None:
    serial = options.get("code") == "bit-serial"
    module = random_net(seed, pools=seed % 2 == 0 and not serial, signed=options.get("schedule") != "count")
    try:
        coded = SpikeCode(**options).run(module)
    except NmcError as error:
        assert {item.code for item in error.diagnostics} == {"E0652"}  # some codes refuse some networks
        return
    data = random_data(module, seed)
    _assert_same(run_snn(coded, data, trace=True), _law(coded, data, trace=True))
    _assert_same(
        run_snn(coded, data, trace=True, until_quiescent=True),
        _law(coded, data, trace=True, until_quiescent=True),
    )


def test_networks_of_small_weights_run_in_small_types() -> None:
    module = SpikeCode().run(random_net(3))
    neurons = [op.out for op in module.of_type(exact.StBif)]
    assert neurons and set(neurons) <= set(small_populations(module, 2))


def test_what_may_leave_float32_runs_by_the_law() -> None:
    module = SpikeCode().run(random_net(3))
    large = module.map_ops(
        lambda op: (
            replace(op, weight=Const(op.weight.name, op.weight.array().astype(np.int64) << 22))
            if isinstance(op, snn.ProjectionOp) and op.weight.array().any()
            else op
        )
    )
    assert not {op.out for op in large.of_type(exact.StBif)} & set(reaches(large))
    data = random_data(module, 3)
    _assert_same(run_snn(large, data, trace=True), _law(large, data, trace=True))


def test_ops_with_steps_of_their_own_keep_them() -> None:
    class Other(exact.StBif):
        """Somebody's neuron."""

    module = SpikeCode().run(random_net(3))
    (first, *_) = module.of_type(exact.StBif)
    own = Other(
        out=first.out, current=first.current, theta=first.theta, offset=first.offset, levels=first.levels
    )
    other = module.with_ops([own if op is first else op for op in module.ops])
    assert first.out not in small_populations(other, 1)
    assert all(isinstance(op, StatefulOp) for op in other.of_type(exact.StBif))


@given(st.integers(-(1 << 23), 1 << 23), st.integers(1, (1 << 22) - 1))
def test_the_floor_of_a_quotient_in_float32_is_right(total: int, theta: int) -> None:
    found = floor_counts(
        np.array([total], np.float32), np.array([theta], np.float32), np.zeros(1, np.float32), 1 << 23
    )
    assert int(found[0]) == max(0, total // theta)


def test_the_floor_just_below_a_whole_number_is_right() -> None:
    theta = np.arange(1, 4000, 7, dtype=np.int64)[:, None]
    total = theta * np.array([1, 2, 3, 17, 100, 1000]) - 1
    inside = total + theta < 1 << 24
    found = floor_counts(total.astype(np.float32), theta.astype(np.float32), np.zeros(1, np.float32), 1 << 23)
    assert (found == total // theta)[inside].all()


@settings(max_examples=60)
@given(st.data())
def test_convolution_of_whole_numbers_is_convolution(data: st.DataObject) -> None:
    draw = data.draw
    space = draw(st.integers(1, 2))
    small = st.integers(1, 3)
    kernel, stride, dilation = (tuple(draw(small) for _ in range(space)) for _ in range(3))
    pad = tuple(draw(st.integers(0, 3)) for _ in range(2 * space))
    least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    extents = tuple(low + draw(st.integers(0, 5)) for low in least)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    channels, outputs, batch = draw(small), draw(small), draw(small)
    events = rng.integers(-3, 4, (batch, channels, *extents)).astype(np.int8)
    weight = rng.integers(-127, 128, (outputs, channels, *kernel)).astype(np.int8)
    how = stride, pad, dilation, 1
    wanted = kernels.conv(events.astype(np.float64), weight, *how)
    for kind in (np.float32, np.float64):
        found = kernels.conv_whole(events, weight, *how, kind)
        assert found.dtype == kind and found.shape == wanted.shape
        assert np.array_equal(found, wanted)
    again = kernels.batch_inner(events.shape, np.int8)
    again[...] = events
    assert np.array_equal(kernels.conv_whole(again, weight, *how, np.float32), wanted)
