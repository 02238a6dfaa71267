# SPDX-License-Identifier: Apache-2.0
"""How arrays of other libraries come in: types, strides, lifetimes of DLPack imports, refusals."""

from __future__ import annotations

import array
import gc
import tracemalloc
import unittest
import weakref
from typing import Any, Callable

import numpy as np
import tenon

import optional

torch = optional.load("torch")
ml_dtypes = optional.load("ml_dtypes")


class Producer:
    """A DLPack producer that is not NumPy; counts what it lends by the life of the array beneath."""

    def __init__(self, data: np.ndarray, *, versioned: bool = True, device: tuple[int, int] = (1, 0)) -> None:
        self.data = data
        self.versioned = versioned
        self.device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **options):
        if not self.versioned and options:
            raise TypeError("unexpected keyword argument")
        return self.data.__dlpack__(**options)


class CountedArray(np.ndarray):
    """An array that can be watched by weak reference through its whole life."""


def counted(*shape: int) -> tuple[np.ndarray, weakref.ref]:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape).view(CountedArray)
    return data, weakref.ref(data)


class Views(unittest.TestCase):
    def test_numpy(self) -> None:
        x = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3]
        t = tenon.as_tensor(x)
        self.assertEqual((t.dtype, t.shape, t.strides), ("f32", (2, 2), (12, -3)))
        self.assertEqual(t.address, x.ctypes.data)
        for dtype, name in (
            ("f8", "f64"),
            ("f2", "f16"),
            ("i1", "s8"),
            ("u1", "u8"),
            ("i4", "s32"),
            ("i8", "s64"),
            ("?", "bool"),
        ):
            self.assertEqual(tenon.as_tensor(np.zeros(3, dtype)).dtype, name)
        self.assertEqual(tenon.as_tensor(np.zeros((), "f4")).shape, ())
        self.assertTrue(tenon.as_tensor(np.float32(3)).read_only)

    @unittest.skipIf(ml_dtypes is None, "ml_dtypes is not installed")
    def test_ml_dtypes(self) -> None:
        for dtype, name in (("bfloat16", "bf16"), ("float8_e4m3fn", "f8_e4m3"), ("float8_e5m2", "f8_e5m2")):
            self.assertEqual(tenon.as_tensor(np.zeros(3, getattr(ml_dtypes, dtype))).dtype, name)

    def test_reinterpretation(self) -> None:
        t = tenon.as_tensor(np.zeros((2, 3), np.uint16), "bfloat16")
        self.assertEqual((t.dtype, t.bits), ("bf16", True))
        self.assertEqual(tenon.as_tensor(np.zeros(3, np.uint8), "f8_e4m3").dtype, "f8_e4m3")
        self.assertEqual(tenon.as_tensor(np.zeros(3, np.float32), np.float32).bits, False)
        with self.assertRaisesRegex(TypeError, "2 bytes"):
            tenon.as_tensor(np.zeros(3, np.uint16), "f32")
        with self.assertRaisesRegex(ValueError, "not one of"):
            tenon.as_tensor(np.zeros(3, np.uint16), "f17")

    def test_buffers(self) -> None:
        t = tenon.as_tensor(array.array("d", [1, 2, 3]))
        self.assertEqual((t.dtype, t.shape, t.strides, t.read_only), ("f64", (3,), (1,), False))
        t = tenon.as_tensor(memoryview(b"12345678")[::-2])
        self.assertEqual((t.dtype, t.shape, t.strides, t.read_only), ("u8", (4,), (-2,), True))

    def test_array_interface_alone(self) -> None:
        class Holder:
            def __init__(self, data: np.ndarray) -> None:
                self.__array_interface__ = data.__array_interface__
                self.data = data

        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        t = tenon.as_tensor(Holder(x.T))
        self.assertEqual((t.dtype, t.shape, t.strides), ("f32", (3, 2), (1, 3)))
        np.testing.assert_array_equal(tenon.matmul(Holder(x), x.T), x @ x.T)

    def test_refusals(self) -> None:
        for thing, text in (
            (np.zeros(3, np.complex64), "complex64"),
            (np.zeros(3, np.uint16), "as_tensor"),
            (np.zeros(3, ">f4"), "byte order"),
            ([1.0, 2.0], "not an array"),
            (Producer(np.zeros(3, np.float32), device=(2, 0)), "host memory"),
        ):
            with self.subTest(text), self.assertRaisesRegex(TypeError, text):
                tenon.as_tensor(thing)
        with self.assertRaisesRegex(ValueError, "read-only"):
            tenon.softmax(np.ones((2, 3), np.float32), out=np.broadcast_to(np.float32(0), (2, 3)))
        with self.assertRaisesRegex(ValueError, "dimensions"):
            tenon.matmul(np.zeros((1,) * 9, np.float32), np.zeros((1, 1), np.float32))


class Repeated(unittest.TestCase):
    """One element under strides of zero in every direction."""

    def test_nothing_accumulates(self) -> None:
        x = np.broadcast_to(np.float32(2), (5, 13))
        t, b = tenon.as_tensor(x), np.ones((13, 3), np.float32)
        owner = t.owner
        for _ in range(3):
            np.testing.assert_array_equal(tenon.matmul(t, b), 26)
            self.assertIs(t.owner, owner)

    def test_the_memory_lives_with_the_struct(self) -> None:
        value = np.full(1, 3, np.float32)
        t = tenon.as_tensor(np.broadcast_to(value[0:1].reshape(()), (2, 4)))
        first = t.to_c()
        value[0] = 4
        second = t.to_c()
        self.assertEqual(first.held.raw[:4], np.float32(3).tobytes())
        self.assertEqual(second.held.raw[:4], np.float32(4).tobytes())
        merged = tenon.attention_merge([np.broadcast_to(np.float32(1), (2, 4))], [np.zeros(2, np.float32)])
        np.testing.assert_array_equal(merged, 1)

    def traced(self, function: Callable[[], Any]) -> Any:
        """The result, and that Python took less than half a MiB beside it: operands here would be 4 MB."""
        tracemalloc.start()
        try:
            result = function()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 1 << 19)
        return result

    def test_large_operands_are_not_copied(self) -> None:
        def repeated(value: float, *shape: int) -> np.ndarray:
            return np.broadcast_to(np.float32(value), shape)

        wide, tall, two = repeated(2, 2, 500000), repeated(3, 500000, 2), np.full((2, 1000), 2, np.float32)
        for name, a, b, options, expected in (
            ("a", wide, np.ones((500000, 2), np.float32), {}, 1e6),
            ("b", np.ones((2, 500000), np.float32), tall, {}, 1.5e6),
            ("both", wide, tall, {}, 3e6),
            ("a and a batch of b", wide, np.ones((2, 500000, 1), np.float32), {}, 1e6),
            ("a in full rank", repeated(2, *(2,) * 6, 2, 10000), np.ones((10000, 2), np.float32), {}, 20000),
            ("a vector", repeated(2, 1000000), np.ones((1000000, 1), np.float32), {}, 2e6),
            ("scale in groups", two, np.ones((1000, 2), np.float32), {"a_scale": repeated(3, 2, 1000)}, 6000),
            ("zero of b", two, np.ones((1000, 2), np.float32), {"b_zero": repeated(3, 1000, 2)}, -4000),
        ):
            with self.subTest(name):
                np.testing.assert_array_equal(self.traced(lambda: tenon.matmul(a, b, **options)), expected)
        column, row = np.ones((1000, 1), np.float32), np.ones((1, 50), np.float32)
        out = np.empty((1000, 50), np.float32)
        options = {name: repeated(2, 1000, 50) for name in ("bias", "residual", "c_scale")}
        np.testing.assert_array_equal(self.traced(lambda: tenon.matmul(column, row, out=out, **options)), 2.5)

    def test_large_masks_are_not_copied(self) -> None:
        x, out = np.zeros((2, 500, 1000), np.float32), np.empty((2, 500, 1000), np.float32)
        for shape in (x.shape, x.shape[1:], x.shape[2:]):
            for options, expected in (
                ({"mask": np.broadcast_to(np.True_, shape)}, 0.001),
                ({"mask": np.broadcast_to(np.False_, shape)}, 0),
                ({"bias": np.broadcast_to(np.float32(1), shape)}, 0.001),
                ({"mask": np.broadcast_to(np.float32(-np.inf), shape)}, 0),
            ):
                with self.subTest(shape=shape, **options):
                    self.traced(lambda: tenon.softmax(x, out=out, **options))
                    np.testing.assert_allclose(out, expected, rtol=1e-6)
        q, k = np.zeros((2, 2, 500, 8), np.float32), np.ones((2, 2, 500, 8), np.float32)
        out = np.empty_like(q)
        for shape in ((2, 2, 500, 500), (2, 500, 500), (500, 500)):
            for keep in (True, False):
                with self.subTest(shape=shape, keep=keep):
                    mask = np.broadcast_to(np.bool_(keep), shape)
                    self.traced(lambda: tenon.attention(q, k, k, mask=mask, out=out))
                    np.testing.assert_allclose(out, float(keep), rtol=1e-6)

    def test_wrong_shapes_stay_wrong(self) -> None:
        x = np.zeros((4, 5), np.float32)
        for shape in ((3, 5), (4, 3), (2, 4, 5)):
            with self.subTest(shape), self.assertRaisesRegex(ValueError, "mask.shape is"):
                tenon.softmax(x, mask=np.broadcast_to(np.True_, shape))
            with self.subTest(shape), self.assertRaisesRegex(ValueError, "bias.shape is"):
                tenon.matmul(np.ones((4, 2), "f4"), np.ones((2, 5), "f4"), bias=np.broadcast_to(np.float32(1), shape))

    def test_copies_are_bounded(self) -> None:
        """Where nothing broadcasts there is no way to say it, and the copy stays small."""
        most = np.broadcast_to(np.float32(1), (128, 128))
        np.testing.assert_allclose(tenon.softmax(most), 1 / 128)
        large = np.broadcast_to(np.float32(1), (20000, 20000))
        value = np.float32(1)
        keys = np.broadcast_to(value, (2, 2, 5000, 8))
        for name, call in (
            ("x", lambda: tenon.softmax(large)),
            ("x", lambda: tenon.softmax(np.broadcast_to(value, (128, 129)))),
            ("k", lambda: tenon.attention(np.ones((2, 2, 3, 8), np.float32), keys, keys)),
            (r"o_parts\[0\]", lambda: tenon.attention_merge([large], [np.zeros(20000, np.float32)])),
            ("a", lambda: tenon.matmul(large, np.ones((1, 20000, 2), np.float32), group_offsets=[0, 20000])),
        ):
            with self.subTest(name), self.assertRaisesRegex(ValueError, f"^{name} is one element repeated to .*65536"):
                self.traced(call)

    def test_packed(self) -> None:
        a = np.ones((3, 300), np.float32)
        b, scale = np.broadcast_to(np.float32(2), (300, 200)), np.broadcast_to(np.float32(3), (300, 200))
        with tenon.Context() as ctx:
            np.testing.assert_array_equal(ctx.matmul(a, ctx.pack(b)), 600)
            np.testing.assert_array_equal(ctx.matmul(a, ctx.pack(b, b_scale=scale)), 1800)
            dense = np.full((300, 200), 2, np.float32)
            np.testing.assert_array_equal(ctx.matmul(a, ctx.pack(dense, b_scale=scale)), 1800)


class DLPack(unittest.TestCase):
    def test_both_kinds_of_capsule(self) -> None:
        for versioned in (True, False):
            with self.subTest(versioned=versioned):
                x = np.arange(12, dtype=np.float32).reshape(3, 4).T
                t = tenon.as_tensor(Producer(x, versioned=versioned))
                self.assertEqual((t.dtype, t.shape, t.strides, t.address), ("f32", (4, 3), (1, 4), x.ctypes.data))

    def test_import_holds_and_releases(self) -> None:
        for versioned in (True, False):
            with self.subTest(versioned=versioned):
                data, alive = counted(3, 4)
                t = tenon.as_tensor(Producer(data, versioned=versioned))
                del data
                gc.collect()
                self.assertIsNotNone(alive(), "the import let go too early")
                view = t.with_axis(-1)
                del t
                self.assertIsNotNone(alive(), "a view of the import let go too early")
                del view
                gc.collect()
                self.assertIsNone(alive(), "the deleter was not called")

    def test_calls_and_plans_release(self) -> None:
        data, alive = counted(3, 4)
        tenon.softmax(Producer(data))
        with tenon.Context() as ctx:
            plan = ctx.plan_softmax(Producer(data))
            del data
            self.assertIsNotNone(alive())
            plan.run()
            plan.close()
        gc.collect()
        self.assertIsNone(alive())

    def test_capsule_is_used_up(self) -> None:
        capsule = np.zeros(3, np.float32).__dlpack__()

        class Stale:
            def __dlpack_device__(self):
                return (1, 0)

            def __dlpack__(self, **options):
                return capsule

        tenon.as_tensor(Stale())
        with self.assertRaisesRegex(TypeError, "already used"):
            tenon.as_tensor(Stale())


@unittest.skipIf(torch is None, "torch is not installed")
class Torch(unittest.TestCase):
    def setUp(self) -> None:
        torch.manual_seed(4)

    def test_result_is_a_tensor(self) -> None:
        for dtype, tolerance in (
            (torch.float32, 1e-5),
            (torch.float64, 1e-12),
            (torch.bfloat16, 2e-2),
            (torch.float16, 2e-3),
        ):
            with self.subTest(dtype):
                a, b = torch.randn(5, 20).to(dtype), torch.randn(7, 20).to(dtype)
                c = tenon.matmul(a, b.T)
                self.assertIsInstance(c, torch.Tensor)
                self.assertEqual(c.dtype, dtype)
                torch.testing.assert_close(c.double(), a.double() @ b.double().T, rtol=tolerance, atol=10 * tolerance)

    def test_out_and_views(self) -> None:
        x = torch.randn(4, 6, dtype=torch.bfloat16)
        holder = torch.zeros(6, 8, dtype=torch.float32)
        out = holder[:, ::2]
        self.assertIs(tenon.matmul(x.T, x, out=holder[:, 1:7]).shape[0], 6)
        tenon.matmul(x.T, x[:, :4], out=out)
        torch.testing.assert_close(out, x.float().T @ x[:, :4].float(), rtol=1e-5, atol=1e-5)

    def test_attention_as_torch_has_it(self) -> None:
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
            with self.subTest(dtype):
                q, k, v = (torch.randn(2, 9, 4, 16).to(dtype).transpose(1, 2) for _ in range(3))
                o = tenon.attention(q, k, v, causal="top_left")
                self.assertEqual(o.dtype, dtype)
                expected = torch.nn.functional.scaled_dot_product_attention(
                    q.double(), k.double(), v.double(), is_causal=True
                )
                torch.testing.assert_close(o.double(), expected, rtol=tolerance, atol=tolerance)

    def test_float8(self) -> None:
        a = torch.randn(3, 16).to(torch.float8_e4m3fn)
        t = tenon.as_tensor(a.view(torch.uint8), "f8_e4m3")
        c = tenon.matmul(t, torch.eye(16))
        torch.testing.assert_close(c, a.float())

    def test_mixed_libraries(self) -> None:
        a = torch.randn(3, 4)
        c = tenon.matmul(a, np.eye(4, dtype=np.float32))
        self.assertIsInstance(c, torch.Tensor)
        torch.testing.assert_close(c, a)

    def test_bits_that_torch_has_not_computed(self) -> None:
        z = torch.complex(torch.ones(3), torch.ones(3)).conj()
        self.assertTrue(z.imag.is_neg())
        with self.assertRaisesRegex(TypeError, r"negative bit.*resolve_neg\(\)"):
            tenon.softmax(z.imag)
        with self.assertRaisesRegex(TypeError, r"conjugate bit.*resolve_conj\(\)"):
            tenon.as_tensor(z)
        self.assertEqual(tenon.as_tensor(z.imag.resolve_neg()).dtype, "f32")

    def test_gradients_are_not_dropped_silently(self) -> None:
        with self.assertRaises((BufferError, RuntimeError)):
            tenon.softmax(torch.randn(3, requires_grad=True))

    def test_lifetime(self) -> None:
        a = torch.randn(64, 64)
        alive = weakref.ref(a)
        t = tenon.as_tensor(a)
        address = t.address
        self.assertEqual(address, a.data_ptr())
        before = a.untyped_storage()._use_count() if hasattr(a.untyped_storage(), "_use_count") else None
        del t
        gc.collect()
        if before is not None:
            self.assertLess(a.untyped_storage()._use_count(), before)
        del a
        gc.collect()
        self.assertIsNone(alive())


if __name__ == "__main__":
    unittest.main()
