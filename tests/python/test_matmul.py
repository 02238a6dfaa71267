# SPDX-License-Identifier: Apache-2.0
"""tenon.matmul against NumPy in float64: types, strides, shapes, epilogues, plans."""

from __future__ import annotations

import array
import unittest

import numpy as np
import tenon

import optional
import oracle

ml_dtypes = optional.load("ml_dtypes")

# Relative to sum |a||b| (docs/NUMERICS.md: k u, k <= 64 here) plus the rounding of the result.
TOLERANCE = {"float64": 1e-13, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


def close(test: unittest.TestCase, got, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    got = np.asarray(got).astype(np.float64)
    test.assertEqual(got.shape, expected.shape)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * (1 + np.abs(expected).max(initial=0)))


class Matmul(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = np.random.default_rng(1)

    def normal(self, *shape: int, dtype="float32") -> np.ndarray:
        return self.rng.standard_normal(shape).astype(dtype)

    def test_types(self) -> None:
        for dtype in ("float64", "float32", "float16"):
            with self.subTest(dtype):
                a, b = self.normal(5, 31, dtype=dtype), self.normal(31, 7, dtype=dtype)
                c = tenon.matmul(a, b)
                self.assertEqual(c.dtype, dtype)
                close(self, c, oracle.f64(a) @ oracle.f64(b), TOLERANCE[dtype])

    def test_integers_are_exact(self) -> None:
        a = self.rng.integers(-128, 128, (5, 300)).astype(np.int8)
        b = self.rng.integers(-128, 128, (300, 9)).astype(np.int8)
        c = tenon.matmul(a, b)
        self.assertEqual(c.dtype, np.int32)
        np.testing.assert_array_equal(c, a.astype(np.int64) @ b.astype(np.int64))

    def test_mixed_types_and_dtype(self) -> None:
        a, b = self.normal(5, 31, dtype="float16"), self.normal(31, 7)
        self.assertEqual(tenon.matmul(a, b).dtype, np.float32)
        c = tenon.matmul(a, b, dtype="f64")
        self.assertEqual(c.dtype, np.float64)
        close(self, c, oracle.f64(a) @ oracle.f64(b))
        self.assertEqual(tenon.matmul(b.T, b, dtype=np.float16).dtype, np.float16)

    @unittest.skipIf(ml_dtypes is None, "ml_dtypes is not installed")
    def test_bfloat16_of_ml_dtypes(self) -> None:
        a, b = self.normal(5, 31, dtype=ml_dtypes.bfloat16), self.normal(31, 7, dtype=ml_dtypes.bfloat16)
        c = tenon.matmul(a, b)
        self.assertEqual(c.dtype, ml_dtypes.bfloat16)
        close(self, c, oracle.f64(a) @ oracle.f64(b), TOLERANCE["bfloat16"])

    def test_bits_in_integer_arrays(self) -> None:
        values = self.normal(5, 31)
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)  # bf16 is the upper half
        rounded = (bits.astype(np.uint32) << 16).view(np.float32)
        a, b = tenon.as_tensor(bits, "bf16"), self.normal(31, 7)
        close(self, tenon.matmul(a, b, dtype="f32"), oracle.f64(rounded) @ b)
        c = tenon.matmul(a, a_transposed := tenon.as_tensor(bits.T, "bf16"))
        self.assertEqual((c.dtype, a_transposed.shape), (np.dtype(np.uint16), (31, 5)))
        as_float = (c.astype(np.uint32) << 16).view(np.float32)
        close(self, as_float, oracle.f64(rounded) @ oracle.f64(rounded).T, TOLERANCE["bfloat16"])

    def test_shapes_as_numpy_has_them(self) -> None:
        shapes = [
            ((3,), (3,)),
            ((3,), (3, 4)),
            ((2, 3), (3,)),
            ((5, 2, 3), (3,)),
            ((3,), (5, 3, 4)),
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 4)),
            ((5, 1, 2, 3), (6, 3, 4)),
            ((0, 3), (3, 4)),
            ((2, 3), (3, 0)),
            ((2, 0), (0, 4)),
            ((1, 1), (1, 1)),
        ]
        for left, right in shapes:
            with self.subTest(a=left, b=right):
                a, b = self.normal(*left), self.normal(*right)
                close(self, tenon.matmul(a, b), np.asarray(oracle.f64(a) @ oracle.f64(b)))

    def test_strides(self) -> None:
        big = self.normal(40, 60)
        for name, a, b in (
            ("transposed", big[:31, :5].T, big[:31, 20:27]),
            ("steps", big[:10:2, :62:2][:, :13], big[::3, 1::7][:13]),
            ("backwards", big[4::-1, 12::-1], big[:13, 30:20:-1]),
            ("repeated rows", np.broadcast_to(big[0, :13], (5, 13)), big[:13, :7]),
            ("one value", np.broadcast_to(np.float32(2), (5, 13)), big[:13, :7]),
        ):
            with self.subTest(name):
                expected = oracle.f64(a) @ oracle.f64(b)
                close(self, tenon.matmul(a, b), expected)
                holder = np.full((2 * a.shape[0], 3 * b.shape[1]), np.nan, np.float32)
                out = holder[::2, 1::3]
                self.assertIs(tenon.matmul(a, b, out=out), out)
                close(self, out, expected)
                self.assertEqual(np.isnan(holder).sum(), holder.size - out.size)

    def test_epilogue(self) -> None:
        a, b = self.normal(6, 20), self.normal(20, 8)
        bias, residual, start = self.normal(8), self.normal(6, 8), self.normal(6, 8)
        for activation, apply in oracle.ACTIVATIONS.items():
            with self.subTest(activation):
                out = start.copy()
                tenon.matmul(a, b, bias=bias, residual=residual, activation=activation, alpha=0.5, beta=2.0, out=out)
                z = 0.5 * (oracle.f64(a) @ b) + 2 * oracle.f64(start) + bias
                close(self, out, apply(z) + residual)
        close(self, tenon.matmul(a, b, activation="clamp", clamp=(-1, 2)), np.clip(oracle.f64(a) @ b, -1, 2))
        column = self.normal(6, 1)
        close(self, tenon.matmul(a, b, bias=column), oracle.f64(a) @ b + column)
        c = residual.copy()
        close(self, tenon.matmul(a, b, residual=c, out=c), oracle.f64(a) @ b + residual)

    def test_alpha_zero_is_not_the_default(self) -> None:
        a, b = self.normal(3, 4), self.normal(4, 5)
        np.testing.assert_array_equal(tenon.matmul(a, b, alpha=0.0), np.zeros((3, 5)))

    def test_vector_operands_with_epilogue(self) -> None:
        a, x = self.normal(6, 20), self.normal(20)
        bias, residual = self.normal(6), self.normal(6)
        close(self, tenon.matmul(a, x, bias=bias, residual=residual), oracle.f64(a) @ x + bias + residual)
        close(self, tenon.matmul(x, a.T, bias=bias, residual=residual), oracle.f64(a) @ x + bias + residual)

    def test_gated(self) -> None:
        a, b = self.normal(6, 20), self.normal(20, 10)
        z = oracle.f64(a) @ b
        silu = oracle.ACTIVATIONS["silu"]
        close(self, tenon.matmul(a, b, gated="halves", activation="silu"), silu(z[:, :5]) * z[:, 5:])
        close(self, tenon.matmul(a, b, gated="interleaved", activation="silu"), silu(z[:, ::2]) * z[:, 1::2])

    def test_groups(self) -> None:
        a, b = self.normal(10, 6), self.normal(3, 6, 4)
        c = tenon.matmul(a, b, group_offsets=[0, 4, 4, 9])
        expected = np.zeros((10, 4))
        for expert, (first, last) in enumerate(((0, 4), (4, 4), (4, 9))):
            expected[first:last] = oracle.f64(a[first:last]) @ b[expert]
        close(self, c, expected)

    def test_scales(self) -> None:
        a = self.rng.integers(-128, 128, (5, 32)).astype(np.int8)
        b = self.rng.integers(-128, 128, (32, 6)).astype(np.int8)
        a_scale, b_scale = np.float32(0.1) * np.abs(self.normal(5, 1)), np.abs(self.normal(1, 6))
        c = tenon.matmul(a, b, a_scale=a_scale, b_scale=b_scale, dtype="f32")
        close(self, c, (oracle.f64(a) * a_scale) @ (oracle.f64(b) * b_scale))

    def test_default_type_of_integer_products(self) -> None:
        """int32 as long as nothing brings in other numbers: rounding is never silent."""
        a = self.rng.integers(-128, 128, (5, 32)).astype(np.int8)
        b = self.rng.integers(0, 256, (32, 6)).astype(np.uint8)
        exact = oracle.f64(a) @ oracle.f64(b)
        row, small = self.normal(6), np.float32(1e-3)
        for options, expected in (
            ({"a_scale": 1e-3, "b_scale": 1e-3}, exact * 1e-6),
            ({"a_scale": small}, exact * 1e-3),
            ({"b_scale": np.full((1, 6), small)}, exact * 1e-3),
            ({"c_scale": 8}, exact / 8),
            ({"a_zero": 0.5}, (oracle.f64(a) - 0.5) @ b),
            ({"alpha": 0.3}, exact * 0.3),
            ({"bias": row}, exact + row),
            ({"residual": row}, exact + row),
            ({"activation": "tanh", "alpha": 1e-4}, np.tanh(exact * 1e-4)),
            ({"activation": "sigmoid"}, oracle.ACTIVATIONS["sigmoid"](np.clip(exact, -500, 500))),
            ({"activation": "clamp", "clamp": (-0.5, 0.5)}, np.clip(exact, -0.5, 0.5)),
        ):
            with self.subTest(**options):
                c = tenon.matmul(a, b, **options)
                self.assertEqual(c.dtype, np.float32)
                close(self, c, expected)
                self.assertEqual(tenon.matmul(a, b, dtype="s32", **options).dtype, np.int32)
        for options, expected in (
            ({"alpha": 2.0}, 2 * exact),
            ({"activation": "relu"}, np.maximum(exact, 0)),
            ({"a_zero": 3, "b_zero": np.int32(-4)}, (oracle.f64(a) - 3) @ (oracle.f64(b) + 4)),
        ):
            with self.subTest(**options):
                c = tenon.matmul(a, b, **options)
                self.assertEqual(c.dtype, np.int32)
                np.testing.assert_array_equal(c, expected)
        with tenon.Context() as ctx:
            self.assertEqual(ctx.matmul(a, ctx.pack(b, b_scale=0.5, a_dtype="s8")).dtype, np.float32)

    def test_plain_numbers_as_scales_and_zeros(self) -> None:
        for dtype in ("float32", "float64", "int8"):
            a, b = (8 * self.normal(5, 32)).astype(dtype), (8 * self.normal(32, 6)).astype(dtype)
            options = {"a_scale": 2.0, "a_zero": 3, "b_scale": 3, "b_zero": 1.5, "c_scale": 0.3, "c_zero": 7}
            with self.subTest(dtype):
                c = tenon.matmul(a, b, **options)
                expected = (2 * (oracle.f64(a) - 3)) @ (3 * (oracle.f64(b) - 1.5)) / 0.3 + 7
                close(self, c, expected, TOLERANCE[str(c.dtype)])
                with tenon.Context() as ctx:
                    packed = ctx.pack(b, b_scale=options.pop("b_scale"), b_zero=options.pop("b_zero"))
                    np.testing.assert_array_equal(ctx.matmul(a, packed, **options), c)

    def test_plain_buffers(self) -> None:
        a = memoryview(array.array("f", range(6))).cast("B").cast("f", (2, 3))
        b = memoryview(array.array("f", range(12))).cast("B").cast("f", (3, 4))
        c = tenon.matmul(a, b)
        self.assertIsInstance(c, memoryview)
        self.assertEqual(c.tolist(), (np.arange(6).reshape(2, 3) @ np.arange(12).reshape(3, 4)).tolist())

    def test_plan(self) -> None:
        a, b, other = self.normal(30, 40), self.normal(40, 50), self.normal(30, 40)
        with tenon.Context() as ctx:
            plan = ctx.plan_matmul(a, b, activation="relu")
            self.assertTrue(plan.kernel and plan.algorithm and plan.device and plan.choices)
            self.assertEqual(plan.flops, 2 * 30 * 40 * 50)
            self.assertGreaterEqual(plan.workspace_preferred, plan.workspace_smallest)
            expected = np.maximum(oracle.f64(a) @ b, 0)
            first, second = plan.run(), plan.run()
            self.assertIsNot(first, second)
            close(self, first, expected)
            np.testing.assert_array_equal(first, second)
            out = np.empty((30, 50), np.float32)
            self.assertIs(plan.run(a=other, out=out), out)
            close(self, out, np.maximum(oracle.f64(other) @ b, 0))
            with self.assertRaisesRegex(tenon.InvalidArgument, "."):
                plan.run(a=other[:29], out=out[:29])
            room = np.empty(plan.workspace + 128, np.uint8)
            start = -room.ctypes.data % 64
            close(self, plan.run(workspace=room[start : start + plan.workspace + 1]), expected)
            with self.assertRaisesRegex(tenon.InvalidArgument, "aligned"):
                plan.run(workspace=room[start + 1 :])
            self.assertEqual(tenon.plan_budget([plan, plan])[0], plan.workspace)

    def test_schedule(self) -> None:
        a, b = self.normal(200, 300), self.normal(300, 250)
        with tenon.Context(threads=1) as ctx, ctx.plan_matmul(a, b) as first, ctx.plan_matmul(a, b) as second:
            expected = first.run()
            buffers = [(1000, 0, 1), (500, 1, 2, 256)]
            large = tenon.schedule([first, None, second], buffers)
            self.assertEqual(large.total, large.preferred)
            self.assertLess(large.smallest, large.preferred)
            self.assertEqual((large.steps[1].choice, large.steps[1].workspace), (-1, 0))
            small = tenon.schedule([first, None, second], buffers, budget=large.smallest)
            self.assertEqual(small.total, large.smallest)
            self.assertEqual(small.offsets[1] % 256, 0)
            block = np.zeros(small.total + 64, np.uint8)
            start = -block.ctypes.data % 64
            for plan, step in ((first, small.steps[0]), (second, small.steps[2])):
                plan.choose(step.choice)
                self.assertEqual(plan.workspace, step.workspace)
                workspace = block[start + step.offset : start + step.offset + step.workspace]
                np.testing.assert_array_equal(plan.run(workspace=workspace if step.workspace else None), expected)
            with self.assertRaisesRegex(tenon.OverBudget, str(large.smallest)):
                tenon.schedule([first, None, second], buffers, budget=large.smallest - 1)
            with self.assertRaisesRegex(tenon.InvalidArgument, "99"):
                first.choose(99)

    def test_plan_with_out_runs_in_place(self) -> None:
        a, b, out = self.normal(3, 4), self.normal(4, 5), np.zeros((3, 5), np.float32)
        with tenon.Context() as ctx, ctx.plan_matmul(a, b, out=out) as plan:
            self.assertIs(plan.run(), out)
            close(self, out, oracle.f64(a) @ b)
            a[:] = 0  # the plan reads the arrays anew
            plan.run()
            np.testing.assert_array_equal(out, 0)
        with self.assertRaisesRegex(ValueError, "closed"):
            plan.run()

    def test_plan_outlives_its_context(self) -> None:
        a, b = self.normal(3, 4), self.normal(4, 5)
        with tenon.Context() as first:
            plan = first.plan_matmul(a, b)
        with tenon.Context() as second:
            close(self, plan.run(context=second), oracle.f64(a) @ b)

    def test_packed(self) -> None:
        a, b = self.normal(6, 20), self.normal(8, 20).T
        with tenon.Context() as ctx:
            try:
                packed = ctx.pack(b)
            except tenon.Unsupported as reason:
                self.skipTest(str(reason))
            np.testing.assert_array_equal(ctx.matmul(a, packed), ctx.matmul(a, b))
            with self.assertRaisesRegex(ValueError, "dimensions"):
                ctx.pack(b[0])
            with self.assertRaisesRegex(ValueError, "not one of"):
                ctx.pack(b, a_dtype="f31")

    def test_packed_with_companions(self) -> None:
        a, b = self.normal(6, 20), self.normal(20, 8)
        scale, zero = np.abs(self.normal(4, 8)), self.normal(1, 8)
        bytes_b = self.rng.integers(-128, 128, (20, 8)).astype(np.int8)
        with tenon.Context() as ctx:
            gated = ctx.pack(b, gated="halves")
            np.testing.assert_array_equal(
                ctx.matmul(a, gated, activation="silu"), ctx.matmul(a, b, gated="halves", activation="silu")
            )
            scaled = ctx.pack(b, b_scale=scale, b_zero=zero)
            expected = ctx.matmul(a, b, b_scale=scale, b_zero=zero)
            np.testing.assert_array_equal(ctx.matmul(a, scaled), expected)
            np.testing.assert_array_equal(ctx.matmul(a, scaled, b_scale=scale, b_zero=zero), expected)
            # Sums of s8 products are integers, unless a is something else: the layout has to know.
            mixed = ctx.pack(bytes_b, a_dtype=np.float32)
            np.testing.assert_array_equal(ctx.matmul(a, mixed), ctx.matmul(a, bytes_b))
            wide = ctx.pack(b, a_dtype="f64")
            a64 = a.astype(np.float64)
            np.testing.assert_array_equal(ctx.matmul(a64, wide), ctx.matmul(a64, b))


if __name__ == "__main__":
    unittest.main()
