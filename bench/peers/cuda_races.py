# SPDX-License-Identifier: Apache-2.0
"""tenon on a CUDA device beside torch's products (cuBLASLt) and scaled_dot_product_attention, on torch's tensors, context and stream.

    python bench/peers/cuda_races.py --device cuda:0 --markdown races.md
    python bench/peers/cuda_races.py --check                 no torch, no GPU: one product in tenon's own buffers, to try this script

Both are called in turn; a turn is timed by the device's events. Results are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p

from race import tenon  # finds the package of this tree
from tenon import _abi
from tenon._library import library

PRODUCTS = [(n, n, n) for n in (512, 1024, 2048, 4096, 8192)] + [(1, 4096, 4096), (8, 4096, 4096), (32, 14336, 4096), (4096, 4096, 14336)]
# batch, heads, key/value heads, queries, keys, head dim, causal
ATTENTIONS = [(1, 32, 32, 2048, 2048, 128, True), (1, 32, 8, 4096, 4096, 128, True), (8, 12, 12, 512, 512, 64, False),
              (1, 32, 8, 1, 8192, 128, False), (32, 32, 8, 1, 4096, 128, False)]
DTYPES = {t: _abi.CONSTANTS[f"TENON_{t.upper()}"] for t in ("f32", "f16", "bf16")}
NATIVE_CUDA = 1


class Device:
    """A context of tenon, plans on it, and buffers around memory that is somebody else's."""

    def __init__(self, name: str, stream: int = 0, context: int = 0) -> None:
        self.lib, self.ctx, self.held = library(), c_void_p(), []
        # The package has no buffers of devices: these it does not declare.
        self.lib.tenon_buffer_import.argtypes = [c_void_p, c_int, c_void_p, c_size_t, POINTER(c_void_p)]
        self.lib.tenon_buffer_alloc.argtypes = [c_void_p, c_size_t, c_char_p, POINTER(c_void_p)]
        for copy in ("tenon_buffer_write", "tenon_buffer_read"):
            getattr(self.lib, copy).argtypes = [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t]
        desc = _abi.ContextDesc(device=name.encode(), native_context=context or None, native_queue=stream or None)
        self.must(self.lib.tenon_context_create(byref(desc), byref(self.ctx)), None)
        self.pool = self.lib.tenon_context_pool(self.ctx, 0)

    def must(self, status: int, ctx: object) -> None:
        if status != 0:
            raise SystemExit(self.lib.tenon_error_message(ctx).decode())

    def imported(self, address: int, bytes_: int) -> c_void_p:
        buffer = c_void_p()
        self.must(self.lib.tenon_buffer_import(self.pool, NATIVE_CUDA, c_void_p(address), bytes_, byref(buffer)), None)
        self.held.append(buffer)
        return buffer

    def plan(self, op: str, desc: object):
        """A function that queues the planned call, and its kernel's name."""
        plan, info = c_void_p(), _abi.PlanInfo()
        info.struct_size = ctypes.sizeof(info)
        self.must(getattr(self.lib, f"tenon_{op}_plan")(self.ctx, byref(desc), byref(plan)), self.ctx)
        self.must(self.lib.tenon_plan_query(plan, byref(info)), None)
        run = getattr(self.lib, f"tenon_{op}_run")
        return (lambda: self.must(run(self.ctx, plan, byref(desc)), self.ctx)), info.kernel.decode()


def tensor(buffer: c_void_p, dtype: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> _abi.Tensor:
    t = _abi.Tensor(buffer=buffer.value, offset=offset, dtype=dtype, rank=len(shape))
    t.shape[: len(shape)], t.stride[: len(shape)] = shape, stride
    return t


def check(name: str) -> None:
    device, n = Device(name), 16
    values = (ctypes.c_float * (n * n))(*(float(i % 7 - 3) for i in range(n * n)))
    eye = (ctypes.c_float * (n * n))(*(float(i // n == i % n) for i in range(n * n)))
    out, buffers = (ctypes.c_float * (n * n))(), []
    for source in (values, eye, out):
        buffer = c_void_p()
        device.must(device.lib.tenon_buffer_alloc(device.pool, ctypes.sizeof(source), b"check", byref(buffer)), None)
        device.must(device.lib.tenon_buffer_write(device.ctx, buffer, 0, source, ctypes.sizeof(source)), device.ctx)
        buffers.append(buffer)
    run, kernel = device.plan("gemm", _abi.GemmDesc(**{r: tensor(b, DTYPES["f32"], (n, n), (n, 1)) for r, b in zip("abc", buffers)}))
    run()
    device.must(device.lib.tenon_buffer_read(device.ctx, buffers[2], 0, out, ctypes.sizeof(out)), device.ctx)
    print(f"{kernel}: {'right' if list(out) == list(values) else 'wrong'}")
    sys.exit(0 if list(out) == list(values) else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtypes", default="f16,bf16,f32")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row and library")
    parser.add_argument("--markdown", help="also write the table here")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        check(args.device)
    try:
        import torch
    except ImportError:
        print("no torch")
        sys.exit(77)
    if not torch.cuda.is_available():
        print("torch finds no GPU")
        sys.exit(77)

    torch.cuda.set_device(int(args.device.partition(":")[2] or 0))
    stream = torch.cuda.Stream()
    torch.cuda.set_stream(stream)
    torch.zeros(1, device="cuda")  # makes the primary context, which the stream brings
    device = Device(args.device, stream=stream.cuda_stream)
    torch.backends.cuda.matmul.allow_tf32 = False
    types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    lines = ["| case | type | tenon | torch | torch / tenon | TFLOP/s | difference | kernel |", "|---|---|---|---|---|---|---|---|"]

    def of(x: "torch.Tensor", dtype: str) -> _abi.Tensor:
        storage = x.untyped_storage()
        return tensor(device.imported(storage.data_ptr(), storage.nbytes()), DTYPES[dtype], tuple(x.shape), tuple(x.stride()),
                      x.storage_offset() * x.element_size())

    def turn(run, calls: int) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3 / calls

    def race(case: str, dtype: str, flops: float, ours, theirs, mine: "torch.Tensor", kernel: str) -> None:
        ours()
        expected = theirs()
        difference = ((mine.float() - expected.float()).abs().max() / expected.float().abs().max()).item()
        calls = max(1, round(0.02 / max(turn(theirs, 3), 1e-6)))
        turns = max(5, round(args.seconds / 0.02))
        times = [(turn(ours, calls), turn(theirs, calls)) for _ in range(turns)]
        us, them = (statistics.median(t[i] for t in times) for i in (0, 1))
        lines.append(f"| {case} | {dtype} | {us * 1e6:.1f} us | {them * 1e6:.1f} us | {them / us:.2f} | {flops / us * 1e-12:.1f} | {difference:.1e} | {kernel} |")
        print(lines[-1], flush=True)

    for dtype in args.dtypes.split(","):
        for m, n, k in PRODUCTS:
            a, b = torch.randn(m, k, device="cuda", dtype=types[dtype]), torch.randn(n, k, device="cuda", dtype=types[dtype])
            c = torch.empty(m, n, device="cuda", dtype=types[dtype])
            ours, kernel = device.plan("gemm", _abi.GemmDesc(a=of(a, dtype), b=of(b.t(), dtype), c=of(c, dtype)))
            race(f"{m} x {n} x {k}", dtype, 2.0 * m * n * k, ours, lambda a=a, b=b: a @ b.t(), c, kernel)
        for batch, heads, kv, queries, keys, d, causal in ATTENTIONS:
            q = torch.randn(batch, heads, queries, d, device="cuda", dtype=types[dtype])
            k, v = (torch.randn(batch, kv, keys, d, device="cuda", dtype=types[dtype]) for _ in range(2))
            o = torch.empty_like(q)
            desc = _abi.AttentionDesc(q=of(q, dtype), k=of(k, dtype), v=of(v, dtype), o=of(o, dtype), causal=_abi.CONSTANTS["TENON_CAUSAL_TOP_LEFT"] if causal else 0)
            ours, kernel = device.plan("attention", desc)
            theirs = lambda q=q, k=k, v=v, causal=causal, gqa=kv != heads: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=gqa)
            race(f"attention {batch} x {heads}/{kv} x {queries} x {keys} x {d}{' causal' if causal else ''}", dtype,
                 4.0 * batch * heads * queries * keys * d * (0.5 if causal else 1), ours, theirs, o, kernel)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
