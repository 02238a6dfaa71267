# SPDX-License-Identifier: Apache-2.0
"""tenon's attention beside torch's scaled_dot_product_attention, called in turn in one process.

    python bench/peers/torch_attention.py                        the standard cases
    python bench/peers/torch_attention.py 1x32/8x1x16384x128     batch x heads[/kv_heads] x queries x keys x dim
    python bench/peers/torch_attention.py 1x12x512x512x64+causal --dtype bf16 --threads 1 --json

Both are called as a user would: tensors in, a new tensor out. See README.md of this folder.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass

import torch

from race import alternate, spread, tenon

STANDARD = {
    "prefill": "1x32x1024x1024x128+causal",
    "prefill, GQA": "1x32/8x2048x2048x128+causal",
    "encoder": "1x12x512x512x64",
    "decode": "1x32x1x4096x128",
    "decode, 8 sequences, GQA": "8x32/8x1x2048x128",
}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    name: str
    batch: int
    q_heads: int
    kv_heads: int
    q_len: int
    k_len: int
    head_dim: int
    causal: bool

    @staticmethod
    def parse(text: str, name: str = "") -> Case:
        shape, _, causal = text.partition("+")
        try:
            batch, heads, q_len, k_len, head_dim = shape.split("x")
            q_heads, _, kv_heads = heads.partition("/")
            if causal not in ("", "causal"):
                raise ValueError(causal)
            numbers = [int(n) for n in (batch, q_heads, kv_heads or q_heads, q_len, k_len, head_dim)]
        except ValueError:
            raise SystemExit(
                f"{text}: expected batch x heads[/kv_heads] x queries x keys x dim, then maybe +causal"
            ) from None
        return Case(name or text, *numbers, causal=bool(causal))

    @property
    def pairs(self) -> int:
        """Pairs of query and key that meet, per head."""
        if not self.causal:
            return self.q_len * self.k_len
        first = self.k_len - self.q_len + 1  # keys that the first query sees; the last one sees all
        return sum(max(first + i, 0) for i in range(self.q_len))

    @property
    def flops(self) -> int:
        return 4 * self.batch * self.q_heads * self.pairs * self.head_dim

    def bytes(self, element: int) -> int:
        queries, keys = self.q_heads * self.q_len, self.kv_heads * self.k_len
        return 2 * self.batch * (queries + keys) * self.head_dim * element


def relative_error(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, case: Case, got: torch.Tensor) -> float:
    """Largest difference from float64, over the largest value, on the first and the last head."""
    worst = 0.0
    group = case.q_heads // case.kv_heads
    keep = torch.ones(case.q_len, case.k_len, dtype=torch.bool).tril(case.k_len - case.q_len)
    for h in {0, case.q_heads - 1}:
        s = q[-1, h].double() @ k[-1, h // group].double().T / math.sqrt(case.head_dim)
        if case.causal:
            s.masked_fill_(~keep, -math.inf)
        expected = s.softmax(-1) @ v[-1, h // group].double()
        worst = max(worst, float((got[-1, h].double() - expected).abs().max() / expected.abs().max()))
    return worst


def measure(ctx: tenon.Context, case: Case, dtype: str, seconds: float) -> dict[str, object]:
    def tensor(heads: int, length: int) -> torch.Tensor:
        return torch.randn(case.batch, heads, length, case.head_dim).to(DTYPES[dtype])

    q, k, v = tensor(case.q_heads, case.q_len), tensor(case.kv_heads, case.k_len), tensor(case.kv_heads, case.k_len)
    causal = "bottom_right" if case.causal else None
    square = case.q_len == case.k_len
    # torch's is_causal aligns at the top left; with more keys than queries its users give a mask.
    mask = (
        None
        if square or not case.causal
        else torch.ones(case.q_len, case.k_len, dtype=torch.bool).tril(case.k_len - case.q_len)
    )

    def run_tenon() -> torch.Tensor:
        return ctx.attention(q, k, v, causal=causal)

    def run_torch() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=case.causal and square, enable_gqa=case.q_heads != case.kv_heads
        )

    own, peer = alternate([run_tenon, run_torch], seconds)
    median, peer_median = statistics.median(own), statistics.median(peer)
    with ctx.plan_attention(q, k, v, causal=causal) as plan:
        kernel = plan.kernel
    return {
        "op": "attention",
        "device": ctx.device,
        "kernel": kernel,
        "dtype": dtype,
        "threads": ctx.threads,
        "cold": False,
        "batch": case.batch,
        "q_heads": case.q_heads,
        "kv_heads": case.kv_heads,
        "q_len": case.q_len,
        "k_len": case.k_len,
        "head_dim": case.head_dim,
        "causal": case.causal,
        "seconds": median,
        "seconds_min": min(own),
        "spread": spread(own),
        "gflops": case.flops / median / 1e9,
        "gbps": case.bytes(q.element_size()) / median / 1e9,
        "percent_of_limit": None,
        "error": relative_error(q, k, v, case, run_tenon()),
        "vs": [
            {
                "name": f"torch {torch.__version__}",
                "seconds": peer_median,
                "ratio": peer_median / median,
                "spread": spread(peer),
                "error": relative_error(q, k, v, case, run_torch()),
            }
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="batch x heads[/kv_heads] x queries x keys x dim [+causal]")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--threads", type=int, default=0, help="of both; default: all cores")
    parser.add_argument("--device", default="cpu", help="of tenon")
    parser.add_argument("--seconds", type=float, default=4.0, help="per case")
    parser.add_argument(
        "--json", action="store_true", help="one object per case and line, as `tenon bench --json` has it"
    )
    args = parser.parse_args()
    cases = [Case.parse(text) for text in args.cases] or [Case.parse(text, name) for name, text in STANDARD.items()]

    torch.manual_seed(1)
    with tenon.Context(args.device, threads=args.threads) as ctx, torch.inference_mode():
        torch.set_num_threads(ctx.threads)
        if not args.json:
            print(f"{args.dtype}, {ctx.threads} threads, tenon {tenon.library_version()}, torch {torch.__version__}")
            print(
                f"{'case':28s}{'tenon':>11s}{'spread':>8s}{'torch':>11s}{'spread':>8s}{'ratio':>8s}{'GFLOP/s':>9s}{'GB/s':>7s}{'error':>9s}"
            )
        for case in cases:
            row = measure(ctx, case, args.dtype, args.seconds)
            if args.json:
                print(json.dumps(row), flush=True)
                continue
            peer = row["vs"][0]
            print(
                f"{case.name:28s}{row['seconds'] * 1e3:8.3f} ms{row['spread']:8.1%}"
                f"{peer['seconds'] * 1e3:8.3f} ms{peer['spread']:8.1%}{peer['ratio']:7.2f}x"
                f"{row['gflops']:9.1f}{row['gbps']:7.1f}{row['error']:9.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
