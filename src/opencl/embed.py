#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the kernels' sources as C text: embed.py OUTPUT SOURCE.cl…

Comments and indentation are left out; everything else, line breaks included, stays, so that a driver's messages can be read.
"""
import pathlib
import re
import sys


def stripped(text):
    text = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.S)
    return "".join(line.strip() + "\n" for line in text.split("\n"))


def literal(text):
    lines = (line.replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n")[:-1])
    return "\n".join(f'    "{line}\\n"' for line in lines)


def main(output, sources):
    parts = ['/* Made by embed.py from the kernels. */', '#include "opencl/cl_sources.h"', '', 'const tn_cl_source tn_cl_sources[] = {']
    for path in sorted(map(pathlib.Path, sources)):
        parts.append(f'    {{"{path.name}",\n{literal(stripped(path.read_text(encoding="utf-8")))}}},')
    parts += ["    {0, 0},", "};", ""]
    pathlib.Path(output).write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
