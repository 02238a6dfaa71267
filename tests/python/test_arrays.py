# SPDX-License-Identifier: Apache-2.0
"""How arrays of other libraries come in: types, strides, lifetimes of DLPack imports, refusals."""

from __future__ import annotations

import array
import gc
import unittest
import weakref

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
