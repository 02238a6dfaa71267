#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shared library exports exactly the functions that the public headers declare with TENON_API."""
import argparse
import pathlib
import re
import subprocess
import sys

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
DECLARATION = re.compile(r"\bTENON_API\b([^;{]*?)\b(\w+)\s*\(")


def declared(text):
    """Names of the functions that a header declares for export."""
    text = COMMENT.sub(" ", text)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    return {match.group(2) for match in DECLARATION.finditer(text)}


def exported(library):
    lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = (line.split() for line in lines.splitlines())
    # Type A: the name of the version node itself.
    return {name[-1].split("@")[0] for name in names if name[-2] != "A"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--include", type=pathlib.Path, required=True)
    parser.add_argument("--library", required=True)
    args = parser.parse_args()
    sample = "TENON_API TENON_MUST_CHECK tenon_status\n tenon_a(int x); /* TENON_API int tenon_b(void); */ TENON_API const char *tenon_c(void);"
    assert declared(sample) == {"tenon_a", "tenon_c"}, declared(sample)

    wanted = set()
    for header in (args.include / "tenon").glob("*.h"):
        wanted |= declared(header.read_text())
    there = exported(args.library)
    for name in sorted(wanted - there):
        print(f"declared, not exported: {name}")
    for name in sorted(there - wanted):
        print(f"exported, not declared: {name}")
    for name in sorted(there | wanted):
        if not name.startswith("tenon_"):
            print(f"not a name of ours: {name}")
            there.add("?")
    print(f"{len(wanted)} declared, {len(there)} exported")
    return there != wanted or not wanted


if __name__ == "__main__":
    sys.exit(main())
