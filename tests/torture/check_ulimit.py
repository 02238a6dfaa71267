#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts `test_torture_limits alone` under `ulimit -v` with ever less memory, as a shell would, and compares with what it
prints without a limit: each job's answer is the same bits, or a status whose sentence has figures; the program always ends by itself.
Below what the program needs to start at all the limits say nothing about tenon, and the search stops there."""
import argparse
import re
import subprocess
import sys

STEPS = 32
SECONDS = 60


def run(program, kib):
    limit = "" if kib is None else f"ulimit -v {kib}; "
    return subprocess.run(["sh", "-c", limit + 'exec "$0" alone', program], capture_output=True, text=True, timeout=SECONDS)


def answers(text):
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def fault(right, name, line):
    """What is wrong with a job's line, or None."""
    if line == right[name]:
        return None
    if not re.match(r"TENON_ERROR_(OUT_OF_MEMORY|OVER_BUDGET) ", line):
        return f"{name}: {line!r}, expected {right[name]!r} or a refusal"
    return None if re.search(r"\d", line) else f"{name}: no figures in {line!r}"


def self_test():
    right = {"job": "0123"}
    assert fault(right, "job", "0123") is None
    assert fault(right, "job", "0124")
    assert fault(right, "job", "TENON_ERROR_INTERNAL 5")
    assert fault(right, "job", "TENON_ERROR_OUT_OF_MEMORY no memory")
    assert fault(right, "job", "TENON_ERROR_OUT_OF_MEMORY no 5 bytes") is None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    program = parser.parse_args().program
    self_test()
    free = run(program, None)
    right = answers(free.stdout)
    used = int(re.search(r"ended with (\d+) KiB", free.stdout).group(1))
    faults, runs, served, refused = [], 0, 0, 0
    if free.returncode or any(line.startswith("TENON_") for line in right.values()):
        faults.append(f"without a limit: {free.stdout} {free.stderr}")
    for step in range(STEPS + 1):
        kib = used + 8192 - step * (8192 + 2048) // STEPS
        done = run(program, kib)
        if not done.stdout.startswith("started"):
            break
        runs += 1
        found = answers(done.stdout)
        if done.returncode or done.stderr or found.keys() != right.keys():
            faults.append(f"{kib} KiB: ended with {done.returncode} after {len(found)} jobs: {done.stderr}")
        faults += [f"{kib} KiB: {wrong}" for name, line in found.items() if (wrong := fault(right, name, line))]
        served += sum(line == right[name] for name, line in found.items())
        refused += sum(line.startswith("TENON_") for line in found.values())
    print("\n".join(faults))
    print(f"{runs} runs under ulimit -v, from {used + 8192} KiB down: {served} jobs done, {refused} refused")
    return bool(faults or not served or not refused)


if __name__ == "__main__":
    sys.exit(main())
