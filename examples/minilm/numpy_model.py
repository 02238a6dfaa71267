# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2 in plain NumPy: what the example is measured against.

As fast as NumPy goes here without another package: the linear layers see all tokens of a batch at once (as in the
tenon version), attention runs over groups of sentences of equal length (no padding, few Python steps, BLAS on every
product), element-wise work is done in place.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from weights import Batch, Weights, embed, in_batches, layer_norm, make_batch, mean_pool

# Tokens in a batch: the fastest of 128, 256, 512, 1024, 2048, 4096 and all at once for the sample text (main.py --batch).
BATCH_TOKENS = 2048


class NumpyEncoder:
    def __init__(self, weights: Weights, batch_tokens: int = BATCH_TOKENS) -> None:
        self._w = weights
        self._batch_tokens = batch_tokens

    def encode(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings of length 1 for sentences given as token ids: (sentences, width)."""
        out = np.empty((len(tokens), self._w.width), np.float32)
        for indices in in_batches(tokens, self._batch_tokens):
            out[indices] = self._forward(make_batch([tokens[i] for i in indices]))
        return out

    def _forward(self, batch: Batch) -> np.ndarray:
        w = self._w
        x = embed(w, batch)
        for layer in w.layers:
            qkv = x @ layer.qkv
            qkv += layer.qkv_bias
            y = self._attention(qkv, batch) @ layer.out
            y += layer.out_bias
            y += x
            x = layer_norm(y, layer.norm1, w.eps)
            h = x @ layer.up
            h += layer.up_bias
            y = gelu(h) @ layer.down
            y += layer.down_bias
            y += x
            x = layer_norm(y, layer.norm2, w.eps)
        return mean_pool(x, batch)

    def _attention(self, qkv: np.ndarray, batch: Batch) -> np.ndarray:
        w = self._w
        head_dim = w.width // w.heads
        lengths = np.diff(batch.offsets)
        out = np.empty((len(qkv), w.width), np.float32)
        first = 0
        while first < len(lengths):
            last = first
            while last < len(lengths) and lengths[last] == lengths[first]:
                last += 1
            rows = slice(batch.offsets[first], batch.offsets[last])
            # (sentences, length, 3, heads, head_dim) -> three of (sentences, heads, length, head_dim)
            group = qkv[rows].reshape(last - first, lengths[first], 3, w.heads, head_dim)
            q, k, v = (group[:, :, i].swapaxes(1, 2) for i in range(3))
            s = q @ k.swapaxes(2, 3)
            s *= np.float32(head_dim**-0.5)
            s -= s.max(axis=-1, keepdims=True)
            np.exp(s, out=s)
            s /= s.sum(axis=-1, keepdims=True)
            o = out[rows].reshape(last - first, lengths[first], w.heads, head_dim)
            o[...] = (s @ v).swapaxes(1, 2)
            first = last
        return out


def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x), in place, in pieces that stay in the cache.

    NumPy has no erf: Abramowitz and Stegun 7.1.26, |error| <= 1.5e-7, which for z >= 0 is
    erfc(z) = t (a1 + t (a2 + t (a3 + t (a4 + t a5)))) exp(-z^2) with t = 1 / (1 + p z).
    """
    flat = x.reshape(-1)
    for i in range(0, flat.size, 16384):
        piece = flat[i : i + 16384]
        z = np.abs(piece) * np.float32(0.5**0.5)
        t = 1 / (1 + np.float32(0.3275911) * z)
        p = t * np.float32(1.061405429)
        for a in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            p += np.float32(a)
            p *= t
        z *= z
        p *= np.exp(-z)
        # Phi(x) = erfc(z) / 2 for x < 0 and 1 - erfc(z) / 2 above; x Phi(x) = max(x, 0) - |x| erfc(z) / 2.
        p *= np.abs(piece)
        p *= np.float32(0.5)
        np.maximum(piece, 0, out=piece)
        piece -= p
    return x
