"""The sweeps of nets/recurrence.py compiled by numba, without an interpreter between the steps. Imported only where numba
is installed.

All products run over tiles of four by four: four rows of weights serve four examples, so that a number that was
loaded is used four times. Rows lie WIDTH apart, a constant, and are whole vectors long: so the compiler sees that they do not
overlap, and writes the inner loops as vector instructions without a scalar rest.

A row has a column for each hidden unit, then one for each unit of the state and one for the bias, which the linear part
of the map needs: [W1 | A | h1] times [relu(…) | z | 1] is the whole step. More than WIDTH columns are cut into blocks;
the linear ones always lie together in the last (`layout`).
"""

from typing import no_type_check

import numpy as np
from numba import njit

# NaN and infinity stay what they are: that is how a member that runs away is known.
_EXACT_ENOUGH = {"reassoc", "contract", "nsz", "arcp"}
VECTOR = 16  # numbers: a whole number of vectors of any processor
WIDTH = (
    15 * VECTOR
)  # of a block: a few rows fit the first cache, and an odd number of its lines does not crowd its sets
GROUP = 16  # examples that go through a block together, while it is at hand


def layout(size: int, units: int) -> tuple[int, int]:
    """The number of blocks, and the column at which the linear part begins, for `size` units of state.

    >>> layout(20, 200), layout(20, 230), layout(20, 500)
    ((1, 200), (2, 240), (3, 500))
    """
    blocks = -(-max(units + size + 1, 1) // WIDTH)
    return blocks, max(units, (blocks - 1) * WIDTH)


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _spread(out, o, x, b, W, vectors):
    """Rows o … o + 3 of `out` += rows b … b + 3 of x (…, K) times K rows W."""
    out = out[o * WIDTH :]
    for k in range(0, x.shape[1], 4):
        rows = W[k * WIDTH :]
        a0, a1, a2, a3 = x[b, k], x[b, k + 1], x[b, k + 2], x[b, k + 3]
        b0, b1, b2, b3 = x[b + 1, k], x[b + 1, k + 1], x[b + 1, k + 2], x[b + 1, k + 3]
        c0, c1, c2, c3 = x[b + 2, k], x[b + 2, k + 1], x[b + 2, k + 2], x[b + 2, k + 3]
        d0, d1, d2, d3 = x[b + 3, k], x[b + 3, k + 1], x[b + 3, k + 2], x[b + 3, k + 3]
        for i in range(vectors * VECTOR):
            p, q, r, s = rows[i], rows[i + WIDTH], rows[i + 2 * WIDTH], rows[i + 3 * WIDTH]
            out[i] += a0 * p + a1 * q + a2 * r + a3 * s
            out[i + WIDTH] += b0 * p + b1 * q + b2 * r + b3 * s
            out[i + 2 * WIDTH] += c0 * p + c1 * q + c2 * r + c3 * s
            out[i + 3 * WIDTH] += d0 * p + d1 * q + d2 * r + d3 * s


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _gather(out, b, h, o, W, vectors):
    """Rows b … b + 3 of out (…, M) += the products of rows o … o + 3 of h with each of M rows W."""
    h = h[o * WIDTH :]
    for m in range(0, out.shape[1], 4):
        rows = W[m * WIDTH :]
        # Of the type of the rows: sums of another would be slower by far.
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = h.dtype.type(0)
        for i in range(vectors * VECTOR):
            p, q, r, s = rows[i], rows[i + WIDTH], rows[i + 2 * WIDTH], rows[i + 3 * WIDTH]
            u, v, w, x = h[i], h[i + WIDTH], h[i + 2 * WIDTH], h[i + 3 * WIDTH]
            a0, a1, a2, a3 = a0 + u * p, a1 + u * q, a2 + u * r, a3 + u * s
            b0, b1, b2, b3 = b0 + v * p, b1 + v * q, b2 + v * r, b3 + v * s
            c0, c1, c2, c3 = c0 + w * p, c1 + w * q, c2 + w * r, c3 + w * s
            d0, d1, d2, d3 = d0 + x * p, d1 + x * q, d2 + x * r, d3 + x * s
        found = (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3)
        for i in range(4):
            for j in range(4):
                out[b + i, m + j] += found[i][j]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _hidden(h, o, bias, x, b, W, vectors):
    """Rows o … o + 3 of h = relu(bias + rows b … b + 3 of x (…, K) times K rows W)."""
    rows = h[o * WIDTH :]
    for i in range(vectors * VECTOR):
        rows[i] = rows[i + WIDTH] = rows[i + 2 * WIDTH] = rows[i + 3 * WIDTH] = bias[i]
    _spread(h, o, x, b, W, vectors)
    zero = h.dtype.type(0)
    for i in range(vectors * VECTOR):
        p, q, r, s = rows[i], rows[i + WIDTH], rows[i + 2 * WIDTH], rows[i + 3 * WIDTH]
        rows[i], rows[i + WIDTH] = zero if p < 0 else p, zero if q < 0 else q
        rows[i + 2 * WIDTH], rows[i + 3 * WIDTH] = zero if r < 0 else r, zero if s < 0 else s


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _slopes(g, h, sums, y, b, W, vectors):
    """Rows b … b + 3 of g = those of y (…, K) times K rows W where h is on, and 0 elsewhere; `sums` += their sum."""
    rows, on, zero = g[b * WIDTH :], h[b * WIDTH :], h.dtype.type(0)
    for i in range(vectors * VECTOR):
        rows[i] = rows[i + WIDTH] = rows[i + 2 * WIDTH] = rows[i + 3 * WIDTH] = zero
    _spread(g, b, y, b, W, vectors)
    for i in range(vectors * VECTOR):
        p = rows[i] if on[i] > 0 else zero
        q = rows[i + WIDTH] if on[i + WIDTH] > 0 else zero
        r = rows[i + 2 * WIDTH] if on[i + 2 * WIDTH] > 0 else zero
        s = rows[i + 3 * WIDTH] if on[i + 3 * WIDTH] > 0 else zero
        rows[i], rows[i + WIDTH], rows[i + 2 * WIDTH], rows[i + 3 * WIDTH] = p, q, r, s
        sums[i] += p + q + r + s


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _beside(h, o, x, b, size, column, last):
    """Rows o … o + 3 of h, from `column` on: rows b … b + 3 of x, and `last`."""
    for i in range(4):
        row = h[(o + i) * WIDTH + column :]
        for j in range(size):
            row[j] = x[b + i, j]
        row[size] = last


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _put(to, x, size):
    """Rows of `to` = those of x, as many as it has."""
    for b in range(len(to)):
        for j in range(size):
            to[b, j] = x[b, j]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _pull(x, target, weight):
    """x += weight * (target - x), of the first units."""
    for b in range(len(target)):
        for j in range(target.shape[1]):
            x[b, j] += weight[b, j] * (target[b, j] - x[b, j])


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _correct(x, target, weight, readout, gain, error):
    """x += (weight * (target - x readout)) gain, of the first units."""
    reach, n = readout.shape
    for b in range(len(target)):
        for j in range(n):
            error[j] = target[b, j]
            for i in range(reach):
                error[j] -= x[b, i] * readout[i, j]
            error[j] *= weight[b, j]
        for j in range(n):
            for i in range(reach):
                x[b, i] += error[j] * gain[j, i]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _uncorrect(x, weight, readout, gain, error):
    """x -= (weight * (x gain')) readout', of the first units."""
    reach, n = readout.shape
    for b in range(len(weight)):
        for j in range(n):
            error[j] = 0
            for i in range(reach):
                error[j] += x[b, i] * gain[j, i]
            error[j] *= weight[b, j]
        for j in range(n):
            for i in range(reach):
                x[b, i] -= error[j] * readout[i, j]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _add(to, x, size):
    for b in range(len(to)):
        for j in range(size):
            to[b, j] += x[b, j]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _release(x, weight):
    """x -= weight * x, of the first units."""
    for b in range(len(weight)):
        for j in range(weight.shape[1]):
            x[b, j] -= weight[b, j] * x[b, j]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _rows(count, like):
    """Zeros, `count` rows, of which the first begins where a line of the cache does."""
    found = np.zeros(count * WIDTH + VECTOR, like.dtype)
    skipped = -found.ctypes.data % 64 // found.itemsize
    return found[skipped : skipped + count * WIDTH]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _vectors(block, blocks, linear, size):
    """How many vectors hold the columns of a block."""
    return WIDTH // VECTOR if block < blocks - 1 else -(-(linear - block * WIDTH + size + 1) // VECTOR)


@njit(fastmath=_EXACT_ENOUGH, cache=True, nogil=True)
@no_type_check
def forward(begin, end, inner, bias, outer, linear, start, target, weight, readout, gain, drive, states, forced):
    """Of members `begin` to `end`: fills `states` (T, S, B, M) and all but the last of `forced` (T, S, B, M + 1) from rows inner [W2' | …] and outer
    [W1 | A | h1], (S, blocks, rows * WIDTH), and bias [h2 | 0] (S, blocks, WIDTH); `linear` as from `layout`.

    `target` of no steps: no forcing; `readout` of no members: the first units themselves; `drive` of no steps: none.
    """
    steps, _, batch, size = states.shape
    blocks, rows = inner.shape[1], inner.shape[2] // WIDTH
    h, error = _rows(4, states), np.empty(target.shape[3], states.dtype)
    for s in range(begin, end):
        for first in range(0, batch, GROUP):
            last = min(first + GROUP, batch)
            # Examples that fill up the last four are zeros.
            x, z = np.zeros((2, (last - first + 3) // 4 * 4, rows), states.dtype)
            _put(z[: last - first], start[s, first:last], size)
            for t in range(steps):
                _put(x, z, size)
                if len(readout) > 0:
                    _correct(x, target[t, s, first:last], weight[t, s, first:last], readout[s], gain[s], error)
                elif len(target) > 0:
                    _pull(x, target[t, s, first:last], weight[t, s, first:last])
                _put(forced[t, s, first:last], x, size)
                z[:] = 0
                if len(drive) > 0:
                    _put(z[: last - first], drive[t, s, first:last], size)
                for k in range(blocks):
                    vectors = _vectors(k, blocks, linear, size)
                    for b in range(0, len(x), 4):
                        _hidden(h, 0, bias[s, k], x, b, inner[s, k], vectors)
                        if k == blocks - 1:
                            _beside(h, 0, x, b, size, linear - k * WIDTH, 1)
                        _gather(z, b, h, 0, outer[s, k], vectors)
                _put(states[t, s, first:last], z, size)


@njit(fastmath=_EXACT_ENOUGH, cache=True, nogil=True)
@no_type_check
def adjoint(
    begin, end, inner, bias, outer, linear, forced, weight, readout, gain, pulled, total, carried, dinner, dbias, douter
):
    """Of members `begin` to `end`: turns `total` (T, S, B, M), the derivatives of a loss for the states, into those with all later effects; fills
    `carried` (S, B, M) with that for the start, and adds to those of the rows; inner is [W2' | A'] here."""
    steps, _, batch, size = total.shape
    blocks, rows = inner.shape[1], inner.shape[2] // WIDTH
    h, g, error = _rows(GROUP, total), _rows(GROUP, total), np.empty(weight.shape[3], total.dtype)
    for s in range(begin, end):
        for first in range(0, batch, GROUP):
            last = min(first + GROUP, batch)
            x, y, back = np.zeros((3, (last - first + 3) // 4 * 4, rows), total.dtype)
            for t in range(steps - 1, -1, -1):
                _add(total[t, s, first:last], back, size)
                _put(y[: last - first], total[t, s, first:last], size)
                _put(x[: last - first], forced[t, s, first:last], size)
                back[:] = 0
                for k in range(blocks):
                    vectors = _vectors(k, blocks, linear, size)
                    for b in range(0, len(x), 4):
                        _hidden(h, b, bias[s, k], x, b, inner[s, k], vectors)
                        _slopes(g, h, dbias[s, k], y, b, outer[s, k], vectors)
                        if k == blocks - 1:
                            _beside(h, b, x, b, size, linear - k * WIDTH, 1)
                            _beside(g, b, y, b, size, linear - k * WIDTH, 0)
                        _gather(back, b, g, b, inner[s, k], vectors)
                    for m in range(0, rows, 4):
                        _spread(douter[s, k], m, y.T, m, h, vectors)
                        _spread(dinner[s, k], m, x.T, m, g, vectors)
                if len(readout) > 0:
                    _uncorrect(back, weight[t, s, first:last], readout[s], gain[s], error)
                elif pulled:
                    _release(back, weight[t, s, first:last])
            _put(carried[s, first:last], back, size)
