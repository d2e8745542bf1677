"""General neurons on Loihi: registers that mean the float law, exact where they can be, refused where they cannot."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loihi_chain import Chain, assert_every_synapse_once, assert_lawful, compile_legal
from neuron_nets import neuron, random_neurons
from nmc.ir.const import Const
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.interp import Result, run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, Value, VerifyError
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.ir.types import Type
from nmc.ir.verify import verify_or_raise
from nmc.passes.map.partition import Partition
from nmc.passes.optimize.retime import Retime
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.legalize import Legalize
from nmc.targets.loihi.lif import before_decay, decay

Array = np.ndarray[Any, Any]
X = snn.Input(out="x", source="x", shape=(6,), encoder="raster")


def module(*ops: Op, steps: int = 30) -> Module:
    found = Module("net", "snn", tuple(ops), (("steps", steps),))
    verify_or_raise(found)
    return found


def dense(out: str, source: Op | Value, weight: Any, **fields: Any) -> snn.Dense:
    spikes = source if isinstance(source, Value) else source.result
    weights = Const(f"{out}.w", np.asarray(weight, np.float64))
    return snn.Dense(out=out, spikes=spikes, weight=weights, **fields)


def legalised(*ops: Op, steps: int = 30) -> Module:
    found = Legalize().run(Retime().run(module(*ops, steps=steps)))
    verify_or_raise(found)
    return found


def population(found: Module, name: str = "p") -> loihi.Lif:
    op = found.producers[name]
    assert isinstance(op, loihi.Lif)
    return op


def synapses(found: Module, name: str = "p.x") -> loihi.SynapseOp:
    op = found.producers[name]
    assert isinstance(op, loihi.SynapseOp)
    return op


def refusals(*ops: Op) -> list[str]:
    with pytest.raises(NmcError) as caught:
        legalised(*ops)
    return [item.code for item in caught.value.diagnostics]


def raster(seed: int, steps: int = 30, share: float = 0.4, samples: int = 2) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.random((samples, steps, 6)) < share).astype(np.uint8)


def compared(*ops: Op, data: Array, steps: int = 30) -> tuple[Module, Result, Result]:
    """The legalised module, its integers (equal on all stages) and the float law's values, of population p."""
    legal = legalised(*ops, steps=steps)
    ints = compile_legal(legal).assert_equal_everywhere({"x": data}, steps)
    kinds = ["p.v"] + (["p.spikes"] if population(legal).reset != "none" else [])
    return legal, ints, run_snn(module(*ops), {"x": data}, steps, probes=kinds)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_populations_are_the_same_integers_on_all_stages(seed: int) -> None:
    found = random_neurons(seed)
    try:
        legal = Legalize().run(Retime().run(found))
    except NmcError as error:
        assert {item.code for item in error.diagnostics} <= {"E0212", "E0610", "E0614"}
        assume(False)
    chain = compile_legal(legal)
    shape = found.ops[0].result.shape
    data = (np.random.default_rng(seed).random((2, 18, *shape)) < 0.4).astype(np.uint8)
    chain.assert_equal_everywhere({"x": data}, 20)
    assert_lawful(chain.image)
    assert_every_synapse_once(chain)
    _assert_nothing_wraps(legal, data)


def _assert_nothing_wraps(legal: Module, data: Array) -> None:
    """The rules of brian2-loihi have neither limits nor wraps: u must be the same with every input firing."""
    free = legal.map_ops(
        lambda op: _with_rules(op, "brian2loihi") if isinstance(op, loihi.Lif | loihi.SynapseOp) else op
    )
    probes = [f"{op.out}.u" for op in legal.of_type(loihi.Lif)]
    every = {"x": np.ones_like(data)}
    runs = [run_snn(item, every, 20, probes=probes) for item in (legal, free)]
    for probe in probes:
        np.testing.assert_array_equal(runs[0].probes[probe], runs[1].probes[probe])


def _with_rules(op: Any, compat: str) -> Any:
    from dataclasses import replace

    return replace(op, compat=compat)


CONSTANTS = [
    dict(zip(("order", "bias_site", "alpha", "decay_last", "late"), item, strict=True))
    for item in product(("synapse-first", "membrane-first"), ("current", "membrane"), (None, 0.8125), (False, True),
                        (None, -0.07))
]  # fmt: skip


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("reset", ["none", "to-value"])
@pytest.mark.parametrize("case", CONSTANTS, ids=lambda case: "-".join(map(str, case.values())))
def test_constants_and_orders_act_as_in_the_float_law(case: dict[str, Any], reset: Any, start: int) -> None:
    """Biases on either side of the filter, leak, start values: the potential is the float one, rounding aside."""
    rng = np.random.default_rng(3)
    one = dense("p.x", X, rng.normal(0.3, 0.4, (4, 6)), delay=start)
    spiking = {} if reset == "none" else {"threshold": 99.0, "v_reset": np.array([-3.0, 1.0, 0.5, 2.0])}
    p = neuron(
        "p", one.result, reset=reset, alpha=case["alpha"], beta=0.9375, gain=0.8, w_in=1.2, leak=0.04,
        bias=np.array([0.3, -0.2, 0.1, 0.02]), late_bias=case["late"], bias_site=case["bias_site"],
        order=case["order"], decay_last=case["decay_last"], v_init=0.5 if start == 0 else None, start=start, **spiking,
    )  # fmt: skip
    ops = (X, one, p, snn.Output(data=p.result, decoder="last" if reset == "none" else "count"))
    wholly_late = case["order"] == "membrane-first" and case["bias_site"] == "current" and not case["alpha"]
    if wholly_late and case["late"]:
        assert refusals(*ops) == ["E0610"]
        return
    data = raster(1)
    data[0] = 0  # constants alone, without the rounding of weights
    legal, ints, floats = compared(*ops, data=data)
    op = population(legal)
    span = 99.0 - np.array([-3.0, 1.0, 0.5, 2.0]) if reset == "to-value" else 1.0
    unit = 1 / legal.of_type(snn.Output)[0].scale if reset == "none" else op.vth << 6
    low = np.array([-3.0, 1.0, 0.5, 2.0]) if reset == "to-value" else 0.0
    have, want = ints.probes["p.v"] / unit * span + low, floats.probes["p.v"]
    want = want / 0.9375 if case["decay_last"] else want  # what it holds after a step has decayed
    assert np.abs(want).max() > 1
    np.testing.assert_allclose(have[1, start:], want[1, start:], atol=0.02 * np.abs(want).max())
    np.testing.assert_allclose(have[0, start:], want[0, start:], atol=1e-3 * np.abs(want).max())
    if reset == "to-value":
        assert not ints.probes["p.spikes"].any()


@pytest.mark.parametrize("alpha", [None, 0.75])
@pytest.mark.parametrize("reset", ["zero", "to-value", "subtract", "subtract-late"])
def test_resets_act_as_in_the_float_law(alpha: float | None, reset: Any) -> None:
    """Of all resets, the spikes are nearly those of the one asked for."""
    one = dense("p.x", X, np.random.default_rng(7).normal(0.25, 0.3, (8, 6)))

    def made(kind: str) -> Neuron:
        low = -0.61 if kind == "to-value" else None
        return neuron("p", one.result, alpha=alpha, beta=0.625, reset=kind, v_reset=low, threshold=1.237)

    data = raster(5, 200, samples=3)
    legal, ints, floats = compared(X, one, made(reset), data=data, steps=200)
    have, want = ints.probes["p.spikes"], floats.probes["p.spikes"]
    wrong = (have != want).mean()
    assert want.sum() > 100 and wrong < 0.04
    for kind in {"zero", "to-value", "subtract", "subtract-late"} - {reset}:
        found = run_snn(module(X, one, made(kind)), {"x": data}, 200, probes=["p.spikes"]).probes["p.spikes"]
        assert (have != found).mean() > 2 * wrong, kind
    assert population(legal).reset == (
        "hard" if reset in ("zero", "to-value") else "split" if alpha else "soft"
    )


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("rest", [1, 4, 62])
def test_refractory_steps_are_those_of_the_float_law(rest: int, reset: Any) -> None:
    """Integrate-and-fire in sixteenths is exact, whatever the refractory time; subtracting is then forgetting."""
    one = dense("p.x", X, np.full((3, 6), [[0.25], [0.5], [1.0625]]))
    p = neuron("p", one.result, threshold=1.03125, refractory=np.int32(rest), reset=reset)
    legal, ints, floats = compared(X, one, p, data=raster(2, 150), steps=150)
    assert population(legal).refract == rest + 1 and population(legal).reset == "hard"
    np.testing.assert_array_equal(ints.probes["p.spikes"], floats.probes["p.spikes"])
    assert floats.probes["p.spikes"].any()


def test_each_neuron_may_have_its_own_parameters() -> None:
    """Thresholds go into weights, decays and refractory times into classes of compartments."""
    one = dense("p.x", X, np.full((4, 6), 0.25))
    p = neuron("p", one.result, threshold=np.array([0.5, 1.0, 2.0, 3.0]), beta=np.array([0.5, 0.5, 0.75, 0.75]),
               refractory=np.array([0, 2, 0, 2], np.int32))  # fmt: skip
    legal, ints, floats = compared(X, one, p, data=raster(3, 100), steps=100)
    op = population(legal)
    assert op.each("dv").tolist() == [2048, 2048, 1024, 1024] and op.each("refract").tolist() == [1, 3, 1, 3]
    assert len(op.classes[0]) == 4
    assert (ints.probes["p.spikes"] != floats.probes["p.spikes"]).mean() < 0.03


@pytest.mark.parametrize(("kinds", "cores"), [(32, 1), (33, 2), (300, 10)])
def test_no_core_has_more_than_32_profiles(kinds: int, cores: int) -> None:
    one = dense("p.x", X, np.full((300, 6), 0.25))
    decays = 1 - (100 + np.arange(300) % kinds) / 4096
    p = neuron("p", one.result, threshold=1.0, beta=np.sort(decays))
    chain = compile_legal(legalised(X, one, p))
    assert len(chain.image.cores) == cores
    assert_lawful(chain.image)
    chain.assert_equal_everywhere({"x": raster(1)}, 30)


def test_profiles_of_a_three_compartment_neuron_count_thrice() -> None:
    one = dense("p.x", X, np.full((22, 6), 0.25))
    p = neuron(
        "p", one.result, threshold=1.0, alpha=0.5, beta=1 - (100 + np.arange(22)) / 4096, reset="subtract"
    )
    chain = compile_legal(legalised(X, one, p))
    assert len(chain.image.cores) == 3
    assert_lawful(chain.image)


@pytest.mark.parametrize("count", [85, 86, 300])
def test_lists_of_three_compartment_neurons_reach_beyond_the_base(count: int) -> None:
    """Bases count compartments, indices neurons: 256 is no multiple of three."""
    one = dense("p.x", X, np.random.default_rng(count).normal(0.3, 0.4, (count, 6)))
    p = neuron("p", one.result, threshold=1.0, alpha=0.5, beta=0.75, reset="subtract")
    chain = compile_legal(legalised(X, one, p))
    chain.assert_equal_everywhere({"x": raster(4)}, 30)
    assert assert_every_synapse_once(chain) > 6 * count
    assert_lawful(chain.image)


def test_a_chip_with_too_few_cores_for_its_profiles_says_so(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text('base = "loihi"\n[limits]\ncx_profiles = 2\n')
    one = dense("p.x", X, np.full((300, 6), 0.25))
    p = neuron("p", one.result, threshold=1.0, alpha=0.5, beta=0.75, reset="subtract")
    with pytest.raises(DoesNotFit, match="cx profiles"):
        Partition(target=str(tmp_path / "tiny.toml")).run(legalised(X, one, p))


def test_reaching_a_threshold_is_exact_where_nothing_is_rounded() -> None:
    """Multiples of an eighth reach the threshold often; on the chip exactly as often."""
    rng = np.random.default_rng(4)
    for beta, reset in ((None, "subtract"), (None, "zero"), (0.0, "zero")):
        one = dense("p.x", X, rng.integers(-4, 9, (5, 6)) / 8)
        p = neuron("p", one.result, threshold=1.0, beta=beta, bias=0.125, reset=reset, compare="ge")
        legal, ints, floats = compared(X, one, p, data=raster(6, 100), steps=100)
        np.testing.assert_array_equal(ints.probes["p.spikes"], floats.probes["p.spikes"])
        above = run_snn(
            module(X, one, _with_compare(p, "gt")), {"x": raster(6, 100)}, 100, probes=["p.spikes"]
        )
        assert (above.probes["p.spikes"] != floats.probes["p.spikes"]).any(), "the comparison matters"


def _with_compare(op: Neuron, compare: Any) -> Neuron:
    from dataclasses import replace

    return replace(op, compare=compare)


def test_a_loop_with_one_step_of_delay_stays_legal() -> None:
    one = dense("p.x", X, np.full((3, 6), 0.4))
    loop = dense("p.r", Value("p", Type("spikes", (3,))), np.full((3, 3), -0.2), delay=1)
    p = neuron("p", one.result, loop.result, threshold=1.0, alpha=0.75, beta=0.875)
    legal, ints, _ = compared(X, one, loop, p, data=raster(8))
    assert synapses(legal, "p.r").delay == 1 and ints.probes["p.spikes"].any()


def test_membrane_first_is_a_step_more_on_every_projection() -> None:
    one = dense("p.x", X, np.full((2, 6), 0.4), delay=2)
    p = neuron("p", one.result, threshold=1.0, alpha=0.75, beta=0.875, order="membrane-first")
    assert synapses(legalised(X, one, p)).delay == 3


def test_thresholds_of_a_shared_kernel_may_differ_by_channel_only() -> None:
    x = snn.Input(out="x", source="x", shape=(1, 6, 1), encoder="raster")
    kernel = Const("c.w", np.array([0.5, 0.25]).reshape(2, 1, 1, 1))
    conv = snn.Conv(out="p.x", spikes=x.result, weight=kernel, stride=(1, 1), pad=(0,) * 4, dilation=(1, 1))
    by_channel = neuron("p", conv.result, threshold=np.array([1.0, 0.5]).reshape(2, 1, 1), beta=0.75)
    found = legalised(x, conv, by_channel)
    assert len(np.unique(synapses(found).mantissas)) == 1
    by_place = neuron("p", conv.result, threshold=np.arange(1.0, 7.0).reshape(1, 6, 1), beta=0.75)
    assert refusals(x, conv, by_place) == ["E0610"]


def test_snntorchs_guarded_reset_is_taken_where_it_never_guards() -> None:
    def made(size: float, reset: Any) -> tuple[Op, ...]:
        one = dense("p.x", X, np.random.default_rng(2).uniform(0.5, 1, (2, 6)) * size)
        return X, one, neuron("p", one.result, threshold=1.0, beta=0.875, reset=reset)

    small, plain = made(0.15, "subtract-guarded"), made(0.15, "subtract")
    assert legalised(*small) == legalised(*plain)
    floats = [
        run_snn(module(*ops), {"x": raster(9, 100)}, 100, probes=["p.spikes"]) for ops in (small, plain)
    ]
    np.testing.assert_array_equal(floats[0].probes["p.spikes"], floats[1].probes["p.spikes"])
    assert floats[0].probes["p.spikes"].any()
    assert refusals(*made(1.5, "subtract-guarded")) == ["E0610"]


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "many spikes": ({"max_spikes": 3}, ["E0610"]),
    "feed": ({"feed": 0.5}, ["E0610"]),
    "growing": ({"beta": 1.5}, ["E0619"]),
    "too slow": ({"beta": 0.99999}, ["E0619"]),
    "a filter that keeps all": ({"alpha": 1.0, "beta": 0.5}, ["E0619"]),
    "long rest": ({"refractory": np.int32(63)}, ["E0610"]),
    "rest for some": ({"refractory": np.array([0, 1], np.int32), "reset": "subtract"}, ["E0610"]),
    "no way up": ({"v_reset": 1.0, "reset": "to-value"}, ["E0610"]),
    "filtered subtraction without leak": ({"alpha": 0.5, "reset": "subtract"}, ["E0610"]),
    "decays that share no core": ({"beta": np.array([0.0, 1.0])}, ["E0610"]),
    "reaching with a decay": ({"compare": "ge", "beta": 0.5}, ["E0611"]),
    "two at once": ({"feed": 0.5, "max_spikes": 2}, ["E0610", "E0610"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_compartment_does_is_refused(name: str) -> None:
    fields, codes = REFUSED[name]
    one = dense("p.x", X, np.full((2, 6), 0.3))
    assert refusals(X, one, neuron("p", one.result, **{"threshold": 1.0, **fields})) == codes


def test_reaching_with_weights_that_are_rounded_is_refused() -> None:
    one = dense("p.x", X, np.random.default_rng(1).normal(size=(2, 6)))
    assert refusals(X, one, neuron("p", one.result, threshold=1.0, compare="ge")) == ["E0611"]


def test_a_constant_current_and_a_leak_exclude_each_other() -> None:
    image = snn.Input(out="i", source="i", shape=(2,))
    assert refusals(image, neuron("p", image.result, threshold=1.0, beta=0.5, leak=0.1)) == ["E0610"]
    assert refusals(image, neuron("p", image.result, threshold=1.0, alpha=0.5)) == ["E0610"]


def test_a_driven_leaky_population_follows_its_pixels() -> None:
    image = snn.Input(out="i", source="i", shape=(5,), gain=0.5)
    p = neuron("p", image.result, threshold=1.0, beta=0.75)
    legal = legalised(image, p)
    data = {"i": np.linspace(0, 1, 5)[None]}
    have = compile_legal(legal).assert_equal_everywhere(data, 60).probes["p.spikes"]
    want = run_snn(module(image, p), data, 60, probes=["p.spikes"]).probes["p.spikes"]
    np.testing.assert_array_equal(have, want)


@settings(max_examples=50)
@given(amount=st.integers(0, 4095), value=st.integers(-(2**24), 2**24))
def test_every_integer_is_the_decay_of_another(amount: int, value: int) -> None:
    found = before_decay(np.array([value]), amount)
    assert decay(found, amount)[0] == value


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"du_each": [4097, 0]}, "outside 0..4096"),
        ({"dv_each": [-1, 0]}, "outside 0..4096"),
        ({"refract_each": [0, 1]}, "outside 1..63"),
        ({"reset": "split", "reset_each": [256, 0], "dv": 1}, "outside 0..255"),
        ({"reset": "split", "reset_mant": 9, "dv": 0}, "share the offset"),
        ({"reset": "split", "dv": 1}, "needs a reset weight"),
        ({"reset": "soft", "reset_mant": 9, "refract_each": [1, 2]}, "no refractory time"),
        ({"u_init": [1 << 23, 0]}, "leaves 24 bits"),
        ({"du_each": [1, 2, 3]}, "does not broadcast"),
    ],
)
def test_registers_out_of_range_are_told(fields: dict[str, Any], text: str) -> None:
    consts: dict[str, Any] = {key: Const(f"p.{key}", np.array(item, np.int32)) if isinstance(item, list) else item
              for key, item in fields.items()}  # fmt: skip
    one = loihi.Dense(out="p.x", spikes=X.result, weight=Const("w", np.ones((2, 6), np.int16) * 2))
    with pytest.raises(VerifyError, match=text):
        loihi.Lif(out="p", current=(one.result,), **consts).verify()


def test_a_membrane_first_projection_cannot_take_the_last_delay() -> None:
    one = dense("p.x", X, np.full((2, 6), 0.4), delay=62)
    p = neuron("p", one.result, threshold=1.0, alpha=0.75, beta=0.875, order="membrane-first")
    assert refusals(X, one, p) == ["E0616"]


def test_rounding_of_decays_and_resets_is_told() -> None:
    one = dense("p.x", X, np.full((2, 6), 0.3))
    p = neuron("p", one.result, threshold=1.0, beta=0.9, alpha=0.83, reset="subtract")
    notes = legalised(X, one, p).attr("neuron_error")["p"]
    assert 0 < notes["decay"] < 0.01 and 0 < notes["reset"] < 0.01


# Networks and traces of the NIR paper (facts/nir.md 1.5).

NIR = Path(os.environ.get("NMC_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "oracles" / "nir"
needs_traces = pytest.mark.skipif(not NIR.is_dir(), reason="no oracle files here")


def _from_nir(name: str, steps: int, **options: Any) -> tuple[Module, Chain]:
    from nmc.frontends.nir import load_nir

    found = load_nir(NIR / name, **options).with_attrs(steps=steps)
    return found, compile_legal(Legalize().run(Retime().run(found)))


@needs_traces
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_the_braille_network_reads_the_same_letter(reset: str) -> None:
    x = np.load(NIR / "braille_test_sample0_input_256x12_label1.npy")
    net, chain = _from_nir(
        "braille_noDelay_noBias_subtract.nir", 256, dt=1e-4, semantics="norse", reset=reset
    )
    have = chain.assert_equal_everywhere({"input": x[None]}, 256)
    want = run_snn(net, {"input": x[None]}, 256, probes=["lif1.lif.spikes"])
    spikes = have.probes["lif1.lif.spikes"], want.probes["lif1.lif.spikes"]
    assert (spikes[0] != spikes[1]).mean() < 0.01 and abs(int(spikes[0].sum()) - int(spikes[1].sum())) <= 10
    assert have.outputs["lif2"].argmax() == want.outputs["lif2"].argmax() == 1


@needs_traces
@pytest.mark.parametrize("semantics", ["nir-exact", "norse", "snntorch", "spinnaker2", "lava"])
def test_a_single_neuron_fires_when_ten_platforms_do(semantics: str) -> None:
    x = (np.loadtxt(NIR / "lif_norse.csv", delimiter=",")[:, :1] > 0).astype(np.uint8)
    net, chain = _from_nir("lif_norse.nir", 1000, dt=1e-4, semantics=semantics)
    have = chain.assert_equal_everywhere({"input": x[None]}, 1000).probes["1.spikes"]
    want = run_snn(net, {"input": x[None]}, 1000, probes=["1.spikes"]).probes["1.spikes"]
    assert want.sum() == 4
    np.testing.assert_array_equal(have, want)
