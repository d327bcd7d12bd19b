"""The sweeps of nets/recurrence.py compiled by numba, without an interpreter between the steps. Imported only where numba
is installed.

LANES examples go through time side by side. Of each step there is one table, a row for each hidden unit, then one for each unit of the
state and one of ones: [relu(…) | z | 1]. Its rows above are a product of those below with [W2 | h2]; the next state is a product of all
of them with [W1 | A | h1]. Backwards it is the same with the transposes, and the table is [slopes | y], where y is what reaches the state.

The tables of some steps are kept, and then the gradients of the weights are sums over steps and examples of a row of one table times a row
of the other.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from reverie.nets.kernels import LANES, TILE, contract, masked, product, rectified

# NaN and infinity stay what they are: that is how a member that runs away is known.
_EXACT_ENOUGH = {"reassoc", "contract", "nsz", "arcp"}
KEPT = 2**16  # numbers in the tables of the steps that are kept: they should fit the second cache


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _table(rows, like):
    """Zeros, so many rows, of which the first begins where a line of the cache does."""
    found = np.zeros(rows * LANES + 16, like.dtype)
    skipped = -found.ctypes.data % 64 // found.itemsize
    return found[skipped : skipped + rows * LANES]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _put(table, row, x):
    """Rows `row` … of a table = x (examples, columns)."""
    for b in range(x.shape[0]):
        for j in range(x.shape[1]):
            table[(row + j) * LANES + b] = x[b, j]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _take(x, size, table, row):
    """The first columns of x (examples, …), `size` of them, = rows `row` … of a table."""
    for b in range(x.shape[0]):
        for j in range(size):
            x[b, j] = table[(row + j) * LANES + b]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _add(x, table):
    """x (examples, columns) += the first rows of a table."""
    for b in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[b, j] += table[j * LANES + b]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _push(table, x):
    """The first rows of a table += x (examples, columns)."""
    for b in range(x.shape[0]):
        for j in range(x.shape[1]):
            table[j * LANES + b] += x[b, j]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _pull(z, target, weight):
    """z += weight * (target - z), of the first units."""
    for b in range(len(target)):
        for j in range(target.shape[1]):
            z[j * LANES + b] += weight[b, j] * (target[b, j] - z[j * LANES + b])


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _correct(z, target, weight, readout, gain, error):
    """z += (weight * (target - z readout)) gain, of the first units."""
    reach, n = readout.shape
    for b in range(len(target)):
        for j in range(n):
            error[j] = target[b, j]
            for i in range(reach):
                error[j] -= z[i * LANES + b] * readout[i, j]
            error[j] *= weight[b, j]
        for j in range(n):
            for i in range(reach):
                z[i * LANES + b] += error[j] * gain[j, i]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _release(y, weight):
    """y -= weight * y, of the first units."""
    for b in range(len(weight)):
        for j in range(weight.shape[1]):
            y[j * LANES + b] -= weight[b, j] * y[j * LANES + b]


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _uncorrect(y, weight, readout, gain, error):
    """y -= (weight * (y gain')) readout', of the first units."""
    reach, n = readout.shape
    for b in range(len(weight)):
        for j in range(n):
            error[j] = 0
            for i in range(reach):
                error[j] += y[i * LANES + b] * gain[j, i]
            error[j] *= weight[b, j]
        for j in range(n):
            for i in range(reach):
                y[i * LANES + b] -= error[j] * readout[i, j]


@njit(fastmath=_EXACT_ENOUGH, cache=True, nogil=True)
@no_type_check
def forward(begin, end, inner, outer, start, target, weight, readout, gain, drive, states, forced):
    """Of members `begin` to `end`: fills `states` (T, S, B, M) and all but the last of `forced` (T, S, B, M + 1) from [W2 | h2] and
    [W1 | A | h1], each (S, blocks, columns, rows of a block), the hidden units filled up to whole blocks.

    `target` of no steps: no forcing; `readout` of no members: the first units themselves; `drive` of no steps: none.
    """
    steps, _, batch, size = states.shape
    units, many = inner.shape[1] * inner.shape[3], inner.shape[3]
    few, columns = outer.shape[3], units + size + 1
    table, z = _table(columns, states), _table(outer.shape[1] * few, states)
    below, error = units * LANES, np.empty(target.shape[3], states.dtype)
    for s in range(begin, end):
        within, without = inner[s].ravel(), outer[s].ravel()
        for first in range(0, batch, LANES):
            last = min(first + LANES, batch)
            z[:], table[:], table[(columns - 1) * LANES :] = 0, 0, 1
            _put(z, 0, start[s, first:last])
            for t in range(steps):
                x = table[below : below + size * LANES]
                x[:] = z[: size * LANES]
                if len(readout) > 0:
                    _correct(x, target[t, s, first:last], weight[t, s, first:last], readout[s], gain[s], error)
                elif len(target) > 0:
                    _pull(x, target[t, s, first:last], weight[t, s, first:last])
                _take(forced[t, s, first:last], size, x, 0)
                for k in range(0, units, many):
                    rectified(table, k * LANES, within, k * (size + 1), table, below, size + 1, many, table)
                for k in range(0, size, few):
                    product(z, k * LANES, without, k * columns, table, 0, columns, few, table)
                if len(drive) > 0:
                    _push(z, drive[t, s, first:last])
                _take(states[t, s, first:last], size, z, 0)


@njit(fastmath=_EXACT_ENOUGH, cache=True, nogil=True)
@no_type_check
def adjoint(begin, end, inner, across, back, forced, weight, readout, gain, pulled, total, carried, dinner, douter):
    """Of members `begin` to `end`: turns `total` (T, S, B, M), the derivatives of a loss for the states, into those with all later effects; fills
    `carried` (S, B, M) with that for the start, and adds to those of the weights, (S, rows, columns) of [W2 | h2] and of [W1 | A | h1] transposed.

    `inner` as for `forward`; `across` and `back` likewise of W1' and of [W2' | A'].
    """
    steps, _, batch, size = total.shape
    units, many = inner.shape[1] * inner.shape[3], inner.shape[3]
    few = back.shape[3]
    # Tiles of a contraction may reach beyond the last row: there are rows for it.
    columns = units + size + 1
    rows = (columns + TILE[1]) | 1  # odd: so that the same rows of several steps do not crowd one set of the cache
    pace = rows * LANES
    held = max(1, min(steps, KEPT // pace))
    seen, slopes = _table(held * rows, total), _table(held * rows, total)
    y, error = _table(back.shape[1] * few, total), np.empty(weight.shape[3], total.dtype)
    below = units * LANES
    for s in range(begin, end):
        within, through, behind = inner[s].ravel(), across[s].ravel(), back[s].ravel()
        for first in range(0, batch, LANES):
            last = min(first + LANES, batch)
            y[:], seen[:], slopes[:] = 0, 0, 0
            for i in range(held):
                seen[i * pace + (columns - 1) * LANES : i * pace + columns * LANES] = 1
            for stop in range(steps, 0, -held):
                begun = max(stop - held, 0)
                for t in range(stop - 1, begun - 1, -1):
                    table, slope = seen[(t - begun) * pace :], slopes[(t - begun) * pace :]
                    _add(total[t, s, first:last], y)
                    _put(slope, units, total[t, s, first:last])
                    _put(table, units, forced[t, s, first:last, :size])
                    for k in range(0, units, many):
                        rectified(table, k * LANES, within, k * (size + 1), table, below, size + 1, many, table)
                        masked(slope, k * LANES, through, k * size, slope, below, size, many, table)
                    for k in range(0, size, few):
                        product(y, k * LANES, behind, k * (units + size), slope, 0, units + size, few, y)
                    if len(readout) > 0:
                        _uncorrect(y, weight[t, s, first:last], readout[s], gain[s], error)
                    elif pulled:
                        _release(y, weight[t, s, first:last])
                _gradients(douter[s], seen, 0, slopes, below, columns, size, pace, stop - begun)
                _gradients(dinner[s], slopes, 0, seen, below, units, size + 1, pace, stop - begun)
            _take(carried[s, first:last], size, y, 0)


@njit(fastmath=_EXACT_ENOUGH, cache=True)
@no_type_check
def _gradients(out, big, b, small, s, rows, columns, pace, steps):
    """out (rows or more, columns or more) += for each row of `big` and each of `small` the sum of their product over lanes and steps."""
    flat, width = out.ravel(), out.shape[1]
    for j in range(0, rows, TILE[1]):
        for i in range(0, columns, TILE[0]):
            contract(flat, j * width + i, width, big, b + j * LANES, pace, small, s + i * LANES, pace, steps)
