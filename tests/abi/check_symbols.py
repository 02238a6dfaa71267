#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shared library exports exactly the functions that the public headers declare with TENON_API, needs no library but
libc, libm and libpthread, and imports nothing that prints, ends the host or touches its signals. It has no thread-local storage, which the
loader allocates in a way that can't fail politely, and no once-guards or handlers of the process's end."""
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


LIBRARIES = re.compile(r"(libc|libm|libpthread|librt|libdl|ld-linux[\w-]*)\.so\.\d+$")
UNWANTED = re.compile(r"(_?exit|abort|raise|signal|sigaction|v?f?printf|puts|perror|__tls_get_addr|pthread_once|call_once|pthread_key_create"
                      r"|pthread_atfork|atexit|__cxa_atexit|__v?f?printf_chk)$")


def needed(library):
    lines = subprocess.run(["readelf", "-dW", library], check=True, capture_output=True, text=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", lines)


def has_tls(library):
    headers = subprocess.run(["readelf", "-lW", library], check=True, capture_output=True, text=True).stdout
    return bool(re.search(r"^\s+TLS\s", headers, re.M))


def imported(library):
    lines = subprocess.run(["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in lines.splitlines()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--include", type=pathlib.Path, required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--plain", action="store_true", help="not instrumented: its imports are its own")
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
    assert UNWANTED.match("printf") and not UNWANTED.match("vsnprintf") and LIBRARIES.match("libc.so.6")
    foreign = [name for name in needed(args.library) if not LIBRARIES.match(name)] if args.plain else []
    unwanted = sorted(filter(UNWANTED.match, imported(args.library))) if args.plain else []
    tls = args.plain and has_tls(args.library)
    if tls:
        print("has thread-local storage")
    for name in foreign:
        print(f"needs {name}")
    for name in unwanted:
        print(f"imports {name}")
    print(f"{len(wanted)} declared, {len(there)} exported")
    return bool(there != wanted or not wanted or foreign or unwanted or tls)


if __name__ == "__main__":
    sys.exit(main())
