#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each public header compiles alone, without a warning, as C99 and as C++11, with every compiler found."""
import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

STRICT = ["-fsyntax-only", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
C99 = ["-std=c99", "-Wstrict-prototypes", "-x", "c"]
CPP11 = ["-std=c++11", "-Wno-old-style-cast", "-x", "c++"]


def compiles(command, include, text):
    """Output of the compiler for a file of `text`; "" if there is nothing to say."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "alone"
        source.write_text(text)
        done = subprocess.run([*command, *STRICT, "-I", str(include), str(source)], capture_output=True, text=True)
        return done.stderr if done.returncode or done.stderr else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--include", type=pathlib.Path, required=True)
    include = parser.parse_args().include
    headers = sorted((include / "tenon").glob("*.h"))
    commands = [[name, *C99] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    commands += [[name, *CPP11] for name in ("c++", "g++", "clang++") if shutil.which(name)]
    failed = 0
    for command in commands:
        # A control: what is not C must not pass.
        if not compiles(command, include, "#include <tenon/status.h>\nint f(void) { return undeclared; }\n"):
            print(f"{command[0]}: accepts anything")
            failed += 1
        for header in headers:
            # Twice: the guard holds. The last line keeps the translation unit from being empty.
            text = f"#include <tenon/{header.name}>\n#include <tenon/{header.name}>\ntypedef int not_empty;\n"
            said = compiles(command, include, text)
            if said:
                print(f"{' '.join(command)}: <tenon/{header.name}>\n{said}")
                failed += 1
    print(f"{len(headers)} headers, {len(commands)} compilers and languages, {failed} failures")
    return failed > 0 or not headers or not commands


if __name__ == "__main__":
    sys.exit(main())
