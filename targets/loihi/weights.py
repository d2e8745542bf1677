"""Weight mantissas: what a register holds, what it stands for, and how each public tool rounds.

A synapse of `bits` weight bits keeps the high bits of an 8-bit mantissa m (facts 2, 2.4): mixed sign (fanout
1) a two's complement number m >> (9 - bits), excitatory (2) m >> (8 - bits), inhibitory (3) the magnitude |m|
>> (8 - bits).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.diagnostics import fail
from nmc.targets.loihi.layout import INHIBITORY, MIXED, Compat, Ints

# brian2-loihi clips each effective weight to this (facts 2.3 row 3).
BRIAN2_WEIGHT_LIMIT = (1 << 21) - 64
RANGES = {MIXED: (-256, 254), 2: (0, 255), INHIBITORY: (-255, 0)}


def precision_shift(bits: int, fanout: int) -> int:
    """Number of low mantissa bits that a register of `bits` bits does not keep."""
    return 8 - bits + (fanout == MIXED)


def round_mantissa(m: ArrayLike, bits: int, fanout: int, exp: int = 0, compat: Compat = "nmc") -> Ints:
    """Bring mantissas to the precision of their register, the way a tool does it.

    Parameters
    ----------
    m : int array
        Mantissas in the range of the sign mode (facts 2.4).
    bits, fanout, exp : int
        Weight bits, sign mode 1 mixed / 2 excitatory / 3 inhibitory, weight exponent.
    compat : str
        "nmc" and "lava" floor mixed signs and go toward zero otherwise, "brian2loihi" goes toward zero,
        "nengo-loihi" rounds half to even, and once more before the loss of a negative exponent
        (facts 2.3 row 1).

    Returns
    -------
    int64 array of mantissas that `encode_register` can hold.

    Raises
    ------
    NmcError
        E0512 when a mantissa is outside the range of the sign mode.
    """
    value = _in_range(m, fanout)
    shift = precision_shift(bits, fanout)
    if compat == "nengo-loihi":
        return _round_nengo(value, shift, exp)
    if fanout == MIXED and compat != "brian2loihi":
        return (value >> shift) << shift
    return np.asarray(np.sign(value) * ((np.abs(value) >> shift) << shift), np.int64)


def _round_nengo(m: Ints, shift: int, exp: int) -> Ints:
    """Round to the register, then to what survives the exponent; the limit is the register's, both times."""
    limit = (1 << (8 - shift)) - 1
    register = np.clip(np.rint(m / 2.0**shift), -limit, limit)
    lost = -(shift + exp)
    if lost > 0:
        register = np.clip(np.rint(register / 2.0**lost) * 2.0**lost, -limit, limit)
    return register.astype(np.int64) << shift


def _in_range(m: ArrayLike, fanout: int) -> Ints:
    value = np.asarray(m, np.int64)
    low, high = RANGES.get(fanout, (0, -1))
    bad = (value < low) | (value > high)
    if bad.any():
        first = value[bad].reshape(-1)[0]
        raise fail(
            "E0512",
            f"{int(bad.sum())} weight mantissas are outside {low}..{high} of fanout type {fanout} "
            f"(the first is {first})",
            hint="choose another sign mode or a larger weight exponent",
        )
    return value


def encode_register(m: ArrayLike, bits: int, fanout: int) -> Ints:
    """Give the register contents (0 .. 2^bits-1) of representable mantissas.

    Raises
    ------
    NmcError
        E0512 when a mantissa is out of range or has bits that the register does not keep.
    """
    value = _in_range(m, fanout)
    shift = precision_shift(bits, fanout)
    size = np.abs(value) if fanout == INHIBITORY else value
    register = size >> shift
    if bool(((register << shift) != size).any()):
        raise fail("E0512", f"weight mantissas need more than {bits} bits (use round_mantissa first)")
    return register & ((1 << bits) - 1)


def decode_register(register: ArrayLike, bits: ArrayLike, fanout: ArrayLike) -> Ints:
    """Give the mantissas of register contents; the three arrays broadcast."""
    value, width, mode = np.broadcast_arrays(
        np.asarray(register, np.int64), np.asarray(bits, np.int64), np.asarray(fanout, np.int64)
    )
    mixed = mode == MIXED
    sign_bit = (np.int64(1) << width) >> 1
    signed = np.where(mixed & (value >= sign_bit) & (width > 0), value - 2 * sign_bit, value)
    mantissa = signed << (8 - width + mixed)
    return np.asarray(np.where(mode == INHIBITORY, -mantissa, mantissa), np.int64)


def effective_weight(m: ArrayLike, exp: ArrayLike, compat: Compat = "nmc") -> Ints:
    """Give the number that one spike adds to q: mantissa times 2^exp, floored, times 64 (facts 2).

    In "brian2loihi" it is limited to +-(2^21 - 64). "lava" floors sums, not weights, when the exponent is
    negative: the emulator does that itself and this function gives the single-spike value.
    """
    mantissa, exponent = np.broadcast_arrays(np.asarray(m, np.int64), np.asarray(exp, np.int64))
    scaled: NDArray[np.int64] = np.where(
        exponent >= 0, mantissa << np.maximum(exponent, 0), mantissa >> np.maximum(-exponent, 0)
    )
    weight = scaled << 6
    if compat == "brian2loihi":
        weight = np.clip(weight, -BRIAN2_WEIGHT_LIMIT, BRIAN2_WEIGHT_LIMIT)
    return weight
