#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up what the torture programs wrote into a directory: "torture_ops: 709 jobs, 3186 sites, 7524 runs". Runs after them."""
import pathlib
import re
import sys

LINE = re.compile(r"(\w+): (\d+) jobs, (\d+) sites, (\d+) runs\n")


def main(directory):
    tallies = [LINE.fullmatch(path.read_text()) for path in sorted(pathlib.Path(directory).iterdir())]
    if not tallies or not all(tallies):
        print(f"no tally of each program in {directory}")
        return 77  # skipped: they have not run here
    for tally in tallies:
        print(tally.group(0), end="")
    jobs, sites, runs = (sum(int(tally.group(i)) for tally in tallies) for i in (2, 3, 4))
    print(f"torture: {jobs:,} jobs, {sites:,} sites, {runs:,} runs")
    return not runs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
