"""An answer is taken when it is clear, and not before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact_nets import ByHand, chain, random_data, random_net
from nmc.ir.diagnostics import NmcError
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array, Op
from nmc.ir.ops import snn
from nmc.passes.convert.readout import Margins, Readout, find_margins
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.optimize.retime import Retime


def first_clear(trace: Array, margin: int, delay: int) -> Array:
    """Steps after which each sample's two largest elements are `margin` apart, by a plain loop."""
    found = []
    for values in trace:
        steps = len(values)
        for t, row in enumerate(values):
            low, high = sorted(row.tolist())[-2:]
            if t >= delay and high - low >= margin:
                steps = t + 1
                break
        found.append(steps)
    return np.array(found)


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 20), margin=st.integers(1, 400), delay=st.integers(0, 3))
def test_a_sample_ends_in_the_first_clear_step_and_keeps_its_answer(
    seed: int, margin: int, delay: int
) -> None:
    plain = SpikeCode().run(random_net(seed))
    data = random_data(plain, seed, samples=6)
    scale = plain.of_type(snn.Output)[0].scale
    trace = run_snn(plain, data, trace=True).trace
    early = run_snn(Readout(margin=margin, delay=delay).run(plain), data, batch=4)
    steps = first_clear(trace / scale, margin, delay)
    np.testing.assert_array_equal(early.settled, steps)
    np.testing.assert_array_equal(early.outputs["r"], trace[np.arange(6), steps - 1])


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 20), margin=st.integers(1, 200))
def test_retiming_and_constant_inputs_move_the_decision_but_not_the_answer(seed: int, margin: int) -> None:
    plain = Readout(margin=margin).run(SpikeCode(schedule="spread").run(random_net(seed)))
    data = random_data(plain, seed)
    late = Retime().run(plain)
    latency = late.attr("latency")["r"]
    one, other = run_snn(plain, data), run_snn(late, data)
    np.testing.assert_array_equal(one.outputs["r"], other.outputs["r"])
    np.testing.assert_array_equal(one.settled + latency, other.settled)


def test_spikes_after_the_answer_do_not_count() -> None:
    plain = SpikeCode(schedule="spread").run(random_net(25))
    data = random_data(plain, 25, samples=5)
    early = run_snn(Readout(margin=60).run(plain), data)
    assert early.settled is not None and early.settled.min() < early.settled.max()
    alone = [
        run_snn(plain, {name: values[b : b + 1] for name, values in data.items()}, int(steps)).spikes
        for b, steps in enumerate(early.settled)
    ]
    for name, spikes in early.spikes.items():
        np.testing.assert_array_equal(spikes, sum(item[name] for item in alone))


def test_until_rest_overrules_the_margin() -> None:
    plain = SpikeCode().run(random_net(8))
    data = random_data(plain, 8, samples=5)
    full = run_snn(plain, data, until_quiescent=True)
    policy = Readout(margin=1).run(plain)
    np.testing.assert_array_equal(run_snn(policy, data, until_quiescent=True).outputs["r"], full.outputs["r"])
    rest = run_snn(Readout(until_quiescent=True).run(plain), data)
    np.testing.assert_array_equal(rest.outputs["r"], full.outputs["r"])
    np.testing.assert_array_equal(rest.settled, full.settled)


def test_each_step_has_the_least_margin_that_costs_no_right_answer_and_some_more() -> None:
    """Three samples: a large gap that is right, one of 6 that is wrong, later a right one of 9; the end is rest."""
    trace = np.array([[[20, 0], [20, 0], [20, 0]], [[6, 0], [0, 9], [0, 9]], [[5, 0], [5, 0], [5, 0]]])
    many = np.tile(trace, (700, 1, 1))
    assert find_margins(many) == Margins(1, 0, (23, 6))  # an eighth
    assert find_margins(many, np.tile([0, 1, 0], 700)) == Margins(1, 0, (23, 6))
    assert find_margins(many, np.tile([0, 0, 0], 700)) == Margins(1, 0, (6, 24))  # 6 was right
    assert find_margins(trace) == Margins(1, 0, (30, 8))  # of few samples a half
    assert find_margins(trace, delay=1) == Margins(1, 1, (8,))
    assert find_margins(trace[:, -1:]) == Margins(1)  # an answer in one wave


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 20), labelled=st.booleans(), delay=st.integers(0, 2))
def test_what_is_right_in_the_end_is_right_early(seed: int, labelled: bool, delay: int) -> None:
    rng = np.random.default_rng(seed)
    trace = rng.integers(-30, 30, (20, 5, 3)).cumsum(axis=1)
    labels = rng.integers(0, 3, 20) if labelled else None
    truth = trace[:, -1].argmax(axis=1) if labels is None else labels
    late = trace[:, -1].argmax(axis=1) == truth
    output = snn.Output(data=random_net(8).of_type(snn.Output)[0].data)
    op = find_margins(trace, labels, delay).attached(output)
    clear = np.stack([op.decided(trace[:, step], step) for step in range(5)], axis=1)
    first = np.where(clear.any(axis=1), clear.argmax(axis=1), 4)
    assert (first >= delay).all()
    np.testing.assert_array_equal(trace[late, first[late]].argmax(axis=1), truth[late])


def test_a_calibrated_margin_loses_nothing_on_its_data_and_saves_steps(tmp_path: Path) -> None:
    plain = SpikeCode(schedule="spread").run(random_net(8))
    data = random_data(plain, 8, samples=200)
    assert list(data) == ["x"]
    path = tmp_path / "calib.npz"
    labels = run_snn(plain, data).outputs["r"].argmax(axis=1)
    np.savez(path, x=data["x"].astype(np.float32), y=labels)
    early = Readout(early_exit=True, data=str(path)).run(plain)
    result = run_snn(early, {"x": data["x"].astype(np.float32)})
    np.testing.assert_array_equal(result.outputs["r"].argmax(axis=1), labels)
    assert result.settled is not None and result.settled.mean() < plain.attr("steps") - 1


def refused(module: Module, **options: object) -> set[str]:
    with pytest.raises(NmcError) as caught:
        Readout(**options).run(module)  # type: ignore[arg-type]
    return {item.code for item in caught.value.diagnostics}


def test_what_gives_no_early_answer_is_refused() -> None:
    assert refused(SpikeCode(code="bit-serial").run(chain(3)), margin=3) == {"E0653"}
    net = ByHand()
    counted = net.finished(net.population("a", 3, net.x), decoder="count")
    assert refused(counted, until_quiescent=True) == {"E0653"}
    single = ByHand(size=1)
    assert refused(single.finished(single.population("a", 3, single.x)), margin=3) == {"E0653"}
    assert refused(chain(3), early_exit=True) == {"E0404"}


def test_a_policy_that_was_written_by_hand_is_checked() -> None:
    def wrong(op: Op) -> Op:
        return replace(op, margin=2, decoder="count") if isinstance(op, snn.Output) else op

    from nmc.ir.verify import verify

    assert [item.code for item in verify(chain(3).map_ops(wrong))] == ["E0111"]
