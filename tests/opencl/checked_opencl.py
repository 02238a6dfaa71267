#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program on oclgrind, an OpenCL device that checks, and fails if it found anything: checked_opencl.py control|clean PROGRAM.

The device's exit status is the program's, so what it says is searched. `control`: the program has a fault of each kind, and each must be
found. 77 (skipped) where there is no oclgrind, unless TENON_REQUIRE names it.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

# What oclgrind 21.10 says of each kind of fault.
FINDINGS = {
    "race": r"data race",
    "unwritten": r"[Uu]ninitialized value",
    "outside": r"Invalid (read|write) of size",
    "argument": r"OpenCL runtime error",
    "itself": r"OCLGRIND FATAL|Unsupported instruction",
}


def main(mode, program):
    tool = shutil.which("oclgrind")
    driver = pathlib.Path(tool).resolve().parent.parent / "lib/oclgrind/liboclgrind-rt-icd.so" if tool else None
    if not driver or not driver.exists():
        print("no oclgrind here")
        return 1 if "oclgrind" in os.environ.get("TENON_REQUIRE", "") else 77
    # Optimised code has instructions (freeze) that its check of unwritten memory does not know.
    checks = {"OCL_ICD_VENDORS": str(driver), "OCLGRIND_CHECK_API": "1", "OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNINITIALIZED": "1",
              "OCLGRIND_BUILD_OPTIONS": "-cl-opt-disable"}
    run = subprocess.run([program], env={**os.environ, **checks}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = {kind: len(re.findall(words, run.stdout)) for kind, words in FINDINGS.items()}
    print(run.stdout[-20000:])
    print("found:", found, "exit status", run.returncode)
    if mode == "control":
        return 0 if all(found[kind] for kind in ("race", "unwritten", "outside", "argument")) else 1
    return 1 if run.returncode or any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
