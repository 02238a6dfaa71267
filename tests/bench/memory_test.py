# SPDX-License-Identifier: Apache-2.0
"""`tenon memory bench`, `generate`, `replay` and `picture` from outside.

usage: memory_test.py TENON

Checks exit codes, complaints that name the culprit, what is printed, and that no file crashes the program. No time is
judged; footprints only where they can't be otherwise.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

TENON = sys.argv[1]
with open(TENON, "rb") as program:
    PROGRAM = program.read(1 << 20)
QUICK = ["--min-time", "0"]
KEYS = ["op", "file", "allocator", "events", "blocks", "peak_live", "peak_live_tokens", "error", "seconds", "seconds_touched",
        "footprint", "footprint_over_live", "reserved", "reserved_over_live", "unused", "failures"]


def run(*args, text=None):
    return subprocess.run([TENON, "memory", *args], input=text, capture_output=True, text=True, timeout=100)


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


class Mistakes(unittest.TestCase):
    LINES = [
        (["replay"], 2, "FILE"),
        (["picture", "--from", "3"], 2, "FILE"),
        (["replay", "/nowhere/file"], 1, "/nowhere/file"),
        (["replay", "/"], 1, "/"),
        (["replay", "-", "--format", "tenon2"], 2, "--format"),
        (["replay", "-", "--scale", "0"], 2, "--scale"),
        (["replay", "-", "--speed", "fast"], 2, "--speed"),
        (["replay", "-", "--page", "0"], 2, "--page"),
        (["replay", "-", "--budget", "-1"], 2, "--budget"),
        (["replay", "-", "--vs", ","], 2, "--vs"),
        (["generate"], 2, "KIND"),
        (["generate", "dreams"], 2, "dreams"),
        (["generate", "chat", "--seed", "x"], 2, "--seed"),
        (["generate", "chat", "--rate", "0"], 2, "--rate"),
        (["generate", "chat", "--requests", "0"], 2, "--requests"),
    ]

    def test_mistakes(self):
        for args, code, culprit in self.LINES:
            with self.subTest(args=args):
                done = run(*args, text="alloc 1 64 64 x\n")
                self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn(culprit, done.stderr)

    def test_files_that_are_no_traces(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in {"empty": b"", "binary": os.urandom(100000), "zeros": bytes(100000),
                                  "one long line": b"alloc 1 64 64 " + b"x" * (1 << 24),
                                  "malformed": b"alloc 1 64 64 x\nfree\n",
                                  "executable": PROGRAM}.items():
                path = os.path.join(folder, name)
                with open(path, "wb") as file:
                    file.write(content)
                for command in ["replay", "picture"]:
                    with self.subTest(name=name, command=command):
                        done = run(command, path)
                        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
                        self.assertTrue(done.stderr.startswith("tenon: "), done.stderr)

    def test_help(self):
        for command in [[], ["bench"], ["generate"], ["replay"], ["picture"]]:
            done = run(*command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)


class Bench(unittest.TestCase):
    """The ratio is that of `tenon bench --vs`: the other's time over tenon's."""
    ARGS = ["bench", "--pattern", "pair,frames", "--reps", "3", *QUICK]

    def test_ratio(self):
        done = run(*self.ARGS, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        own = {}
        for row in rows(done):
            self.assertEqual(list(row), ["op", "pattern", "threads", "allocator", "median", "spread", "ratio"])
            own.setdefault(row["pattern"], row["median"])
            self.assertAlmostEqual(row["ratio"] * own[row["pattern"]] / row["median"], 1, places=3)
        self.assertEqual([(row["pattern"], row["allocator"] == "tenon") for row in rows(done)],
                         [(pattern, own) for pattern in ("pair", "frames") for own in (True, False)])

    def test_table(self):
        done = run(*self.ARGS)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.split()[:6], ["pattern", "threads", "allocator", "median", "spread", "ratio"])

    def test_mistakes(self):
        for args, culprit in [(["--pattern", "circle"], "--pattern"), (["--threads", "0"], "--threads"),
                              (["--vs", "/nowhere/libx.so"], "libx.so")]:
            with self.subTest(args=args):
                done = run("bench", *args)
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn(culprit, done.stderr)


class Replay(unittest.TestCase):
    def test_generated_and_replayed(self):
        for kind in ["chat", "code", "mixed", "training"]:
            with self.subTest(kind=kind):
                text = run("generate", kind, "--seed", "3", "--requests", "60", "--steps", "1").stdout
                self.assertEqual(text, run("generate", kind, "--seed", "3", "--requests", "60", "--steps", "1").stdout)
                done = run("replay", "-", "--scale", "0.001", "--json", *QUICK, text=text)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                pool, malloc = rows(done)
                for row in pool, malloc:
                    self.assertEqual(list(row), KEYS)
                    self.assertEqual(row["events"], text.count("\n"))
                    self.assertEqual(row["failures"], 0)
                    self.assertGreater(row["footprint"], 0)
                self.assertGreaterEqual(pool["reserved"], pool["peak_live"])
                self.assertEqual((pool["allocator"], malloc["allocator"]), ("tenon pool", "malloc"))

    def test_budget(self):
        text = "".join(f"alloc {i} 1000000 64 x\n" for i in range(10))
        pool, _ = rows(run("replay", "-", "--budget", "5000000", "--json", "--no-touch", *QUICK, text=text))
        self.assertEqual(pool["failures"], 6)
        self.assertLessEqual(pool["reserved"], 5000000)
        self.assertEqual(pool["footprint"], 0)

    def test_cut_off(self):
        done = run("replay", "-", "--json", *QUICK, text="alloc 1 64 64 x\nalloc 2 64 6")
        self.assertEqual(done.returncode, 0)
        self.assertIn("left out", done.stderr)

    def test_libraries(self):
        done = run("replay", "-", "--vs", "/nowhere/libx.so,libm.so.6", "--json", *QUICK, text="alloc 1 64 64 x\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("libx.so", done.stderr)
        self.assertIn("malloc", done.stderr)
        self.assertEqual([row["error"] is None for row in rows(done)], [True, True, False, False])

    def test_table(self):
        done = run("replay", "-", *QUICK, text="alloc 1 6400000 64 x\nfree 1\n")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("over live", done.stdout)
        self.assertIn("tenon pool", done.stdout)

    def test_too_large_to_touch(self):
        done = run("replay", "-", *QUICK, text="alloc 1 100000000000000 64 x\n")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("--no-touch", done.stderr)


class Picture(unittest.TestCase):
    def test_every_block_is_drawn(self):
        text = "alloc 1 4000 64 <a&b>\nalloc 2 8000 64 \"c\"\nfree 1\nalloc 3 3000000 4096 c\nfree 2\n"
        for options, count in [([], 3), (["--from", "3"], 2), (["--to", "2"], 2)]:
            with self.subTest(options=options):
                done = run("picture", "-", *options, text=text)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                root = xml.etree.ElementTree.fromstring(done.stdout)
                tiles = [e for e in root if e.tag.endswith("rect") and e.get("width") != "12"]
                self.assertEqual(len(tiles), count)

    def test_too_many(self):
        text = "".join(f"alloc {i} 64 64 x\n" for i in range(50001))
        done = run("picture", "-", text=text)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("--from", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
