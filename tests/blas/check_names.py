#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The BLAS overlay exports the names it implements and no other, unversioned; needs libc, libm and libpthread only; imports nothing that prints or
ends the host, and of BLAS nothing but error handlers, weakly. The same rules as for libtenon (tests/abi/check_symbols.py)."""
import argparse
import itertools
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "abi"))
sys.dont_write_bytecode = True
from check_symbols import LIBRARIES, UNWANTED, exported, has_tls, imported, needed  # noqa: E402

FACES = ("{}_", "scipy_{}_", "{}_64_", "scipy_{}_64_", "cblas_{}", "scipy_cblas_{}", "cblas_{}64_", "cblas_{}_64", "scipy_cblas_{}64_")
HANDLERS = {"xerbla_", "xerbla_64_", "scipy_xerbla_", "scipy_xerbla_64_",
            "cblas_xerbla", "cblas_xerbla64_", "scipy_cblas_xerbla", "scipy_cblas_xerbla64_"}  # fmt: skip
ROUTINES = [letter + operation for letter, operation in itertools.product("sd", ("gemm", "gemv"))]


def dynamic_symbols(library, *options):
    return subprocess.run(["nm", "-D", *options, library], check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True)
    parser.add_argument("--plain", action="store_true", help="not instrumented: its imports are its own")
    args = parser.parse_args()
    wanted = {face.format(routine) for face, routine in itertools.product(FACES, ROUTINES)}
    there = exported(args.library)
    faults = [f"not exported: {name}" for name in sorted(wanted - there)] + [f"exported: {name}" for name in sorted(there - wanted)]
    if "@" in dynamic_symbols(args.library, "--defined-only"):
        faults.append("has versions of its own")
    weak = {line.split()[1] for line in dynamic_symbols(args.library, "--undefined-only").splitlines() if line.split()[0] == "w"}
    faults += [f"not a weak import: {name}" for name in sorted(HANDLERS - weak)]
    if args.plain:
        foreign = imported(args.library) - HANDLERS
        faults += [f"imports {name}" for name in sorted(foreign) if UNWANTED.match(name) or "blas" in name or "tenon" in name or "xerbla" in name]
        faults += [f"needs {name}" for name in needed(args.library) if not LIBRARIES.match(name)]
        faults += ["has thread-local storage"] * has_tls(args.library)
    print("\n".join(faults) if faults else f"{len(there)} names exported, {len(HANDLERS)} handlers asked for")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
