#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The netlib BLAS testers (Debian: libblas-test), levels 2 and 3, Fortran and CBLAS, with the overlay preloaded.

usage: netlib_test.py OVERLAY WRONG_OVERLAY

They call the routines of a BLAS and, where the overlay has one of that name, the overlay's: that is looked up in what the dynamic linker says. The rest
comes from the reference BLAS. WRONG_OVERLAY's products are wrong and its checks missing, which the testers must find. Exit code 77 (skipped) where
they are not installed, unless TENON_REQUIRE names libblas-test.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FOLDERS = sorted(pathlib.Path("/usr/lib").glob("*/blas"))
# tester, its input, the routine the overlay has
TESTERS = [
    (f"x{fortran}", f"{letter}blat{level}.in", f"{letter}{operation}_", f"{letter}blat{level}.out")
    for letter in "sd"
    for level, operation in ((2, "gemv"), (3, "gemm"))
    for fortran in (f"blat{level}{letter}",)
] + [
    (f"x{letter}cblat{level}", f"{letter}in{level}", f"cblas_{letter}{operation}", None)
    for letter in "sd"
    for level, operation in ((2, "gemv"), (3, "gemm"))
]  # fmt: skip


def run(folder, overlay, tester, data, routine, summary):
    """(the lines about the routine, whether the tester called the overlay's, whether anything failed)"""
    with tempfile.TemporaryDirectory() as here:
        environment = dict(os.environ, LD_PRELOAD=overlay, LD_LIBRARY_PATH=str(folder), LD_DEBUG="bindings", LD_DEBUG_OUTPUT=f"{here}/bindings")
        with open(folder / data, encoding="ascii") as stdin:
            done = subprocess.run([folder / tester], stdin=stdin, cwd=here, env=environment, capture_output=True, text=True, timeout=240)
        text = done.stdout + (pathlib.Path(here, summary).read_text(encoding="ascii") if summary else "")
        bindings = "".join(path.read_text() for path in pathlib.Path(here).glob("bindings*"))
    bound = re.search(rf"binding file \S*{tester} .* to {re.escape(overlay)} .*symbol `{routine}'", bindings) is not None
    name = routine.rstrip("_").upper() if summary else routine
    lines = [" ".join(line.split()) for line in text.splitlines() if re.search(rf"\b{name}\s", line)]
    good = [re.compile(rf"{name} PASSED THE TESTS OF ERROR-EXITS")]
    good += [re.compile(rf"{name} PASSED THE {kind}COMPUTATIONAL TESTS") for kind in (("",) if summary else ("COLUMN-MAJOR ", "ROW-MAJOR "))]
    passed = done.returncode == 0 and all(any(map(pattern.match, lines)) for pattern in good)
    return lines, bound, passed and not re.search(r"FAIL|\*{4}", text)


def main():
    overlay, wrong = sys.argv[1:]
    folders = [folder for folder in FOLDERS if all((folder / name).exists() for name in ("xblat3s", "sblat3.in", "libblas.so.3"))]
    if not folders:
        print("libblas-test is not installed")
        return 1 if "libblas-test" in os.environ.get("TENON_REQUIRE", "").split(",") else 77
    faults = 0
    for tester in TESTERS:
        lines, bound, passed = run(folders[0], overlay, *tester)
        faults += not (bound and passed)
        print("\n".join(lines) if bound and passed else f"{tester[0]}: {'failed' if bound else 'did not call the overlay'}\n" + "\n".join(lines))
        lines, bound, passed = run(folders[0], wrong, *tester)
        if passed or not bound:
            faults += 1
            print(f"{tester[0]} did not notice the wrong overlay")
    print(f"{len(TESTERS)} testers, {faults} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
