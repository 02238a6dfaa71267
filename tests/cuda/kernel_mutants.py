#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kernels made wrong on purpose: how many of them do the tests notice?

    kernel_mutants.py PROGRAM [--most N] [--seed S] [--kernel NAME] [--jobs N] [--list] [--survivors]

PROGRAM is kernel_mutants.c built; TENON_CUDA_LIBRARY names the stand-in driver. A mutant is one statement of a kernel's PTX changed (OPERATORS), which the
stand-in puts in place as it loads the module. It is caught if a case of kernel_cases.c that executes the statement fails: a wrong value, a finding of the
stand-in, a fault, no end. Statements that no case executes are not changed, nor branches that all cases take the
same way (most are a choice by an operand's type, which conform_* go through); the share of what is executed is told. For each kernel every operator gets an equal share of the
mutants, statements drawn by the seed; --most N takes a sample of that list, for a test that has little time.

kernel_mutants.txt explains those that survive: "same" are equivalent, no test could notice them, and they don't count; "missed" are ours to answer for.
Fails if less than LEAST of those that count are caught, or (of all mutants, as another nvcc writes other statements) one survives that isn't explained.
"""
import argparse
import collections
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile
import time

KERNELS = ["gemm_plain_f32", "gemm_plain_exact", "gemm_bf16_128x128", "gemm_f16_64x64", "gemm_bf16_16x128", "gemm_f16_128x16", "gemm_join_f32", "gemm_rows_32_1", "gemm_rows_16_8",
           "gemm_s8_64x64", "gemm_s8_16x128", "gemm_join_s32", "gemm_tf32_16x128", "softmax_short_f32", "softmax_long_f32", "attention_plain_f32",
           "attention_join_f32", "attention_mma_bf16_64", "attention_mma_bf16_flat", "cache_append_f32", "cache_merge"]
EXPLAINED = pathlib.Path(__file__).with_suffix(".txt")
LEAST = 0.95
EACH = 3  # of an operator, in a kernel
# What orders and moves data: mistakes there are what a GPU hides best.
WEIGHT = {"barrier dropped": 8, "arrive dropped": 4, "commit dropped": 4, "wait dropped": 4, "wait for fewer": 4, "copy beyond the edge": 4, "fragments swapped": 6}

STATEMENT = re.compile(r"^(\s*)(@!?%p\d+\s+)?([a-z][\w.:]*)\s*(.*);\s*$")
SHIFTED = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt", "lo": "ls", "ls": "lo", "hi": "hs", "hs": "hi"}
NEGATED = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "lo": "hs", "hs": "lo", "hi": "ls", "ls": "hi"}
BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


def operands_of(text):
    """Split at commas outside of braces and brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += c in "{[("
        depth -= c in ")]}"
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return parts + [text[start:].strip()] if text.strip() else []


def swapped(register_list, i, j):
    items = operands_of(register_list.strip()[1:-1])
    items[i], items[j] = items[j], items[i]
    return "{" + ", ".join(items) + "}"


def memory(opcode, parts, guard):
    words = opcode.split(".")
    if words[0] not in ("ld", "st") or words[1] in ("param", "local", "const"):
        return
    address = next(i for i, p in enumerate(parts) if p.startswith("["))
    base, plus, offset = parts[address][1:-1].partition("+")
    moved = parts.copy()
    moved[address] = f"[{base}+{int(offset or 0) + BYTES[words[-1][1:]]}]"
    yield "offset", guard, opcode, moved
    if words[0] == "st":
        yield "store dropped", None, None, None


def tensor(opcode, parts, guard):
    if opcode.startswith("mma."):
        for place, pairs in ((0, [(0, 1), (1, 2)]), (1, [(0, 1), (1, 2), (0, 2)]), (2, [(0, 1)])):
            for i, j in pairs:
                yield "fragments swapped", guard, opcode, parts[:place] + [swapped(parts[place], i, j)] + parts[place + 1:]
        yield "fragments swapped", guard, opcode, parts[:2] + [parts[2].replace(operands_of(parts[2][1:-1])[1], operands_of(parts[2][1:-1])[0])] + parts[3:]
    elif opcode.startswith("ldmatrix."):
        yield "fragments swapped", guard, opcode, [swapped(parts[0], 0, 1)] + parts[1:]
        yield "fragments swapped", guard, opcode, [swapped(parts[0], 1, 2)] + parts[1:]
        if ".trans" in opcode:
            yield "not turned", guard, opcode.replace(".trans", ""), parts
    elif opcode == "cp.async.commit_group":
        yield "commit dropped", None, None, None
    elif opcode in ("cp.async.wait_group", "cp.async.wait_all"):
        yield "wait dropped", None, None, None
        if parts:
            yield "wait for fewer", guard, opcode, [str(int(parts[0]) + 1)]
    elif opcode.startswith("cp.async.") and not opcode.startswith("cp.async.bulk."):
        yield "copy dropped", None, None, None
        if len(parts) == 4:
            yield "copy beyond the edge", guard, opcode, parts[:2] + [parts[2], parts[2]]


def hopper(opcode, parts, guard):
    if opcode.startswith("mbarrier.init"):
        yield "barrier dropped", None, None, None
    elif opcode.startswith("mbarrier.arrive"):
        yield "arrive dropped", None, None, None
        if ".expect_tx" in opcode:
            yield "bytes not expected", guard, opcode.replace(".expect_tx", ""), parts[:2]
    elif opcode.startswith("mbarrier.try_wait"):
        yield "wait dropped", guard, "setp.eq.u32", [parts[0], parts[2], parts[2]]
    elif opcode.startswith("cp.async.bulk.tensor"):
        yield "copy dropped", None, None, None
    elif opcode.startswith("wgmma.commit_group"):
        yield "commit dropped", None, None, None
    elif opcode.startswith("wgmma.wait_group"):
        yield "wait dropped", None, None, None
        yield "wait for fewer", guard, opcode, [str(int(parts[0]) + 1)]
    elif opcode.startswith("wgmma.mma_async"):
        yield "product dropped", None, None, None
        yield "fragments swapped", guard, opcode, [swapped(parts[0], 0, 1)] + parts[1:]
        yield "fragments swapped", guard, opcode, [parts[0], parts[2], parts[1]] + parts[3:]
        yield "not turned", guard, opcode, parts[:-1] + [str(1 - int(parts[-1]))]
        yield "not turned", guard, opcode, parts[:-2] + [str(1 - int(parts[-2])), parts[-1]]


def lanes(opcode, parts, guard):
    if re.match(r"(bar|barrier)\.(cta\.)?(warp\.)?sync", opcode):
        yield "barrier dropped", None, None, None
    elif opcode.startswith("bar.red."):
        yield "barrier dropped", guard, "mov.u32" if opcode.endswith("u32") else "mov.pred", [parts[0], parts[-1]]
    elif opcode.startswith("shfl."):
        step = int(parts[2]) if re.fullmatch(r"\d+", parts[2]) else None
        if step:
            yield "shuffle", guard, opcode, parts[:2] + [str(step // 2)] + parts[3:]
        yield "shuffle", guard, opcode, parts[:-1] + ["0x7fffffff"]


def control(opcode, parts, guard):
    words = opcode.split(".")
    if words[0] == "setp" and words[1] in NEGATED:
        if words[1] in SHIFTED and not words[-1].startswith("f") and parts[2].startswith("%"):
            yield "comparison shifted", guard, ".".join([words[0], SHIFTED[words[1]], *words[2:]]), parts
        yield "comparison negated", guard, ".".join([words[0], NEGATED[words[1]], *words[2:]]), parts
    if guard:
        flipped = guard.replace("@!", "@") if guard.startswith("@!") else guard.replace("@", "@!")
        yield "predicate flipped", flipped, opcode, parts
        yield "predicate dropped", "", opcode, parts


def arithmetic(opcode, parts, guard):
    name = opcode.split(".")[0]
    if name in ("sub", "div", "rem", "shl", "shr") and len(parts) == 3 and parts[1] != parts[2] and parts[1].startswith("%"):
        yield "operands swapped", guard, opcode, [parts[0], parts[2], parts[1]]
    elif name in ("fma", "mad") and len(parts) == 4:
        yield "operands swapped", guard, opcode, [parts[0], parts[1], parts[3], parts[2]]
    elif name == "selp":
        yield "operands swapped", guard, opcode, [parts[0], parts[2], parts[1], parts[3]]
    if name in ("add", "shl", "shr", "and", "mul", "mad", "or", "xor") and opcode[-3] in "sub" and re.fullmatch(r"-?\d+", parts[2]):
        changed = parts.copy()
        changed[2] = str(int(parts[2]) + 1)
        yield "number", guard, opcode, changed


def mutants_of(line):
    """(operator, changed line) of one line of PTX."""
    found = STATEMENT.match(line)
    if not found or found.group(3).startswith("mov"):
        return
    indent, guard, opcode, rest = found.groups()
    parts = operands_of(rest)
    for operators in (memory, tensor, hopper, lanes, control, arithmetic):
        for what, new_guard, new_opcode, new_parts in operators(opcode, parts, guard or ""):
            text = "" if new_opcode is None else f"{indent}{new_guard}{new_opcode} {', '.join(new_parts)};"
            if text != line:
                yield what, text


def known_equal(lines, i, what):
    """Whether such a change of line i is known to change nothing."""
    near = "\n".join(lines[max(i - 3, 0):i])
    parts = operands_of(STATEMENT.match(lines[i]).group(4))
    if what == "comparison shifted":  # of a minimum or maximum
        return any(re.search(rf"selp\.\w+ %\w+, ({re.escape(parts[1])}, {re.escape(parts[2])}|{re.escape(parts[2])}, {re.escape(parts[1])}), %p", text)
                   for text in lines[i + 1:i + 8])
    # nvcc divides by a power of two with the sign of what is never negative
    signs = re.findall(r"shr\.s(?:32|64) (%\w+), %\w+, (?:31|63);", near)
    return re.search(r"shr\.s(32|64) .*, (31|63);", lines[i]) is not None or any(p in signs for p in parts[1:])


def one_way(lines, i, reached):
    """Whether line i is a branch, or what decides one, that the cases take one way only, or one between ways that are known to do the same."""
    found = STATEMENT.match(lines[i])
    guard, opcode, parts = found.group(2), found.group(3), operands_of(found.group(4))
    if opcode.startswith("setp."):
        if any("-4294967296" in text for text in lines[i - 2:i]):
            return True  # nvcc divides in 32 bits where both numbers have no more
        for j in range(i + 1, min(i + 12, len(lines))):
            if re.match(rf"\s*@!?{parts[0]}\s+bra", lines[j]):
                return one_way(lines, j, reached)
        return False
    if guard and opcode.startswith("bra"):
        label = next(j for j in range(len(lines)) if lines[j].startswith(parts[0] + ":"))
        ways = [next((j for j in range(k, len(lines)) if STATEMENT.match(lines[j])), i) for k in (i + 1, label)]
        decided = any("-4294967296" in text for text in lines[i - 3:i])
        return decided or not all(j + 1 in reached for j in ways)
    return "-4294967296" in lines[i]


Mutant = collections.namedtuple("Mutant", "kernel line what old new cases")


def squeezed(statement):
    """Without the numbers of registers and labels and without mangled names, which change with every build."""
    statement = re.sub(r"_ZZ\w+", "_ZZ", statement)
    return re.sub(r"\$L__BB\d+_\d+", "$L", re.sub(r"%(rd|rs|fd|f|r|p|h|b)\d+", r"%\1", " ".join(statement.split())))


def body_of(lines, kernel):
    start = next(i for i, text in enumerate(lines) if re.search(rf"\.entry {kernel}\(", text))
    end = next((i for i in range(start + 1, len(lines)) if ".entry " in lines[i]), len(lines))
    return range(start + 1, end)


def generate(folder, kernels, seed):
    reached = collections.defaultdict(lambda: collections.defaultdict(list))
    rows = [row.split() for row in (folder / "reached").read_text(encoding="utf-8").splitlines()]
    for case, _, kernel, *lines in sorted(rows, key=lambda row: int(row[1])):  # the cheapest first
        for line in lines:
            reached[kernel][int(line)].append(int(case))
    mutants, shares = [], []
    for kernel in kernels:
        lines = (folder / f"{kernel}.ptx").read_text(encoding="utf-8").split("\n")
        statements = [i for i in body_of(lines, kernel) if STATEMENT.match(lines[i])]
        shares.append((kernel, sum(i + 1 in reached[kernel] for i in statements), len(statements)))
        by_operator = collections.defaultdict(list)
        for i in statements:
            if i + 1 not in reached[kernel] or one_way(lines, i, reached[kernel]):
                continue
            for what, new in mutants_of(lines[i]):
                if known_equal(lines, i, what):
                    continue
                by_operator[what].append(Mutant(kernel, i + 1, what, lines[i], new, reached[kernel][i + 1]))
        for what, all_ in sorted(by_operator.items()):
            draw = random.Random(f"{seed} {kernel} {what}")
            mutants += draw.sample(all_, min(len(all_), WEIGHT.get(what, EACH)))
    return mutants, shares


def explanations():
    rows = []
    for row in EXPLAINED.read_text(encoding="utf-8").splitlines() if EXPLAINED.exists() else ():
        if row and not row.startswith("#"):
            kernel, what, statement, most, verdict, reason = row.split("\t")
            rows.append([kernel, what, statement, int(most), verdict, reason])
    return rows


def explained(rows, mutant):
    """(same or missed, why), each row for as many mutants as it says; None: there is none."""
    for row in rows:
        kernel, what, statement, most, verdict, reason = row
        if re.fullmatch(kernel, mutant.kernel) and what == mutant.what and statement == squeezed(mutant.old) and most > 0:
            row[3] -= 1
            return verdict, reason
    return None


def run(program, mutants, folder, jobs):
    """What noticed each mutant, by so many processes."""
    running, answers = [], {}
    for job in range(jobs):
        path = folder / f"mutants{job}"
        path.write_text("".join(f"{m.kernel}\t{m.line}\t{','.join(map(str, m.cases))}\t{m.new}\n" for m in mutants[job::jobs]), encoding="utf-8")
        running.append(subprocess.Popen([program, "run", path], stdout=subprocess.PIPE, text=True))  # pylint: disable=consider-using-with
    for job, process in enumerate(running):
        answers[job] = process.communicate()[0].splitlines()
        if process.returncode != 0 or len(answers[job]) != len(mutants[job::jobs]):
            sys.exit(f"{len(answers[job])} answers to {len(mutants[job::jobs])} mutants")
    return [answers[i % jobs][i // jobs] for i in range(len(mutants))]


def test_myself():
    """The operators change what they say."""
    made = {what for line in ("\tbar.sync 0;", "\tcp.async.commit_group;", "\tcp.async.wait_group 1;", "\tcp.async.cg.shared.global [%r1], [%rd1], 16, %r2;",
                              "\t@%p1 bra $L__BB0_1;", "\tsetp.lt.s32 %p1, %r1, %r2;", "\tst.shared.f32 [%r1+4], %f1;", "\tsub.s32 %r1, %r2, %r3;",
                              "\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};",
                              "\tshfl.sync.bfly.b32 %r1|%p1, %r2, 16, 31, -1;") for what, _ in mutants_of(line)}
    assert {"barrier dropped", "commit dropped", "wait dropped", "wait for fewer", "copy beyond the edge", "predicate dropped", "comparison shifted", "offset",
            "operands swapped", "fragments swapped", "shuffle", "store dropped"} <= made, made
    assert dict(mutants_of("\tst.shared.f32 [%r1+4], %f1;"))["offset"] == "\tst.shared.f32 [%r1+8], %f1;"
    assert squeezed("\t@%p12 bra  $L__BB3_4;") == "@%p bra $L;"


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("program")
    parse.add_argument("--most", type=int, default=0)
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--kernel", action="append", help="of this kernel alone; may be repeated")
    parse.add_argument("--line", type=int, action="append", help="of this line alone; may be repeated")
    parse.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parse.add_argument("--list", action="store_true", help="every mutant, and what noticed it")
    parse.add_argument("--survivors", action="store_true", help="survivors as rows for kernel_mutants.txt")
    args = parse.parse_args()
    test_myself()
    kernels, rows, begun = args.kernel or KERNELS, explanations(), time.time()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        done = subprocess.run([args.program, "reach", folder, *kernels], check=False)
        if done.returncode != 0:
            sys.exit("the kernels as they are fail")
        mutants, shares = generate(folder, kernels, args.seed)
        mutants = [m for m in mutants if not args.line or m.line in args.line]
        if args.most and args.most < len(mutants):
            mutants = random.Random(args.seed).sample(mutants, args.most)
        reached = time.time()
        said = run(args.program, mutants, folder, args.jobs)
    survivors = same = unexplained = 0
    for m, answer in zip(mutants, said):
        survives = answer == "-"
        if args.survivors and survives:
            print("\t".join((m.kernel, m.what, squeezed(m.old), "1", "missed", f"line {m.line}")))
        elif args.list or survives:
            print(f"{m.kernel}, line {m.line}, {m.what}: {m.old.strip()} -> {m.new.strip() or 'nothing'}: {'SURVIVES' if survives else answer}")
        if survives:
            why = explained(rows, m)
            survivors += 1
            same += why is not None and why[0] == "same"
            unexplained += why is None
            if not args.survivors:
                print("    " + (": ".join(why) if why else "not explained"))
    for kernel, some, all_ in shares:
        print(f"{kernel}: {some} of {all_} statements are executed")
    caught, count = len(mutants) - survivors, len(mutants) - same
    print(f"{caught} of {count} mutants caught ({100 * caught / count:.1f} %), {same} more that change nothing, {unexplained} not explained; "
          f"{reached - begun:.0f} s for the kernels as they are, {time.time() - reached:.0f} s for the mutants, {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s of processors' time")
    sys.exit(0 if caught >= LEAST * count and (args.most or unexplained == 0) else 1)


if __name__ == "__main__":
    main()
