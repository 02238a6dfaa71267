# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder share: taking turns, statistics, the gemm suites of the `tenon` command, tables.

Nothing here knows a peer: a script brings pairs of calls, tenon's and the peer's.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
import tenon  # noqa: E402

# The protocol of the `tenon` command's races (bench/timing.c), which says where the numbers come from: whoever is timed has
# its threads up and nobody else's running.
SETTLE, SETTLE_STEP = 0.25, 0.012
WARM_UP, WARM_UP_BELOW = 0.01, 0.1
TURN = 0.02
FEWEST_TURNS = 5


def settle() -> None:
    """Waits until the threads of this process have stopped spinning for work, SETTLE seconds at most."""
    start = now = time.perf_counter()
    used = time.process_time()
    while now - start < SETTLE:
        time.sleep(SETTLE_STEP)
        later, later_used = time.perf_counter(), time.process_time()
        if later_used - used < 0.1 * (later - now):
            return
        now, used = later, later_used


def take(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def alternate(runs: list[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Seconds per call of each, in turns; every other turn in reverse order."""
    calls = []
    for run in runs:
        settle()
        run()
        run()  # wakes the threads
        calls.append(max(1, round(TURN / take(run, 3))))
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    turn = 0
    while turn < FEWEST_TURNS or time.perf_counter() < end:
        for i in range(len(runs)) if turn % 2 == 0 else reversed(range(len(runs))):
            settle()
            start = time.perf_counter()
            while not times[i] or times[i][-1] < WARM_UP_BELOW:
                runs[i]()
                if time.perf_counter() - start >= WARM_UP:
                    break
            times[i].append(take(runs[i], calls[i]))
        turn += 1
    return times


def spread(times: list[float]) -> float:
    """Distance of the quartiles over the median."""
    low, median, high = statistics.quantiles(times, n=4)
    return (high - low) / median


@dataclass(frozen=True)
class Shape:
    """A product as `tenon bench gemm --list --json` prints it."""

    m: int
    n: int
    k: int
    batch: int
    layout: str
    suite: str | None

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m * self.n * self.k

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k} {self.layout}" + (f" batch {self.batch}" if self.batch > 1 else "")


def gemm_shapes(command: str | None, options: list[str]) -> list[Shape]:
    """What the `tenon` command makes of its own options: the one source of the suites."""
    if command is None:
        built = sorted(ROOT.glob("build*/bench/tenon"))
        if not built:
            raise SystemExit("no build*/bench/tenon here: build it, or name it with --tenon")
        command = str(built[0])
    done = subprocess.run([command, "bench", "gemm", *options, "--list", "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [Shape(**{key: row[key] for key in Shape.__dataclass_fields__}) for row in rows]


@dataclass
class Race:
    """One row: what tenon and a peer did with a shape. `errors` are tenon's and the peer's, as the script defines them."""

    dtype: str
    way: str  # how both got B: "plain" or "prepacked", and what else tells rows of a shape apart
    kernel: str
    own: Callable[[], object]
    peer: Callable[[], object]
    errors: Callable[[], tuple[float, float]]
    part: str = ""  # of the peer: which of its libraries this is
    own_times: list[float] = field(default_factory=list)
    peer_times: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(self.peer_times) / statistics.median(self.own_times)


def gemm_arguments(description: str, dtypes: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--suite", help="named suites of `tenon bench gemm --suite list`, with commas")
    parser.add_argument("--mnk", help="shapes instead, as `tenon bench gemm --mnk` has them (default: 256,1024)")
    parser.add_argument("--layout", help="with --mnk: of nn, nt, tn, tt")
    parser.add_argument("--dtype", default="f32", help="with commas, of " + ", ".join(dtypes))
    parser.add_argument("--threads", type=int, default=0, help="of both; default: all cores")
    parser.add_argument("--seconds", type=float, default=2.0, help="per row, waiting included")
    parser.add_argument("--tenon", help="the tenon command (default: of the checkout's build folder)")
    parser.add_argument("--json", action="store_true", help="one object per row and line, keys of `tenon bench --json`")
    return parser


def race_gemm(
    args: argparse.Namespace,
    peer_name: str,
    set_threads: Callable[[int], None],
    races: Callable[[tenon.Context, Shape, str], Iterator[Race]],
) -> None:
    """Runs all shapes and types, prints rows, then for each type and way the geometric mean and what was lost."""
    options = [f"--{name}={value}" for name in ("suite", "mnk", "layout") if (value := getattr(args, name))]
    shapes = gemm_shapes(args.tenon, options or ["--mnk=256,1024"])
    ratios: dict[tuple[str, ...], list[tuple[float, Shape]]] = {}
    with tenon.Context("cpu", threads=args.threads) as ctx:
        set_threads(ctx.threads)
        if not args.json:
            print(f"{ctx.threads} threads, tenon {tenon.library_version()}, {peer_name}")
            print(
                f"{'dtype':9}{'B':18}{'shape':28}{'tenon':>13}{'spread':>8}{'peer':>13}{'spread':>8}{'ratio':>8}{'GFLOP/s':>9}{'error':>9}{'peer':>9}"
            )
        for dtype in args.dtype.split(","):
            for shape in shapes:
                for row in races(ctx, shape, dtype):
                    row.own_times, row.peer_times = alternate([row.own, row.peer], args.seconds)
                    ratios.setdefault(tuple(filter(None, (dtype, row.way, row.part))), []).append((row.ratio, shape))
                    if args.json:
                        print_json(row, shape, ctx.threads, peer_name)
                    else:
                        print_row(row, shape)
    for what, found in ratios.items():
        if not args.json:
            print_summary(", ".join(what), found)


def print_row(row: Race, shape: Shape) -> None:
    own, peer = statistics.median(row.own_times), statistics.median(row.peer_times)
    own_error, peer_error = row.errors()
    print(
        f"{row.dtype:9}{' '.join(filter(None, (row.way, row.part))):18}{str(shape):28}{own * 1e6:10.1f} us{spread(row.own_times):8.1%}{peer * 1e6:10.1f} us"
        f"{spread(row.peer_times):8.1%}{row.ratio:7.2f}x{shape.flops / own * 1e-9:9.1f}{own_error:9.1e}{peer_error:9.1e}",
        flush=True,
    )


def print_json(row: Race, shape: Shape, threads: int, peer_name: str) -> None:
    own, peer = statistics.median(row.own_times), statistics.median(row.peer_times)
    own_error, peer_error = row.errors()
    made: dict[str, Any] = {
        "op": "gemm",
        "device": "cpu",
        "kernel": row.kernel,
        "dtype": row.dtype,
        "threads": threads,
        "cold": False,
        **{key: getattr(shape, key) for key in Shape.__dataclass_fields__},
        "way": row.way,
        "seconds": own,
        "seconds_min": min(row.own_times),
        "spread": spread(row.own_times),
        "gflops": shape.flops / own * 1e-9,
        "error": own_error,
        "vs": [
            {
                "name": " ".join(filter(None, (peer_name, row.part))),
                "seconds": peer,
                "ratio": row.ratio,
                "spread": spread(row.peer_times),
                "error": peer_error,
            }
        ],
    }
    print(json.dumps(made), flush=True)


def print_summary(what: str, found: list[tuple[float, Shape]]) -> None:
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio, _ in found))
    lost = [(ratio, shape) for ratio, shape in found if ratio < 1]
    clearly = sum(ratio < 0.95 for ratio, _ in lost)
    print(f"\n{what}: geometric mean x{mean:.3f} over {len(found)} shapes, below 1: {len(lost)}, below 0.95: {clearly}")
    for ratio, shape in lost:
        print(f"  lost: x{ratio:.3f}  {shape}")
