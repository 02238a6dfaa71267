# SPDX-License-Identifier: Apache-2.0
"""What an epilogue costs: tenon's product with one beside the same product without, planned, called in turn.

    python bench/peers/epilogues.py --mnk 1024,2048 --threads 2

A gated pair is beside the plain product of the same 2n columns, whose result is twice as large.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np

from race import alternate, spread, tenon

EPILOGUES: dict[str, dict[str, Any]] = {
    "none": {},  # what the measurement itself adds
    "bias": {"bias": True},
    "relu": {"activation": "relu"},
    "bias, gelu": {"bias": True, "activation": "gelu"},
    "bias, gelu_tanh": {"bias": True, "activation": "gelu_tanh"},
    "bias, silu, residual": {"bias": True, "activation": "silu", "residual": True},
    "silu, gated": {"activation": "silu", "gated": "interleaved"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnk", default="1024", help="edges of cubes, with commas")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    parser.add_argument("--seconds", type=float, default=2.0, help="per row, waiting included")
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    with tenon.Context("cpu", threads=args.threads) as ctx:
        print(f"f32, {ctx.threads} threads, tenon {tenon.library_version()}")
        print(f"{'size':>6} {'epilogue':24}{'with':>13}{'spread':>8}{'without':>13}{'spread':>8}{'cost':>8}")
        for size in map(int, args.mnk.split(",")):

            def matrix(rows: int, columns: int) -> np.ndarray:
                return rng.uniform(-1, 1, (rows, columns)).astype(np.float32)

            for name, wanted in EPILOGUES.items():
                columns = 2 * size if "gated" in wanted else size
                a, b = matrix(size, size), matrix(size, columns)
                with_it = dict(wanted)
                if "bias" in with_it:
                    with_it["bias"] = matrix(1, columns)
                if "residual" in with_it:
                    with_it["residual"] = matrix(size, size)
                fused = ctx.plan_matmul(a, b, out=np.empty((size, size), np.float32), **with_it)
                plain = ctx.plan_matmul(a, b, out=np.empty((size, columns), np.float32))
                with fused, plain:
                    times = alternate([fused.run, plain.run], args.seconds)
                middle = [statistics.median(t) for t in times]
                print(
                    f"{size:6} {name:24}{middle[0] * 1e6:10.1f} us{spread(times[0]):8.1%}{middle[1] * 1e6:10.1f} us"
                    f"{spread(times[1]):8.1%}{middle[0] / middle[1] - 1:8.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
