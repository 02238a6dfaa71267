#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tenon beside its peers in processes whose address space is limited (what `ulimit -v` does).

    python bench/peers/limited_memory.py --build build                       all peers of bench/faults that are installed
    python bench/peers/limited_memory.py --build build --only OpenBLAS,BLIS --size 1024

A product is asked for while the limit stands; then the limit is lifted and it is asked for once more. First each library
in processes of its own, with less and less memory: once with a limit of the whole process that stands from before the library
is opened, once with an allowance for what the product may add to a process that has the library open. Then, for every peer
that ended its process, one process that calls tenon first and the peer after it, with the largest and the smallest allowance at which the peer
dies: what each of them said.

The driver, and the words for what becomes of a process, are bench/faults'. Only the standard library.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
from sweep import PEERS, THREADS, WORKERS, Bench, Peer, debian_version  # noqa: E402
from trial import GOOD, Trial, environment, run_process  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
LIMITS = [f"{n * MIB}" for n in (1024, 512, 256, 192, 128, 64, 48, 32, 24, 16, 12, 10)]
ALLOWANCES = [
    f"+{n * KIB}" for n in (1 << 18, 1 << 16, 1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 11, 1 << 10, 256, 64, 0)
]
DEAD = ("exit", "signal", "hang")


def cell(trial: Trial) -> str:
    kind = trial.outcome
    if kind == "error":
        return "not loaded" if trial.detail.startswith("not loaded") else "status"
    return {"ok": "right", "poisoned": "next fails", "wrong": "WRONG", "hang": "hangs"}.get(kind, trial.detail)


def size_of(limit: str) -> str:
    number = int(limit)
    text = f"{number // MIB} MiB" if number % MIB == 0 and number else f"{number // KIB} KiB"
    return ("+ " if limit.startswith("+") else "") + text


@dataclass
class Contender:
    peer: Peer
    subject: str
    trials: dict[str, Trial] = field(default_factory=dict)


class Match:
    def __init__(self, bench: Bench, size: int) -> None:
        self.bench = bench
        self.options = ["--threads", str(THREADS), "--size", str(size)]

    def run(self, phase: str, limit: str, *contenders: Contender) -> Trial:
        options = [*self.options, "--phase", phase, *(["--limit", limit] if limit else [])]
        subjects = [c.subject for c in contenders]
        return run_process(lambda more: [str(self.bench.driver), *more, *subjects], options, environment(THREADS))

    def contenders(self, only: list[str]) -> list[Contender]:
        """tenon, and the peers that compute the product when nothing is limited."""
        found = []
        for peer in PEERS:
            if peer.is_python or (peer.name == "tenon" and peer.subject != "tenon-gemm"):
                continue
            if only and peer.name not in ("tenon", *only):
                continue
            why = "not installed"
            for library in self.bench.library(peer):
                contender = Contender(peer, f"{peer.subject}={library}")
                trial = self.run("cold", "", contender)
                if trial.outcome == "ok":
                    print(f"{peer.name}: {trial.lines.get('version') or debian_version(peer.source)} ({peer.source})")
                    found.append(contender)
                    break
                why = trial.said or trial.detail
            else:
                print(f"{peer.name}: skipped ({why})")
        return found

    def alone(self, title: str, phase: str, limits: list[str], found: list[Contender]) -> None:
        widths = [max(12, len(c.peer.name) + 2) for c in found]
        print(f"\n{title}\n{'':10s}" + "".join(c.peer.name.ljust(w) for c, w in zip(found, widths)).rstrip())
        for limit in limits:
            with ThreadPoolExecutor(WORKERS) as pool:
                trials = list(pool.map(lambda c: self.run(phase, limit, c), found))
            for c, trial in zip(found, trials):
                c.trials[limit] = trial
            cells = "".join(cell(c.trials[limit]).ljust(w) for c, w in zip(found, widths))
            print(f"{size_of(limit):10s}{cells.rstrip()}", flush=True)

    def beside(self, tenon: Contender, peer: Contender, limit: str) -> None:
        """One process with an allowance with which the peer dies: tenon first."""
        trial = self.run("opened", limit, tenon, peer)
        print(f"\n{size_of(limit)}, one process: tenon, then {peer.peer.name}")
        for (_, call, after), name in zip(trial.calls, ("tenon", peer.peer.name)):
            if call:
                print(f"  {name}: {call}\n    with memory again: {after or 'no answer'}")
        if trial.outcome in DEAD:
            print(f"  {peer.peer.name}: {cell(trial)}. Its last words: {trial.said or 'none'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build"), help="meson's build folder")
    parser.add_argument("--python", default=sys.executable, help="interpreter beside which the PyPI libraries are")
    parser.add_argument("--only", default="", help="names of peers, separated by commas")
    parser.add_argument("--size", type=int, default=512, help="of the product: size × size × size")
    args = parser.parse_args()
    match = Match(Bench(args.build, args.python), args.size)

    print(f"f32 {args.size}³, {THREADS} threads")
    found = match.contenders([name.strip() for name in args.only.split(",") if name.strip()])
    if not found or found[0].peer.name != "tenon":
        return 1
    match.alone("Limit of the whole process, from before the library is opened", "cold", LIMITS, found)
    match.alone("Allowance for the first product, once the library is open", "opened", ALLOWANCES, found)
    tenon, *peers = found
    for peer in peers:
        dead = [limit for limit in ALLOWANCES if peer.trials[limit].outcome in DEAD]
        for limit in dict.fromkeys([*dead[:1], *dead[-1:]]):
            match.beside(tenon, peer, limit)
    return 0 if all(trial.outcome in GOOD for trial in tenon.trials.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
