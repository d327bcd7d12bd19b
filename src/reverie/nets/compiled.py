"""The sweeps of nets/recurrence.py compiled by numba: the same arrays in, the same out, without an interpreter between
the steps. Imported only where numba is installed.

A weight matrix is (M, L) throughout, hidden units lying together, so that every inner loop runs along them.
"""

from typing import no_type_check

import numpy as np
from numba import njit

# NaN and infinity stay what they are: that is how a member that runs away is known.
_EXACT_ENOUGH = {"reassoc", "contract", "nsz", "arcp"}


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _spread(out, x, W):
    """out (L) += x (M) W (M, L), four rows at a time."""
    whole = len(x) // 4 * 4
    for m in range(0, whole, 4):
        a, b, c, d = x[m], x[m + 1], x[m + 2], x[m + 3]
        Wa, Wb, Wc, Wd = W[m], W[m + 1], W[m + 2], W[m + 3]
        for i in range(len(out)):
            out[i] += a * Wa[i] + b * Wb[i] + c * Wc[i] + d * Wd[i]
    for m in range(whole, len(x)):
        a, Wa = x[m], W[m]
        for i in range(len(out)):
            out[i] += a * Wa[i]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _gather(out, W, h):
    """out (M) += W (M, L) h (L), four rows at a time."""
    whole = len(out) // 4 * 4
    zero = h[0] * 0 if len(h) else out[0] * 0
    for m in range(0, whole, 4):
        Wa, Wb, Wc, Wd = W[m], W[m + 1], W[m + 2], W[m + 3]
        a, b, c, d = zero, zero, zero, zero
        for i in range(len(h)):
            a += Wa[i] * h[i]
            b += Wb[i] * h[i]
            c += Wc[i] * h[i]
            d += Wd[i] * h[i]
        out[m] += a
        out[m + 1] += b
        out[m + 2] += c
        out[m + 3] += d
    for m in range(whole, len(out)):
        a, Wa = zero, W[m]
        for i in range(len(h)):
            a += Wa[i] * h[i]
        out[m] += a


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _outer(out, g, h):
    """out (M, L) += g (B, M)' h (B, L), four examples at a time."""
    batch = len(g)
    whole = batch // 4 * 4
    for b in range(0, whole, 4):
        ha, hb, hc, hd = h[b], h[b + 1], h[b + 2], h[b + 3]
        for m in range(out.shape[0]):
            a, c, d, e = g[b, m], g[b + 1, m], g[b + 2, m], g[b + 3, m]
            row = out[m]
            for i in range(len(row)):
                row[i] += a * ha[i] + c * hb[i] + d * hc[i] + e * hd[i]
    for b in range(whole, batch):
        for m in range(out.shape[0]):
            a, row, ha = g[b, m], out[m], h[b]
            for i in range(len(row)):
                row[i] += a * ha[i]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def forward(A, W1, W2, h1, h2, start, target, weight, readout, gain, drive, states, forced):
    """Fills `states` (T, S, B, M) and `forced` (T, S, B, M + 1) from A (S, M, M) on the right, W1 and W2 (S, M, L).

    `target` of no steps: no forcing; `readout` of no members: the first units themselves; `drive` of no steps: none.
    """
    steps, members, batch, size = states.shape
    pulled, n = len(target) > 0, target.shape[3]
    through, reach = len(readout) > 0, readout.shape[1]
    hidden = np.empty(h2.shape[1], states.dtype)
    error = np.empty(n, states.dtype)
    for s in range(members):
        for b in range(batch):
            z = start[s, b]
            for t in range(steps):
                x = forced[t, s, b]
                x[:size] = z
                x[size] = 1
                if pulled and through:
                    for j in range(n):
                        error[j] = target[t, s, b, j]
                        for i in range(reach):
                            error[j] -= z[i] * readout[s, i, j]
                        error[j] *= weight[t, s, b, j]
                        for i in range(reach):
                            x[i] += error[j] * gain[s, j, i]
                elif pulled:
                    for j in range(n):
                        x[j] += weight[t, s, b, j] * (target[t, s, b, j] - z[j])
                hidden[:] = h2[s]
                _spread(hidden, x[:size], W2[s])
                for i in range(len(hidden)):
                    hidden[i] = max(hidden[i], 0)
                z = states[t, s, b]
                z[:] = h1[s]
                if len(drive) > 0:
                    z += drive[t, s, b]
                _spread(z, x[:size], A[s])
                _gather(z, W1[s], hidden)


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def adjoint(A, W1, W2, h2, forced, weight, readout, gain, pulled, total, carried, dA, dW1, dW2, dh2):
    """Turns `total` (T, S, B, M), the derivatives of a loss for the states, into those with all later effects; fills
    `carried` (S, B, M) with that for the start, and adds to dA (S, M, M + 1), dW1, dW2 (S, M, L) and dh2 (S, L)."""
    steps, members, batch, size = total.shape
    units, n = h2.shape[1], weight.shape[3]
    through, reach = len(readout) > 0, readout.shape[1]
    hidden, slope = np.empty((batch, units), total.dtype), np.empty((batch, units), total.dtype)
    error = np.empty(n, total.dtype)
    for s in range(members):
        for t in range(steps - 1, -1, -1):
            for b in range(batch):
                later, x, back = total[t, s, b], forced[t, s, b], carried[s, b]
                later += back
                hidden[b] = h2[s]
                _spread(hidden[b], x[:size], W2[s])
                slope[b] = 0
                _spread(slope[b], later, W1[s])
                for i in range(units):
                    on = hidden[b, i] > 0
                    slope[b, i] = slope[b, i] if on else 0
                    hidden[b, i] = hidden[b, i] if on else 0
                back[:] = 0
                _gather(back, A[s], later)
                _gather(back, W2[s], slope[b])
                if pulled and through:
                    for j in range(n):
                        error[j] = 0
                        for i in range(reach):
                            error[j] += back[i] * gain[s, j, i]
                        error[j] *= weight[t, s, b, j]
                    for j in range(n):
                        for i in range(reach):
                            back[i] -= error[j] * readout[s, i, j]
                elif pulled:
                    for j in range(n):
                        back[j] *= 1 - weight[t, s, b, j]
            _outer(dW1[s], total[t, s], hidden)
            _outer(dW2[s], forced[t, s, :, :size], slope)
            _outer(dA[s], total[t, s], forced[t, s])
            for b in range(batch):
                dh2[s] += slope[b]
