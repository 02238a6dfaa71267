# SPDX-License-Identifier: Apache-2.0
"""The ctypes mirror against the C compiler: every struct's size, every field's offset and size, every constant."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tenon import _abi

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shlex.split(os.environ.get("CC", "")) or ["cc"]


def facts_of_ctypes() -> dict[str, int]:
    facts = dict(_abi.CONSTANTS)
    for name, struct in _abi.STRUCTS.items():
        facts[f"sizeof {name}"] = ctypes.sizeof(struct)
        for field, *_ in struct._fields_:
            facts[f"offset {name}.{field}"] = getattr(struct, field).offset
            facts[f"size {name}.{field}"] = getattr(struct, field).size
    return facts


def facts_of_compiler(folder: Path) -> dict[str, int]:
    """Compiles and runs a program, made from the ctypes declarations, that prints the same facts."""
    lines = ["#include <stdio.h>", "#include <tenon/tenon.h>", "int main(void)", "{"]

    def say(label: str, expression: str) -> None:
        lines.append(f'    printf("{label}=%lld\\n", (long long)({expression}));')

    for name in _abi.CONSTANTS:
        say(name, name)
    for name, struct in _abi.STRUCTS.items():
        say(f"sizeof {name}", f"sizeof({name})")
        for field, *_ in struct._fields_:
            say(f"offset {name}.{field}", f"offsetof({name}, {field})")
            say(f"size {name}.{field}", f"sizeof((({name} *)0)->{field})")
    lines += ["    return 0;", "}", ""]
    source, program = folder / "facts.c", folder / "facts"
    source.write_text("\n".join(lines))
    subprocess.run([*COMPILER, "-I", str(ROOT / "include"), "-o", str(program), str(source)], check=True)
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return {label: int(value) for label, value in (line.split("=") for line in output.splitlines())}


def public_functions() -> set[str]:
    """Names after TENON_API in the headers."""
    import re

    found: set[str] = set()
    for header in (ROOT / "include" / "tenon").glob("*.h"):
        found.update(re.findall(r"^TENON_API\b[^;]*?\b(tenon_\w+)\s*\(", header.read_text(), re.M))
    return found


@unittest.skipUnless(shutil.which(COMPILER[0]), "no C compiler")
class Abi(unittest.TestCase):
    def test_structs_and_constants(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            compiled = facts_of_compiler(Path(folder))
        self.assertEqual(facts_of_ctypes(), compiled)

    def test_the_comparison_can_fail(self) -> None:
        class Wrong(ctypes.Structure):
            _fields_ = [("bytes", ctypes.c_size_t), ("memory", ctypes.c_void_p)]  # exchanged

        kept = _abi.STRUCTS["tenon_workspace"]
        try:
            _abi.STRUCTS["tenon_workspace"] = Wrong
            with tempfile.TemporaryDirectory() as folder:
                compiled = facts_of_compiler(Path(folder))
            self.assertNotEqual(facts_of_ctypes(), compiled)
        finally:
            _abi.STRUCTS["tenon_workspace"] = kept

    def test_prototypes_name_public_functions(self) -> None:
        self.assertLessEqual(set(_abi.PROTOTYPES), public_functions())


if __name__ == "__main__":
    unittest.main()
