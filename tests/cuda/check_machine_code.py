#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Static checks of the machine code in the library: check_machine_code.py FOLDER [--cuobjdump PATH] [--table FILE]

FOLDER has what src/cuda/build_module.py made: for each module its fatbin, and as JSON what ptxas said. Nothing may spill, and blocks must fit. What cuobjdump
shows (PyPI: nvidia-cuda-cuobjdump with nvidia-cuda-nvdisasm) must have the instructions that a kernel is there for, and no access to local memory; without
it only the figures are checked. --table writes the figures as Markdown.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys


TENSOR = r"\b(HMMA|IMMA|DMMA|QMMA|OMMA)\b"
# (kernels by name, from architecture, what must be in their code, what it is)
WANTED = [
    (r"_mma|^gemm_\w+_\d+x\d+$", 75, TENSOR, "tensor cores"),
    (r"^gemm_s8_\d+x\d+$", 80, r"\bIMMA\b", "tensor cores' products of bytes"),
    (r"_mma(?!.*f64)|^gemm_\w+_\d+x\d+$", 75, r"\bLDSM\b", "ldmatrix"),
    (r"_mma|^gemm_\w+_\d+x\d+$", 80, r"\bLDGSTS\b", "asynchronous copies"),
    (r"^gemm_rows_", 75, r"\bLDG\.E\S*\.128\b", "loads of 16 bytes"),
    (r"_wgmma", 90, r"\b(HGMMA|QGMMA|IGMMA)\b", "wgmma"),
    (r"_wgmma", 90, r"\bUTMALDG\b", "TMA"),
]
# Spills that are known, of kernels whose registers suffice elsewhere: (kernels by name, from architecture, bytes at most).
KNOWN = [
    (r"^gemm_(f16|bf16)_128x128$", 100, 200),
    (r"^gemm_blocks_mma_halved_128$", 120, 64),
    (r"^gemm_rows_8_8$", 100, 64),
    (r"^cache_merge$", 100, 16),
]
SPILLS = re.compile(r"\b(LDL|STL)\b")
OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9.]*)", re.M)


def number(arch):
    return int(re.match(r"\d+", arch).group())


def known_spill(arch, name):
    """Bytes that a kernel is known to spill; 0: it must not."""
    return max((size for pattern, least, size in KNOWN if number(arch) >= least and re.search(pattern, name)), default=0)


def check_figures(module, arch, name, figures):
    faults, known = [], known_spill(arch, name)
    if figures.get("spill_stores", 0) > known or (figures.get("spill_loads") and not known):
        faults.append(f"spills {figures['spill_stores']} bytes and reads {figures['spill_loads']} back, expected at most {known}")
    if figures.get("stack", 0) > known:
        faults.append(f"has a stack of {figures['stack']} bytes")
    if figures.get("shared", 0) > 48 << 10:
        faults.append(f"has {figures['shared']} bytes of static shared memory, expected at most 48 KiB")
    if "registers" not in figures:
        faults.append("has no figures")
    elif "_wgmma" in name and figures["registers"] != 168:
        faults.append(f"has {figures['registers']} registers, expected 168 of each of 384 threads: setmaxnreg would wait for those that nobody has")
    return [f"{module} sm_{arch} {name}: {f}" for f in faults]


def disassembled(cuobjdump, fatbin):
    """{(arch, kernel): code}"""
    tools = str(pathlib.Path(cuobjdump).resolve().parent)
    said = subprocess.run([cuobjdump, "-sass", str(fatbin)], capture_output=True, text=True, check=True, env={"PATH": tools + ":/usr/bin:/bin"}).stdout
    kernels, arch = {}, None
    for part in re.split(r"^\s*(?=Function : )|^(?=Fatbin elf code:)", said, flags=re.M):
        if found := re.search(r"^arch = sm_(\w+)", part, re.M):
            arch = found.group(1)
        if found := re.match(r"Function : (\w+)", part):
            kernels[arch, found.group(1)] = part
    return kernels


def check_code(module, arch, name, code):
    faults = []
    opcodes = "\n".join(OPCODE.findall(code))
    if not opcodes:
        return [f"{module} sm_{arch} {name}: no code"]
    if SPILLS.search(opcodes) and not known_spill(arch, name):
        faults.append("accesses local memory")
    for pattern, least, wanted, what in WANTED:
        if re.search(pattern, name) and number(arch) >= least and not re.search(wanted, opcodes):
            faults.append(f"has no {what} ({wanted})")
    return [f"{module} sm_{arch} {name}: {f}" for f in faults]


def write_table(path, usage):
    archs = sorted({a for module in usage.values() for a in module}, key=lambda a: (number(a), a))
    lines = ["# Machine code of the CUDA kernels", "",
             "Registers of a thread / static shared memory of a block in bytes, as ptxas says; nothing spills. Made by `tests/cuda/check_machine_code.py FOLDER --table`.",
             "", "| kernel | " + " | ".join("sm_" + a for a in archs) + " |", "|---|" + "---|" * len(archs)]
    for module, per_arch in sorted(usage.items()):
        for name in sorted({k for v in per_arch.values() for k in v["kernels"]}):
            cells = []
            for arch in archs:
                figures = per_arch.get(arch, {"kernels": {}})["kernels"].get(name)
                cells.append(f"{figures['registers']} / {figures['shared']}" if figures else "")
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_myself():
    good = {"registers": 96, "shared": 1024, "spill_stores": 0, "spill_loads": 0, "stack": 0}
    assert not check_figures("m", "80", "k", good)
    assert check_figures("m", "80", "k", good | {"spill_stores": 8}) and check_figures("m", "80", "k", good | {"stack": 16})
    assert not check_figures("m", "120", "cache_merge", good | {"spill_stores": 16}) and check_figures("m", "120", "cache_merge", good | {"spill_stores": 20})
    assert check_figures("m", "90", "cache_merge", good | {"spill_stores": 4}) and check_figures("m", "120", "cache_merges", good | {"spill_stores": 4})
    assert check_figures("m", "90a", "gemm_wgmma_x", good) and not check_figures("m", "90a", "gemm_wgmma_x", good | {"registers": 168})
    assert check_figures("m", "80", "k", good | {"shared": 50000}) and check_figures("m", "80", "k", {})
    line = "        /*0010*/                   {} R2, [R4] ;\n"
    assert not check_code("m", "80", "k", line.format("LDG.E"))
    assert check_code("m", "80", "k", line.format("@!P0 STL.64")) and check_code("m", "80", "k", "")
    both = line.format("HMMA.16816.F32") + line.format("LDSM.16.M88.4")
    assert check_code("m", "80", "gemm_mma", both) and not check_code("m", "80", "gemm_mma", both + line.format("LDGSTS.E"))


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("folder", type=pathlib.Path)
    parse.add_argument("--cuobjdump", default=shutil.which("cuobjdump"))
    parse.add_argument("--table")
    args = parse.parse_args()
    test_myself()
    faults, usage, bytes_, kernels = [], {}, 0, 0
    for path in sorted(args.folder.glob("*.json")):
        usage[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        bytes_ += path.with_suffix(".fatbin").stat().st_size
        for arch, made in usage[path.stem].items():
            for name, figures in made["kernels"].items():
                kernels += 1
                faults += check_figures(path.stem, arch, name, figures)
        if args.cuobjdump:
            for (arch, name), code in disassembled(args.cuobjdump, path.with_suffix(".fatbin")).items():
                faults += check_code(path.stem, arch, name, code)
    if bytes_ > 30 << 20:
        faults.append(f"the modules are {bytes_} bytes, expected at most 30 MiB")
    print("\n".join(faults + [f"{kernels} kernels in {len(usage)} modules of {bytes_} bytes" + ("" if args.cuobjdump else "; no cuobjdump: figures only")]))
    if args.table:
        write_table(args.table, usage)
    sys.exit(1 if faults or kernels == 0 else 0)


if __name__ == "__main__":
    main()
