#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables from the results of sweep.py.

    python bench/faults/fault_table.py            prints them
    python bench/faults/fault_table.py --write    puts them into README.md and docs/FAULTS.md, between their marks

The results are the files of results/, the newest by name.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLACES = {"summary": ROOT / "README.md", "details": ROOT / "docs" / "FAULTS.md"}


def results() -> dict[str, Any]:
    newest = max((HERE / "results").glob("*.json"))
    document: dict[str, Any] = json.loads(newest.read_text())
    return document


def short_version(text: str) -> str:
    if found := re.search(r"git\d+", text):
        return found.group()
    found = re.search(r"\d+(\.\d+){1,2}", text)
    return found.group() if found else text


def grid(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def number(count: int) -> str:
    return str(count) if count else "·"


COLUMNS = {
    "right result": ("ok",),
    "error told, next call works": ("error",),
    "next call fails": ("poisoned",),
    "process ended": ("exit", "signal"),
    "hangs": ("hang",),
    "wrong result": ("wrong",),
}


def summary(document: dict[str, Any]) -> str:
    """One row per library: all its calls, phases and modes together."""
    rows = []
    for peer in dict.fromkeys(r["peer"] for r in document["results"]):
        calls = [r for r in document["results"] if r["peer"] == peer]
        outcomes: Counter[str] = Counter()
        for call in calls:
            for row in call["rows"]:
                outcomes.update(row["outcomes"])
        # tenon's calls that plan anew each time are not what a later call is to others.
        warm = sorted(
            {
                row["sites"]
                for call in calls
                for row in call["rows"]
                if row["phase"] == "warm" and "plan" not in call["call"]
            }
        )
        injected = sum(outcomes.values()) - outcomes["missed"]
        name = f"**{peer}**" if peer.startswith("tenon") else peer
        version = short_version(calls[0]["version"])
        rows.append(
            [
                f"{name} {version}",
                " to ".join(map(str, dict.fromkeys((warm[0], warm[-1])))) if warm else "?",
                str(injected),
                *[number(sum(outcomes[kind] for kind in kinds)) for kinds in COLUMNS.values()],
            ]
        )
    return grid(["", "requests of a later call", "failures injected", *COLUMNS], rows)


def details(document: dict[str, Any]) -> str:
    """One row per call, phase and mode, with what happened most often."""
    rows = []
    for call in document["results"]:
        for row in call["rows"]:
            if not row["tried"]:
                continue
            outcomes = Counter(row["outcomes"])
            worst = row["bad"][0] if row["bad"] else None
            rows.append(
                [
                    f"{call['peer']}, {call['call']}",
                    f"{row['phase']}, {row['mode']}",
                    f"{row['tried']} of {row['sites']}",
                    *[number(sum(outcomes[kind] for kind in kinds)) for kinds in COLUMNS.values()],
                    number(outcomes["missed"]),
                    f"{worst['what']} ({worst['where']})".replace("|", "/") if worst else "",
                ]
            )
    head = ["", "phase, mode", "sites tried", *COLUMNS, "not reached", "most frequent of the bad ones"]
    sources = [
        f"- {name}: {version} ({source})"
        for name, version, source in dict.fromkeys((r["peer"], r["version"], r["source"]) for r in document["results"])
    ]
    machine = document["machine"]
    where = f"{document['date']}; {machine['cores']} cores of an {machine['cpu']}, {machine['system']}, {machine['libc']}; {document['threads']} threads."
    return f"{where}\n\n" + "\n".join(sources) + "\n\n" + grid(head, rows)


def marked(text: str, name: str, table: str) -> str:
    """`text` with what stands between the marks of `name` replaced."""
    begin, end = f"<!-- faults {name}: begin (bench/faults/fault_table.py) -->\n", f"<!-- faults {name}: end -->"
    before, _, rest = text.partition(begin)
    if end not in rest:
        raise SystemExit(f"fault_table.py: the marks of '{name}' are missing")
    return before + begin + "\n" + table + "\n" + end + rest.partition(end)[2]


def is_current() -> bool:
    document = results()
    made = {"summary": summary(document), "details": details(document)}
    return all(place.read_text() == marked(place.read_text(), name, made[name]) for name, place in PLACES.items())


def main() -> None:
    document = results()
    made = {"summary": summary(document), "details": details(document)}
    for name, place in PLACES.items():
        if "--write" in sys.argv[1:]:
            place.write_text(marked(place.read_text(), name, made[name]))
        else:
            print(made[name])


if __name__ == "__main__":
    main()
