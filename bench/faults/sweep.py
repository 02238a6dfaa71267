#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes every request to the system fail, one per process, in tenon and in whatever peers are installed.

    python bench/faults/sweep.py --build build                        all that is found here
    python bench/faults/sweep.py --build build --only tenon,OpenBLAS --json results.json

Only the standard library. See README.md of this folder for the method.
"""

from __future__ import annotations

import argparse
import datetime
import glob
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Iterator, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
from trial import GOOD, HANG_SECONDS, OUTCOMES, Command, Trial, Zygote, environment, run_process  # noqa: E402

HERE = Path(__file__).resolve().parent
THREADS = 2
WORKERS = 2  # trials at once
IMPORT_SECONDS = 20.0  # more for a trial that imports its package first


@dataclass(frozen=True)
class Peer:
    """A library, how it is called, and where it may be. In `libraries`, the first that there is; names without a slash are left to the system's loader."""

    name: str
    call: str
    subject: str
    source: str
    libraries: tuple[str, ...] = ()  # empty: a Python package
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def is_python(self) -> bool:
        return not self.libraries


# NumPy's BLAS would start a thread at import; these packages do not use it for what is called here.
NO_BLAS_THREADS = (("OPENBLAS_NUM_THREADS", "1"),)
PEERS = [
    Peer("tenon", "gemm", "tenon-gemm", "this checkout", ("{tenon}",)),
    Peer("tenon", "gemm, plan and run", "tenon-gemm-plan", "this checkout", ("{tenon}",)),
    Peer("tenon", "softmax", "tenon-softmax", "this checkout", ("{tenon}",)),
    Peer("tenon", "softmax, plan and run", "tenon-softmax-plan", "this checkout", ("{tenon}",)),
    Peer("tenon", "attention", "tenon-attention", "this checkout", ("{tenon}",)),
    Peer("tenon", "attention, plan and run", "tenon-attention-plan", "this checkout", ("{tenon}",)),
    Peer("tenon from Python", "matmul", "tenon-matmul", "this checkout", environment=NO_BLAS_THREADS),
    Peer("tenon from Python", "softmax", "tenon-softmax", "this checkout", environment=NO_BLAS_THREADS),
    Peer("tenon from Python", "attention", "tenon-attention", "this checkout", environment=NO_BLAS_THREADS),
    Peer(
        "OpenBLAS",
        "cblas_sgemm",
        "cblas",
        "PyPI scipy-openblas32",
        ("{site}/scipy_openblas32/lib/libscipy_openblas.so",),
    ),
    Peer("OpenBLAS of Debian", "cblas_sgemm", "cblas", "Debian libopenblas0-pthread", ("libopenblas.so.0",)),
    Peer("BLIS", "cblas_sgemm", "cblas", "Debian libblis4-openmp", ("libblis.so.4",)),
    Peer("MKL", "cblas_sgemm", "cblas", "PyPI mkl", ("{prefix}/lib/libmkl_rt.so.3", "{prefix}/lib/libmkl_rt.so.2")),
    Peer("oneDNN", "matmul primitive", "onednn", "Debian libdnnl2", ("libdnnl.so.2",)),
    Peer("XNNPACK", "fully connected", "xnnpack", "Debian libxnnpack0", ("libXNNPACK.so.0",)),
    Peer("ggml", "mul_mat graph", "ggml", "PyPI pywhispercpp", ("{site}/pywhispercpp.libs/libggml-cpu*.so*",)),
    Peer("NumPy", "a @ b", "numpy", "PyPI numpy"),
    Peer("torch mm", "mm", "torch-mm", "PyPI torch", environment=NO_BLAS_THREADS),
    Peer("torch SDPA", "scaled_dot_product_attention", "torch-sdpa", "PyPI torch", environment=NO_BLAS_THREADS),
    Peer("ONNX Runtime", "MatMul session", "onnxruntime", "PyPI onnxruntime"),
]


class Bench:
    """Where things are, and how a trial of a peer is started."""

    def __init__(self, build: Path, python: str, tenon: Optional[Path] = None) -> None:
        self.driver = build / "bench" / "faults" / "faults_driver"
        self.injector = build / "bench" / "faults" / "faults_injector.so"
        self.tenon = tenon or build / "src" / "libtenon.so"
        self.python = python
        for file in (self.driver, self.injector, self.tenon):
            if not file.exists():
                sys.exit(f"{Path(sys.argv[0]).name}: {file} is not there: build first, with -Dbench=enabled")

    def library(self, peer: Peer) -> Iterator[str]:
        root = Path(self.python).absolute().parent.parent
        places = {"tenon": str(self.tenon), "prefix": str(root), "site": f"{root}/lib/python3*/site-packages"}
        if root == Path(sys.prefix):
            places["site"] = sysconfig.get_path("purelib")
        for pattern in peer.libraries:
            path = pattern.format(**places)
            yield from sorted(glob.glob(path)) if "/" in path else [path]

    def environment(self, peer: Peer) -> dict[str, str]:
        more = {"LD_PRELOAD": str(self.injector.absolute()), **dict(peer.environment)}
        if peer.is_python and peer.name.startswith("tenon"):
            more |= {"TENON_LIBRARY": str(self.tenon.absolute()), "PYTHONPATH": str(HERE.parents[1] / "python")}
        return environment(THREADS, **more)

    def command(self, peer: Peer, library: str) -> Command:
        if peer.is_python:
            return lambda options: [self.python, str(HERE / "python_driver.py"), peer.subject, *options]
        return lambda options: [str(self.driver), *options, f"{peer.subject}={library}"]


class Trials:
    """Trials of one peer, several at once: each in a fresh process, or forked from a Python process that has imported and nothing more."""

    def __init__(self, bench: Bench, peer: Peer, library: str) -> None:
        self.command, self.env = bench.command(peer, library), bench.environment(peer)
        self.forks = peer.is_python
        self.import_seconds = IMPORT_SECONDS if peer.is_python else 0.0
        self.zygotes: list[Zygote] = []
        self.idle: SimpleQueue[Zygote] = SimpleQueue()

    def __enter__(self) -> Trials:
        while self.forks and len(self.zygotes) < WORKERS:
            zygote = Zygote(self.command, self.env)
            self.zygotes.append(zygote)
            self.idle.put(zygote)
            self.forks = zygote.ready
        if not self.forks:
            self.__exit__()
        return self

    def __exit__(self, *_: object) -> None:
        while self.zygotes:
            self.zygotes.pop().close()

    def run(self, *options: str) -> Trial:
        if not self.forks:
            return run_process(self.command, options, self.env, HANG_SECONDS + self.import_seconds)
        zygote = self.idle.get()
        try:
            return zygote.run(options)
        finally:
            self.idle.put(zygote)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of 1 … count, the first and the last among them."""
    if count <= most:
        return list(range(1, count + 1))
    return [1 + i * (count - 1) // (most - 1) for i in range(most)]


def sweep_phase(trials: Trials, phase: str, most: int) -> Iterator[dict[str, object]]:
    """One row for failures that happen once, one for those that last."""
    counted = trials.run("--phase", phase, "--sites")
    if counted.outcome != "ok":
        raise LookupError(counted.lines.get("warm-up") or counted.said or f"{counted.outcome}: {counted.detail}")
    chosen = evenly(counted.count, most)
    for mode in ("once", "forever"):
        lasting = ["--forever"] if mode == "forever" else []
        with ThreadPoolExecutor(WORKERS) as pool:
            done = list(pool.map(lambda n: trials.run("--phase", phase, "--nth", str(n), *lasting), chosen))
        outcomes = {name: 0 for name in OUTCOMES}
        bad: dict[tuple[str, str], dict[str, object]] = {}
        for n, trial in zip(chosen, done):
            outcomes[trial.outcome] += 1
            if trial.outcome in GOOD or trial.outcome == "missed":
                continue
            site = counted.sites[n - 1] if n <= len(counted.sites) else "? ? ? ?"
            what, _, file, _ = site.split(" ", 3)
            case = bad.setdefault(
                (f"{what} in {file}", trial.detail), {"count": 0, "first": n, "site": site, "said": trial.said}
            )
            case["count"] = int(str(case["count"])) + 1
        yield {
            "phase": phase,
            "mode": mode,
            "sites": counted.count,
            "tried": len(chosen),
            "version": counted.lines.get("version", ""),
            "outcomes": {name: number for name, number in outcomes.items() if number},
            "bad": [
                {"where": where, "what": what, **case}
                for (where, what), case in sorted(bad.items(), key=lambda item: -int(str(item[1]["count"])))[:8]
            ],
        }


def sweep(bench: Bench, peer: Peer, most: int, phases: Sequence[str]) -> dict[str, object]:
    """All rows of a peer. LookupError says why there are none."""
    why = "not installed"
    for library in [""] if peer.is_python else bench.library(peer):
        try:
            with Trials(bench, peer, library) as trials:
                rows = [row for phase in phases for row in sweep_phase(trials, phase, most)]
        except LookupError as error:
            why = str(error)
            continue
        version = next((str(row["version"]) for row in rows if row["version"]), "") or debian_version(peer.source)
        for row in rows:
            del row["version"]
        forked = trials.forks
        return {
            "peer": peer.name,
            "call": peer.call,
            "source": peer.source,
            "version": version,
            "forked": forked,
            "rows": rows,
        }
    raise LookupError(why)


def debian_version(source: str) -> str:
    """Of a library that does not tell its own."""
    name, _, package = source.partition(" ")
    if name != "Debian" or not shutil.which("dpkg-query"):
        return ""
    found = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True)
    return found.stdout.strip()


def machine() -> dict[str, object]:
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
    }


def keep(file: Path, result: dict[str, object]) -> None:
    """Writes a peer's result into the file, in place of an earlier one; all others stay."""

    def name(r: dict[str, object]) -> tuple[object, object]:
        return r["peer"], r["call"]

    results = json.loads(file.read_text())["results"] if file.exists() else []
    results = [r for r in results if name(r) != name(result)] + [result]
    order = {(peer.name, peer.call): i for i, peer in enumerate(PEERS)}
    results.sort(key=lambda r: order.get(name(r), len(order)))
    document = {"date": datetime.date.today().isoformat(), "machine": machine(), "threads": THREADS, "results": results}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build"), help="meson's build folder")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the Python peers and wheels")
    parser.add_argument("--only", default="", help="names of peers, separated by commas")
    parser.add_argument("--most", type=int, default=60, help="sites per phase and mode; more are sampled evenly")
    parser.add_argument("--phases", default="cold,warm")
    parser.add_argument(
        "--json", type=Path, help="where the results go; peers of an earlier run that are not swept now stay"
    )
    args = parser.parse_args()
    only = [name.strip() for name in args.only.split(",") if name.strip()]
    if unknown := set(only) - {peer.name for peer in PEERS}:
        parser.error(
            f"--only: {', '.join(sorted(unknown))}; there are {', '.join(dict.fromkeys(p.name for p in PEERS))}"
        )

    bench = Bench(args.build, args.python)
    good = True
    for peer in PEERS:
        if only and peer.name not in only:
            continue
        try:
            result = sweep(bench, peer, args.most, args.phases.split(","))
        except LookupError as error:
            print(f"{peer.name}, {peer.call}: skipped ({error})", flush=True)
            continue
        if args.json:
            keep(args.json, result)
        print(f"{peer.name} {result['version']}, {peer.call}", flush=True)
        for row in result["rows"]:  # type: ignore[attr-defined]
            counts = ", ".join(f"{number} {name}" for name, number in row["outcomes"].items())
            print(
                f"  {row['phase']} {row['mode']:8s}{row['tried']:4d} of {row['sites']:5d} sites: {counts}", flush=True
            )
            for case in row["bad"]:
                print(f"    {case['count']} x {case['what']}, {case['where']}: {case['said']}", flush=True)
            good &= not peer.name.startswith("tenon") or set(row["outcomes"]) <= {*GOOD, "missed"}
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
