#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles one module of CUDA kernels to a fatbin with machine code and PTX for each architecture.

nvcc writes PTX of its own newest version, which only drivers of its own age take. The instructions of a kernel are mostly older: the PTX is marked as the
oldest version with which ptxas accepts it, and the machine code is made from that. What ptxas says of registers, shared memory and spills is kept as JSON.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

# Of CUDA 11.0, 11.1, 11.8, 12.0, 12.1, 12.4, 12.7, 12.8; the first with sm_86 is 7.1, with sm_89 and sm_90 7.8, with wgmma 8.0, with sm_100 8.6, with sm_120 8.7.
VERSIONS = ["7.0", "7.1", "7.8", "8.0", "8.1", "8.4", "8.6", "8.7"]
# Sums and roundings are what the source says: no fused multiply-adds of the compiler's own.
FLAGS = ["-O3", "-std=c++17", "--fmad=false"]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def must(command):
    code, said = run(command)
    if code != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{said}")
    return said


def usage_of(said):
    """{kernel: figures} of what `ptxas -v` says."""
    kernels, name = {}, None
    for line in said.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'|Function properties for (\w+)", line):
            name = found.group(1) or found.group(2)
            kernels.setdefault(name, {})
        elif name and (found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            kernels[name].update(zip(("stack", "spill_stores", "spill_loads"), map(int, found.groups())))
        elif name and (found := re.search(r"Used (\d+) registers", line)):
            kernels[name]["registers"] = int(found.group(1))
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[name]["shared"] = int(shared.group(1)) if shared else 0
    return kernels


def assemble(ptxas, arch, text, folder):
    """Paths of PTX and machine code, and ptxas's figures."""
    text = re.sub(r'^\s*\.pragma "used_bytes_mask.*\n', "", text, flags=re.M)  # a hint, of PTX 8.3
    own = re.search(r"^\.version (\S+)", text, re.M).group(1)
    older = [v for v in VERSIONS if tuple(map(int, v.split("."))) < tuple(map(int, own.split(".")))]
    ptx, cubin = folder / f"{arch}.ptx", folder / f"{arch}.cubin"
    for version in older + [own]:
        ptx.write_text(re.sub(r"^\.version \S+", f".version {version}", text, count=1, flags=re.M), encoding="utf-8")
        code, said = run([ptxas, "-v", f"-arch=sm_{arch}", "-m64", ptx, "-o", cubin])
        if code == 0:
            return ptx, cubin, {"ptx": version, "kernels": usage_of(said)}
    sys.exit(f"ptxas refuses sm_{arch}:\n{said}")


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("source")
    parse.add_argument("--nvcc", required=True)
    parse.add_argument("--output", required=True)
    parse.add_argument("--usage", required=True)
    parse.add_argument("--depfile", required=True)
    parse.add_argument("--archs", required=True, help="comma-separated: 75,80,90a; empty: an empty file")
    args = parse.parse_args()
    tools = pathlib.Path(os.path.realpath(args.nvcc)).parent
    archs = [a for a in args.archs.split(",") if a]
    usage, images, needs = {}, [[], []], set()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for arch in archs:
            raw, deps = folder / f"{arch}.raw", folder / f"{arch}.d"
            must([args.nvcc, "-ptx", f"-arch=compute_{arch}", *FLAGS, "-MD", "-MF", deps, "-o", raw, args.source])
            needs |= set(re.findall(r"\S+", deps.read_text(encoding="utf-8").split(":", 1)[1].replace("\\\n", " ")))
            ptx, cubin, usage[arch] = assemble(tools / "ptxas", arch, raw.read_text(encoding="utf-8"), folder)
            images[0].append(f"--image3=kind=elf,sm={arch},file={cubin}")
            images[1].append(f"--image3=kind=ptx,sm={arch},file={ptx}")
        if archs:
            must([tools / "fatbinary", f"--create={args.output}", "-64", "--compress-mode=size", *images[0], *images[1]])
        else:
            pathlib.Path(args.output).write_bytes(b"")
    pathlib.Path(args.usage).write_text(json.dumps(usage, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    pathlib.Path(args.depfile).write_text(f"{args.output}: {' '.join(sorted(needs))}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
