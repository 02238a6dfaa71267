#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the assembler source that makes fatbins part of the library: embed_modules.py OUTPUT MODULE.fatbin…

A digest of each image is part of the text, so that what is made from the text changes with it.
"""
import hashlib
import pathlib
import sys


def main(output, images):
    lines = ["/* Made by embed_modules.py from the modules. */", '.section .rodata.tn_cu, "a"']
    for image in map(pathlib.Path, images):
        symbol = f"tn_cu_image_{image.stem}"
        lines += [f"/* {hashlib.sha256(image.read_bytes()).hexdigest()} */"]
        for name, place in ((symbol, f'.incbin "{image.resolve().as_posix()}"'), (symbol + "_end", ".byte 0")):
            lines += [f".globl {name}", f".hidden {name}"]
            lines += [".balign 64"] if name == symbol else []
            lines += [f"{name}:", place]
    lines += ['.section .note.GNU-stack, "", %progbits', ""]
    pathlib.Path(output).write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
