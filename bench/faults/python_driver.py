# SPDX-License-Identifier: Apache-2.0
"""driver.c's counterpart for Python packages: one call while memory is short, and one more afterwards.

    python python_driver.py SUBJECT [--phase warm] [--nth N [--forever]] [--sites] [--report FILE]
    python python_driver.py SUBJECT --serve

The lines of the report are driver.c's. The package is imported before memory becomes short; `cold` is the first call after
the import, `warm` a later one. Importing is slow, so --serve forks a process per job from one that has done nothing but
import, which is the same state: it refuses if the import has started a thread. It reads a JSON list of arguments per line and answers
`pid N` when a job starts and `status N` when it has ended. Called by sweep.py, with the injector preloaded.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import random
import signal
import sys
from typing import Any, Callable

SIZE = 256  # of the product
HEADS, ROWS, HEAD_DIM = 4, 128, 64  # of attention, queries and keys alike
SOFTMAX = (256, 1024)
THREADS = 2


# ---- what is computed, in plain Python, so that no library under test checks itself ----


def whole_numbers(count: int, seed: int) -> list[float]:
    """-4 … 4: sums of 256 products are exact in f32 in any order."""
    pick = random.Random(seed)
    return [float(pick.randint(-4, 4)) for _ in range(count)]


class Product:
    def __init__(self) -> None:
        self.a, self.b = (whole_numbers(SIZE * SIZE, seed) for seed in (1, 2))
        self.shapes = [(SIZE, SIZE)] * 2
        self.inputs = [self.a, self.b]

    @staticmethod
    def times(matrix: list[float], x: list[float]) -> list[float]:
        return [sum(map(float.__mul__, matrix[i * SIZE : (i + 1) * SIZE], x)) for i in range(SIZE)]

    def wrong(self, c: list[float]) -> str:
        """Freivalds: (a·b)·x = a·(b·x) for a random vector x, exactly, since all are whole numbers."""
        x = whole_numbers(SIZE, 3)
        if len(c) != SIZE * SIZE:
            return f"{len(c)} elements"
        left, right = self.times(c, x), self.times(self.a, self.times(self.b, x))
        bad = sum(p != q for p, q in zip(left, right))
        return f"{bad} of {SIZE} rows" if bad else ""


def softmax_of(x: list[float]) -> list[float]:
    high = max(x)
    e = [math.exp(v - high) for v in x]
    total = sum(e)
    return [v / total for v in e]


def far(found: list[float], expected: list[float]) -> bool:
    return len(found) != len(expected) or any(not abs(p - q) <= 1e-5 for p, q in zip(found, expected))


class Softmax:
    def __init__(self) -> None:
        self.x = whole_numbers(SOFTMAX[0] * SOFTMAX[1], 1)
        self.shapes, self.inputs = [SOFTMAX], [self.x]

    def wrong(self, y: list[float]) -> str:
        n = SOFTMAX[1]
        rows = range(SOFTMAX[0])
        bad = sum(far(y[i * n : i * n + n], softmax_of(self.x[i * n : i * n + n])) for i in rows)
        return f"{bad} of {len(rows)} rows" if bad else ""


class Attention:
    def __init__(self) -> None:
        count = HEADS * ROWS * HEAD_DIM
        self.q, self.k, self.v = ([v / 4 for v in whole_numbers(count, seed)] for seed in (1, 2, 3))
        self.shapes, self.inputs = [(1, HEADS, ROWS, HEAD_DIM)] * 3, [self.q, self.k, self.v]

    def wrong(self, o: list[float]) -> str:
        """Every 16th row of each head against the formula, the others for not being finite."""
        rows = range(0, HEADS * ROWS, 16)
        bad = 0
        for row in rows:
            first = row // ROWS * ROWS * HEAD_DIM
            q = self.q[row * HEAD_DIM : (row + 1) * HEAD_DIM]
            keys = [self.k[first + j * HEAD_DIM : first + (j + 1) * HEAD_DIM] for j in range(ROWS)]
            p = softmax_of([sum(map(float.__mul__, q, key)) / math.sqrt(HEAD_DIM) for key in keys])
            expected = [sum(p[j] * self.v[first + j * HEAD_DIM + d] for j in range(ROWS)) for d in range(HEAD_DIM)]
            bad += far(o[row * HEAD_DIM : (row + 1) * HEAD_DIM], expected)
        bad += sum(not math.isfinite(v) for v in o)
        return f"{bad} elements or rows" if bad else ""


# ---- subjects: (task, prepare); prepare(task) imports and returns (version, call, to_list) ----

Call = Callable[[], Any]
Prepared = tuple[str, Call, Callable[[Any], list[float]]]


def flat_array(array: Any) -> list[float]:
    return array.ravel().tolist()


def numpy_inputs(task: Any) -> list[Any]:
    import numpy

    return [numpy.array(x, numpy.float32).reshape(shape) for x, shape in zip(task.inputs, task.shapes)]


def numpy_product(task: Product) -> Prepared:
    import numpy

    a, b = numpy_inputs(task)
    return numpy.__version__, lambda: a @ b, flat_array


def torch_inputs(task: Any) -> tuple[Any, list[Any]]:
    import torch

    torch.set_grad_enabled(False)
    return torch, [torch.tensor(x, dtype=torch.float32).reshape(shape) for x, shape in zip(task.inputs, task.shapes)]


def torch_product(task: Product) -> Prepared:
    torch, (a, b) = torch_inputs(task)
    return torch.__version__, lambda: torch.mm(a, b), lambda c: c.flatten().tolist()


def torch_attention(task: Attention) -> Prepared:
    torch, (q, k, v) = torch_inputs(task)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return torch.__version__, lambda: sdpa(q, k, v), lambda o: o.flatten().tolist()


def onnx_model() -> bytes:
    """C = MatMul(A, B), f32: a ModelProto, field by field (onnx.proto), since the package that writes such is not needed otherwise."""

    def varint(n: int) -> bytes:
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def number(field: int, n: int) -> bytes:
        return varint(field << 3) + varint(n)

    def part(field: int, content: bytes | str) -> bytes:
        data = content.encode() if isinstance(content, str) else content
        return varint(field << 3 | 2) + varint(len(data)) + data

    def value(name: str) -> bytes:
        shape = b"".join(part(1, number(1, SIZE)) for _ in range(2))
        return part(1, name) + part(2, part(1, number(1, 1) + part(2, shape)))

    node = part(1, "A") + part(1, "B") + part(2, "C") + part(4, "MatMul")
    graph = part(1, node) + part(2, "g") + part(11, value("A")) + part(11, value("B")) + part(12, value("C"))
    return number(1, 8) + part(7, graph) + part(8, part(1, "") + number(2, 13))


def onnxruntime_product(task: Product) -> Prepared:
    import onnxruntime

    a, b = numpy_inputs(task)
    feed, model = {"A": a, "B": b}, onnx_model()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session: list[Any] = []

    def call() -> Any:
        if not session:
            session.append(onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
        return session[0].run(["C"], feed)[0]

    return onnxruntime.__version__, call, flat_array


def tenon_call(name: str) -> Callable[[Any], Prepared]:
    def prepare(task: Any) -> Prepared:
        import tenon

        inputs = numpy_inputs(task)
        call = getattr(tenon, name)
        return tenon.__version__, lambda: call(*inputs), flat_array

    return prepare


SUBJECTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Prepared]]] = {
    "numpy": (Product, numpy_product),
    "torch-mm": (Product, torch_product),
    "torch-sdpa": (Attention, torch_attention),
    "onnxruntime": (Product, onnxruntime_product),
    "tenon-matmul": (Product, tenon_call("matmul")),
    "tenon-softmax": (Softmax, tenon_call("softmax")),
    "tenon-attention": (Attention, tenon_call("attention")),
}


# ---- the injector ----


class Injector:
    """Functions without arguments and results are called by ctypes without a single allocation: the window can always be closed."""

    def __init__(self) -> None:
        program = ctypes.CDLL(None)
        self.begin, self.end, self.arm = program.faults_begin, program.faults_end, program.faults_arm
        self.begin.restype = self.end.restype = self.arm.restype = None
        self.arm.argtypes = [ctypes.c_int64, ctypes.c_int]
        self.count, self.hits = program.faults_count, program.faults_hits
        self.count.restype = self.hits.restype = ctypes.c_int64

        class Site(ctypes.Structure):
            _fields_ = [("what", ctypes.c_char_p), ("bytes", ctypes.c_size_t), ("caller", ctypes.c_void_p)]

        class Info(ctypes.Structure):
            _fields_ = [
                ("file", ctypes.c_char_p),
                ("base", ctypes.c_void_p),
                ("symbol", ctypes.c_char_p),
                ("address", ctypes.c_void_p),
            ]

        self.site_at = program.faults_site_at
        self.site_at.restype, self.site_at.argtypes = ctypes.POINTER(Site), [ctypes.c_int64]
        self.info, self.dladdr = Info, program.dladdr
        self.dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(Info)]

    def sites(self) -> list[str]:
        lines = []
        for n in range(1, self.count() + 1):
            found = self.site_at(n)
            if not found:
                break
            site, info = found.contents, self.info()
            self.dladdr(site.caller, ctypes.byref(info))
            file = os.path.basename((info.file or b"?").decode())
            lines.append(f"site {n} {site.what.decode()} {site.bytes} {file} {(info.symbol or b'?').decode()}")
        return lines


# ---- one job ----


def job(args: argparse.Namespace, task: Any, prepared: Prepared, injector: Injector) -> None:
    version, call, to_list = prepared
    report = os.open(args.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if args.report else 1

    def tell(text: str) -> None:
        os.write(report, (" ".join(text.split())[:500] + "\n").encode())

    def outcome(which: str, result: Any, error: str) -> bool:
        wrong = "" if error else task.wrong(to_list(result))
        tell(f"{which} error {error}" if error else f"{which} wrong {wrong}" if wrong else f"{which} ok")
        return not error and not wrong

    def attempt() -> tuple[Any, str]:
        try:
            return call(), ""
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"

    tell(f"subject {args.subject}")
    if args.phase == "warm" and not outcome("warm-up", *attempt()):
        return
    injector.arm(args.nth, args.forever)
    begin, end = injector.begin, injector.end
    result, caught = None, None

    begin()
    try:
        result = call()
    except Exception as error:
        caught = error
    finally:
        end()

    if args.sites:
        for line in injector.sites():
            tell(line)
    tell(f"sites {injector.count()} {injector.hits()}")
    outcome("call", result, f"{type(caught).__name__}: {caught}" if caught is not None else "")
    outcome("next", *attempt())
    tell(f"version {version}")
    tell("done")


def serve(subject: str) -> None:
    task, prepared, injector = ready(subject)
    threads = len(os.listdir("/proc/self/task"))
    print("ready" if threads == 1 else f"threads {threads}", flush=True)
    if threads != 1:
        return
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a trial that hangs ends with this process
            job(parse([subject, *json.loads(line)]), task, prepared, injector)
            os._exit(0)
        print(f"pid {child}", flush=True)
        _, status = os.waitpid(child, 0)
        print(f"status {os.waitstatus_to_exitcode(status)}", flush=True)


def ready(subject: str) -> tuple[Any, Prepared, Injector]:
    make, prepare = SUBJECTS[subject]
    task = make()
    return task, prepare(task), Injector()


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--phase", choices=["cold", "warm"], default="cold")
    parser.add_argument("--nth", type=int, default=0)
    parser.add_argument("--forever", action="store_true")
    parser.add_argument("--sites", action="store_true")
    parser.add_argument("--report")
    parser.add_argument("--serve", action="store_true")
    return parser.parse_args(argv)


def main() -> None:
    args = parse(sys.argv[1:])
    if args.serve:
        serve(args.subject)
    else:
        job(args, *ready(args.subject))
        os._exit(0)  # no exit handlers, as in driver.c


if __name__ == "__main__":
    main()
