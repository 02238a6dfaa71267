# SPDX-License-Identifier: Apache-2.0
"""bench/plots/plot.py from outside: pictures and tables of a few made-up rows.

usage: plot_test.py PLOT

Exit code 77 (skipped), saying so, where matplotlib is missing, unless TENON_REQUIRE names it.
"""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PLOT = sys.argv[1]


def row(m, n, k, seconds, ratios, **more):
    """As `tenon bench gemm --json` prints it."""
    flops, bytes_moved = 2 * m * n * k, 4 * (m * k + k * n + m * n)
    return {"op": "gemm", "device": "cpu", "kernel": "made up", "dtype": "f32", "threads": 2, "cold": False, "m": m, "n": n, "k": k,
            "batch": 1, "layout": "nn", "suite": "squares", "seconds": seconds, "seconds_min": seconds, "spread": 0.01,
            "gflops": flops / seconds * 1e-9, "gbps": bytes_moved / seconds * 1e-9, "percent_of_limit": 90.0, "limit_gflops": 100.0,
            "limit_gbps": 40.0, "beside_gbps": 30.0, "error": 1e-7,
            "vs": [{"name": name, "seconds": seconds * r, "ratio": r, "spread": 0.02, "function": "gemm"} for name, r in ratios.items()],
            **more}


ROWS = [row(64, 64, 64, 1e-5, {"one": 1.25, "two": 2.0}), row(128, 128, 128, 8e-5, {"one": 0.8, "two": 1.6}),
        row(1, 4096, 4096, 2e-3, {"one": 1.5}, suite="llm", layout="nt"),
        row(16, 4096, 4096, 8e-3, {"one": 3.0}, suite="llm", layout="nt", way="prepacked"),
        {"op": "summary", "of": "gemm", "vs": []}]


class Plots(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.rows = self.folder / "rows.jsonl"
        self.rows.write_text("".join(json.dumps(r) + "\n" for r in ROWS))

    def plot(self, *args, files=None):
        return subprocess.run([sys.executable, PLOT, *args, *(files or [str(self.rows)])], capture_output=True, text=True, timeout=100)

    def picture(self, *args, **more):
        out = self.folder / "out.svg"
        done = self.plot(*args, "-o", str(out), "--caption", "made up", **more)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        text = out.read_text()
        self.assertIn("</svg>", text)
        self.assertIn("made up", text)
        return text

    def test_ratios(self):
        text = self.picture("ratios")
        self.assertEqual(text, self.picture("ratios"), "the same rows make the same picture")
        for expected in ("64³", "1·4096·4096 nt", "one", "two", "squares, f32, 2 threads", "llm, f32, prepacked, 2 threads",
                         "geometric mean against the best: 1.00"):
            self.assertIn(expected, text)

    def test_limit(self):
        text = self.picture("limit")
        self.assertIn("percent of the measured limit", text)
        self.assertNotIn("4096", text)

    def test_roofline(self):
        text = self.picture("roofline", "--suite", "llm")
        self.assertNotIn("M=64", text)
        for expected in ("M=1", "M=16", "30 GB/s", "f32, B prepacked, nt"):
            self.assertIn(expected, text)

    def test_rows_of_several_files_come_together(self):
        other = self.folder / "other.jsonl"
        other.write_text(json.dumps(row(64, 64, 64, 2e-5, {"three": 0.5})) + "\n")
        done = self.plot("table", "--suite", "squares", files=[str(self.rows), str(other)])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("| 64³ | 52 | 90 % | 1% | 1.25 | 2.00 | 0.50 | **0.50** |", done.stdout)
        self.assertIn("| geometric mean | | | | 1.00 | 1.79 | 0.50 | **0.63** |", done.stdout)
        self.assertIn("Below 1: 64³ (0.50, three), 128³ (0.80, one).", done.stdout)

    def test_summary(self):
        done = self.plot("summary")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("| squares, f32, 2 threads | 2 | 1.00 | 1.79 | **1.00** | 1 | 1 |", done.stdout)
        self.assertIn("| llm, f32, prepacked, 2 threads | 1 | 3.00 | | **3.00** | 0 | 0 |", done.stdout)
        self.assertTrue(done.stdout.endswith("\n\n- squares, f32, 2 threads: 128³ 0.80 (one).\n"), done.stdout)

    def test_one_line_for_each_number_of_rows(self):
        self.rows.write_text("".join(json.dumps(row(8, n, 64, 1e-5, {"one": r}, suite="llm", spread=0.1)) + "\n"
                                     for n, r in ((64, 0.5), (256, 2.0))))
        done = self.plot("table", "--by-m")
        self.assertIn("| 8 rows, nn | 13 | 90 % | 10% | 1.00 | **1.00** |", done.stdout)
        self.assertIn("Below 1: 8·64·64 (0.50, one).", done.stdout)

    def test_mistakes(self):
        for args, said in ((["ratios"], "-o"), (["ratios", "-o", "x.svg", "--suite", "round"], "no rows"),
                           (["limit", "-o", "x.svg", "--suite", "llm"], "no cubes")):
            done = self.plot(*args)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: no pictures are tested")
        sys.exit(1 if "matplotlib" in os.environ.get("TENON_REQUIRE", "").split(",") else 77)
    unittest.main(argv=sys.argv[:1])
