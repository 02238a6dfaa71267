# SPDX-License-Identifier: Apache-2.0
"""tenon's softmax beside torch's and ONNX Runtime's, called in turn in one process, each into an existing output.

    python bench/peers/softmax_peers.py                                        the standard shapes
    python bench/peers/softmax_peers.py 4096x4096 1000x1000 --log --threads 2 --json

Shapes are ROWSxCOLUMNS, softmax along the columns. A peer that is not installed is left out. See README.md of this
folder.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable

import numpy as np

from race import alternate, spread, tenon

try:
    import torch
except ImportError:
    torch = None
try:
    import onnxruntime
    from onnx import TensorProto, helper
except ImportError:
    onnxruntime = None

STANDARD = ["4096x4096", "32x128256", "65536x128", "512x512", "32x4096"]

Call = Callable[[], object]


def of_torch(x: np.ndarray, y: np.ndarray, log: bool, threads: int) -> Call:
    torch.set_num_threads(threads)
    source, result = torch.from_numpy(x), torch.from_numpy(y)
    function = torch.log_softmax if log else torch.softmax
    return lambda: function(source, -1, out=result)


def of_onnxruntime(x: np.ndarray, y: np.ndarray, log: bool, threads: int) -> Call:
    node = helper.make_node("LogSoftmax" if log else "Softmax", ["x"], ["y"], axis=-1)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "softmax", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    held = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    binding.bind_ortvalue_input("x", held)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def run(_held: object = (held, y)) -> None:
        session.run_with_iobinding(binding)

    return run


def error(x: np.ndarray, y: np.ndarray, log: bool) -> float:
    """Largest error of the first and the last row, over the exact value's last place (f32)."""
    worst = 0.0
    for i in (0, -1):
        s = x[i].astype(np.float64) - float(x[i].max())
        exact = s - math.log(np.exp(s).sum()) if log else np.exp(s) / np.exp(s).sum()
        unit = np.spacing(np.maximum(np.abs(exact), 2.0**-126).astype(np.float32)).astype(np.float64)
        worst = max(worst, float((np.abs(y[i] - exact) / unit).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=STANDARD, help="ROWSxCOLUMNS")
    parser.add_argument("--log", action="store_true", help="log-softmax")
    parser.add_argument("--threads", type=int, default=0, help="of all; default: all cores")
    parser.add_argument("--seconds", type=float, default=3.0, help="per shape, waiting included")
    parser.add_argument(
        "--json", action="store_true", help="one object per shape and line, as `tenon bench --json` has it"
    )
    args = parser.parse_args()

    peers = {}
    if torch:
        peers[f"torch {torch.__version__}"] = of_torch
    if onnxruntime:
        peers[f"ONNX Runtime {onnxruntime.__version__}"] = of_onnxruntime
    best_ratios = []
    with tenon.Context("cpu", threads=args.threads) as ctx:
        if not args.json:
            print(f"{'log-' if args.log else ''}softmax f32, {ctx.threads} threads, tenon {tenon.library_version()}")
            print(f"{'rows x columns':16}{'tenon':>13}{'spread':>8}{'GB/s':>7}{'ulp':>7}" + "".join(
                f"{name:>28}{'spread':>8}{'ulp':>8}" for name in peers))
        for text in args.shapes:
            rows, columns = (int(n) for n in text.split("x"))
            x = np.random.default_rng(1).standard_normal((rows, columns), dtype=np.float32)
            ys = [np.empty_like(x) for _ in range(1 + len(peers))]
            with ctx.plan_softmax(x, out=ys[0], log=args.log) as plan:
                calls = [plan.run] + [make(x, y, args.log, ctx.threads) for make, y in zip(peers.values(), ys[1:])]
                times = alternate(calls, args.seconds)
                kernel = plan.kernel
            medians = [statistics.median(t) for t in times]
            ratios = [m / medians[0] for m in medians[1:]]
            errors = [error(x, y, args.log) for y in ys]
            if ratios:
                best_ratios.append((min(ratios), text))
            gbps = 8 * rows * columns / medians[0] * 1e-9
            if args.json:
                vs = [
                    {"name": name, "seconds": m, "ratio": r, "spread": spread(t), "error": e}
                    for name, m, r, t, e in zip(peers, medians[1:], ratios, times[1:], errors[1:])
                ]
                print(json.dumps({
                    "op": "softmax", "device": "cpu", "kernel": kernel, "dtype": "f32", "threads": ctx.threads,
                    "cold": False,
                    "rows": rows, "cols": columns, "log": args.log, "seconds": medians[0], "seconds_min": min(times[0]),
                    "spread": spread(times[0]), "gbps": gbps, "error": errors[0], "vs": vs}), flush=True)
                continue
            print(f"{text:16}{medians[0] * 1e6:10.1f} us{spread(times[0]):8.1%}{gbps:7.1f}{errors[0]:7.2f}" + "".join(
                f"{m * 1e6:17.1f} us{r:7.2f}x{spread(t):8.1%}{e:8.2f}" for m, r, t, e in
                zip(medians[1:], ratios, times[1:], errors[1:])), flush=True)
    if best_ratios and not args.json:
        mean = math.exp(statistics.fmean(math.log(r) for r, _ in best_ratios))
        lost = ", ".join(f"{text} x{r:.2f}" for r, text in best_ratios if r < 1) or "none"
        print(f"best peer's time / tenon's: geometric mean x{mean:.3f}, lost: {lost}")


if __name__ == "__main__":
    main()
