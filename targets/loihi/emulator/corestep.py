"""One step of one core: synaptic accumulator, u, v, threshold and refractory counter (facts 2), batched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.targets.loihi.emulator.kernels import Matrix, Method, Numbers, as_slice, make_matrix, sum_dtype
from nmc.targets.loihi.emulator.load import CoreProgram
from nmc.targets.loihi.layout import Compat, Ints

Q_WRAP = 1 << 21
U_WRAP = 1 << 23
# brian2-loihi has no limits; beyond this the int64 arithmetic of the next decay could overflow.
UNLIMITED = 1 << 50


class CoreKernels:
    """The synapses of a core in the form that multiplies; shared by all batches.

    Parameters
    ----------
    program : CoreProgram
    compat, method : see `Emulator`
    room : int
        Entries that dense matrices may take; `dense_entries` tells how many they took.
    """

    def __init__(self, program: CoreProgram, compat: Compat, method: Method, room: int) -> None:
        self.program = program
        self.compat = compat
        self.method = method
        self.dtypes = tuple(sum_dtype(bound, method) for bound in program.bounds)
        self.dense_entries = 0
        groups: list[tuple[Matrix, ...]] = []
        for group, dtype in zip(program.groups, self.dtypes, strict=True):
            matrices = []
            for kernel in group:
                matrix = make_matrix(kernel, dtype, method, room - self.dense_entries)
                self.dense_entries += 0 if matrix.dense is None else matrix.dense.size
                matrices.append(matrix)
            groups.append(tuple(matrices))
        self.groups = tuple(groups)
        cx = program.cx
        limited = compat in ("nmc", "nengo-loihi")
        q_max = 64 * sum((b >> g[0].shift) + 1 for b, g in zip(program.bounds, program.groups, strict=True))
        self.wrap_q = limited and q_max >= Q_WRAP
        q_max = min(q_max, Q_WRAP) if limited else q_max
        # Without wrap |u| <= q_max * 4096 / du at most (geometric sum).
        du = 4096 - int(cx.keep_u.max(initial=0))
        u_max = max(q_max * 4096 // du + 1 if du else U_WRAP, int(np.abs(cx.u).max(initial=0)))
        self.wrap_u = compat != "brian2loihi" and u_max >= U_WRAP
        self.keep_u = _uniform(cx.keep_u)
        self.keep_v = _uniform(cx.keep_v)
        self.refracts = bool((cx.refract > 1).any() or (cx.count > 0).any())


def _uniform(keep: Ints) -> int | Ints:
    """Give one number where all compartments agree, else a column."""
    if keep.size and bool((keep == keep[0]).all()):
        return int(keep[0])
    return keep[:, None]


class CoreState:
    """State of one core over a batch of samples; arrays are (compartments, samples)."""

    def __init__(self, kernels: CoreKernels, samples: int) -> None:
        cx = kernels.program.cx
        self.kernels = kernels
        self.x = np.zeros((kernels.program.axons.axon.size, samples), np.float32)
        self.touched = False
        self.u = np.repeat(cx.u[:, None], samples, axis=1)
        self.v = np.repeat(cx.v[:, None], samples, axis=1)
        self.count = np.repeat(cx.count[:, None], samples, axis=1)
        self.bias: Ints = cx.bias[:, None].copy()
        self.biased = bool(cx.bias.any())
        self.spikes: NDArray[np.bool_] = np.zeros(self.v.shape, bool)
        self.spiked = False
        self._scratch = np.zeros_like(self.v)
        self._rings: list[list[Numbers]] = []
        self._dirty: list[list[bool]] = []
        for group, dtype in zip(kernels.groups, kernels.dtypes, strict=True):
            depth = 1 + max(m.delay for m in group)
            self._rings.append([np.zeros(self.v.shape, dtype) for _ in range(depth)])
            self._dirty.append([False] * depth)

    def set_bias(self, cx: Ints, value: Ints) -> None:
        """Replace the biases of compartments `cx` by `value` (compartments, samples)."""
        if self.bias.shape != self.v.shape:
            self.bias = np.repeat(self.bias, self.v.shape[1], axis=1)
        self.bias[cx] = value
        self.biased = True

    def take_arrivals(self, t: int) -> Ints | None:
        """Multiply the spikes in `x` into the accumulator slots and clear `x`; give spikes per row."""
        if not self.touched:
            return None
        arrivals: Ints = self.x.sum(axis=1, dtype=np.float64).astype(np.int64)
        for group, ring, dirty in zip(self.kernels.groups, self._rings, self._dirty, strict=True):
            for matrix in group:
                slot = (t + matrix.delay) % len(ring)
                dirty[slot] |= matrix.add(ring[slot], self.x, arrivals, self.kernels.method)
        self.x.fill(0)
        self.touched = False
        return arrivals

    def advance(self, t: int) -> None:
        """Update all compartments by one step."""
        k = self.kernels
        _decay(self.u, k.keep_u, self._scratch)
        q = self._read_accumulator(t)
        if q is not None:
            self.u += q
        if k.wrap_u:
            _wrap_u(self.u, k.compat)
        _decay(self.v, k.keep_v, self._scratch)
        self.v += self.u
        if self.biased:
            self.v += self.bias
        self._join_and_clip()
        if k.refracts:
            np.multiply(self.v, self.count == 0, out=self.v)
        self._fire()

    def _read_accumulator(self, t: int) -> Ints | None:
        """Give q of this step (None for all 0) and clear its slot."""
        parts: list[Ints] = []
        for group, ring, dirty in zip(self.kernels.groups, self._rings, self._dirty, strict=True):
            slot = t % len(ring)
            if not dirty[slot]:
                continue
            part = ring[slot].astype(np.int64)
            ring[slot].fill(0)
            dirty[slot] = False
            np.right_shift(part, group[0].source.shift, out=part)
            np.left_shift(part, 6, out=part)
            parts.append(part)
        if not parts:
            return None
        q = parts[0]
        for part in parts[1:]:
            np.add(q, part, out=q)
        if self.kernels.wrap_q:
            _wrap(q, Q_WRAP)
        return q

    def _join_and_clip(self) -> None:
        cx = self.kernels.program.cx
        for somas in cx.somas:
            popped = self.v[as_slice(somas - 1)]
            if cx.v_low is not None:
                popped = np.clip(popped, cx.v_low, cx.v_high)
            self.v[as_slice(somas)] += popped
        if cx.v_low is not None:
            np.clip(self.v, cx.v_low, cx.v_high, out=self.v)
        elif int(np.abs(self.v).max(initial=0)) > UNLIMITED:
            raise fail(
                "E0541",
                "a membrane voltage passed 2^50 in compat mode brian2loihi, which has no voltage limits",
                where=f"core {self.kernels.program.core}",
                hint="use compat mode nmc, or a stronger decay",
            )

    def _fire(self) -> None:
        cx = self.kernels.program.cx
        np.greater(self.v, cx.threshold[:, None], out=self.spikes)
        self.spiked = bool(self.spikes.any())
        if self.spiked:
            np.putmask(self.v, self.spikes, 0)
        if self.kernels.refracts:
            count = np.where(self.spikes, cx.refract[:, None], self.count)
            np.maximum(count - 1, 0, out=self.count)


def _decay(x: Ints, keep: int | Ints, scratch: Ints) -> None:
    """Take x to sgn(x) * ((|x| * keep) >> 12), in place: floor after adding 4095 to negatives."""
    if isinstance(keep, int) and keep == 4096:
        return
    if isinstance(keep, int) and keep == 0:
        x.fill(0)
        return
    np.multiply(x, keep, out=x)
    np.right_shift(x, 63, out=scratch)
    np.bitwise_and(scratch, 4095, out=scratch)
    x += scratch
    x >>= 12


def _wrap_u(u: Ints, compat: Compat) -> None:
    """Wrap to 24 bits two's complement, or in lava's way into (-2^23, 2^23] (facts 2.3 row 4), in place."""
    if compat == "lava":
        np.subtract(U_WRAP, u, out=u)
        u &= 2 * U_WRAP - 1
        np.subtract(U_WRAP, u, out=u)
        return
    _wrap(u, U_WRAP)


def _wrap(x: Ints, half: int) -> None:
    """Wrap into -half .. half-1, in place."""
    x += half
    x &= 2 * half - 1
    x -= half
