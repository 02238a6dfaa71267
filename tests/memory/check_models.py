#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the models of the pool's locks (*.pml) through Spin: each as it is, which must hold, and with each of its deliberate mistakes, which must
be found. Exit code 77 (skipped) where spin or a C compiler is missing, unless TENON_REQUIRE names spin."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# model, definitions, must Spin find a mistake
RUNS = [
    ("pool_lock.pml", ["TRIM"], False),
    ("pool_lock.pml", ["TRIM", "SLEEP_FOR_EVER"], True),
    ("pool_lock.pml", ["TRIM", "WAIT_IN_RECLAIMER"], True),
    ("pool_lock.pml", ["TRIM", "GROW_WITHOUT_SLOW"], True),
    ("pool_lock.pml", ["TRIM", "COUNT_TOO_EARLY"], True),
    ("pool_lock.pml", ["TRIM", "TORN_LOCK"], True),
    ("pool_lock.pml", ["TRIM", "ALONE_TOO_LONG"], True),
    ("pool_fork.pml", [], False),
    ("pool_fork.pml", ["NO_CLAIM"], True),
    ("pool_fork.pml", ["LOCK_ONLY"], True),
]


def check(compiler, model, definitions, level):
    """(mistakes found, states) of one run; raises if it did not come to an end."""
    with tempfile.TemporaryDirectory() as place:
        flags = ["-D" + name for name in definitions]
        subprocess.run(["spin", "-a", *flags, str(HERE / model)], cwd=place, check=True, stdout=subprocess.DEVNULL)
        # COLLAPSE: compressed states; SAFETY: no search for cycles; a full search fits in 2 GB.
        subprocess.run([compiler, level, "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000", "-o", "pan", "pan.c"], cwd=place, check=True)
        text = subprocess.run(["./pan", "-m100000"], cwd=place, check=True, capture_output=True, text=True).stdout
    errors = int(text.split("errors:")[1].split()[0])
    if "max search depth too small" in text or "memory" in text.split("errors:")[0] and errors == 0:
        raise RuntimeError(text)
    return errors, text.split(" states, stored")[0].split()[-1]


def main():
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not shutil.which("spin") or not compiler:
        print("spin or a C compiler is not installed")
        return 1 if "spin" in os.environ.get("TENON_REQUIRE", "").split(",") else 77
    wrong = 0
    for model, definitions, broken in RUNS:
        errors, states = check(compiler, model, definitions, "-O0" if broken else "-O1")  # short searches, quickly compiled
        fine = (errors != 0) == broken
        wrong += not fine
        verdict = "found" if errors else "holds"
        print(f"{model} {' '.join(definitions):28} {states:>9} states  {verdict}{'' if fine else '  WRONG'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
