#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what the kernels for GPUs ask of a device against what GPUs have: gpu_limits.py OPENCL.md KERNELS PROGRAM.

The program launches every kernel of that family once through the stand-in, which records the items of each group and the bytes of local
memory that the driver counts. The limits are those of the table in docs/OPENCL.md: the least that a row names. So are the kernels that
may have barriers or local memory at all.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

VENDORS = ("Adreno", "Mali", "Intel", "AMD", "NVIDIA")
WITH_BARRIERS = {"gemm_local", "gemm_blocks_few", "gemm_blocks_local"}
NAMES_SPACES = {"blocks", "gemm_round"}  # whose functions work where gemm_blocks_few and gemm_blocks_local have what they stage


def least(cell, unit=1):
    return min(int(number.replace(",", "")) for number in re.findall(r"[\d,]+", cell)) * unit


def gpus(text):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    table = {row[0]: (least(row[1]), least(row[2], 1024)) for row in rows if any(v in row[0] for v in VENDORS) and "KiB" in row[2]}
    assert all(any(v in name for name in table) for v in VENDORS), f"a vendor is missing: {sorted(table)}"
    return table


def main(paper, kernels, program):
    table = gpus(pathlib.Path(paper).read_text(encoding="utf-8"))
    barriers = {path.stem for path in pathlib.Path(kernels).glob("*.cl") if re.search(r"\bbarrier\(|__local\b", path.read_text(encoding="utf-8"))}
    wrong = [f"{name}.cl has barriers or local memory, and is not known to" for name in barriers - WITH_BARRIERS - NAMES_SPACES]
    with tempfile.TemporaryDirectory() as folder:
        record = pathlib.Path(folder) / "launches"
        run = subprocess.run([program], env={**os.environ, "STAND_IN_OPENCL_RECORD": str(record)}, check=False)
        if run.returncode:
            return run.returncode
        launches = {tuple(line.split()) for line in record.read_text(encoding="utf-8").splitlines()}
    print("kernel, items of a group, bytes of local memory")
    for name, items, local in sorted(launches):
        print(" ", name, items, local)
        if int(local) and name not in WITH_BARRIERS:
            wrong.append(f"{name} has {local} bytes of local memory")
        wrong += [f"{name}: {items} items and {local} bytes, {gpu} has {limits}" for gpu, limits in table.items()
                  if int(items) > limits[0] or int(local) > limits[1]]
    if not any(name in WITH_BARRIERS and int(local) for name, _, local in launches):
        wrong.append("no kernel with local memory was launched")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
