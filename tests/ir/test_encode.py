"""Spikes from numbers: the same on any machine, in any batch, for ever."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.encode import rate_spikes, uniform_words
from nmc.ir.ops import snn

Array = np.ndarray[Any, Any]
MASK = (1 << 64) - 1


def _mix(word: int) -> int:
    """SplitMix64 in plain integers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def _word(seed: int, sample: int, step: int, index: int) -> int:
    key = _mix((seed + 0x9E3779B97F4A7C15) & MASK)
    key = _mix((key + sample * 0xD1342543DE82EF95) & MASK)
    key = _mix((key + step * 0x9E3779B97F4A7C15) & MASK)
    return _mix((key + index * 0xBF58476D1CE4E5B9) & MASK)


GOLDEN_WORDS = [
    [14818198185258293382, 3059250346325523160, 18015472722679908591],
    [4483001502800130871, 17200109917376670746, 4015929527254388614],
]
GOLDEN_SPIKES = ["001101", "011111", "010011", "101010", "101001", "100011"]


def test_the_plain_integers_are_the_published_generator() -> None:
    """First output of SplitMix64 from seed 0 (java.util.SplittableRandom, Vigna's splitmix64.c)."""
    assert _mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


@settings(max_examples=100)
@given(st.integers(-(2**70), 2**70), st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62))
def test_the_words_are_splitmix_in_plain_integers(seed: int, sample: int, step: int, index: int) -> None:
    words = uniform_words(seed, np.array([sample, sample + 1]), step, np.array([index, index + 1]))
    expected = [[_word(seed, s, step, i) for i in (index, index + 1)] for s in (sample, sample + 1)]
    assert words.dtype == np.uint64
    assert words.tolist() == expected


def test_the_generator_never_changes() -> None:
    """Compiled networks, traces and published figures depend on these very spikes."""
    words = uniform_words(3, np.arange(2), 1, np.arange(3))
    assert words.tolist() == GOLDEN_WORDS
    spikes = np.array([rate_spikes(np.full((2, 6), 0.5), 3, 0, t) for t in range(3)])
    assert ["".join(map(str, row)) for row in spikes.reshape(6, 6)] == GOLDEN_SPIKES


def _rates(samples: int) -> Array:
    return np.random.default_rng(5).random((samples, 2, 3))


@pytest.mark.parametrize("cuts", [(1,), (3,), (2, 5), (1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("first", [0, 1000])
def test_the_split_into_batches_does_not_matter(cuts: tuple[int, ...], first: int) -> None:
    rates = _rates(7)
    for step in (0, 9):
        whole = rate_spikes(rates, 11, first, step)
        edges = [0, *cuts, 7]
        parts = [rate_spikes(rates[a:b], 11, first + a, step) for a, b in zip(edges, edges[1:], strict=False)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_sample_has_its_spikes_wherever_the_run_starts() -> None:
    rates = _rates(10)
    np.testing.assert_array_equal(rate_spikes(rates[4:], 2, 4, 3), rate_spikes(rates, 2, 0, 3)[4:])


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5, 0.9])
def test_the_mean_rate_is_right_within_five_sigma(rate: float) -> None:
    spikes = np.array([rate_spikes(np.full((20, 500), rate), 1, 0, t) for t in range(10)])
    sigma = np.sqrt(rate * (1 - rate) / spikes.size)
    assert abs(spikes.mean() - rate) < 5 * sigma
    for axis in range(3):
        rest = tuple(other for other in range(3) if other != axis)
        share = np.sqrt(rate * (1 - rate) / (spikes.size / spikes.shape[axis]))
        assert np.abs(spikes.mean(axis=rest) - rate).max() < 5 * share


@pytest.mark.parametrize("what", ["seed", "sample", "step", "index"])
def test_neighbours_in_any_direction_are_independent(what: str) -> None:
    half = np.full((40, 500), 0.5)
    spikes = rate_spikes(half, 1, 0, 0).astype(float)
    others = {
        "seed": rate_spikes(half, 2, 0, 0),
        "sample": rate_spikes(half, 1, 1, 0),
        "step": rate_spikes(half, 1, 0, 1),
        "index": np.roll(spikes, 1, axis=1),
    }
    correlation = np.corrcoef(spikes.ravel(), others[what].astype(float).ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(spikes.size)


def test_rates_are_cut_to_what_a_probability_can_be() -> None:
    rates = np.array([[0.0, 1.0, 2.0, -1.0, np.nan, np.inf]])
    for step in range(50):
        np.testing.assert_array_equal(rate_spikes(rates, 0, 0, step), [[0, 1, 1, 0, 0, 1]])


def _encode(encoder: Any, data: Array, t: int, **attrs: Any) -> Array:
    return snn.Input(out="x", source="x", shape=data.shape[1:], encoder=encoder, **attrs).encode(data, 0, t)


def test_the_constant_encoder_scales_and_cuts_below_zero_at_every_step() -> None:
    data = np.array([[0.5, -1.0, 2.0]], np.float32)
    for t in (0, 7):
        np.testing.assert_array_equal(_encode("constant", data, t, gain=4.0), [[2.0, 0.0, 8.0]])


def test_the_rate_encoder_scales_by_its_gain_and_has_its_seed() -> None:
    data = _rates(3)
    np.testing.assert_array_equal(
        _encode("rate", data, 4, gain=0.25, seed=9), rate_spikes(data * 0.25, 9, 0, 4)
    )


def test_the_raster_encoder_gives_each_step_and_then_silence() -> None:
    raster = (np.arange(24).reshape(2, 4, 3) % 5 == 0).astype(np.uint8)
    op = snn.Input(out="x", source="x", shape=(3,), encoder="raster")
    given_steps = np.stack([op.encode(raster, 0, t) for t in range(6)], axis=1)
    np.testing.assert_array_equal(given_steps[:, :4], raster)
    assert not given_steps[:, 4:].any()
