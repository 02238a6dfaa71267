#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every object of the static library: what it may ask of the system, what it may define, what it must not contain.

Only the os layer (core/os_*.c) calls the system; everything else gets by with the few functions listed here, none of which
allocates. Kernels, compiled once per instruction set, define nothing that another level also defines: an inline function
compiled for AVX-512 and merged by the linker would crash older processors. No object has thread-local data or a constructor.
"""
import argparse
import pathlib
import re
import subprocess
import sys

TEXT = {"memchr", "memcmp", "memcpy", "memmove", "memset", "snprintf", "strchr", "strcmp", "strcspn", "strlen", "strncmp",
        "strnlen", "strrchr", "strspn", "strstr", "vsnprintf"}
MATH = {"cos", "erf", "erfc", "exp", "exp2", "expf", "expm1", "fabs", "floor", "fma", "fmaf", "fmax", "fmin", "frexp", "ldexp", "log",
        "log1p", "log2", "logf", "nearbyint", "nearbyintf", "pow", "rint", "rintf", "sin", "sqrt", "sqrtf", "tanh"}
SYSTEM = {"clock_gettime", "close", "dlclose", "dlopen", "dlsym", "free", "getenv", "getpid", "getrlimit", "madvise", "malloc",
          "mmap", "mlock", "munlock", "munmap", "open", "posix_memalign", "pthread_attr_destroy", "pthread_attr_init", "pthread_attr_setstacksize",
          "pthread_create", "pthread_join", "pthread_mutex_lock", "pthread_mutex_trylock", "pthread_mutex_unlock",
          "pthread_sigmask", "pread", "read", "rename", "sched_getaffinity", "sched_getcpu", "sched_yield", "sigdelset", "sigfillset", "syscall", "sysconf", "unlink", "write"}
# A variable, read inline where a mutex is taken (core/os.h).
ALONE = {"__libc_single_threaded"}
# What compilers put in by themselves.
COMPILER = re.compile(r"_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|__cpu_model|__cpu_indicator_init|__(div|mul|u?mod|fix|float|extend|trunc)\w*"
                      r"|__errno_location|__popcount\w*")
OURS = re.compile(r"tn_|tenon_")
FORBIDDEN_SECTIONS = re.compile(r"\.(tdata|tbss|init_array|fini_array|ctors|dtors|preinit_array)\b")


def members(listing):
    """[(object, [(type letter, name)])] of what nm prints for an archive. Several objects may have one name."""
    result = []
    for line in listing.splitlines():
        header = re.match(r"(?:.*/)?([\w.+-]+\.o):$", line)
        symbol = re.match(r"(?:[0-9a-f]+)?\s+(\w)\s+(\S+)$", line)
        if header:
            result.append((header.group(1), []))
        elif symbol and result:
            result[-1][1].append(symbol.groups())
    return result


def plain(name):
    """Without the marks of 64-bit file offsets and of fortification."""
    name = re.sub(r"^__(\w+)_chk$", r"\1", name)
    return name[:-2] if name in {"open64", "mmap64", "getrlimit64", "pread64"} else name


def import_faults(name, found):
    allowed = TEXT | MATH | ALONE | (SYSTEM if re.search(r"core_os_\w+\.c\.o$", name) else set())
    wanted = {plain(symbol) for kind, symbol in found if kind in "Uw" and not OURS.match(symbol) and not COMPILER.fullmatch(symbol)}
    return [f"{name}: calls {symbol}()" for symbol in sorted(wanted - allowed)]


def kernel_faults(name, found, levels):
    defined = [(kind, symbol) for kind, symbol in found if kind in "TDRBVWCu"]
    faults = [f"{name}: {symbol} could be merged with another level's" for kind, symbol in defined if kind in "VWCu"]
    mine = next((level for level in levels for _, symbol in defined if symbol.endswith("_" + level)), "?")
    return faults + [f"{name} of {mine}: defines {symbol}, expected tn_…_{mine}" for kind, symbol in defined
                     if kind in "TDRB" and not (symbol.startswith("tn_") and symbol.endswith("_" + mine))]


def visibility_faults(archive):
    """What is not declared in a public header must stay inside a shared library that takes the objects in."""
    lines = subprocess.run(["readelf", "-sW", archive], check=True, capture_output=True, text=True).stdout
    faults = []
    for line in lines.splitlines():
        part = line.split()
        if len(part) == 8 and part[4] in ("GLOBAL", "WEAK") and part[6] != "UND" and part[5] == "DEFAULT":
            if not part[7].startswith("tenon_"):
                faults.append(f"{part[7]}: is not hidden")
    return faults


def section_faults(archive):
    lines = subprocess.run(["readelf", "-SW", archive], check=True, capture_output=True, text=True).stdout
    return [f"has a section {found}" for found in sorted({match.group(0) for match in FORBIDDEN_SECTIONS.finditer(lines)})]


def self_test():
    """Each rule must be able to fail."""
    assert import_faults("memory_pool.c.o", [("U", "malloc")]) == ["memory_pool.c.o: calls malloc()"]
    assert not import_faults("core_os_posix.c.o", [("U", "malloc"), ("U", "open64"), ("U", "tn_x"), ("T", "abort")])
    assert import_faults("core_os_posix.c.o", [("U", "__printf_chk")]) == ["core_os_posix.c.o: calls printf()"]
    levels = ["avx2", "avx512"]
    assert not kernel_faults("k.o", [("T", "tn_ukr_gemm_avx2"), ("t", "helper"), ("U", "memcpy")], levels)
    assert len(kernel_faults("k.o", [("T", "tn_a_avx2"), ("T", "tn_b_avx512"), ("W", "tn_c_avx2"), ("D", "d_avx2")], levels)) == 3
    assert members("\nlib.a:\n\na.c.o:\n0000 T tn_a\n     U memcpy\n\na.c.o:\n") == [
        ("a.c.o", [("T", "tn_a"), ("U", "memcpy")]), ("a.c.o", [])]
    assert FORBIDDEN_SECTIONS.search("[ 5] .tbss  NOBITS") and not FORBIDDEN_SECTIONS.search(".data.rel.ro")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=pathlib.Path, required=True, help="libtenon.a")
    parser.add_argument("--level", action="append", default=[], help="an instruction set that kernels are compiled for")
    args = parser.parse_args()
    self_test()

    objects = members(subprocess.run(["nm", args.library], check=True, capture_output=True, text=True).stdout)
    faults = [fault for name, found in objects for fault in import_faults(name, found)]
    kernels = [(name, found) for name, found in objects if name.startswith("kernels_")]
    faults += [fault for name, found in kernels for fault in kernel_faults(name, found, args.level)]
    faults += visibility_faults(args.library) + section_faults(args.library)
    if not any("core_os_" in name for name, _ in objects) or len(kernels) < len(args.level):
        faults.append(f"{args.library}: the os layer or a level's kernels are missing, so not everything was checked")
    for fault in sorted(set(faults)):
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
