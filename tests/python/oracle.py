# SPDX-License-Identifier: Apache-2.0
"""The operations once more in NumPy and float64, as plainly as can be: what the Python tests compare with."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x / 2 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def f64(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)


def masked_softmax(
    s: np.ndarray, keep: np.ndarray, sinks: Optional[np.ndarray] = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the last axis and their log-sum-exp; `sinks` broadcasts to s without its last axis."""
    s = np.where(keep, s, -np.inf)
    sink = np.full(s.shape[:-1], -np.inf) if sinks is None else np.broadcast_to(sinks, s.shape[:-1])
    top = np.maximum(s.max(axis=-1, initial=-np.inf), sink)
    safe = np.where(np.isneginf(top), 0, top)
    e = np.exp(s - safe[..., None])
    total = e.sum(axis=-1) + np.exp(sink - safe)
    with np.errstate(divide="ignore"):
        return e / np.where(total == 0, 1, total)[..., None], np.log(total) + safe


def keep_matrix(queries: int, keys: int, causal: Optional[str], window: Optional[tuple[Any, Any]]) -> np.ndarray:
    """Which key each query may see."""
    offset = 0 if causal == "top_left" else keys - queries
    position = np.arange(queries)[:, None] + offset
    key = np.arange(keys)[None]
    keep = np.ones((queries, keys), bool)
    if causal:
        keep &= key <= position
    if window:
        left, right = window
        if left is not None:
            keep &= key >= position - left
        if right is not None:
            keep &= key <= position + right
    return keep


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    scale: Optional[float] = None,
    causal: Optional[str] = None,
    window: Optional[tuple[Any, Any]] = None,
    mask: Any = None,
    bias: Any = 0.0,
    alibi: Any = None,
    softcap: float = 0.0,
    sinks: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """o and lse; masks, bias broadcast to (batch, heads, queries, keys)."""
    q, k, v = f64(q), f64(k), f64(v)
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    s = q @ k.swapaxes(2, 3) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        s = softcap * np.tanh(s / softcap)
    queries, keys = s.shape[-2:]
    if alibi is not None:
        offset = 0 if causal == "top_left" else keys - queries
        distance = np.abs(np.arange(queries)[:, None] + offset - np.arange(keys))
        s = s - f64(alibi)[..., None, None] * distance
    s = s + f64(bias)
    keep = np.broadcast_to(keep_matrix(queries, keys, causal, window), s.shape)
    if mask is not None:
        keep = keep & np.asarray(mask, bool)
    keep = keep & ~np.isneginf(s)
    p, lse = masked_softmax(s, keep, None if sinks is None else f64(sinks)[:, None])
    return p @ np.where(np.isnan(v), 0, v), lse
