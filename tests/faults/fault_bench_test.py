# SPDX-License-Identifier: Apache-2.0
"""The fault bench (bench/faults) on tenon, and on libraries that are bad on purpose.

usage: fault_bench_test.py BENCH_FAULTS_DIR DRIVER INJECTOR TENON BAD_LIBRARY...

A sample of sites of every call the driver knows must end in a right result or a status. The bench itself is tested by
libraries that abort, exit, hang, crash, lie and remember a failure (bad_cblas.c): it must report each as what it is.
"""
import os
import sys
import unittest

HERE, DRIVER, INJECTOR, TENON, *BAD = sys.argv[1:]
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import fault_table  # noqa: E402
from sweep import evenly  # noqa: E402
from trial import GOOD, Trial, environment, run_process  # noqa: E402

BAD_BY_KIND = {os.path.basename(path).partition(".")[0].removeprefix("bad_cblas_"): path for path in BAD}
SIZE = "64"  # of products: tenon still packs and uses both threads


def run(subject, library, *options, seconds=30.0):
    return run_process(
        lambda more: [DRIVER, "--size", SIZE, *more, f"{subject}={library}"],
        options,
        environment(2, LD_PRELOAD=INJECTOR),
        seconds,
    )


class Tenon(unittest.TestCase):
    SUBJECTS = [f"tenon-{op}{how}" for op in ("gemm", "softmax", "attention") for how in ("", "-plan")]
    SAMPLE = 7

    def test_cold(self):
        for subject in self.SUBJECTS:
            counted = run(subject, TENON)
            self.assertEqual(counted.outcome, "ok", counted.detail)
            self.assertGreater(counted.count, 5, "the injector sees next to nothing")
            for mode in ([], ["--forever"]):
                for nth in evenly(counted.count, self.SAMPLE):
                    trial = run(subject, TENON, "--nth", str(nth), *mode)
                    with self.subTest(subject=subject, nth=nth, mode=mode):
                        self.assertIn(trial.outcome, GOOD, trial.detail)

    def test_warm(self):
        for subject in self.SUBJECTS:
            counted = run(subject, TENON, "--phase", "warm")
            self.assertEqual(counted.outcome, "ok", counted.detail)
            if not subject.endswith("-plan"):
                self.assertEqual(counted.count, 0, "a call like the last one allocates")
            for nth in range(1, counted.count + 1):
                trial = run(subject, TENON, "--phase", "warm", "--nth", str(nth))
                with self.subTest(subject=subject, nth=nth):
                    self.assertIn(trial.outcome, GOOD, trial.detail)

    def test_status_has_words(self):
        trial = run("tenon-gemm-plan", TENON, "--phase", "opened", "--nth", "1", "--forever")
        self.assertEqual(trial.outcome, "error")
        self.assertIn("TENON_ERROR_OUT_OF_MEMORY: ", trial.detail)

    def test_address_space(self):
        """A limit that leaves nothing at all, without the injector."""
        trial = run_process(
            lambda more: [DRIVER, *more, f"tenon-gemm={TENON}"],
            ["--size", "256", "--phase", "opened", "--limit", "+0"],
            environment(2),
            30.0,
        )
        self.assertIn(trial.outcome, GOOD, trial.detail)


class Controls(unittest.TestCase):
    EXPECTED = {
        "fall_back": ("ok", ""),
        "abort": ("signal", "SIGABRT"),
        "crash": ("signal", "SIGSEGV"),
        "exit": ("exit", "exit(0)"),
        "hang": ("hang", "no end"),
        "wrong": ("wrong", "wrong 4096 of 4096 elements"),
        "poison": ("wrong", "wrong 4096 of 4096 elements"),
    }

    def test_every_kind_was_built(self):
        self.assertEqual(set(BAD_BY_KIND), set(self.EXPECTED))

    def test_told_apart(self):
        for kind, expected in self.EXPECTED.items():
            for mode in ([], ["--forever"]):
                trial = run("cblas", BAD_BY_KIND[kind], "--phase", "warm", "--nth", "1", *mode, seconds=1.0 if kind == "hang" else 30.0)
                with self.subTest(kind=kind, mode=mode):
                    self.assertEqual((trial.outcome, trial.detail), expected)

    def test_failure_that_stays(self):
        """CBLAS has no status, so that a library of it can only lie; one that refuses the next call is poisoned."""
        trial = Trial().read("subject x\ncall error short of memory\nnext error still short\ndone\n", "")
        self.assertEqual((trial.outcome, trial.detail), ("poisoned", "next call: still short"))

    def test_harmless_without_faults(self):
        for kind, library in BAD_BY_KIND.items():
            with self.subTest(kind=kind):
                self.assertEqual(run("cblas", library).outcome, "ok")

    def test_every_request_is_a_site(self):
        library = BAD_BY_KIND["fall_back"]
        counted = run("cblas", library, "--phase", "warm", "--sites")
        own = [site.split()[:2] for site in counted.sites if os.path.basename(library) in site]
        self.assertEqual(
            own,
            [
                ["malloc", "100"],
                ["calloc", "150"],
                ["realloc", "200"],
                ["aligned_alloc", "256"],
                ["posix_memalign", "300"],
                ["reallocarray", "350"],
                ["mmap", "4096"],
                ["pthread_create", "0"],
            ],
        )
        for nth in range(1, counted.count + 1):
            trial = run("cblas", BAD_BY_KIND["exit"], "--phase", "warm", "--nth", str(nth))
            with self.subTest(nth=nth, site=counted.sites[nth - 1]):
                self.assertEqual(trial.outcome, "exit")

    def test_failure_that_was_not_reached(self):
        self.assertEqual(run("cblas", BAD_BY_KIND["abort"], "--phase", "warm", "--nth", "1000").outcome, "missed")


class Tables(unittest.TestCase):
    def test_readme_is_what_the_results_say(self):
        self.assertTrue(fault_table.is_current(), "run bench/faults/fault_table.py --write")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
