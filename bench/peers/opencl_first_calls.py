# SPDX-License-Identifier: Apache-2.0
"""First calls on an OpenCL device, where kernels are compiled: tenon's, cold and with its kernel cache, beside CLBlast's first product.

    python bench/peers/opencl_first_calls.py                      five turns, products of 512
    python bench/peers/opencl_first_calls.py --turns 9 --size 1024 --json

Each is timed in a process of its own, in turn, with an empty cache of the driver's (POCL_CACHE_DIR; CLBlast keeps nothing
beyond its process). tenon makes a product, a softmax and an attention. Opening the device is not in the times of the calls.
See README.md of this folder.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def first_tenon(size: int, cache: str | None) -> dict[str, float]:
    from race import tenon

    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    q, k, v = (rng.standard_normal((1, 4, 256, 64), dtype=np.float32) for _ in range(3))
    seconds = {}
    start = time.perf_counter()
    ctx = tenon.Context(device="opencl", kernel_cache=cache)
    for name, run in {
        "open": lambda: None,
        "gemm": lambda: ctx.matmul(a, b),
        "softmax": lambda: ctx.softmax(a),
        "attention": lambda: ctx.attention(q, k, v),
        "again": lambda: ctx.matmul(a, b),
    }.items():
        run()
        now = time.perf_counter()
        seconds[name], start = now - start, now
    return seconds


def first_clblast(size: int) -> dict[str, float]:
    """By C prototypes: cl.h, clblast_c.h."""
    cl, blast = ctypes.CDLL("libOpenCL.so.1"), ctypes.CDLL("libclblast.so.1")
    pointer, whole = ctypes.c_void_p, ctypes.c_size_t
    for name in ("clCreateContext", "clCreateCommandQueue", "clCreateBuffer"):
        getattr(cl, name).restype = pointer
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    c = np.zeros((size, size), np.float32)
    platform, device, code = pointer(), pointer(), ctypes.c_int()
    start = time.perf_counter()
    assert cl.clGetPlatformIDs(1, ctypes.byref(platform), None) == 0
    assert cl.clGetDeviceIDs(platform, ctypes.c_uint64(0xFFFFFFFF), 1, ctypes.byref(device), None) == 0
    context = pointer(cl.clCreateContext(None, 1, ctypes.byref(device), None, None, ctypes.byref(code)))
    queue = pointer(cl.clCreateCommandQueue(context, device, ctypes.c_uint64(0), ctypes.byref(code)))
    buffers = [
        pointer(cl.clCreateBuffer(context, ctypes.c_uint64(1 | 32), whole(x.nbytes), pointer(x.ctypes.data), None))
        for x in (a, b, c)
    ]
    seconds = {"open": time.perf_counter() - start}
    n = whole(size)
    for name in ("gemm", "again"):
        start = time.perf_counter()
        status = blast.CLBlastSgemm(
            101, 111, 111, n, n, n, ctypes.c_float(1), buffers[0], whole(0), n, buffers[1], whole(0), n,
            ctypes.c_float(0), buffers[2], whole(0), n, ctypes.byref(queue), None,
        )  # fmt: skip
        assert status == 0, f"CLBlastSgemm answers {status}"
        assert cl.clFinish(queue) == 0
        seconds[name] = time.perf_counter() - start
    return seconds


def in_a_process(who: str, size: int, cache: str | None) -> dict[str, float]:
    """`who` with an empty cache of the driver's."""
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, __file__, "--alone", who, "--size", str(size)]
        done = subprocess.run(
            command + (["--cache", cache] if cache else []),
            env=os.environ | {"POCL_CACHE_DIR": empty},
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout)


def turn(size: int) -> dict[str, dict[str, float]]:
    """Cold keeps nothing; the second of the two with a cache finds what the first has left."""
    with tempfile.TemporaryDirectory() as cache:
        return {
            "tenon, cold": in_a_process("tenon", size, None),
            "clblast": in_a_process("clblast", size, None),
            "tenon, saving": in_a_process("tenon", size, cache),
            "tenon, warm": in_a_process("tenon", size, cache),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--size", type=int, default=512, help="of the products, which are square")
    parser.add_argument("--json", action="store_true", help="one object per turn")
    parser.add_argument("--alone", choices=("tenon", "clblast"), help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        seconds = first_clblast(args.size) if args.alone == "clblast" else first_tenon(args.size, args.cache)
        print(json.dumps(seconds), flush=True)
        os._exit(0)  # PoCL 3.1 sometimes crashes among its destructors
    turns = []
    for _ in range(args.turns):
        turns.append(turn(args.size))
        if args.json:
            print(json.dumps(turns[-1]), flush=True)
    if args.json:
        return
    names = ("open", "gemm", "softmax", "attention", "again")
    print(f"{'seconds, median':<16}" + "".join(f"{name:>11}" for name in names))
    for who in turns[0]:
        times = [f"{statistics.median(t[who][name] for t in turns):11.3f}" if name in turns[0][who] else " " * 11 for name in names]
        print(f"{who:<16}" + "".join(times))
    three = ("gemm", "softmax", "attention")
    cold = statistics.median(sum(t["tenon, cold"][name] for name in three) / t["clblast"]["gemm"] for t in turns)
    warm = statistics.median(t["tenon, warm"]["gemm"] / t["clblast"]["gemm"] for t in turns)
    print(f"of CLBlast's first product: tenon's three cold {cold:.2f}, its product with its cache {warm:.3f}")


if __name__ == "__main__":
    main()
