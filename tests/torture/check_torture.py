#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The torture is of everything: each function that the headers declare has a row (torture_stage.h), whose call really calls it, and each
field of an operation's descriptor is used by one of the jobs (torture_problems.c). A new function or field fails here until it has its place."""
import argparse
import pathlib
import re
import sys

OPERATIONS = {"gemm": "tenon_gemm_desc", "softmax": "tenon_softmax_desc", "attention": "tenon_attention_desc",
              "merge": "tenon_attention_merge_desc", "append": "tenon_kv_append_desc", "quantize": "tenon_quantize_desc"}
# Not data: workspaces are lent by test_torture_ops, the rest is for the library to check.
NOT_DATA = {"struct_size", "reserved", "reserved2", "workspace"}


def declared(header):
    """Names of the functions that a header declares."""
    return set(re.findall(r"\bTENON_API\b[^;{]*?\b(\w+)\s*\(", re.sub(r"/\*.*?\*/|^\s*#.*?$", " ", header, flags=re.S | re.M)))


def fields(header, struct):
    """Names of a struct's fields."""
    body = re.search(r"typedef struct %s \{(.*?)\} %s;" % (struct, struct), header, re.S)
    plain = re.sub(r"/\*.*?\*/", " ", body.group(1), flags=re.S) if body else ""
    return {re.search(r"(\w+)\s*$", name).group(1) for line in plain.split(";") if line.strip() for name in line.split(",")}


def function_faults(functions, sources):
    text = "\n".join(sources)
    rows = set(re.findall(r"\b(?:TAKES|QUIET|QUIET_OP|OP|PLAN|BUFFER)\((tenon_\w+)", text))
    bodies = dict(re.findall(r"^CALL\((\w+)\) \{\n(.*?)^\}", text, re.M | re.S))
    found = [f"{name}: has no row" for name in sorted(functions - rows)]
    found += [f"{name}: has a row, is not declared" for name in sorted(rows - functions)]
    return found + [f"{name}: its row does not call it" for name in sorted(functions & rows)
                    if not re.search(rf"\b{name}\(", bodies.get(name, ""))]


def field_faults(header, problems):
    return [f"{struct}.{field}: no job uses it" for op, struct in OPERATIONS.items()
            for field in sorted(fields(header, struct) - NOT_DATA) if not re.search(rf"\bj->{op}\.{field}\b", problems)]


def self_test():
    header = """/* TENON_API int tenon_no(void); */ TENON_API int tenon_a(void);
        typedef struct tenon_gemm_desc { size_t struct_size; /* ; */ tenon_tensor a, b; const void *const *list; } tenon_gemm_desc;"""
    assert declared(header) == {"tenon_a"}
    assert fields(header, "tenon_gemm_desc") == {"struct_size", "a", "b", "list"}
    good = "CALL(tenon_a) {\n    return tenon_a();\n}\n    TAKES(tenon_a, NULL)\n"
    assert not function_faults({"tenon_a"}, [good])
    assert function_faults({"tenon_a", "tenon_b"}, [good]) == ["tenon_b: has no row"]
    assert function_faults(set(), [good])
    assert function_faults({"tenon_a"}, [good.replace("tenon_a();", "0;")])
    assert field_faults(header, "j->gemm.a = j->gemm.list;") == ["tenon_gemm_desc.b: no job uses it"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--include", type=pathlib.Path, required=True)
    root = pathlib.Path(__file__).parent
    args = parser.parse_args()
    self_test()
    header = "\n".join(path.read_text() for path in sorted((args.include / "tenon").glob("*.h")))
    functions = declared(header)
    faults = function_faults(functions, [(root / name).read_text() for name in ("torture_taking.c", "torture_quiet.c")])
    faults += field_faults(header, (root / "torture_problems.c").read_text())
    print("\n".join(faults))
    print(f"{len(functions)} functions, {sum(len(fields(header, s) - NOT_DATA) for s in OPERATIONS.values())} fields of {len(OPERATIONS)} descriptors")
    return bool(faults or len(functions) < 50)


if __name__ == "__main__":
    sys.exit(main())
