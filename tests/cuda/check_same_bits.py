#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether all kernels that can make a product give the same bits: check_same_bits.py [--device cuda:0] [--size N] [--expect KERNEL…]

Strides and the number of rows decide which kernel of a device forms a product of f16 (docs/CUDA_KERNELS.md); docs/NUMERICS.md, 3.9, promises that this changes no
bit, on Hopper for both kinds of instruction that its tensor cores have. Exits with 1 where it does, or where a kernel that --expect names part of was not met.
"""
import argparse
import sys

import numpy

import tenon


def laid_out(x, turned, odd):
    """The same matrix along rows or columns, these an odd number of elements apart or a multiple of 16 bytes."""
    lines, length = x.shape[::-1] if turned else x.shape
    pitch = (length + 7) // 8 * 8 + (9 if odd else 8)
    view = numpy.zeros((lines, pitch), x.dtype)[:, :length]
    view = view.T if turned else view
    view[...] = x
    return view


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--device", default="cuda:0")
    parse.add_argument("--size", type=int, default=3000)
    parse.add_argument("--expect", action="append", default=[])
    args = parse.parse_args()
    context, draw = tenon.Context(args.device), numpy.random.default_rng(1)
    m, n, k = args.size, args.size + 40, args.size + 21
    # Exponents far apart, so that the order of a sum and where it is cut show.
    a, b = (draw.standard_normal(shape).astype(numpy.float16) * numpy.exp2(draw.integers(-6, 7, shape)).astype(numpy.float16) for shape in ((m, k), (k, n)))
    first, kernels, faults = None, set(), 0
    for case in range(16):
        turn_a, turn_b, odd_a, odd_b = (case >> i & 1 for i in range(4))
        plan = context.plan_matmul(laid_out(a, turn_a, odd_a), laid_out(b, turn_b, odd_b), dtype=numpy.float32)
        c = numpy.asarray(plan.run())
        kernels.add(plan.kernel)
        first = c if first is None else first
        differ = int((c.view(numpy.uint32) != first.view(numpy.uint32)).sum())
        faults += differ > 0
        print(f"{plan.kernel}: {differ} of {c.size} elements differ")
    for rows in (1, 16, 100, 500):
        plan = context.plan_matmul(a[:rows], b, dtype=numpy.float32)
        kernels.add(plan.kernel)
        differ = int((numpy.asarray(plan.run()).view(numpy.uint32) != first[:rows].view(numpy.uint32)).sum())
        faults += differ > 0
        print(f"{plan.kernel}, {rows} rows: {differ} elements differ")
    for name in args.expect:
        if not any(name in kernel for kernel in kernels):
            print(f"no kernel with {name} was met")
            faults += 1
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
