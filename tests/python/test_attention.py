# SPDX-License-Identifier: Apache-2.0
"""tenon.attention, its masks and layouts, merging and caches, against NumPy in float64."""

from __future__ import annotations

import unittest

import numpy as np
import tenon

import oracle
from test_matmul import close


class Attention(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = np.random.default_rng(3)

    def normal(self, *shape: int, dtype="float32") -> np.ndarray:
        return self.rng.standard_normal(shape).astype(dtype)

    def qkv(self, batch=2, heads=4, kv_heads=2, queries=7, keys=11, d=16, dv=24, dtype="float32"):
        return (
            self.normal(batch, heads, queries, d, dtype=dtype),
            self.normal(batch, kv_heads, keys, d, dtype=dtype),
            self.normal(batch, kv_heads, keys, dv, dtype=dtype),
        )

    def check(self, q, k, v, tolerance=1e-5, **options) -> None:
        o, lse = tenon.attention(q, k, v, return_lse=True, **options)
        if "mask" in options and np.asarray(options["mask"]).dtype != bool:
            options["bias"] = options.pop("mask")
        expected, expected_lse = oracle.attention(q, k, v, **options)
        close(self, o, expected, tolerance)
        np.testing.assert_array_equal(np.isneginf(lse), np.isneginf(expected_lse))
        seen = np.isfinite(expected_lse)
        np.testing.assert_allclose(lse[seen], expected_lse[seen], rtol=tolerance, atol=tolerance)

    def test_plain_numbers_as_scales(self) -> None:
        for dtype in ("float32", "float64"):
            q, k, v = self.qkv(dtype=dtype)
            with self.subTest(dtype):
                o = tenon.attention(q, k, v, k_scale=0.5, v_scale=3)
                close(self, o, oracle.attention(q, 0.5 * k, 3 * v)[0])
        cache = np.zeros((1, 2, 4, 8), np.int8)
        rows = np.full((1, 2, 1, 8), 2, np.float32)
        tenon.kv_append(rows, rows, cache, cache.copy(), [1], k_scale=0.5, v_scale=1)
        np.testing.assert_array_equal(cache[:, :, 1], 4)

    def test_options(self) -> None:
        q, k, v = self.qkv()
        keep = self.rng.random((1, 1, 7, 11)) < 0.6
        keep[..., 3, :] = False  # a query that sees nothing
        for options in (
            {},
            {"scale": 0.5},
            {"causal": "top_left"},
            {"causal": "bottom_right"},
            {"window": (3, 1)},
            {"causal": "bottom_right", "window": (2, None)},
            {"mask": keep},
            {"mask": self.normal(2, 1, 7, 11)},
            {"mask": keep, "bias": self.normal(4, 1, 11)},
            {"alibi": np.float32([0.5, 0.25, 0.125, 0.0625]), "causal": "bottom_right"},
            {"softcap": 2.0},
            {"sinks": self.normal(4)},
            {"sinks": self.normal(4), "mask": keep},
        ):
            with self.subTest(**{name: np.shape(value) or value for name, value in options.items()}):
                self.check(q, k, v, **options)

    def test_types(self) -> None:
        for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5), ("float16", 3e-3)):
            with self.subTest(dtype):
                q, k, v = self.qkv(dtype=dtype)
                self.assertEqual(tenon.attention(q, k, v).dtype, dtype)
                self.check(q, k, v, tolerance)

    def test_layouts_are_views(self) -> None:
        packed = self.normal(2, 7, 3, 4, 16)  # batch, length, which, heads, d
        q, k, v = (packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        holder = np.full((2, 7, 4, 16), np.nan, np.float32)
        out = holder.transpose(0, 2, 1, 3)
        self.assertIs(tenon.attention(q, k, v, out=out), out)
        close(self, out, oracle.attention(q, k, v)[0])

    def test_nan_under_a_mask_stays_there(self) -> None:
        q, k, v = self.qkv()
        clean, _ = oracle.attention(q, k[:, :, :5], v[:, :, :5])
        k[:, :, 5:] = np.nan
        v[:, :, 5:] = np.nan
        close(self, tenon.attention(q, k, v, key_lengths=[5, 5]), clean)
        close(self, tenon.attention(q, k, v, mask=np.arange(11) < 5), clean)

    def test_key_lengths_and_offsets(self) -> None:
        q, k, v = self.qkv()
        lengths = np.array([11, 4], np.int32)
        o = tenon.attention(q, k, v, key_lengths=lengths, query_offsets=[4, 0], causal="bottom_right")
        for i, (length, offset) in enumerate(((11, 4), (4, 0))):
            keep = np.arange(length) <= np.arange(7)[:, None] + offset
            expected, _ = oracle.attention(q[i : i + 1], k[i : i + 1, :, :length], v[i : i + 1, :, :length], mask=keep)
            close(self, o[i : i + 1], expected)

    def test_ragged(self) -> None:
        lengths_q, lengths_k = [3, 0, 5, 1], [4, 2, 5, 9]
        cu_q, cu_k = ([sum(n[:i]) for i in range(5)] for n in (lengths_q, lengths_k))
        q, k, v = self.normal(1, 4, 9, 16), self.normal(1, 2, 20, 16), self.normal(1, 2, 20, 16)
        o = tenon.attention(q, k, v, cu_seqlens_q=cu_q, cu_seqlens_k=np.array(cu_k, np.int32), causal="bottom_right")
        for i in range(4):
            rows, keys = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1])
            expected, _ = oracle.attention(q[:, :, rows], k[:, :, keys], v[:, :, keys], causal="bottom_right")
            close(self, o[:, :, rows], expected)

    def test_paged(self) -> None:
        table = np.array([[4, 1, 0], [2, 5, 0]], np.int32)
        lengths = [11, 6]
        k, v = self.normal(6, 2, 4, 16), self.normal(6, 2, 4, 16)
        q = self.normal(2, 4, 1, 16)
        o = tenon.attention(q, k, v, key_lengths=lengths, block_table=table)
        for i, length in enumerate(lengths):
            own_k, own_v = (np.concatenate(list(x[table[i]]), axis=1)[None, :, :length] for x in (k, v))
            close(self, o[i : i + 1], oracle.attention(q[i : i + 1], own_k, own_v)[0])

    def test_merge(self) -> None:
        q, k, v = self.qkv()
        whole, whole_lse = oracle.attention(q, k, v)
        parts = [
            tenon.attention(q, k[:, :, part], v[:, :, part], return_lse=True)
            for part in (slice(0, 4), slice(4, 5), slice(5, 11))
        ]
        o, lse = tenon.attention_merge(*zip(*parts), return_lse=True)
        close(self, o, whole)
        close(self, lse, whole_lse)
        with self.assertRaises(ValueError):
            tenon.attention_merge([parts[0][0]], [])

    def test_kv_append(self) -> None:
        k, v = self.normal(2, 3, 2, 8), self.normal(2, 3, 2, 4)
        k_cache, v_cache = np.zeros((2, 3, 10, 8), np.float32), np.zeros((2, 3, 10, 4), np.float32)
        tenon.kv_append(k, v, k_cache, v_cache, [5, 0])
        np.testing.assert_array_equal(k_cache[0, :, 5:7], k[0])
        np.testing.assert_array_equal(v_cache[1, :, 0:2], v[1])
        self.assertEqual(np.count_nonzero(k_cache), k.size)
        before = k_cache.copy()
        with self.assertRaises(tenon.InvalidArgument):
            tenon.kv_append(k, v, k_cache, v_cache, [9, 0])
        np.testing.assert_array_equal(k_cache, before)

    def test_decode_bits_do_not_depend_on_the_batch(self) -> None:
        q, k, v = self.qkv(batch=3, queries=40, keys=300)
        whole = tenon.attention(q, k, v)
        one = tenon.attention(q[1:2, :, 17:18], k[1:2], v[1:2])
        np.testing.assert_array_equal(one, whole[1:2, :, 17:18])

    def test_plan(self) -> None:
        q, k, v = self.qkv()
        with tenon.Context() as ctx:
            plan = ctx.plan_attention(q, k, v, key_lengths=[11, 11])
            close(self, plan.run(), oracle.attention(q, k, v)[0])
            shorter = plan.run(key_lengths=[3, 3])  # lengths are data: the same plan
            close(self, shorter, oracle.attention(q, k[:, :, :3], v[:, :, :3])[0])


if __name__ == "__main__":
    unittest.main()
