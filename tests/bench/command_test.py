# SPDX-License-Identifier: Apache-2.0
"""The `tenon` command from outside.

usage: command_test.py TENON CBLAS_PLAIN CBLAS_WIDE CBLAS_WRONG DLP

Checks what scripts depend on: exit codes, complaints that name the option, and JSON lines with their keys. No time is
judged. Everything runs on the "reference" device, which every build has.
"""
import contextlib
import json
import os
import pathlib
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import unittest

TENON, PLAIN, WIDE, WRONG, DLP = sys.argv[1:6]
QUICK = ["--reps", "2", "--threads", "1", "--device", "reference"]
ROW_KEYS = ["op", "device", "kernel", "dtype", "threads", "cold"]
MEASURED_KEYS = ["seconds", "seconds_min", "spread", "gflops", "gbps", "percent_of_limit", "limit_gflops", "limit_gbps",
                 "beside_gbps", "error", "vs"]
GEMM_KEYS = ["m", "n", "k", "batch", "layout"]
SUITES = ["squares", "llm", "quant", "skinny", "small", "batched", "odd"]
ATTENTION_KEYS = ["batch", "q_heads", "kv_heads", "q_len", "k_len", "head_dim", "v_dim", "causal", "with"]
ATTENTION_SUITES = ["bert", "llama8b", "llama70b", "gemma", "gptoss", "mla", "serving"]


def run(*args, env=None):
    environment = {**os.environ, **(env or {})}
    return subprocess.run([TENON, *args], capture_output=True, text=True, timeout=100, env=environment)


class Help(unittest.TestCase):
    def test_every_command_has_help(self):
        for command in [[], ["info"], ["peak"], ["bench"], ["bench", "gemm"], ["bench", "softmax"], ["bench", "attention"],
                        ["memory"], ["memory", "layout"]]:
            with self.subTest(command=command):
                done = run(*command, "--help")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(done.stdout.startswith("usage: tenon"), done.stdout)
                self.assertEqual(done.stderr, "")
                self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)

    def test_without_command(self):
        for command in [], ["bench"], ["memory"]:
            done = run(*command)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertEqual(done.stderr, run(*command, "--help").stdout)

    def test_summaries_name_all_that_lies_below(self):
        top = run("--help").stdout.splitlines()
        for command in "bench", "memory":
            listed = run(command, "--help").stdout.split("\n\n")[1].splitlines()[1:]
            names = [line.split()[0] for line in listed]
            line, = [line for line in top if line.startswith(f"  {command} ")]
            self.assertEqual(line.rpartition(": ")[2].split(", "), names)
            for name in names:
                self.assertTrue(run(command, name, "--help").stdout.startswith(f"usage: tenon {command} {name}"), name)

    def test_version(self):
        self.assertRegex(run("--version").stdout, r"^tenon \d+\.\d+\.\d+\n$")


class Mistakes(unittest.TestCase):
    """Each command line is refused with exit code 2, nothing on stdout and one sentence that names the culprit."""

    LINES = [
        (["nonsense"], "nonsense"),
        (["bench", "nonsense"], "nonsense"),
        (["memory", "nonsense"], "nonsense"),
        (["info", "--nonsense"], "--nonsense"),
        (["info", "extra"], "extra"),
        (["info", "--json=yes"], "--json"),
        (["peak", "--threads"], "--threads"),
        (["peak", "--threads", "0"], "--threads"),
        (["peak", "--threads", "1,"], "--threads"),
        (["peak", "--threads", "2..1"], "--threads"),
        (["peak", "--threads", "1..4:0"], "--threads"),
        (["peak", "--reps", "many"], "--reps"),
        (["peak", "--reps", "3,4"], "--reps"),
        (["peak", "--bytes", "-1"], "--bytes"),
        (["bench", "gemm", "--m", "4", "--n", "4"], "--k"),
        (["bench", "gemm", "--m", "0", "--n", "4", "--k", "4"], "--m"),
        (["bench", "gemm", "--m", "1;2", "--n", "4", "--k", "4"], "--m"),
        (["bench", "gemm", "--m", "1..4*1", "--n", "4", "--k", "4"], "--m"),
        (["bench", "gemm", "--m", "1..5000", "--n", "4", "--k", "4"], "--m"),
        (["bench", "gemm", "--m", "99999999999999999999", "--n", "4", "--k", "4"], "--m"),
        (["bench", "gemm", "--mnk", "2x3"], "--mnk"),
        (["bench", "gemm", "--mnk", "2x3x4x5"], "--mnk"),
        (["bench", "gemm", "--mnk", "2x3x"], "--mnk"),
        (["bench", "gemm", "--layout", "nn,xx"], "--layout"),
        (["bench", "gemm", "--dtype", "f31"], "--dtype"),
        (["bench", "gemm", "--suite", "squares,round"], "--suite"),
        (["bench", "gemm", "--suite", "squares", "--mnk", "4"], "--suite"),
        (["bench", "gemm", "--suite", "squares", "--m", "4"], "--suite"),
        (["bench", "gemm", "--suite", "squares", "--layout", "nx"], "--layout"),
        (["bench", "gemm", "--m", "1..4096", "--n", "1..4096", "--k", "4", "--list"], "shapes"),
        (["bench", "gemm", "--b", "plain,boxed"], "--b"),
        (["bench", "gemm", "--b", "prepacked", "--cold"], "--b"),
        (["bench", "gemm", "--min-time", "soon"], "--min-time"),
        (["bench", "gemm", "--min-time", "-1"], "--min-time"),
        (["bench", "softmax", "--rows", "4"], "--cols"),
        (["bench", "softmax", "--shape", "4"], "--shape"),
        (["bench", "softmax", "--vs", PLAIN], "--vs"),
        (["bench", "attention", "--shape", "1x2x3x4", "--q-len", "2"], "--shape"),
        (["bench", "attention", "--q-heads", "8", "--kv-heads", "3"], "--kv-heads"),
        (["bench", "attention", "--head-dim", "577"], "--head-dim"),
        (["bench", "attention", "--v-dim", "577"], "--v-dim"),
        (["bench", "attention", "--suite", "bert,nobody"], "--suite"),
        (["bench", "attention", "--suite", "bert", "--causal"], "--suite"),
        (["bench", "attention", "--with", "windows=3"], "--with"),
        (["bench", "attention", "--with", "softcap"], "--with"),
        (["bench", "attention", "--with", "mask=1"], "--with"),
        (["bench", "attention", "--with", "page=0"], "--with"),
        (["bench", "attention", "--with", "cache=q9"], "--with"),
        (["bench", "attention", "--with", "cache=q8_0", "--head-dim", "40"], "--with"),
        (["bench", "attention", "--with", "mixed,bias"], "--with"),
        (["bench", "attention", "--with", "view", "--head-dim", "8", "--v-dim", "9"], "--with"),
        (["bench", "gemm", "--mnk", "4", "--vs", "/nowhere/libblas.so"], "--vs"),
        (["bench", "gemm", "--mnk", "4", "--vs", "libm.so.6"], "cblas_sgemm"),
        (["bench", "gemm", "--mnk", "4", "--vs", "name="], "--vs"),
        (["bench", "gemm", "--mnk", "4", "--vs", f"={PLAIN}"], "--vs"),
        (["bench", "gemm", "--mnk", "4", "--vs", f"{PLAIN},"], "--vs"),
        (["bench", "gemm", "--mnk", "4", *["--vs", PLAIN] * 9], "--vs"),
        (["memory", "bench", "--vs", "/nowhere/libmalloc.so"], "--vs"),
        (["memory", "bench", "--vs", PLAIN + ",name="], "--vs"),
        (["memory", "layout"], "FILE"),
        (["memory", "layout", "a.csv", "--effort", "much"], "--effort"),
        (["memory", "layout", "a.csv", "--alignment", "0"], "--alignment"),
    ]

    def test_mistakes(self):
        for args, culprit in self.LINES:
            with self.subTest(args=args):
                done = run(*args)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertTrue(done.stderr.startswith("tenon: "), done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn(culprit, done.stderr)


class Lines(unittest.TestCase):
    """--json: every line an object, keys in their order, whatever went to stderr."""

    def rows(self, *args, code=0, env=None):
        done = run(*args, "--json", env=env)
        self.assertEqual(done.returncode, code, done.stderr)
        if code == 0:
            self.assertEqual(done.stderr, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def check_rows(self, rows, shape_keys):
        for row in rows:
            self.assertEqual(list(row), ROW_KEYS + shape_keys + MEASURED_KEYS)
            self.assertEqual(row["device"], "reference")
            self.assertGreater(row["seconds"], 0)
            self.assertLessEqual(row["seconds_min"], row["seconds"])
            if row["dtype"] not in ("s8", "u8"):  # null where the CPU has no integer dot product to measure
                self.assertGreater(row["percent_of_limit"], 0)
            self.assertGreaterEqual(row["error"], 0)

    def test_info(self):
        machine, *devices = self.rows("info", env={"TENON_CPU": "scalar"})
        self.assertEqual(machine["op"], "machine")
        self.assertEqual(machine["environment"]["TENON_CPU"], "scalar")
        self.assertGreater(machine["cores"], 0)
        self.assertEqual([d for d in devices if d["id"] == "reference"][0]["usable"], True)
        for device in devices:
            self.assertEqual(device["op"], "device")
            self.assertEqual(device["usable"], device["reason"] is None)

    def test_memory_layout(self):
        with tempfile.TemporaryDirectory() as folder:
            good, bad = pathlib.Path(folder) / "good.csv", pathlib.Path(folder) / "bad.csv"
            good.write_text("id,lower,upper,size\n0,0,2,100\n1,1,3,50\n2,2,4,100\n")
            bad.write_text("id,lower,upper,size\n0,0,2,100\n1,3,3,50\n")
            for effort in ("1", "-1"):
                row, = self.rows("memory", "layout", str(good), "--effort", effort)
                self.assertEqual(list(row), ["op", "file", "objects", "lower_bound", "total", "ratio", "seconds"])
                self.assertEqual([row[key] for key in ("objects", "lower_bound", "total", "ratio")], [3, 150, 150, 1])
            done = run("memory", "layout", str(good), str(bad), folder + "/none.csv", "--json")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stdout.splitlines()), 1)
            self.assertIn("bad.csv:3", done.stderr)
            self.assertIn("none.csv", done.stderr)
            self.assertIn(" 1.0000 ", run("memory", "layout", str(good)).stdout)

    def test_peak(self):
        rows = self.rows("peak", "--threads", "1,2", "--reps", "1", "--bytes", "100000")
        self.assertLessEqual({("fma", "f32", 1), ("fma", "f64", 2), ("read", None, 1), ("copy", None, 2)},
                             {(r["limit"], r["dtype"], r["threads"]) for r in rows})
        for row in rows:
            self.assertEqual(list(row), ["op", "limit", "isa", "instruction", "dtype", "threads", "bytes", "gflops", "gbps",
                                         "best", "spread"])
            self.assertGreater(row["gbps" if row["dtype"] is None else "gflops"], 0)
            self.assertIsNone(row["gflops" if row["dtype"] is None else "gbps"])

    def test_gemm(self):
        rows = self.rows("bench", "gemm", "--m", "1,2,4..12:4,3..24*2", "--n", "5", "--k", "6", *QUICK)
        self.check_rows(rows, GEMM_KEYS)
        self.assertEqual([r["m"] for r in rows], [1, 2, 4, 8, 12, 3, 6, 12, 24])
        self.assertEqual(rows[0]["vs"], [])

    def test_limits(self):
        rows = self.rows("bench", "gemm", "--mnk", "64,64,64,64", *QUICK)
        self.assertEqual([r["limit_gflops"] for r in rows], sorted(r["limit_gflops"] for r in rows))
        self.assertEqual([r["limit_gbps"] for r in rows], sorted(r["limit_gbps"] for r in rows))
        for row in rows:
            self.assertLessEqual(row["beside_gbps"], row["limit_gbps"])
            at_limit = max(2 * 64**3 / row["limit_gflops"], 3 * 4 * 64**2 / row["limit_gbps"]) * 1e-9
            self.assertAlmostEqual(row["percent_of_limit"] / (100 * at_limit / row["seconds"]), 1, places=3)

    def test_suites(self):
        suites = self.rows("bench", "gemm", "--suite", "list")
        self.assertEqual([s["suite"] for s in suites], SUITES)
        text = run("bench", "gemm", "--suite", "list").stdout
        for suite in suites:
            self.assertIn(suite["summary"], text)
        shapes = self.rows("bench", "gemm", "--suite", ",".join(SUITES), "--list")
        for shape in shapes:
            self.assertEqual(list(shape), ["op"] + GEMM_KEYS + ["suite"])
        self.assertEqual(list(dict.fromkeys(s["suite"] for s in shapes)), SUITES)
        self.assertEqual(len({json.dumps(s) for s in shapes}), len(shapes))
        self.assertEqual([s["m"] for s in shapes if s["suite"] == "squares"], [128, 256, 512, 1024, 2048, 4096])
        self.assertEqual({(s["m"], s["layout"]) for s in shapes if s["suite"] == "llm"},
                         {(m, layout) for m in (1, 4, 8, 16, 32, 64, 128, 512) for layout in ("nn", "nt")})
        chosen = self.rows("bench", "gemm", "--suite", "llm,squares", "--m", "1,8", "--k", "4096..5000", "--layout", "nt", "--list")
        self.assertEqual([(s["suite"], s["m"], s["n"], s["k"], s["layout"]) for s in chosen],
                         [("llm", m, n, 4096, "nt") for n in (4096, 14336) for m in (1, 8)])
        plain, = self.rows("bench", "gemm", "--mnk", "3x4x5", "--list")
        self.assertEqual(plain, {"op": "gemm", "m": 3, "n": 4, "k": 5, "batch": 1, "layout": "nn", "suite": None})
        self.assertEqual(run("bench", "gemm", "--mnk", "3x4x5", "--list").stdout, "m=3 n=4 k=5 batch=1 layout=nn\n")

    def test_gemm_combinations(self):
        rows = self.rows("bench", "gemm", "--mnk", "3x4x5,6..7", "--layout", "nt,tn", "--batch", "1,2", "--dtype", "f32,f16",
                         "--cold", "--warm", *QUICK)
        self.check_rows(rows, GEMM_KEYS)
        self.assertEqual(len({json.dumps([r[k] for k in ("m", "n", "k", "batch", "layout", "dtype", "cold")]) for r in rows}),
                         3 * 2 * 2 * 2 * 2)
        self.assertEqual(len(rows), 3 * 2 * 2 * 2 * 2)

    def test_gemm_narrow_types(self):
        """The reference rounds once, so an operand that was read wrongly shows in the error."""
        rows = self.rows("bench", "gemm", "--mnk", "5x7x300", "--layout", "nn,tt", "--dtype", "s8,u8,f8_e4m3,f8_e5m2", *QUICK)
        self.check_rows(rows, GEMM_KEYS)
        self.assertEqual([row["dtype"] for row in rows], ["s8", "u8", "f8_e4m3", "f8_e5m2"] * 2)
        for row in rows:
            with self.subTest(dtype=row["dtype"]):
                if row["dtype"] in ("s8", "u8"):
                    self.assertEqual(row["error"], 0)
                else:
                    self.assertLessEqual(row["error"], 2**-24)

    def test_softmax(self):
        rows = self.rows("bench", "softmax", "--shape", "3x40,1x1", "--dtype", "f64,bf16", *QUICK)
        self.check_rows(rows, ["rows", "cols"])
        self.assertEqual(len(rows), 4)

    def test_attention(self):
        rows = self.rows("bench", "attention", "--shape", "2x4x5x8", "--kv-heads", "1,4", "--k-len", "3,5,9", "--causal", *QUICK)
        self.check_rows(rows, ATTENTION_KEYS)
        self.assertEqual([(r["kv_heads"], r["k_len"], r["causal"]) for r in rows],
                         [(h, k, True) for h in (1, 4) for k in (3, 5, 9)])
        pairs = {3: 0 + 0 + 1 + 2 + 3, 5: 1 + 2 + 3 + 4 + 5, 9: 5 + 6 + 7 + 8 + 9}
        for row in rows:
            flops = 4 * 2 * 4 * 8 * pairs[row["k_len"]]
            self.assertAlmostEqual(row["gflops"] * row["seconds"] * 1e9 / flops, 1, places=3)

    def test_attention_features(self):
        """Each feature's answer is checked against the formula: a wrong one makes the exit code 1."""
        shape = ["bench", "attention", "--batch", "3", "--q-heads", "4", "--kv-heads", "2", "--head-dim", "16", *QUICK]
        for extents, features in [
            ("5x70", ["window=3", "softcap=2", "alibi", "sinks", "bias", "mask", "lse", "page=16", "mixed", "mixed,page=5",
                      "causal,window=9,softcap=5,alibi,sinks,bias,mask,lse,page=7", "view", "cache=f16", "page=6,cache=f8_e4m3"]),
            ("33x33", ["causal,mixed", "mixed,alibi,lse", "window=4"]),
        ]:
            queries, keys = extents.split("x")
            for with_ in features:
                row, = self.rows(*shape, "--q-len", queries, "--k-len", keys, "--with", with_)
                self.assertEqual(row["with"], "+".join(f for f in with_.split(",") if f != "causal") or "-")
                self.assertEqual(row["causal"], "causal" in with_)

    def test_attention_block_caches(self):
        for cache in ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4"]:
            row, = self.rows("bench", "attention", "--shape", "2x4x3x32", "--kv-heads", "2", "--k-len", "70", "--v-dim", "64",
                             "--with", "cache=" + cache, *QUICK)
            self.assertEqual(row["with"], "cache=" + cache)

    def test_attention_suites(self):
        named = self.rows("bench", "attention", "--suite", "list", "--json")
        self.assertEqual([row["suite"] for row in named], ATTENTION_SUITES)
        rows = self.rows("bench", "attention", "--suite", ",".join(ATTENTION_SUITES), "--list", "--json")
        self.assertEqual(list(dict.fromkeys(row["suite"] for row in rows)), ATTENTION_SUITES)
        for row in rows:
            self.assertEqual(row["q_heads"] % row["kv_heads"], 0)

    def test_attention_costs(self):
        rows = self.rows("bench", "attention", "--shape", "2x2x3x32", "--k-len", "520", "--costs", *QUICK)
        self.assertEqual({row["feature"] for row in rows} >= {"causal", "window=511", "softcap=50", "mask", "page=16", "mixed", "cache=q8_0"}, True)
        for row in rows:
            self.assertEqual(row["op"], "attention-cost")
            self.assertGreater(row["time"], 0)
            self.assertLessEqual(row["work"], 1)

    def test_device_that_is_not_there(self):
        done = run("bench", "gemm", "--mnk", "4", "--device", "cuda:7", "--json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "")
        self.assertIn("cuda", done.stderr)


class Races(unittest.TestCase):
    def race(self, libraries, *args):
        return run("bench", "gemm", "--mnk", "7x8x9", "--layout", "nn,nt,tn,tt", "--json", "--vs", libraries, *QUICK, *args)

    def test_plain_and_wide(self):
        done = self.race(f"one={PLAIN},{WIDE}", "--dtype", "f32,f64", "--batch", "2")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(rows), 8)
        for row in rows:
            self.assertEqual([list(peer) for peer in row["vs"]], [["name", "seconds", "ratio", "spread", "function"]] * 2)
            self.assertEqual([peer["name"] for peer in row["vs"]], ["one", os.path.basename(WIDE)])
            for peer in row["vs"]:
                self.assertIn(peer["function"], ("gemm", "gemm_batch_strided"))
                self.assertAlmostEqual(peer["ratio"] * row["seconds"] / peer["seconds"], 1, places=3)

    def test_given_several_times(self):
        done = run("bench", "gemm", "--mnk", "1x8x9,8x1x9", "--layout", "nn,nt,tn,tt", "--dtype", "f32,f64", "--json",
                   "--vs", f"one={PLAIN}", "--vs", f"two={WIDE},three={PLAIN}", *QUICK)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for row in map(json.loads, done.stdout.splitlines()):
            self.assertEqual([peer["name"] for peer in row["vs"]], ["one", "two", "three"])
            for peer in row["vs"]:
                self.assertIn(peer["function"], ("gemm", "gemv"))

    def test_summary_of_a_suite(self):
        args = ["bench", "gemm", "--suite", "small", "--vs", f"one={PLAIN}", "--vs", f"two={WIDE}", *QUICK]
        done = run(*args, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        *rows, summary = map(json.loads, done.stdout.splitlines())
        self.assertEqual(list(rows[0]), ROW_KEYS + GEMM_KEYS + ["suite"] + MEASURED_KEYS)
        self.assertEqual(list(summary), ["op", "of", "suite", "dtype", "threads", "cold", "vs"])
        self.assertEqual([summary[key] for key in ("op", "of", "suite", "dtype", "threads", "cold")],
                         ["summary", "gemm", "small", "f32", 1, False])
        ratios = [[row["vs"][i]["ratio"] for row in rows] for i in range(2)]
        ratios.append([min(pair) for pair in zip(*ratios)])
        self.assertEqual([peer["name"] for peer in summary["vs"]], ["one", "two", "best of all"])
        for peer, expected in zip(summary["vs"], ratios):
            self.assertEqual(list(peer), ["name", "shapes", "ratio", "below_1", "below_095"])
            self.assertAlmostEqual(peer["ratio"] / statistics.geometric_mean(expected), 1, places=4)
            self.assertEqual(peer["shapes"], len(rows))
            self.assertEqual(peer["below_1"], sum(r < 1 for r in expected))
            self.assertEqual(peer["below_095"], sum(r < 0.95 for r in expected))
        text = run(*args).stdout
        self.assertRegex(text, r"suite small, f32, 1 threads, warm: geometric mean")
        self.assertRegex(text, r"  best of all +x\d+\.\d+ over 8 shapes, below 1: \d, below 0\.95: \d")
        self.assertEqual(len(re.findall("^  lost: ", text, re.M)),
                         sum(int(n) for n in re.findall(r"^  (?:one|two) .* below 1: (\d)", text, re.M)))

    def test_type_that_cblas_lacks(self):
        done = self.race(PLAIN, "--dtype", "bf16")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([json.loads(line)["vs"] for line in done.stdout.splitlines()], [[]] * 4)

    def test_prepacked(self):
        """Both ways of giving B are rows of their own; of the peers those race that can have it packed."""
        if not any(json.loads(line).get("id") == "cpu" for line in run("info", "--json").stdout.splitlines()):
            self.skipTest("built without the device cpu")
        args = ["bench", "gemm", "--suite", "small", "--dtype", "f32,f64", "--b", "plain,prepacked", "--vs", f"one={PLAIN},{WIDE}",
                "--vs", f"dlp={DLP}", "--reps", "2", "--threads", "1", "--device", "cpu", "--json"]
        done = run(*args)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        rows, summaries = lines[:32], lines[32:]
        functions = {("f32", "plain"): ["gemm", "gemm", "aocl_gemm"], ("f64", "plain"): ["gemm", "gemm"],
                     ("f32", "prepacked"): ["gemm_compute", "aocl_gemm, reordered"], ("f64", "prepacked"): ["gemm_compute"]}
        for row in rows:
            self.assertEqual(list(row), ROW_KEYS + GEMM_KEYS + ["way", "suite"] + MEASURED_KEYS)
            self.assertEqual([peer["function"] for peer in row["vs"]], functions[row["dtype"], row["way"]])
        self.assertEqual([(s["dtype"], s["way"]) for s in summaries], list(functions)[0::2] + list(functions)[1::2])
        for summary in summaries:
            self.assertEqual(list(summary), ["op", "of", "suite", "dtype", "way", "threads", "cold", "vs"])

    def test_integers_of_a_library_for_them(self):
        done = run("bench", "gemm", "--mnk", "5x7x9", "--layout", "nn,nt,tn,tt", "--dtype", "s8,u8,bf16", "--json", "--vs",
                   f"dlp={DLP}", *QUICK)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([[peer["name"] for peer in row["vs"]] for row in rows], [["dlp"], ["dlp"], []] * 4)

    def test_wrong_answers_are_noticed(self):
        done = self.race(f"liar={WRONG}")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("liar is wrong"), 4, done.stderr)

    def test_every_function_is_checked(self):
        for mnk, batch in ("1x8x9", 1), ("8x1x9", 1), ("7x8x9", 2):
            done = run("bench", "gemm", "--mnk", mnk, "--batch", str(batch), "--vs", f"liar={WRONG}", *QUICK)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr.count("liar is wrong"), 2, done.stderr)


class Tables(unittest.TestCase):
    def test_table(self):
        done = run("bench", "gemm", "--mnk", "8", *QUICK)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        head, row, footnote = done.stdout.splitlines()
        self.assertTrue(footnote.startswith("limit: of the best rate"), footnote)
        for column in ("dtype", "m", "threads", "median", "spread", "GFLOP/s", "GB/s", "limit", "error", "kernel"):
            self.assertIn(column, head.split())
        self.assertEqual(row.split()[:2], ["f32", "8"])

    def test_progress_on_a_terminal(self):
        terminal, stderr = pty.openpty()
        done = subprocess.run([TENON, "bench", "gemm", "--mnk", "8", *QUICK], stdout=subprocess.PIPE, stderr=stderr, timeout=100)
        os.close(stderr)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: all has been read
            while part := os.read(terminal, 4096):
                shown += part
        os.close(terminal)
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"[1/1] gemm f32 m=8", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
