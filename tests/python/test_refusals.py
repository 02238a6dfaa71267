# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments: each is an exception that names the argument, its value and what was expected; nothing is written.

Above all numbers that ctypes would cut to a field's width without a word: 2**64 + 1 bytes of budget must not become 1.
"""

from __future__ import annotations

import unittest
from typing import Any, Callable

import numpy as np
import tenon

import optional

torch = optional.load("torch")

F = np.float32
A, B = np.ones((3, 4), F), np.ones((4, 5), F)
Q, K = np.ones((1, 2, 3, 8), F), np.ones((1, 2, 6, 8), F)


def read_only(*shape: int) -> np.ndarray:
    x = np.zeros(shape, F)
    x.flags.writeable = False
    return x


class OnGpu:
    def __init__(self, interface: str) -> None:
        if interface == "dlpack":
            self.__class__ = OnGpuByDLPack
        else:
            self.__cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (4096, False), "version": 3}


class OnGpuByDLPack:
    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("the capsule of a GPU's tensor was asked for")


class Interface:
    """An array by its interface alone, with whatever it claims."""

    def __init__(self, **claims: Any) -> None:
        self.data = np.ones(4, F)
        self.__array_interface__ = {**self.data.__array_interface__, **claims}


def matmul(a: Any = A, b: Any = B, **options: Any) -> Any:
    return tenon.matmul(a, b, **options)


def softmax(x: Any = A, **options: Any) -> Any:
    return tenon.softmax(x, **options)


def attention(q: Any = Q, k: Any = K, v: Any = K, **options: Any) -> Any:
    return tenon.attention(q, k, v, **options)


def plan_run(**options: Any) -> Any:
    with tenon.Context() as ctx, ctx.plan_matmul(A, B) as plan:
        return plan.run(**options)


def choose(index: Any) -> None:
    with tenon.Context() as ctx, ctx.plan_matmul(A, B) as plan:
        plan.choose(index)


def trim(keep: Any) -> None:
    with tenon.Context() as ctx:
        ctx.trim(keep)


def append(positions: Any = (0,), k_cache: Any = None) -> None:
    cache = np.zeros((1, 2, 8, 8), F) if k_cache is None else k_cache
    tenon.kv_append(Q, Q, cache, np.zeros((1, 2, 8, 8), F), positions)


Case = tuple[str, Callable[..., Any], dict[str, Any], type[Exception], str]

WIDE = 2**64 + 2  # cut to 64 or 32 bits it is a good 2
CASES: list[Case] = [
    # Numbers beyond their field.
    ("threads", tenon.Context, {"threads": WIDE}, ValueError, r"threads is 18446744073709551618, expected 0 to 2\^31 - 1"),
    ("threads, 32 bits", tenon.Context, {"threads": 2**32 + 1}, ValueError, r"threads is 4294967297, expected 0 to 2\^31 - 1"),
    ("threads below 0", tenon.Context, {"threads": -1}, ValueError, "threads is -1, expected 0"),
    ("budget", tenon.Context, {"budget": WIDE}, ValueError, r"budget is \d+, expected 0 to 2\^64 - 1"),
    ("budget below 0", tenon.Context, {"budget": -1}, ValueError, "budget is -1, expected 0"),
    ("plan_cache_bytes", tenon.Context, {"plan_cache_bytes": WIDE}, ValueError, r"plan_cache_bytes is \d+, expected 0"),
    ("keep", trim, {"keep": WIDE}, ValueError, r"keep is \d+, expected 0 to"),
    ("keep below 0", trim, {"keep": -1}, ValueError, "keep is -1, expected 0"),
    ("index", choose, {"index": 2**32}, ValueError, r"index is 4294967296, expected 0 to 2\^31 - 1"),
    ("workspace_limit", matmul, {"workspace_limit": WIDE}, ValueError, r"workspace_limit is \d+, expected 1 to 2\^64 - 1"),
    ("workspace_limit of 0", matmul, {"workspace_limit": 0}, ValueError, "workspace_limit is 0, expected 1"),
    ("axis", softmax, {"axis": 2**32}, ValueError, r"axis is 4294967296, expected -2\^31 to 2\^31 - 1"),
    ("axis there is none", softmax, {"axis": 2}, ValueError, "axis is 2"),
    ("window", attention, {"window": (2**64, None)}, ValueError, r"window\[0\] is 18446744073709551616, expected"),
    ("window, right", softmax, {"window": (0, 2**63)}, ValueError, r"window\[1\] is 9223372036854775808, expected"),
    ("key_lengths", attention, {"key_lengths": [2**64 + 2]}, ValueError, r"key_lengths\[0\] is \d+, expected"),
    ("positions", append, {"positions": [2**64]}, ValueError, r"positions\[0\] is \d+, expected"),
    ("alpha", matmul, {"alpha": 10**400}, ValueError, r"alpha is 1000.*expected a number that a double holds"),
    ("shape", softmax, {"x": Interface(shape=(2**64 + 4,))}, ValueError, r"x: an extent is \d+, expected 0 to 2\^63 - 1"),
    ("shape below 0", softmax, {"x": Interface(shape=(-4,))}, ValueError, "x: an extent is -4"),
    ("strides", softmax, {"x": Interface(strides=(2**66,))}, ValueError, r"x: a stride is \d+"),
    ("schedule: bytes", tenon.schedule, {"plans": [], "buffers": [(WIDE, 0, 1)]}, ValueError, r"buffers\[0\], its bytes is"),
    ("schedule: step", tenon.schedule, {"plans": [], "buffers": [(1, 0, 2**65)]}, ValueError, r"buffers\[0\], its last step is"),
    ("schedule: budget", tenon.schedule, {"plans": [], "buffers": [(1, 0, 1)], "budget": WIDE}, ValueError, "budget is"),
    ("schedule: tuple", tenon.schedule, {"plans": [], "buffers": [(1, 0)]}, TypeError, r"buffers\[0\] is \(1, 0\), expected"),
    # Kinds of value.
    ("device", tenon.Context, {"device": 3}, TypeError, r"device is 3 \(int\), expected a string such as 'cpu'"),
    ("device with a NUL", tenon.Context, {"device": "cpu\0cuda"}, ValueError, r"device is 'cpu\\x00cuda', expected"),
    ("threads as a truth value", tenon.Context, {"threads": True}, TypeError, r"threads is True \(bool\), expected an integer"),
    ("threads as a float", tenon.Context, {"threads": 2.0}, TypeError, r"threads is 2.0 \(float\), expected an integer"),
    ("logger", tenon.Context, {"logger": 3}, TypeError, "logger is 3, expected a function"),
    ("log_level", tenon.Context, {"logger": print, "log_level": ["info"]}, ValueError, "log_level is"),
    ("window", attention, {"window": 3}, TypeError, r"window is 3 \(int\), expected a pair"),
    ("window of three", softmax, {"window": (1, 2, 3)}, TypeError, r"window is \(1, 2, 3\) \(tuple\), expected a pair"),
    ("window of floats", softmax, {"window": (1.5, 0)}, TypeError, r"window\[0\] is 1.5 \(float\), expected an integer"),
    ("axis as a truth value", softmax, {"axis": False}, TypeError, r"axis is False \(bool\), expected an integer"),
    ("key_lengths of floats", attention, {"key_lengths": [2.0]}, TypeError, r"key_lengths\[0\] is 2.0 \(float\), expected an integer"),
    ("key_lengths of truth values", attention, {"key_lengths": [True]}, TypeError, r"key_lengths\[0\] is True \(bool\)"),
    ("key_lengths of a float array", attention, {"key_lengths": np.ones(1, F)}, ValueError, "key_lengths"),
    ("alpha", matmul, {"alpha": "2"}, TypeError, r"alpha is '2' \(str\), expected a number"),
    ("alpha as a truth value", matmul, {"alpha": True}, TypeError, r"alpha is True \(bool\), expected a number"),
    ("beta", matmul, {"beta": None}, TypeError, r"beta is None \(NoneType\), expected a number"),
    ("beta without out", matmul, {"beta": 2}, ValueError, "beta is 2.* give out="),
    ("scale", attention, {"scale": [1, 2]}, TypeError, r"scale is \[1, 2\] \(list\), expected a number"),
    ("softcap", softmax, {"softcap": 1j}, TypeError, r"softcap is 1j \(complex\), expected a number"),
    ("clamp", matmul, {"activation": "clamp", "clamp": 3}, TypeError, r"clamp is 3 \(int\), expected a pair"),
    ("clamp of words", matmul, {"activation": "clamp", "clamp": (0, "6")}, TypeError, r"clamp\[1\] is '6' \(str\), expected a number"),
    ("activation", matmul, {"activation": ["relu"]}, ValueError, r"activation is \['relu'\], expected None or one of 'relu'"),
    ("causal", softmax, {"causal": True}, ValueError, "causal is True, expected None or one of 'top_left'"),
    ("dtype", matmul, {"dtype": 3}, ValueError, "dtype 3 is not one of f64"),
    ("dtype of no kind", matmul, {"dtype": np.complex64}, ValueError, "dtype .*complex64.* is not one of f64"),
    ("a_scale as a truth value", matmul, {"a_scale": True}, TypeError, "a_scale: bool is not an array"),
    ("a_scale beyond float32", matmul, {"a_scale": 1e39}, ValueError, r"a_scale is 1e\+39, expected a number that float32 holds"),
    ("b_scale below float32", matmul, {"b_scale": 1e-60}, ValueError, "b_scale is 1e-60, expected a number that float32 holds"),
    ("a_zero", matmul, {"a_zero": 2**31}, ValueError, r"a_zero is 2147483648, expected -2\^31 to 2\^31 - 1"),
    # Arrays.
    ("a mask of bytes", attention, {"mask": np.ones((3, 6), np.uint8)}, ValueError, r"^mask.dtype is u8, expected bool \(True = keep\)"),
    ("a mask of integers", softmax, {"mask": np.ones((3, 4), np.int32)}, ValueError, "^mask.dtype is s32, expected bool"),
    ("a list", matmul, {"b": [[1.0]]}, TypeError, "b: list is not an array"),
    ("objects", matmul, {"a": np.ones((3, 4), object)}, TypeError, "a: elements are object, expected one of f64, f32"),
    ("dates", softmax, {"x": np.zeros(3, "M8[ns]")}, TypeError, r"x: elements are datetime64\[ns\], expected one of"),
    ("words", softmax, {"x": np.array(["a", "b"])}, TypeError, "x: elements are str.*, expected one of"),
    ("nothing in an element", softmax, {"x": np.zeros(3, "V0")}, TypeError, "x: elements are void.*, expected one of"),
    ("complex numbers", matmul, {"bias": np.ones(5, np.complex64)}, TypeError, "bias: elements are complex64, expected one of"),
    ("bits of another type", matmul, {"a": np.ones((3, 4), np.uint16)}, TypeError, r'a: elements are uint16.*as_tensor\(x, "bf16"\)'),
    ("a mask that nobody sees", softmax, {"x": np.ma.masked_equal(A, 1)}, TypeError, r"x: a masked array.*x\.filled\(value\)"),
    ("GPU by DLPack", matmul, {"b": OnGpu("dlpack")}, TypeError, r"b: tensor lies on DLPack device \(2, 1\), not in host memory"),
    ("GPU by its own interface", matmul, {"b": OnGpu("cuda")}, TypeError, "b: the array lies in a GPU's memory"),
    ("0 dimensions, a", matmul, {"a": np.float32(2)}, ValueError, "a has 0 dimensions, expected at least 1"),
    ("0 dimensions, b", matmul, {"b": np.zeros((), F)}, ValueError, "b has 0 dimensions, expected at least 1"),
    ("0 dimensions, x", softmax, {"x": np.zeros((), F)}, ValueError, "x"),
    ("dimensions of k", attention, {"k": A}, ValueError, r"k has 2 dimensions, expected 4: \(batch"),
    ("9 dimensions", matmul, {"residual": np.ones((1,) * 9, F)}, ValueError, "residual has 9 dimensions, expected at most 8"),
    ("strides between elements", softmax, {"x": np.zeros(24, np.uint8)[:18].view("u1,f4,u1")["f1"]}, ValueError, "x: a stride of 6 bytes"),
    ("the other byte order", matmul, {"a": np.ones((3, 4), ">f4")}, TypeError, r"a: elements are of the other byte order \(>f4\)"),
    ("out, read-only", matmul, {"out": read_only(3, 5)}, ValueError, "out is read-only, expected a writable array"),
    ("out, bytes", softmax, {"x": A[0], "out": bytes(16)}, ValueError, "out is read-only"),
    ("out, shared elements", softmax, {"out": np.lib.stride_tricks.as_strided(np.zeros(4, F), (3, 4), (0, 4))}, ValueError,
     r"out has strides \(0, 1\), expected elements that share no memory"),
    ("out of another shape", matmul, {"out": np.zeros((3, 6), F)}, ValueError, r"c.*6.*5|out.*\(3, 6\).*\(3, 5\)"),
    ("out of a type that cannot be", matmul, {"out": np.zeros((3, 5), np.int64)}, (ValueError, NotImplementedError), "c|out"),
    ("out, a list", matmul, {"out": [0.0]}, TypeError, "out: list is not an array"),
    ("k_cache, read-only", append, {"k_cache": read_only(1, 2, 8, 8)}, ValueError, "k_cache is read-only"),
    ("workspace, read-only", plan_run, {"workspace": bytes(1 << 20)}, ValueError, "workspace is read-only"),
    ("parts", tenon.attention_merge, {"o_parts": [A, "x"], "lse_parts": [A[:, 0], A[:, 0]]}, TypeError, r"o_parts\[1\]: str is not an array"),
    ("parts, none", tenon.attention_merge, {"o_parts": np.zeros((0, 3, 4), F), "lse_parts": np.zeros((0, 3), F)}, ValueError, "no parts"),
]  # fmt: skip


class Refusals(unittest.TestCase):
    def test_table(self) -> None:
        for name, function, options, kind, text in CASES:
            with self.subTest(name), self.assertRaisesRegex(kind, text):
                function(**options)

    def test_ranges_are_tenon_errors(self) -> None:
        for call in (lambda: tenon.Context(threads=WIDE), lambda: softmax(axis=2**40)):
            with self.assertRaises(tenon.InvalidArgument) as caught:
                call()
            self.assertEqual(caught.exception.status, -1)
            self.assertEqual(caught.exception.status_name, "TENON_ERROR_INVALID_ARGUMENT")

    def test_nothing_is_written(self) -> None:
        for options in ({"workspace_limit": WIDE}, {"alpha": "1"}, {"bias": [1]}, {"beta": True}):
            out = np.full((3, 5), 7, F)
            with self.subTest(**options), self.assertRaises((TypeError, ValueError)):
                matmul(out=out, **options)
            np.testing.assert_array_equal(out, 7)

    def test_what_is_right_stays_right(self) -> None:
        """The bounds themselves, and numbers of NumPy's kinds."""
        with tenon.Context(threads=np.int64(1), budget=np.uint64(2**40), plan_cache_bytes=2**64 - 1) as ctx:
            self.assertEqual(ctx.threads, 1)
            self.assertEqual(ctx.memory.budget, 2**40)
            ctx.trim(2**64 - 1)
            np.testing.assert_array_equal(ctx.matmul(A, B, alpha=np.float32(2), workspace_limit=2**64 - 1), 8)
        softmax(axis=np.int8(-1), window=[None, 2**63 - 1], causal="top_left")
        attention(key_lengths=(np.int32(6),), window=(np.int16(1), None), scale=np.float64(1))
        attention(key_lengths=np.array([6], np.int32))
        softmax(np.ma.masked_equal(A, 1).filled(0))

    @unittest.skipIf(torch is None, "torch is not installed")
    def test_torch(self) -> None:
        for name, x, text in (
            ("no memory", torch.zeros(3, device="meta"), "^x: "),
            ("sparse", torch.zeros(3, 3).to_sparse(), "^x: "),
            ("gradient", torch.zeros(3, requires_grad=True), "^x: .*detach"),
            ("complex", torch.zeros(3, dtype=torch.complex64), "^x: elements are torch.complex64, expected one of"),
        ):
            with self.subTest(name), self.assertRaisesRegex((TypeError, ValueError, BufferError, RuntimeError), text):
                softmax(x)


if __name__ == "__main__":
    unittest.main()
