# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings with all-MiniLM-L6-v2: similarities, a search, and the speed beside NumPy.

    python main.py                                  the sample text of this folder
    python main.py "a sentence" "another one"       similarities of these
    python main.py --file notes.txt --query "what to look for"

See README.md of this folder for what has to be installed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
import tenon

from model import TenonEncoder
from numpy_model import NumpyEncoder
from weights import Tokens, load_weights

SAMPLE = Path(__file__).with_name("sample.txt")
QUERIES = (
    "What should I do if I run out of memory?",
    "pets that are resting",
    "Why do results change with the order of summation?",
    "trouble on the railway",
)
# Compared with each other when the sample text is used: one sentence and its relatives near and far.
COMPARED = (
    "The cat is sleeping on the sofa.",
    "The cat slept on the windowsill with one paw over its eyes.",
    "A kitten was playing with a ball of wool on the floor.",
    "Our dog barks at the postman but never at strangers.",
    "Die Katze schläft auf dem Sofa.",
    "Le chat dort sur le canapé.",
    "Shares fell sharply after the director resigned.",
)
# The model was trained with a softmax over cosine similarities times this (its model card).
TRAINED_SCALE = 20.0


def read_sentences(path: Path) -> list[str]:
    """The lines of a text file; empty lines and lines that begin with # are left out."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def shorten(text: str, width: int = 62) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def print_similarities(ctx: tenon.Context, sentences: Sequence[str], e: np.ndarray) -> None:
    print("\nSimilarity (cosine):")
    similarity = ctx.matmul(e, e.T)
    print("     " + "".join(f"{j + 1:6d}" for j in range(len(sentences))))
    for i, sentence in enumerate(sentences):
        print(f"{i + 1:4d} " + "".join(f"{s:6.2f}" for s in similarity[i]) + "  " + shorten(sentence))


def print_search(ctx: tenon.Context, query: str, q: np.ndarray, sentences: Sequence[str], e: np.ndarray) -> None:
    """The three best matches: cosine, and the softmax over all sentences that the model was trained with."""
    scores = ctx.matmul(q[None], e.T)
    shares = ctx.softmax(scores, scale=TRAINED_SCALE)
    print(f"\nSearch: {query}")
    for i in np.argsort(-scores[0], kind="stable")[:3]:
        print(f"  {scores[0, i]:5.2f}  {shares[0, i]:6.1%}  {sentences[i]}")


def time_alternating(runs: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Times of each, called in turn so that a change of the machine's speed meets them all."""
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or time.perf_counter() < end:
        for run, t in zip(runs, times):
            start = time.perf_counter()
            run()
            t.append(time.perf_counter() - start)
    return times


def print_speed(sentences: Sequence[str], encoders: dict[str, Callable[[], object]], seconds: float) -> None:
    print(f"\nSpeed, {len(sentences)} sentences, tokenizer and loading left out, run in turn:")
    times = time_alternating(list(encoders.values()), seconds)
    medians = [statistics.median(t) for t in times]
    for name, t, median in zip(encoders, times, medians):
        spread = (max(t) - min(t)) / median
        print(f"  {name:8s}{len(sentences) / median:8.0f} sentences/s   median of {len(t)}, spread {spread:.0%}")
    print(f"  tenon is {medians[1] / medians[0]:.2f} x NumPy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentences", nargs="*", help="sentences to compare; default: the sample text")
    parser.add_argument("--file", type=Path, help="a text file, one sentence per line")
    parser.add_argument("--query", action="append", help="what to search for (may be repeated)")
    parser.add_argument("--device", help="as in tenon.Context; default: auto")
    parser.add_argument("--threads", type=int, default=0, help="threads of tenon; default: all cores")
    parser.add_argument("--batch", type=int, help="tokens per batch, of both encoders")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to measure; 0: not at all")
    args = parser.parse_args()

    sentences = list(args.sentences)
    if args.file or not sentences:
        sentences += read_sentences(args.file or SAMPLE)
    sample = not args.sentences and not args.file
    queries = args.query or (list(QUERIES) if sample else [])

    weights, tokenizer = load_weights(), Tokens()
    tokens = tokenizer.encode(sentences)
    batch = {"batch_tokens": args.batch} if args.batch else {}
    with tenon.Context(device=args.device, threads=args.threads) as ctx:
        encoder = TenonEncoder(weights, ctx, **batch)
        embeddings = encoder.encode(tokens)
        print(f"{len(sentences)} sentences, {sum(map(len, tokens))} tokens, on {ctx.device}")

        compared = [s for s in COMPARED if s in sentences] if sample else sentences[:12]
        print_similarities(ctx, compared, embeddings[[sentences.index(s) for s in compared]])
        for query, q in zip(queries, encoder.encode(tokenizer.encode(queries)) if queries else []):
            print_search(ctx, query, q, sentences, embeddings)

        peer = NumpyEncoder(weights, **batch)
        difference = np.abs(embeddings - peer.encode(tokens)).max()
        print(f"\nLargest difference from NumPy's embeddings: {difference:.1e}")
        if args.seconds > 0:
            runs = {"tenon": lambda: encoder.encode(tokens), "NumPy": lambda: peer.encode(tokens)}
            print_speed(sentences, runs, args.seconds)


if __name__ == "__main__":
    main()
