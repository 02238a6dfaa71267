# SPDX-License-Identifier: Apache-2.0
"""tenon.softmax against NumPy in float64."""

from __future__ import annotations

import unittest

import numpy as np
import tenon

import oracle
from test_matmul import close


class Softmax(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = np.random.default_rng(2)

    def normal(self, *shape: int, dtype="float32") -> np.ndarray:
        return self.rng.standard_normal(shape).astype(dtype)

    def expected(self, s: np.ndarray, keep=True) -> np.ndarray:
        return oracle.masked_softmax(s, np.broadcast_to(keep, s.shape))[0]

    def test_axes_and_types(self) -> None:
        for dtype, tolerance in (("float64", 1e-14), ("float32", 1e-6), ("float16", 1e-3)):
            x = self.normal(3, 17, 5, dtype=dtype)
            for axis in (-1, 0, 1, 2, -3):
                with self.subTest(dtype=dtype, axis=axis):
                    y = tenon.softmax(x, axis)
                    self.assertEqual(y.dtype, dtype)
                    moved = np.moveaxis(oracle.f64(x), axis, -1)
                    close(self, y, np.moveaxis(self.expected(moved), -1, axis), tolerance)

    def test_scale_log_lse(self) -> None:
        x = self.normal(4, 33)
        y, lse = tenon.softmax(x, scale=2.5, log=True, return_lse=True)
        p, expected_lse = oracle.masked_softmax(2.5 * oracle.f64(x), np.full(x.shape, True))
        close(self, y, np.log(p))
        close(self, lse, expected_lse)

    def test_masks(self) -> None:
        x, keep = self.normal(2, 3, 9), self.rng.random((3, 9)) < 0.6
        keep[1] = False
        x[:, :, 4] = np.nan
        keep[:, 4] = False
        expected = self.expected(np.where(keep, oracle.f64(x), 0), keep)
        close(self, tenon.softmax(x, mask=keep), expected)
        self.assertTrue((tenon.softmax(x, mask=keep)[:, 1] == 0).all())
        close(self, tenon.softmax(np.nan_to_num(x), mask=np.where(keep, 0, -np.inf).astype("f4")), expected)
        close(self, tenon.softmax(x, mask=tenon.as_tensor(keep.astype("u1"), "bool")), expected)

    def test_additive_mask_is_bias(self) -> None:
        x, bias, keep = self.normal(4, 9), self.normal(9), self.rng.random((4, 9)) < 0.5
        close(self, tenon.softmax(x, mask=bias), self.expected(oracle.f64(x) + bias))
        close(self, tenon.softmax(x, mask=keep, bias=bias), self.expected(oracle.f64(x) + bias, keep))
        with self.assertRaisesRegex(ValueError, "additive"):
            tenon.softmax(x, mask=bias, bias=bias)

    def test_causal_window_softcap_sinks(self) -> None:
        x, sinks = self.normal(2, 3, 5, 8), self.normal(3)
        for causal in ("top_left", "bottom_right"):
            for window in (None, (2, None), (1, 1)):
                with self.subTest(causal=causal, window=window):
                    y = tenon.softmax(x, causal=causal, window=window, softcap=1.5, sinks=sinks)
                    keep = np.broadcast_to(oracle.keep_matrix(5, 8, causal, window), x.shape)
                    s = 1.5 * np.tanh(oracle.f64(x) / 1.5)
                    close(self, y, oracle.masked_softmax(s, keep, oracle.f64(sinks)[:, None])[0])

    def test_in_place_and_strides(self) -> None:
        x = self.normal(6, 10)
        expected = self.expected(oracle.f64(x))
        close(self, tenon.softmax(x[::-1, ::2]), self.expected(oracle.f64(x[::-1, ::2])))
        self.assertIs(tenon.softmax(x, out=x), x)
        close(self, x, expected)

    def test_plan(self) -> None:
        x = self.normal(6, 10)
        with tenon.Context() as ctx:
            plan = ctx.plan_softmax(x, scale=2.0)
            close(self, plan.run(), self.expected(2 * oracle.f64(x)))


if __name__ == "__main__":
    unittest.main()
