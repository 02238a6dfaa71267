# SPDX-License-Identifier: Apache-2.0
"""NumPy with the overlay preloaded: that its products reach it, that they are tenon's to the bit, and NumPy's own tests of linear algebra.

usage: numpy_test.py OVERLAY WRONG_OVERLAY (the second one's products are wrong: NumPy's own tests must find it)

NumPy's own tests want pytest and hypothesis; without, they are skipped, unless TENON_REQUIRE names pytest.
"""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np

OVERLAY, WRONG = sys.argv.pop(1), sys.argv.pop(1)
REQUIRED = os.environ.get("TENON_REQUIRE", "").split(",")

# What is run inside: every layout and type in which NumPy calls GEMM and GEMV, and the same by tenon's own binding.
PRODUCTS = """
import numpy as np, tenon
rng = np.random.default_rng(20240229)
count = 0
for dtype in (np.float32, np.float64):
    for m, n, k in ((4, 5, 6), (64, 64, 64), (1, 300, 700), (130, 1, 513), (90, 200, 300)):
        for turned in range(4):
            a = rng.standard_normal((k, m) if turned & 1 else (m, k)).astype(dtype)
            b = rng.standard_normal((n, k) if turned & 2 else (k, n)).astype(dtype)
            a, b = a.T if turned & 1 else a, b.T if turned & 2 else b
            assert (a @ b).tobytes() == tenon.matmul(a, b).tobytes(), (dtype, m, n, k, turned)
            if m == 1:
                continue  # NumPy: a dot product, which is not the overlay's
            assert (a @ b[:, 0]).tobytes() == tenon.matmul(a, b[:, :1]).tobytes(), (dtype, m, n, k, turned, "vector")
            count += 1
print(count, "products")
"""

# Takes about a minute on two cores that have nothing else to do.
LINALG = ["linalg/tests/test_linalg.py", "linalg/tests/test_regression.py"]
MATMUL = ["_core/tests/test_multiarray.py::Test" + name for name in ("Vdot", "Dot", "Matmul", "MatmulOperator", "MatmulInplace", "Inner")]
MATMUL += ["_core/tests/test_numeric.py::TestTensordot"]


def preloaded(arguments: list[str], overlay: str = OVERLAY, **more: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, LD_PRELOAD=overlay, **more)
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=800)


class Preloaded(unittest.TestCase):
    def test_products_are_tenons(self) -> None:
        done = preloaded(["-c", PRODUCTS])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("32 products", done.stdout)

    def test_a_wrong_overlay_is_noticed(self) -> None:
        self.assertNotEqual(preloaded(["-c", PRODUCTS], WRONG).returncode, 0)

    def test_what_is_bound(self) -> None:
        """Every name of the overlay that NumPy calls goes there."""
        done = preloaded(["-c", PRODUCTS], LD_DEBUG="bindings")
        found = re.findall(r"binding file \S*_multiarray_umath\S* \[0\] to (\S+) .*symbol `(\S*?([sd]gem[mv])\S*)'", done.stderr)
        self.assertEqual({routine for _, _, routine in found}, {"sgemm", "dgemm", "sgemv", "dgemv"})
        self.assertEqual({path for path, _, _ in found}, {OVERLAY})


class Own(unittest.TestCase):
    """NumPy's own tests."""

    def setUp(self) -> None:
        missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
        if missing and "pytest" not in REQUIRED:
            self.skipTest(f"not installed: {missing}")

    def run_tests(self, what: list[str], overlay: str = OVERLAY) -> subprocess.CompletedProcess[str]:
        folder = Path(np.__file__).parent
        quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "--tb=short", "-k", "not huge"]  # huge: vectors of 16 GB
        return preloaded(["-m", "pytest", *quiet, *(str(folder / name) for name in what)], overlay)

    def test_linear_algebra(self) -> None:
        done = self.run_tests(LINALG)
        print(done.stdout[-120:], file=sys.stderr)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])

    def test_matmul(self) -> None:
        done = self.run_tests(MATMUL)
        print(done.stdout[-120:], file=sys.stderr)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])

    def test_they_notice_a_wrong_overlay(self) -> None:
        self.assertNotEqual(self.run_tests(MATMUL[1:2], WRONG).returncode, 0)


if __name__ == "__main__":
    unittest.main()
