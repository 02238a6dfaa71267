# SPDX-License-Identifier: Apache-2.0
"""Block types against the gguf package, bit for bit: what it decodes, and what it encodes. Encoders of tenon's own against the obvious ones."""

from __future__ import annotations

import unittest

import numpy as np
import tenon

import optional

gguf = optional.load("gguf", "gguf.quants")

TYPES = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "iq4_nl", "mxfp4", "nvfp4")
OWN = ("q4_k", "q5_k", "q6_k", "iq4_nl", "nvfp4")  # the package decodes these, it does not encode them
ELEMENTS = {"q4_k": 256, "q5_k": 256, "q6_k": 256, "nvfp4": 64}


def block_bytes(name: str) -> int:
    return tenon.as_tensor(np.zeros(0, np.uint8), name).itemsize


def theirs(name: str):
    return getattr(gguf.GGMLQuantizationType, name.upper())


def numbers(rng: np.random.Generator, rows: int, n: int) -> np.ndarray:
    """Normal, uniform and lone numbers of many sizes; rows of zeros, of one value, of small integers, and ramps."""
    x = rng.standard_normal((rows, n)) * np.exp2(rng.integers(-12, 9, (rows, 1)))
    x[1::7] = rng.uniform(-1, 1, x[1::7].shape)
    x[2::7] *= rng.random(x[2::7].shape) < 0.05
    x[3::7] = rng.integers(-9, 10, x[3::7].shape)
    x[4] = 0
    x[11] = 1.5
    x[18] = -1.5
    x[25] = np.linspace(-2, 2, n)
    return x.astype(np.float32) + 0  # of +0 and -0 NumPy's min and max take either


def squared_error(name: str, blocks: np.ndarray, x: np.ndarray) -> float:
    """Relative, the mean over rows."""
    e = ((decoded(name, blocks) - x) ** 2).sum(-1) / np.maximum((x.astype(np.float64) ** 2).sum(-1), 1e-30)
    return float(np.sqrt(e).mean())


def decoded(name: str, blocks: np.ndarray) -> np.ndarray:
    return tenon.dequantize(tenon.as_tensor(blocks, name))


# --- the obvious encoders ------------------------------------------------------------------------------------------


def half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).view(np.uint8)


def obvious_k(x: np.ndarray, most: int) -> np.ndarray:
    """Q4_K and Q5_K: each run from its least element, or 0, to its greatest in equal steps."""
    runs = x.reshape(-1, 8, 32).astype(np.float64)
    low, high = np.minimum(runs.min(-1), 0), np.maximum(runs.max(-1), 0)
    scale, minimum = (high - low) / most, -low
    d = (scale.max(-1, keepdims=True) / 63).astype(np.float16)
    dmin = (minimum.max(-1, keepdims=True) / 63).astype(np.float16)
    with np.errstate(all="ignore"):
        sc = np.nan_to_num(np.round(scale / d)).clip(0, 63).astype(np.uint8)
        mn = np.nan_to_num(np.round(minimum / dmin)).clip(0, 63).astype(np.uint8)
        step, least = (d * sc.astype(np.float64))[..., None], (dmin * mn.astype(np.float64))[..., None]
        q = np.nan_to_num(np.round((runs + least) / step)).clip(0, most).astype(np.uint8)
    packed = np.zeros((len(runs), 12), np.uint8)
    packed[:, :4] = sc[:, :4] | (sc[:, 4:] >> 4 << 6)
    packed[:, 4:8] = mn[:, :4] | (mn[:, 4:] >> 4 << 6)
    packed[:, 8:] = (sc[:, 4:] & 15) | ((mn[:, 4:] & 15) << 4)
    pairs = (q & 15).reshape(-1, 4, 2, 32)
    parts = [half(d), half(dmin), packed]
    if most == 31:
        parts.append(np.packbits(q >> 4, axis=1, bitorder="little").reshape(-1, 32))
    return np.concatenate([*parts, (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)], axis=-1)


def obvious(name: str, x: np.ndarray) -> np.ndarray:
    """Blocks with scales that take the largest element to the end of the codes."""
    if name in ("q4_k", "q5_k"):
        return obvious_k(x, 15 if name == "q4_k" else 31)
    if name == "q6_k":
        runs = x.reshape(-1, 16, 16).astype(np.float64)
        scale = np.abs(runs).max(-1) / 31
        d = (scale.max(-1, keepdims=True) / 127).astype(np.float16)
        with np.errstate(all="ignore"):
            sc = np.nan_to_num(np.round(scale / d)).clip(0, 127).astype(np.int8)
            q = np.nan_to_num(np.round(runs / (d * sc.astype(np.float64))[..., None])).clip(-32, 31).astype(np.int64) + 32
        q = q.reshape(-1, 2, 4, 32)
        low, high = q & 15, q >> 4
        ql = np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], axis=-1)
        qh = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
        bytes_ = [ql.reshape(-1, 128).astype(np.uint8), qh.reshape(-1, 64).astype(np.uint8), sc.view(np.uint8), half(d)]
        return np.concatenate(bytes_, axis=-1)
    if name == "iq4_nl":
        runs = x.reshape(-1, 1, 32).astype(np.float64)
        d = (np.abs(runs).max(-1) / 113).astype(np.float16)
        table = np.array(gguf.quants.IQ4_NL.kvalues)
        q = np.abs(d[..., None, None] * table.astype(np.float64) - runs[..., None]).argmin(-1).astype(np.uint8)
        return np.concatenate([half(d), q[:, 0, :16] | q[:, 0, 16:] << 4], axis=-1)
    runs = x.reshape(-1, 4, 16).astype(np.float32)
    d = gguf.quants.NVFP4.fp32_to_ue4m3(np.abs(runs).max(-1) / 6)
    table = np.array(gguf.quants.NVFP4.kvalues)
    step = gguf.quants.NVFP4.ue4m3_to_fp32(d)[..., None, None]
    q = np.abs(step * table - runs[..., None]).argmin(-1).astype(np.uint8)
    return np.concatenate([d, (q[:, :, :8] | q[:, :, 8:] << 4).reshape(-1, 32)], axis=-1)


# --- the tests -----------------------------------------------------------------------------------------------------


@unittest.skipUnless(gguf, "no gguf package")
class AgainstGguf(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = np.random.default_rng(5)

    def same(self, given: np.ndarray, expected: np.ndarray) -> None:
        """The same bits; a NaN is as good as another."""
        self.assertEqual(given.dtype, expected.dtype)
        different = (given.view(np.uint32) != expected.view(np.uint32)) & ~(np.isnan(given) & np.isnan(expected))
        self.assertEqual(np.count_nonzero(different), 0)

    def test_decodes_any_bytes(self) -> None:
        for name in TYPES:
            with self.subTest(name), np.errstate(all="ignore"):
                raw = self.rng.integers(0, 256, (700, 3 * block_bytes(name)), dtype=np.uint8)
                expected = gguf.quants.dequantize(raw, theirs(name))
                self.same(decoded(name, raw), expected)
                wrong = raw.copy()
                wrong[0, -1] ^= 0x10  # the comparison can fail
                self.assertTrue((decoded(name, wrong) != expected).any())

    def test_decodes_every_scale(self) -> None:
        for name, where in (("q8_0", 0), ("q4_1", 2), ("q5_1", 0), ("q4_k", 2), ("q6_k", 208), ("iq4_nl", 0)):
            with self.subTest(name), np.errstate(all="ignore"):
                raw = np.tile(self.rng.integers(0, 256, block_bytes(name), dtype=np.uint8), (65536, 1))
                raw[:, where : where + 2] = np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
                self.same(decoded(name, raw), gguf.quants.dequantize(raw, theirs(name)))
        for name in ("mxfp4", "nvfp4"):
            with self.subTest(name), np.errstate(all="ignore"):
                raw = np.tile(self.rng.integers(0, 256, block_bytes(name), dtype=np.uint8), (256, 1))
                raw[:, 0] = np.arange(256)
                self.same(decoded(name, raw), gguf.quants.dequantize(raw, theirs(name)))

    def test_encodes(self) -> None:
        for name in TYPES:
            if name in OWN:
                continue
            with self.subTest(name):
                x = numbers(self.rng, 500, 256)
                blocks = tenon.quantize(x, name)
                np.testing.assert_array_equal(blocks.owner, gguf.quants.quantize(x, theirs(name)))
                short = (x / 8).astype(np.float16)
                expected = gguf.quants.quantize(short.astype(np.float32), theirs(name))
                np.testing.assert_array_equal(tenon.quantize(short, name).owner, expected)

    def test_own_encoders_beat_the_obvious_ones(self) -> None:
        """Normal numbers, uniform ones, and such with outliers: the search is better in the mean, each time."""
        for name in OWN:
            n = 4 * ELEMENTS.get(name, 32)
            normal = self.rng.standard_normal((200, n)).astype(np.float32)
            for kind, x in (
                ("normal", normal),
                ("uniform", self.rng.uniform(-1, 1, (200, n)).astype(np.float32)),
                ("positive", np.abs(normal)),
                ("outliers", (normal * np.where(self.rng.random((200, n)) < 0.01, 8, 1)).astype(np.float32)),
            ):
                with self.subTest(name, kind=kind):
                    plain = obvious(name, x).reshape(200, -1)
                    self.same(decoded(name, plain), gguf.quants.dequantize(plain, theirs(name)))
                    mine = squared_error(name, np.asarray(tenon.quantize(x, name).owner), x)
                    self.assertLess(mine, squared_error(name, plain, x) * 1.001)


class Blocks(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = np.random.default_rng(6)

    def test_views(self) -> None:
        raw = np.zeros((4, 6, 3 * 18), np.uint8)
        t = tenon.as_tensor(raw, "q4_0")
        self.assertEqual((t.dtype, t.shape, t.strides), ("q4_0", (4, 6, 96), (576, 96, 1)))
        self.assertEqual(tenon.as_tensor(raw[::-2, 1:, 18:], "q4_0").strides, (-1152, 96, 1))
        self.assertEqual(t.mT.shape, (4, 96, 6))
        for bad, error in ((raw[..., 1:], ValueError), (raw[..., ::2], ValueError), (raw.view(np.int8), TypeError)):
            self.assertRaises(error, tenon.as_tensor, bad, "q4_0")
        self.assertRaises(ValueError, tenon.as_tensor, np.zeros((4, 55), np.uint8)[:, :54], "q4_0")
        self.assertRaises(TypeError, tenon.as_tensor, t, "u8")
        self.assertRaises(ValueError, tenon.quantize, np.zeros((3, 33), np.float32), "q4_0")
        wide = np.zeros((3, 32), np.float32)
        self.assertRaises(TypeError, tenon.quantize, wide, "q8_0", out=tenon.quantize(wide, "q4_0"))
        self.assertEqual(tenon.quantize(wide[:0], "q4_0").shape, (0, 32))
        self.assertRaises(ValueError, tenon.quantize, np.zeros((3, 32), np.float32), "f16")
        self.assertRaises(ValueError, tenon.softmax, np.zeros((3, 32), np.float32), dtype="q4_0")

    def test_there_and_back(self) -> None:
        x = self.rng.standard_normal((3, 5, 256)).astype(np.float32)
        for name in TYPES:
            with self.subTest(name):
                blocks = tenon.quantize(x, name)
                self.assertEqual((blocks.shape, blocks.dtype), (x.shape, name))
                back = tenon.dequantize(blocks)
                self.assertLess(np.abs(back - x).max() / np.abs(x).max(), 0.2)
                np.testing.assert_array_equal(tenon.dequantize(blocks, dtype="f16"), back.astype(np.float16))
                turned = np.empty((5, 3, 256), np.float32)
                tenon.dequantize(blocks, out=turned.swapaxes(0, 1))
                np.testing.assert_array_equal(turned.swapaxes(0, 1), back)
                raw = np.zeros_like(blocks.owner)
                tenon.quantize(x[:, ::-1], out=tenon.as_tensor(raw, name))
                np.testing.assert_array_equal(raw[:, ::-1], blocks.owner)

    def test_products(self) -> None:
        a = self.rng.standard_normal((3, 512)).astype(np.float32)
        w = self.rng.standard_normal((7, 512)).astype(np.float32)
        with tenon.Context("cpu,reference") as ctx:
            for name in TYPES:
                with self.subTest(name):
                    blocks = tenon.quantize(w, name)
                    exact = a.astype(np.float64) @ tenon.dequantize(blocks).T
                    size = np.abs(a) @ np.abs(w).T
                    self.assertLess((np.abs(ctx.matmul(a, blocks.mT) - exact) / size).max(), 1e-5)
                    fast = ctx.matmul(a, blocks.mT, compute="fast")
                    self.assertLess((np.abs(fast - exact) / size).max(), 0.02)

    def test_caches(self) -> None:
        """Appended rows are quantize's blocks, and attention reads them as their elements."""
        q = self.rng.standard_normal((2, 8, 3, 64)).astype(np.float32)
        k, v = (self.rng.standard_normal((2, 2, 40, n)).astype(np.float32) for n in (64, 96))
        for name in ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4"):
            with self.subTest(name):
                caches = [tenon.quantize(np.zeros_like(x), name) for x in (k, v)]
                tenon.kv_append(k[:, :, :25], v[:, :, :25], *caches, np.zeros(2, np.int32))
                tenon.kv_append(k[:, :, 25:], v[:, :, 25:], *caches, np.full(2, 25, np.int32))
                for x, cache in zip((k, v), caches):
                    np.testing.assert_array_equal(cache.owner, tenon.quantize(x, name).owner)
                plain = tenon.attention(q, tenon.dequantize(caches[0]), tenon.dequantize(caches[1]), causal="bottom_right")
                np.testing.assert_array_equal(tenon.attention(q, *caches, causal="bottom_right"), plain)
        self.assertRaisesRegex(tenon.InvalidArgument, "k.dtype is q4_k", tenon.attention, np.zeros((1, 1, 1, 256), np.float32),
                               *2 * [tenon.quantize(np.zeros((1, 1, 1, 256), np.float32), "q4_k")])

    def test_groups(self) -> None:
        """GPTQ and AWQ as AutoGPTQ and AutoAWQ pack them, by a packing of our own, column by column."""
        k, n, groups = 192, 40, 3
        for layout, bits, dtype in (("gptq", 4, "q4_0"), ("gptq", 4, "q4_1"), ("gptq_v2", 4, "q4_1"), ("gptq", 8, "q8_0"),
                                    ("gptq_v2", 8, "q8_0"), ("awq", 4, "q4_0"), ("awq", 4, "q4_1")):
            for sorted_by in (None, self.rng.permutation(np.repeat(np.arange(groups), k // groups)).astype(np.int32)):
                with self.subTest(layout=layout, dtype=dtype, act_order=sorted_by is not None):
                    q = self.rng.integers(0, 1 << bits, (k, n))
                    z = self.rng.integers(1, 16, (groups, n)) if dtype == "q4_1" else np.full((groups, n), 1 << (bits - 1))
                    scales = self.rng.uniform(0.001, 0.1, (groups, n)).astype(np.float16)
                    g = np.arange(k) // (k // groups) if sorted_by is None else sorted_by
                    weights = scales.astype(np.float32)[g] * (q - z[g]).astype(np.float32)
                    stored = z - 1 if layout == "gptq" else z
                    places = [0, 2, 4, 6, 1, 3, 5, 7] if layout == "awq" else list(range(32 // bits))

                    def along_columns(x: np.ndarray) -> np.ndarray:
                        words = x.reshape(len(x), -1, len(places)).astype(np.uint32)
                        return sum(words[:, :, c] << np.uint32(i * bits) for i, c in enumerate(places)).astype(np.uint32).view(np.int32)

                    packed = along_columns(q) if layout == "awq" else np.ascontiguousarray(along_columns(q.T).T)
                    made = tenon.blocks_from_groups(packed, along_columns(stored), scales, sorted_by, layout=layout, bits=bits, dtype=dtype)
                    blocks, order = made if sorted_by is not None else (made, np.arange(k))
                    self.assertEqual(sorted(order), list(range(k)))
                    self.assertTrue((np.diff(g[order]) >= 0).all())
                    found = tenon.dequantize(blocks).T
                    # In q4_1 scale * zero is rounded to f16.
                    allowed = (2.0**-11 if dtype == "q4_1" else 0) * (scales.astype(np.float64) * z)[g]
                    self.assertTrue((np.abs(found - weights[order]) <= allowed[order]).all())
                    a = self.rng.standard_normal((3, k)).astype(np.float32)
                    error = np.abs(tenon.matmul(a[:, order], blocks.mT) - a.astype(np.float64) @ weights)
                    self.assertTrue((error <= np.abs(a) @ (allowed + 1e-5 * np.abs(weights))).all())

    def test_groups_refusals(self) -> None:
        words, zeros, scales = np.zeros((8, 16), np.int32), np.full((2, 2), 0x77777777, np.int32), np.ones((2, 16), np.float32)
        blocks = tenon.blocks_from_groups(words, zeros, scales)
        self.assertEqual(tenon.dequantize(blocks)[0, 0], -8)
        for wrong, text in (
            (dict(qzeros=np.where(np.eye(2), zeros, 0x77777767)), r"qzeros\[0, 1\] has a zero point of 7 for column 9, expected 8"),
            (dict(scales=np.full((2, 16), 1e6, np.float32)), r"scales\[0, 0\] is 1e\+06"),
            (dict(scales=np.ones((3, 16), np.float32), qzeros=np.full((3, 2), 0x77777777, np.int32)), r"scales.shape\[0\] is 3"),
            (dict(bits=8), "y.dtype is q4_0, expected q8_0"),
            (dict(layout="awq", bits=8, dtype="q8_0", qweight=np.zeros((64, 4), np.int32)), "bits is 8, expected 4 in AWQ"),
            (dict(group_index=np.repeat([0, 2], 32)), r"group_index\[32\] is 2, expected 0 to 1"),
            (dict(group_index=np.arange(64) // 33), "33 rows of group 0"),
            (dict(qweight=words.astype(np.float32)), "qweight.dtype"),
            (dict(qzeros=zeros[:1]), "qzeros.shape"),
        ):
            with self.subTest(text):
                given = dict(qweight=words, qzeros=zeros, scales=scales) | wrong
                self.assertRaisesRegex(tenon.InvalidArgument, text, tenon.blocks_from_groups, **given)

    def test_check(self) -> None:
        raw = np.asarray(tenon.quantize(np.ones((4, 64), np.float32), "q8_0").owner)
        tenon.check_blocks(tenon.as_tensor(raw, "q8_0"))
        raw[2, 34:36] = 0xFF, 0x7F
        with self.assertRaisesRegex(tenon.InvalidArgument, "block 5 of q8_0 has a scale d of 0x7fff"):
            tenon.check_blocks(tenon.as_tensor(raw, "q8_0"))
        self.assertRaisesRegex(tenon.InvalidArgument, "f32", tenon.check_blocks, np.zeros(3, np.float32))


if __name__ == "__main__":
    unittest.main()
