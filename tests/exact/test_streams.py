"""Only differences enter, and every frame gets the answer of a network that starts anew."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact_nets import ByHand, chain, delayed, random_data, random_net
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.op import Array, Op, State
from nmc.ir.ops import exact, snn
from nmc.passes.convert.delta_stream import DeltaStream
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime

FRAMES = 4
CODES = [{}, {"schedule": "spread", "over": 3}, {"schedule": "const", "over": 2}, {"code": "graded"}]


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 20), which=st.integers(0, len(CODES) - 1), late=st.booleans())
def test_every_frame_has_the_answer_of_a_fresh_run(seed: int, which: int, late: bool) -> None:
    module = random_net(seed)
    data = random_data(module, seed, frames=FRAMES)
    try:
        coded = SpikeCode(**CODES[which]).run(module)  # type: ignore[arg-type]
    except NmcError:
        return
    stream = DeltaStream().run(delayed(coded, seed) if late else coded)
    runs = [run_snn(stream, data, until_quiescent=True)]
    if not late:
        runs += [run_snn(stream, data), run_snn(Retime().run(stream), data)]
    for frame in range(FRAMES):
        fresh = run_snn(module, {name: values[:, frame] for name, values in data.items()}).outputs["r"]
        for result in runs:
            np.testing.assert_array_equal(result.outputs["r"][:, frame], fresh)


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 20))
def test_membranes_stay_within_the_bound_from_frame_to_frame(seed: int) -> None:
    stream = DeltaStream().run(SpikeCode(schedule="spread").run(random_net(seed)))

    def watch(t: int, op: Op, item: Array, state: State) -> None:
        if isinstance(op, exact.StBif):
            assert np.abs(state["v"]).max() <= op.bound

    run_snn(stream, random_data(stream, seed, frames=6), recorder=watch)


def test_an_input_that_changes_its_sign_goes_twice_as_far() -> None:
    """Bound |offset| + theta + 3 * 15 of a single sample; a frame from one end of the range to the other passes it."""
    net = ByHand(low=-15, high=15)
    module = net.finished(net.population("a", 8, net.x))
    proved = module.map_ops(lambda op: replace(op, bound=2 + 5 + 45) if isinstance(op, exact.Graded) else op)
    stream = DeltaStream().run(SpikeCode().run(proved))
    (neurons,) = stream.of_type(exact.StBif)
    frames = np.array([[[1.0, -1.0], [-1.0, 1.0]]])
    seen = np.abs(run_snn(stream, {"x": frames}, probes=["a.v"]).probes["a.v"]).max()
    assert 52 < seen <= neurons.bound == 104


def test_equal_frames_cost_nothing() -> None:
    stream = DeltaStream().run(SpikeCode().run(chain(5, 5)))
    frame = np.array([[0.9, 0.3]])
    once = run_snn(stream, {"x": np.stack([frame], axis=1)}, until_quiescent=True)
    thrice = run_snn(stream, {"x": np.stack([frame] * 3, axis=1)}, until_quiescent=True, trace=True)
    for name, spikes in once.spikes.items():
        np.testing.assert_array_equal(thrice.spikes[name], spikes)
    assert thrice.settled is not None and thrice.settled.shape == (1, 3)
    assert thrice.settled[0, 1:].tolist() == [1, 1] and thrice.settled[0, 0] > 1
    assert thrice.outputs["r"].shape == (1, 3, 2)
    assert thrice.trace.shape == (1, 3, int(thrice.settled[0, 0]), 2)


def test_codes_that_cannot_take_differences_are_refused() -> None:
    for options in ({"code": "phased-if"}, {"code": "bit-serial"}, {"schedule": "count"}):
        with pytest.raises(NmcError) as caught:
            DeltaStream().run(SpikeCode(**options).run(chain(3, 3)))  # type: ignore[arg-type]
        assert {item.code for item in caught.value.diagnostics} == {"E0654"}


def test_streams_need_frames_and_all_inputs_alike() -> None:
    stream = DeltaStream().run(SpikeCode().run(chain(3)))
    with pytest.raises(NmcError) as caught:
        run_snn(stream, {"x": np.ones((2, 2))})
    assert caught.value.diagnostics[0].code == "E0401"
    with pytest.raises(NmcError) as caught:
        run_snn(stream, {"x": np.ones((2, 0, 2))})
    assert caught.value.diagnostics[0].code == "E0401"
    mixed = stream.with_ops([snn.Input(out="z", source="z", shape=(2,), encoder="burst"), *stream.ops])
    with pytest.raises(NmcError, match="all inputs"):
        run_snn(mixed, {"x": np.ones((2, 3, 2)), "z": np.ones((2, 2))})
