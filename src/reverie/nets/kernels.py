"""Products of small matrices, written in the instructions of LLVM for numba. Imported only where numba is installed.

What a compiler makes of loops over an array of sums is loads and stores. Here every sum is a vector of LANES numbers, one for each
example, and stays in a register from the first term to the last (Goto & van de Geijn 2008, "Anatomy of high-performance matrix
multiplication"). All arrays are flat: a row is LANES numbers, and offsets count numbers.

numba keeps what it compiled of compiled.py until that file changes. Whoever changes this one removes __pycache__.
"""

from typing import Any, no_type_check

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # examples that are carried side by side: one register of AVX-512, two of AVX, four of NEON
REGISTERS = 32 if llvm.get_host_cpu_features().get("avx512f") else 16
MOST = 3 * REGISTERS // 8  # rows that a product makes at once: with what they are made of they fill the registers
LEAST = 2 * MOST // 3  # rows below which a product waits for its sums, not for its arithmetic
TILE = (2, 3) if REGISTERS == 16 else (3, 4)  # sums of a contraction: rows of its small side by rows of its big one


def at_once(rows: int) -> int:
    """How many of so many rows a product makes at once, for the fewest in all, with those that fill up the last block.

    >>> LEAST <= at_once(200) <= MOST
    True
    """
    return min(range(LEAST, MOST + 1), key=lambda n: (-(-rows // n) * n, -n))


@no_type_check
def _from(context, builder, kind, array, offset):
    """The pointer to a number of a flat array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


@no_type_check
def _row(builder, pointer, index, kind):
    """The pointer to a row, as a vector."""
    start = builder.mul(index, ir.Constant(index.type, LANES))
    return builder.bitcast(builder.gep(pointer, [start]), kind.as_pointer())


@no_type_check
def _named(builder, name, result, *arguments):
    """An instruction of LLVM for vectors of that kind."""
    vector = arguments[-1]
    bits = {"float": 32, "double": 64}[str(vector.element)]
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f{bits}")


@no_type_check
def _repeat(builder, count, sums, body):
    """sums = body(i, sums) for i = 0 … count - 1, from zeros, which are kept in registers; `count` is at least 1."""
    before, loop = builder.block, builder.append_basic_block()
    after = builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(count.type)
    kept = [builder.phi(kind) for kind in sums]
    found = body(i, kept)
    following = builder.add(i, ir.Constant(i.type, 1))
    for phi, zero, value in zip(
        [i, *kept], [ir.Constant(k, None) for k in (i.type, *sums)], [following, *found], strict=True
    ):
        phi.add_incoming(zero, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return found


@no_type_check
def _product(finish):
    """(out, o, W, w, x, first, count, n, on): rows o … of `out` = n rows W (count, n) times rows of x, as `finish` leaves each."""

    def typed(context, out, o, W, w, x, first, count, n, on):
        def code(context, builder, signature, given):
            kinds = signature.args
            number, whole = context.get_data_type(kinds[0].dtype), given[1].type
            vector = ir.VectorType(number, LANES)
            out, W, x, on = (_from(context, builder, kinds[i], given[i], given[j]) for i, j in ((0, 1), (2, 3), (4, 5), (8, 1)))  # fmt: skip
            fma = _named(builder, "fmuladd", vector, vector, vector, vector)
            lane = ir.Constant(ir.IntType(32), 0)
            splat = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
            done = builder.append_basic_block()
            choice = builder.switch(given[7], done)
            for rows in range(LEAST, MOST + 1):
                block = builder.append_basic_block()
                choice.add_case(ir.Constant(whole, rows), block)
                builder.position_at_end(block)

                def step(k, sums, rows=rows):
                    row = builder.load(_row(builder, x, k, vector), align=4)
                    weights = builder.gep(W, [builder.mul(k, ir.Constant(whole, rows))])
                    found = []
                    for i, total in enumerate(sums):
                        weight = builder.load(builder.gep(weights, [ir.Constant(whole, i)]))
                        one = builder.insert_element(ir.Constant(vector, ir.Undefined), weight, lane)
                        every = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), splat)
                        found.append(builder.call(fma, [every, row, total]))
                    return found

                for i, total in enumerate(_repeat(builder, given[6], [vector] * rows, step)):
                    place = ir.Constant(whole, i)
                    switched = _row(builder, on, place, vector)
                    builder.store(finish(builder, total, switched), _row(builder, out, place, vector), align=4)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(out, o, W, w, x, first, count, n, on), code

    return intrinsic(typed)


@no_type_check
def _rectified(builder, total, on):
    zero = ir.Constant(total.type, None)
    return builder.select(builder.fcmp_ordered("<", total, zero), zero, total)  # what is no number stays none


@no_type_check
def _where(builder, total, on):
    zero = ir.Constant(total.type, None)
    return builder.select(builder.fcmp_ordered(">", builder.load(on, align=4), zero), total, zero)


product: Any = _product(lambda builder, total, on: total)
rectified: Any = _product(_rectified)  # the product, or 0 where that is negative
masked: Any = _product(_where)  # the product where `on`, of the same place as `out`, is above 0, and 0 elsewhere


@intrinsic
@no_type_check
def contract(context, out, o, width, big, b, pace, small, s, other, steps):
    """out[o + j * width + i] += the sum over steps and lanes of rows small[i] times rows big[j], for a tile of TILE rows; a step lies `pace` numbers
    after the last in `big`, and `other` in `small`."""

    def code(context, builder, signature, given):
        kinds = signature.args
        number, whole = context.get_data_type(kinds[0].dtype), given[1].type
        vector = ir.VectorType(number, LANES)
        out, big, small = (_from(context, builder, kinds[i], given[i], given[i + 1]) for i in (0, 3, 6))
        fma = _named(builder, "fmuladd", vector, vector, vector, vector)
        add = _named(builder, "vector.reduce.fadd", number, number, vector)

        def rows(pointer, t, pace, count):
            start = builder.gep(pointer, [builder.mul(t, pace)])
            return [builder.load(_row(builder, start, ir.Constant(whole, i), vector), align=4) for i in range(count)]

        def step(t, sums):
            left, right = rows(small, t, given[8], TILE[0]), rows(big, t, given[5], TILE[1])
            pairs = [(p, q) for q in right for p in left]
            return [builder.call(fma, [p, q, total]) for (p, q), total in zip(pairs, sums, strict=True)]

        sums = _repeat(builder, given[9], [vector] * (TILE[0] * TILE[1]), step)
        for at, total in enumerate(sums):
            j, i = divmod(at, TILE[0])
            place = builder.add(builder.mul(given[2], ir.Constant(whole, j)), ir.Constant(whole, i))
            entry = builder.gep(out, [place])
            one = builder.call(add, [ir.Constant(number, 0.0), total], fastmath=("reassoc",))
            builder.store(builder.fadd(builder.load(entry), one), entry)
        return context.get_dummy_value()

    return types.void(out, o, width, big, b, pace, small, s, other, steps), code
