# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2 on tenon: every matrix product and the attention of the whole ragged batch.

A layer is five calls. The linear layers see the tokens of all sentences as the rows of one matrix; bias, GELU and
residual are done by the product that makes their input. Attention reads q, k and v where the first product left
them, as strided views, and the offsets of the sentences keep them apart: no padding, no copy. The weights are packed
once, into the layout that the kernels want, on devices that have one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

import numpy as np
import tenon

from weights import Batch, Weights, embed, in_batches, layer_norm, make_batch, mean_pool

# Tokens in a batch. From 1024 to 4096 the sample text takes about as long (main.py --batch); below, calls begin to cost.
BATCH_TOKENS = 2048


def packed(context: tenon.Context, weight: np.ndarray) -> tenon.PackedMatrix | np.ndarray:
    try:
        return context.pack(weight)
    except tenon.Unsupported:
        return weight


class TenonEncoder:
    def __init__(self, weights: Weights, context: tenon.Context, batch_tokens: int = BATCH_TOKENS) -> None:
        self._w = weights
        self._layers = [
            replace(
                layer,
                qkv=packed(context, layer.qkv),
                out=packed(context, layer.out),
                up=packed(context, layer.up),
                down=packed(context, layer.down),
            )
            for layer in weights.layers
        ]
        self._ctx = context
        self._batch_tokens = batch_tokens

    def encode(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings of length 1 for sentences given as token ids: (sentences, width)."""
        out = np.empty((len(tokens), self._w.width), np.float32)
        for indices in in_batches(tokens, self._batch_tokens):
            out[indices] = self._forward(make_batch([tokens[i] for i in indices]))
        return out

    def _forward(self, batch: Batch) -> np.ndarray:
        w, ctx = self._w, self._ctx
        rows, head_dim = len(batch.ids), w.width // w.heads
        x = embed(w, batch)
        y = np.empty_like(x)
        mixed = np.empty_like(x)
        qkv = np.empty((rows, 3 * w.width), np.float32)
        hidden = np.empty((rows, self._layers[0].up.shape[1]), np.float32)

        # (rows, 3, heads, head_dim) seen as three of (1, heads, rows, head_dim), attention's own order.
        q, k, v = qkv.reshape(rows, 3, w.heads, head_dim).transpose(1, 2, 0, 3)[:, None]
        o = mixed.reshape(rows, w.heads, head_dim).transpose(1, 0, 2)[None]

        for layer in self._layers:
            ctx.matmul(x, layer.qkv, bias=layer.qkv_bias, out=qkv)
            ctx.attention(q, k, v, cu_seqlens_q=batch.offsets, cu_seqlens_k=batch.offsets, out=o)
            ctx.matmul(mixed, layer.out, bias=layer.out_bias, residual=x, out=y)
            x, y = layer_norm(y, layer.norm1, w.eps), x
            ctx.matmul(x, layer.up, bias=layer.up_bias, activation="gelu", out=hidden)
            ctx.matmul(hidden, layer.down, bias=layer.down_bias, residual=x, out=y)
            x, y = layer_norm(y, layer.norm2, w.eps), x
        return mean_pool(x, batch)
