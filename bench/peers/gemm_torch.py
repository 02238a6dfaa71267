# SPDX-License-Identifier: Apache-2.0
"""tenon's matrix product beside torch's, called in turn in one process.

    python bench/peers/gemm_torch.py --suite squares                   shapes of `tenon bench gemm --suite list`
    python bench/peers/gemm_torch.py --mnk 1x4096x4096 --layout nn,nt --dtype f32,bf16,s8 --threads 2 --json

f32, f64 and bf16 are torch.mm (torch.bmm for batches) into a given result; weights stored n x k (layout nt) are its
F.linear, into a new one. s8 is torch._int_mm into s32.
Prepacked weights are those that torch's compiler makes when it freezes a model: oneDNN's (f32, bf16) and MKL's (f32), the
weights reordered once for the number of rows; s8 has none there, so tenon's is shown beside _int_mm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch

from race import Race, Shape, gemm_arguments, race_gemm, tenon

DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "s8": torch.int8}


def made(dtype: str, batch: int, rows: int, columns: int, transposed: bool) -> torch.Tensor:
    """A matrix, or a batch of them, stored as it is or as its transpose."""
    stored = (columns, rows) if transposed else (rows, columns)
    extents = stored if batch == 1 else (batch, *stored)
    if dtype == "s8":
        x = torch.randint(-128, 128, extents, dtype=torch.int8)
    else:
        x = (torch.rand(extents) * 2 - 1).to(DTYPES[dtype])
    return x.mT if transposed else x


def errors(a: torch.Tensor, b: torch.Tensor, own: torch.Tensor, peer: torch.Tensor) -> tuple[float, float]:
    """Largest |result - exact| / sum |a||b| of the last member's first row."""
    a, b, own, peer = (x[-1] if x.ndim == 3 else x for x in (a, b, own, peer))
    row, matrix = a[0].double(), b.double()
    exact, magnitude = row @ matrix, (row.abs() @ matrix.abs()).clamp_min(1e-300)
    worst = [float(((c[0].double() - exact).abs() / magnitude).max()) for c in (own, peer)]
    return worst[0], worst[1]


def frozen(a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Products with weights that torch has brought into its libraries' layouts: their names and calls."""
    rows, weights = a.shape[0], b.mT.contiguous()
    a = a.contiguous()
    try:
        onednn = torch.ops.mkldnn._reorder_linear_weight(weights, rows)
        yield "onednn", lambda: torch.ops.mkldnn._linear_pointwise(a, onednn, None, "none", [], "")
        if a.dtype == torch.float32:
            mkl = torch.ops.mkl._mkl_reorder_linear_weight(weights, rows)
            yield "mkl", lambda: torch.ops.mkl._mkl_linear(a, mkl, weights, None, rows)
    except (AttributeError, NotImplementedError, RuntimeError) as missing:
        print(f"no prepacked weights in this torch: {str(missing).splitlines()[0]}", file=sys.stderr)


def races(ctx: tenon.Context, shape: Shape, dtype: str) -> Iterator[Race]:
    a = made(dtype, shape.batch, shape.m, shape.k, shape.layout[0] == "t")
    b = made(dtype, shape.batch, shape.k, shape.n, shape.layout[1] == "t")
    if dtype == "s8" and shape.batch > 1:
        return  # _int_mm takes no batches
    extents = (shape.m, shape.n) if shape.batch == 1 else (shape.batch, shape.m, shape.n)
    own, peers = (torch.empty(extents, dtype=torch.int32 if dtype == "s8" else DTYPES[dtype]) for _ in range(2))
    linear = shape.layout == "nt" and shape.batch == 1 and dtype != "s8"

    def peer() -> torch.Tensor:
        if dtype == "s8":
            return torch._int_mm(a, b, out=peers)
        if linear:
            return torch.nn.functional.linear(a, b.mT)
        return torch.mm(a, b, out=peers) if shape.batch == 1 else torch.bmm(a, b, out=peers)

    try:
        peer()
    except RuntimeError as refused:
        print(f"{dtype} {shape}: torch cannot: {refused}", file=sys.stderr)
        return
    with ctx.plan_matmul(a, b, out=own) as plan:
        yield Race(dtype, "plain", plan.kernel, plan.run, peer, lambda: errors(a, b, own, peer()))
    if shape.batch > 1:
        return
    with ctx.plan_matmul(a, ctx.pack(b), out=own) as plan:
        if dtype not in ("f32", "bf16"):
            yield Race(dtype, "tenon prepacked", plan.kernel, plan.run, peer, lambda: errors(a, b, own, peer()))
            return
        for library, call in frozen(a, b):
            found = lambda call=call: errors(a, b, own, call())  # noqa: E731
            yield Race(dtype, "prepacked", plan.kernel, plan.run, call, found, library)


def main() -> None:
    args = gemm_arguments(__doc__.splitlines()[0], DTYPES).parse_args()
    torch.manual_seed(1)
    with torch.inference_mode():
        race_gemm(args, f"torch {torch.__version__}", torch.set_num_threads, races)


if __name__ == "__main__":
    main()
