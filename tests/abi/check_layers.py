#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules that the source tree keeps: who includes whom, which functions nobody calls, how files begin and how long they are.

Rooms are layers: include < core, memory < ops < {ref, cpu, …}; backends never include each other. blas stands on include alone. See docs/ARCHITECTURE.md.
"""
import pathlib
import re
import sys

# What each room may include besides its own files and <tenon/…>: whole rooms, or single headers.
BACKEND = ["core/backend.h", "core/checked.h", "core/message.h", "core/team.h", "ops/"]
ALLOWED = {
    "core": ["memory/", "ops/problem.h"],  # what a backend's table speaks about
    "memory": ["core/"],
    "ops": ["core/checked.h", "core/message.h", "core/places.h", "memory/buffer.h"],
    "ops/entry.c": ["core/"],  # the public entry points: where validation meets dispatch
    "ops/entry_blocks.c": ["core/"],
    "ops/entry_groups.c": ["core/"],
    "ops/entry_pack.c": ["core/"],
    "ref": BACKEND,
    "cpu": BACKEND + ["core/os.h"],
    "cpu/kernels": ["cpu/cpu_features.h", "ops/blocks.h"],  # compiled once per instruction set: nothing shared may slip in (structs and static inline may)
    "blas": [],  # on top of the public headers
    "cuda": BACKEND + ["core/os.h", "memory/space.h"],
    "opencl": BACKEND + ["core/os.h", "memory/space.h"],
}

# Functions that allocate behind our back, end the host or touch what is the host's.
BANNED = {
    "abort", "exit", "_exit", "raise", "signal", "sigaction", "printf", "fprintf", "puts", "putchar", "perror", "fopen", "fdopen",
    "getline", "strdup", "strndup", "asprintf", "qsort", "setlocale", "pthread_once", "call_once", "atexit", "alloca", "system",
}
OS_ONLY = {"malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "mmap", "munmap", "getenv", "pthread_create", "open"}
BANNED_WORDS = {"__thread", "_Thread_local", "thread_local", "long", "constructor"}
MAY_CALL = {"blas/blas_contexts.c": {"getenv"}}  # nobody hands the overlay a number of threads
LONGEST = 1000
WIDEST = {"include": 140, "src": 100}  # columns; comments too, which clang-format leaves alone
WIDEST_KERNEL = 120  # of OpenCL C, which clang-format does not see
SUFFIXES = {".c", ".h", ".inc", ".def", ".cu", ".cl"}

# What only operations and backends may speak of: the core's code knows none of them.
OPERATIONS = re.compile(r"\b(?:TN_OP|(?:TN|tn|TENON|tenon)_(?:GEMM|gemm|SOFTMAX|softmax|ATTENTION|attention|KV|kv|MERGE|merge|APPEND|append|QUANTIZE|quantize|DEQUANTIZE|dequantize))_\w+")

COMMENTS_AND_STRINGS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
CALL = re.compile(r"(?<![\w.>])([a-z_]\w*)\s*\(")


def room_of(path):
    """The room's key in ALLOWED for a path relative to src/, most specific first."""
    name = path.as_posix()
    keys = [key for key in ALLOWED if name == key or name.startswith(key + "/")]
    return max(keys, key=len) if keys else None


def include_faults(path, text, exists):
    """Sentences about the includes of one source file; `exists` says whether a path relative to src/ is a file."""
    room = room_of(path)
    if room is None:
        return [f"src/{path}: in no room that check_layers.py knows"]
    faults = []
    own = path.parent.as_posix() + "/"
    for name in INCLUDE.findall(text):
        near = (path.parent / name).as_posix()
        target = near if exists(near) else name
        if target.startswith(own) or (room != "cpu/kernels" and room_of(pathlib.PurePath(target)) == room):
            continue
        if room == "cpu" and target.startswith("cpu/"):
            continue
        if any(target == rule or (rule.endswith("/") and target.startswith(rule)) for rule in ALLOWED[room]):
            continue
        faults.append(f'src/{path}: includes "{name}", which {room} may not')
    return faults


def code_faults(path, text):
    if path.suffix == ".cl":
        return []  # another language: its long has 64 bits everywhere
    code = COMMENTS_AND_STRINGS.sub(lambda match: '""' if match.group(0)[0] in "\"'" else " ", text)
    banned = BANNED if path.name.startswith("os_") else BANNED | OS_ONLY
    banned = banned - MAY_CALL.get(path.as_posix(), set())
    faults = [f"src/{path}: calls {name}()" for name in sorted(set(CALL.findall(code)) & banned)]
    if path.parts[0] == "core" and path.suffix == ".c":
        faults += [f"src/{path}: knows {name}" for name in sorted(set(OPERATIONS.findall(code)))]
    words = set(re.findall(r"\b\w+\b", re.sub(r"\blong\s+long\b", "", code)))
    return faults + [f"src/{path}: uses {word}" for word in sorted(words & BANNED_WORDS)]


def file_faults(path, text):
    lines = text.splitlines()
    faults = []
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:2]):
        faults.append(f"{path}: does not begin with its licence")
    if len(lines) > LONGEST:
        faults.append(f"{path}: {len(lines)} lines, too long")
    widest = WIDEST_KERNEL if path.suffix == ".cl" else WIDEST.get(path.parts[0]) if path.suffix != ".py" else None
    if widest:
        faults += [f"{path}:{n}: {len(line)} columns" for n, line in enumerate(lines, 1) if len(line) > widest]
    if re.search(r"(?<![\w.}])/(?:work|home|root)/\w", text):
        faults.append(f"{path}: names a path of some machine")
    return faults


def controls():
    """The rules must be able to fail."""
    here = pathlib.PurePosixPath
    nothing = lambda name: False  # noqa: E731
    assert include_faults(here("cpu/cpu_gemm.c"), '#include "ref/ref_ops.h"\n', nothing)
    assert include_faults(here("memory/pool.c"), '#include "ops/ops.h"\n', nothing)
    assert include_faults(here("ops/op_gemm.c"), '#include "core/dispatch.h"\n', nothing)
    assert include_faults(here("cpu/kernels/k.c"), '#include "core/os.h"\n', nothing)
    assert not include_faults(here("ops/entry.c"), '#include "core/dispatch.h"\n', nothing)
    assert code_faults(here("ops/a.c"), "int f(void) { return printf(\"x\"); }")
    assert code_faults(here("ops/a.c"), "static __thread int x;")
    assert code_faults(here("opencl/a.c"), "long x;") and not code_faults(here("opencl/kernels/a.cl"), "long x;")
    assert not code_faults(here("ops/a.c"), "/* malloc() */ int f(void) { pool.free(x); s = \"abort()\"; }")
    assert code_faults(here("ops/a.c"), "void *p = malloc(3);") and not code_faults(here("core/os_posix.c"), "void *p = malloc(3);")
    assert code_faults(here("core/a.c"), "int f(int op) { return op == TN_OP_GEMM; }")
    assert code_faults(here("core/a.c"), "int f(const tn_gemm_problem *p);") and not code_faults(here("ops/a.c"), "tn_gemm_problem p;")
    assert file_faults(here("a.c"), "int x;\n")
    licence = "/* SPDX-License-Identifier: Apache-2.0 */\n"
    for room, widest in WIDEST.items():
        assert file_faults(here(room) / "a.h", licence + "/" * (widest + 1))
        assert not file_faults(here(room) / "a.h", licence + "/" * widest)


def main(root):
    controls()
    src = root / "src"
    faults, seen, count = [], {}, 0
    for path in sorted(src.rglob("*")):
        if path.suffix not in SUFFIXES:
            continue
        count += 1
        name, text = path.relative_to(src), path.read_text(encoding="utf-8")
        faults += include_faults(name, text, lambda near: (src / near).is_file())
        faults += code_faults(name, text)
        if path.name in seen:
            faults.append(f"src/{name}: has the name of src/{seen[path.name]}")
        seen[path.name] = name
    for folder in ("include", "src", "tests", "examples", "bench", "python"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES | {".py", ".cpp"} and "__pycache__" not in path.parts:
                faults += file_faults(path.relative_to(root), path.read_text(encoding="utf-8"))
    print("\n".join(faults) if faults else f"{count} files of src in order")
    return bool(faults) or count == 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
