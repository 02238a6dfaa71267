# SPDX-License-Identifier: Apache-2.0
"""NumPy with tenon's BLAS overlay preloaded beside NumPy as it comes, two processes in turn.

    python bench/peers/numpy_blas.py --dtype f32,f64 --threads 2
    python bench/peers/numpy_blas.py --mnk 64,100x200x300,1x4096x4096 --seconds 3

np.matmul(a, b, out=c), rows of A first. Both processes have the same operands and threads; whose turn it is not sleeps.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from race import FEWEST_TURNS, ROOT, TURN, WARM_UP, WARM_UP_BELOW, settle, spread, take

DEFAULT = "64,128,256,512,1024,2048,8x4096x4096,1x4096x4096,4096x1x4096"
DTYPES = {"f32": "float32", "f64": "float64"}


def serve() -> None:
    """The child: answers each line {"m", "n", "k", "dtype"} with the seconds of a call and the largest element of C."""
    import numpy as np

    shape: dict[str, Any] = {}
    calls, a, b, c = 0, None, None, None

    def product() -> None:
        np.matmul(a, b, out=c)

    for line in sys.stdin:
        if json.loads(line) != shape:
            shape, calls = json.loads(line), 0
            rng = np.random.default_rng(1)
            a = rng.uniform(-1, 1, (shape["m"], shape["k"])).astype(DTYPES[shape["dtype"]])
            b = rng.uniform(-1, 1, (shape["k"], shape["n"])).astype(DTYPES[shape["dtype"]])
            c = np.empty((shape["m"], shape["n"]), DTYPES[shape["dtype"]])
        settle()
        start = time.perf_counter()
        once = 0.0
        while time.perf_counter() - start < WARM_UP and once < WARM_UP_BELOW:
            once = take(product, 1)
        calls = calls or max(1, round(TURN / once))
        seconds = take(product, calls)
        settle()  # the other process wants the cores
        print(json.dumps({"seconds": seconds, "largest": float(np.abs(c).max())}), flush=True)


class Child:
    def __init__(self, threads: int, preload: Path | None) -> None:
        environment = {**os.environ, **{f"{x}_NUM_THREADS": str(threads) for x in ("OPENBLAS", "OMP", "MKL", "TENON")}}
        if preload:
            environment["LD_PRELOAD"] = str(preload)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.times: list[float] = []

    def turn(self, shape: dict[str, Any]) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(shape) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the child ended with {self.process.wait()}")
        return dict(json.loads(answer))


def shapes_of(text: str) -> list[tuple[int, int, int]]:
    found = []
    for item in text.split(","):
        numbers = [int(x) for x in item.split("x")]
        if len(numbers) not in (1, 3):
            raise SystemExit(f"--mnk: '{item}' is neither a number nor MxNxK")
        m, n, k = numbers * 3 if len(numbers) == 1 else numbers
        found.append((m, n, k))
    return found


def race(children: list[Child], shape: dict[str, Any], seconds: float) -> tuple[list[float], list[float]]:
    """Times of both; the first answer of each, which starts its threads, is for their results alone."""
    first = [child.turn(shape)["largest"] for child in children]
    if not math.isclose(first[0], first[1], rel_tol=1e-4 if shape["dtype"] == "f32" else 1e-12):
        raise SystemExit(f"{shape}: the results differ: {first}")
    times: tuple[list[float], list[float]] = ([], [])
    end, turn = time.perf_counter() + seconds, 0
    while turn < FEWEST_TURNS or time.perf_counter() < end:
        for i in (0, 1) if turn % 2 == 0 else (1, 0):
            times[i].append(children[i].turn(shape)["seconds"])
        turn += 1
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnk", default=DEFAULT, help=f"shapes MxNxK or edges of cubes (default: {DEFAULT})")
    parser.add_argument("--dtype", default="f32", help="f32, f64, with commas")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2.0, help="per row, waiting included")
    parser.add_argument("--overlay", help="libtenon_blas.so (default: of the checkout's build folder)")
    parser.add_argument("--json", action="store_true", help="one object per row and line, keys of `tenon bench --json`")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        serve()
        return
    built = [Path(args.overlay)] if args.overlay else sorted(ROOT.glob("build*/src/blas/libtenon_blas.so*"))
    built = [path for path in built if path.is_file()]
    if not built:
        raise SystemExit("no libtenon_blas.so here: build it, or name it with --overlay")
    shapes = shapes_of(args.mnk)
    children = [Child(args.threads, built[0].resolve()), Child(args.threads, None)]
    ratios: dict[str, list[float]] = {}
    if not args.json:
        print(
            f"{'dtype':7}{'shape':18}{'overlay':>13}{'spread':>8}{'NumPy':>13}{'spread':>8}{'ratio':>8}{'GFLOP/s':>9}{'NumPy':>9}"
        )
    for dtype in args.dtype.split(","):
        for m, n, k in shapes:
            own, peer = race(children, {"m": m, "n": n, "k": k, "dtype": dtype}, args.seconds)
            middle, other = statistics.median(own), statistics.median(peer)
            speed, ratio = 2 * m * n * k * 1e-9 / middle, other / middle
            ratios.setdefault(dtype, []).append(ratio)
            if args.json:
                row = {"op": "gemm", "device": "numpy", "kernel": "overlay", "dtype": dtype, "threads": args.threads}
                row |= {"cold": False, "m": m, "n": n, "k": k, "batch": 1, "layout": "nn", "suite": "numpy"}
                row |= {"seconds": middle, "seconds_min": min(own), "spread": spread(own), "gflops": speed}
                row["vs"] = [{"name": "numpy", "seconds": other, "ratio": ratio, "spread": spread(peer)}]
                print(json.dumps(row), flush=True)
            else:
                print(
                    f"{dtype:7}{f'{m}x{n}x{k}':18}{middle * 1e6:10.1f} us{spread(own):8.1%}{other * 1e6:10.1f} us"
                    f"{spread(peer):8.1%}{ratio:7.2f}x{speed:9.1f}{speed / ratio:9.1f}",
                    flush=True,
                )
    for dtype, found in ratios.items():
        if not args.json:
            print(f"{dtype}: geometric mean x{math.exp(statistics.fmean(map(math.log, found))):.3f}")


if __name__ == "__main__":
    main()
