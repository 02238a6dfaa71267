#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what `tenon bench gemm … --json` and the gemm scripts of bench/peers print.

    plot.py ratios    FILE… -o OUT.svg    per shape: time of each peer over tenon's, the best peer marked
    plot.py limit     FILE… -o OUT.svg    over the size of cubes: percent of the measured limit
    plot.py roofline  FILE… -o OUT.svg    over flops per byte, by rows of A: GFLOP/s, between bandwidth and peak
    plot.py table     FILE…               the ratios as Markdown tables, each with what was lost
    plot.py summary   FILE…               geometric means of all suites as one table, then what was lost by more than noise

Rows of several files are put together by shape, type, threads and way of giving B; each ratio stays that of its own run.
--suite, --dtype, --way and --layout choose among them. Needs matplotlib, but not for text.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, told apart by colour-blind readers; the markers tell them apart in print.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
TENON = "#000000"
CLEARLY = 0.95  # below this a ratio is lost by more than noise


@dataclass
class Row:
    """A shape, what tenon did with it (of the first file that has it) and the ratios of all peers."""

    key: tuple[Any, ...]
    first: dict[str, Any]
    ratios: dict[str, float] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name in self.first:
            return self.first[name]
        raise AttributeError(name)

    @property
    def best(self) -> float:
        return min(self.ratios.values(), default=math.nan)

    @property
    def best_name(self) -> str:
        return min(self.ratios, key=self.ratios.__getitem__) if self.ratios else ""

    @property
    def label(self) -> str:
        size = f"{self.m}³" if self.m == self.n == self.k else f"{self.m}·{self.n}·{self.k}"
        layout = "" if self.layout == "nn" else f" {self.layout}"
        return (f"{self.batch} × " if self.batch > 1 else "") + size + layout

    @property
    def bytes(self) -> float:
        if "gbps" in self.first:
            return self.gbps * self.seconds * 1e9
        element = {"f64": 8, "f32": 4, "s8": 1, "u8": 1, "u8s8": 1}.get(self.dtype, 2)
        return element * self.batch * (self.m * self.k + self.k * self.n + self.m * self.n)


KEYS = ("dtype", "threads", "cold", "m", "n", "k", "batch", "layout")


def read(files: Iterable[str], wanted: argparse.Namespace) -> list[Row]:
    rows: dict[tuple[Any, ...], Row] = {}
    for name in files:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        for line in text.splitlines():
            found = json.loads(line) if line.strip() else {}
            if found.get("op") != "gemm":
                continue  # summaries
            found.setdefault("way", "plain")
            found.setdefault("suite", None)
            if any(
                choice and found[option] not in choice.split(",")
                for option in ("suite", "dtype", "way", "layout")
                if (choice := getattr(wanted, option))
            ):
                continue
            key = (found["suite"], found["way"], *(found[k] for k in KEYS))
            row = rows.setdefault(key, Row(key, found))
            for peer in found["vs"]:
                row.ratios[peer["name"]] = peer["ratio"]
    if not rows:
        raise SystemExit("plot.py: no rows of that kind")
    return list(rows.values())


def geometric_mean(ratios: Iterable[float]) -> float:
    return math.exp(statistics.fmean(math.log(r) for r in ratios))


def peers_of(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.ratios))


def groups_of(rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """By what a geometric mean is taken over: suite, type, way, threads."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.suite, row.dtype, row.way, row.threads), []).append(row)
    return groups


def title_of(group: tuple[Any, ...]) -> str:
    suite, dtype, way, threads = group
    return ", ".join(
        filter(None, [suite, dtype, way if way != "plain" else "", f"{threads} thread" + "s" * (threads > 1)])
    )


def start() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("plot.py: needs matplotlib (pip install matplotlib)") from None
    matplotlib.use("Agg")
    # The same picture from the same rows, and text as text: small files.
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "tenon",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
        }
    )
    from matplotlib import pyplot

    return pyplot


def finish(pyplot: Any, figure: Any, args: argparse.Namespace) -> None:
    if args.caption:
        figure.supxlabel(args.caption, fontsize=8, color="#555555")
    figure.savefig(args.out, metadata={"Date": None} if args.out.endswith(".svg") else None, dpi=110)
    pyplot.close(figure)


def style_of(rows: list[Row]) -> dict[str, tuple[str, str]]:
    return {
        name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(sorted(peers_of(rows)))
    }


def ticks(axis: Any, at: list[float], text: Callable[[float], str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(at))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: text(x)))


def ratios(rows: list[Row], args: argparse.Namespace) -> None:
    """A line for each shape, a mark for each peer; the nearest peer has the ring, left of 1 tenon lost."""
    pyplot = start()
    rows = [row for row in rows if row.ratios]
    groups, styles = groups_of(rows), style_of(rows)
    across = min(len(groups), args.columns)
    down = -(-len(groups) // across)
    tallest = max(map(len, groups.values()))
    figure, axes = pyplot.subplots(
        down, across, figsize=(4.1 * across, down * (0.9 + 0.17 * tallest) + 0.5), squeeze=False, layout="constrained"
    )
    high = min(8, 1.1 * max(max(row.ratios.values()) for row in rows))
    low = max(0.25, min(0.85, 0.95 * min(row.best for row in rows)))
    marks = [x for x in (0.25, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8) if low <= x <= high]
    for i, axis in enumerate(axes.flat):
        if i >= len(groups):
            axis.axis("off")
            continue
        group = list(groups)[i]
        here = groups[group]
        axis.axvspan(low, CLEARLY, color="#D55E00", alpha=0.10, linewidth=0)
        axis.axvline(1, color="#444444", linewidth=1)
        for y, row in enumerate(here):
            shown = [min(r, high) for r in row.ratios.values()]
            axis.plot([min(shown), max(shown)], [y, y], color="#bbbbbb", linewidth=0.8, zorder=1)
            for name, ratio in row.ratios.items():
                colour, marker = styles[name]
                axis.plot(min(ratio, high), y, marker, color=colour, markersize=4.5, zorder=2, clip_on=False)
            axis.plot(row.best, y, "o", markersize=9, markerfacecolor="none", markeredgecolor="#222222", zorder=3)
        mean = geometric_mean(row.best for row in here)
        axis.set_title(f"{title_of(group)}\ngeometric mean against the best: {mean:.2f}", fontsize=9)
        axis.set_xscale("log")
        axis.set_xlim(low, high)
        ticks(axis.xaxis, marks, lambda x: f"{x:g}")
        axis.set_yticks(range(len(here)), [row.label for row in here], fontsize=7.5)
        axis.set_ylim(len(here) - 0.4, -0.6)
        axis.set_xlabel("peer's time / tenon's")
    handles = [
        pyplot.Line2D([], [], color=colour, marker=marker, linestyle="", label=name)
        for name, (colour, marker) in styles.items()
    ]
    handles.append(
        pyplot.Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor="#222222",
            label="best",
        )
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=min(7, len(handles)), frameon=False)
    finish(pyplot, figure, args)


def limit(rows: list[Row], args: argparse.Namespace) -> None:
    """Cubes: percent of the measured limit over the edge, a panel for each type."""
    pyplot = start()
    cubes = [row for row in rows if row.m == row.n == row.k and row.batch == 1 and row.first.get("percent_of_limit")]
    if not cubes:
        raise SystemExit("plot.py: limit: no cubes with a limit among the rows")
    kinds = list(dict.fromkeys((row.dtype, row.way, row.threads) for row in cubes))
    styles = style_of(cubes)
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(4.1 * len(kinds), 3.4), squeeze=False, layout="constrained")
    for axis, kind in zip(axes.flat, kinds):
        here = sorted((r for r in cubes if (r.dtype, r.way, r.threads) == kind), key=lambda r: r.m)
        for name, (colour, marker) in styles.items():
            points = [(r.m, r.percent_of_limit / r.ratios[name]) for r in here if name in r.ratios]
            if points:
                axis.plot(*zip(*points), color=colour, marker=marker, markersize=4, linewidth=1, label=name)
        axis.plot(
            [r.m for r in here],
            [r.percent_of_limit for r in here],
            color=TENON,
            marker="o",
            markersize=5,
            linewidth=2.2,
            label="tenon",
        )
        axis.axhline(100, color="#444444", linewidth=1, linestyle="--")
        axis.set_xscale("log", base=2)
        ticks(axis.xaxis, sorted({r.m for r in here}), lambda x: f"{x:g}")
        axis.set_ylim(0, 108)
        axis.set_title(title_of((None, *kind)), fontsize=9)
        axis.set_xlabel("edge of the cube")
    axes[0][0].set_ylabel("percent of the measured limit")
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines() if line.get_label()[0] != "_"}
    figure.legend(
        lines.values(), lines, loc="outside upper center", ncols=min(3 * len(kinds), len(lines)), frameon=False
    )
    finish(pyplot, figure, args)


def roofline(rows: list[Row], args: argparse.Namespace) -> None:
    """Speed over flops per byte: tenon and the best peer of each shape, under bandwidth and peak. A panel for each way and
    layout."""
    pyplot = start()
    rows = [row for row in rows if row.batch == 1 and row.first.get("limit_gflops")]
    if not rows:
        raise SystemExit("plot.py: roofline: no rows with limits among the rows")
    kinds = list(dict.fromkeys((row.dtype, row.way, row.layout, row.threads) for row in rows))
    across = min(len(kinds), args.columns)
    down = -(-len(kinds) // across)
    figure, axes = pyplot.subplots(
        down, across, figsize=(4.4 * across, 3.5 * down), squeeze=False, layout="constrained"
    )
    peak = max(row.limit_gflops for row in rows)
    bandwidth = statistics.median(row.beside_gbps for row in rows)
    for i, axis in enumerate(axes.flat):
        if i >= len(kinds):
            axis.axis("off")
            continue
        dtype, way, layout, threads = kinds[i]
        here = [r for r in rows if (r.dtype, r.way, r.layout, r.threads) == kinds[i]]
        by_m: dict[int, list[Row]] = {}
        for row in here:
            by_m.setdefault(row.m, []).append(row)
        intensity = {m: statistics.fmean(2 * r.m * r.n * r.k / r.bytes for r in found) for m, found in by_m.items()}
        span = [min(intensity.values()) / 1.5, max(intensity.values()) * 1.5]
        knee = peak / bandwidth
        bends = sorted({span[0], min(max(knee, span[0]), span[1]), span[1]})
        axis.plot(
            bends,
            [min(peak, x * bandwidth) for x in bends],
            color="#444444",
            linestyle="--",
            linewidth=1,
            label=f"{bandwidth:.0f} GB/s beside the calls, {peak:.0f} GFLOP/s",
        )
        shown = sorted(by_m)
        if any(r.ratios for r in here):
            axis.plot(
                [intensity[m] for m in shown if any(r.ratios for r in by_m[m])],
                [
                    geometric_mean(r.gflops / r.best for r in by_m[m] if r.ratios)
                    for m in shown
                    if any(r.ratios for r in by_m[m])
                ],
                color=COLOURS[0],
                marker="s",
                markersize=4.5,
                linewidth=1,
                label="best peer of each shape",
            )
        own = [geometric_mean(r.gflops for r in by_m[m]) for m in shown]
        axis.plot([intensity[m] for m in shown], own, color=TENON, marker="o", markersize=5, linewidth=2, label="tenon")
        for m, y in zip(shown, own):
            axis.annotate(f"M={m}", (intensity[m], y), textcoords="offset points", xytext=(4, -11), fontsize=7)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        ticks(axis.xaxis, [2.0**e for e in range(-2, 10) if span[0] <= 2.0**e <= span[1]], lambda x: f"{x:g}")
        lowest = min([*own, peak])
        ticks(axis.yaxis, [2.0**e for e in range(1, 13) if lowest / 2 <= 2.0**e <= 2 * peak], lambda y: f"{y:g}")
        axis.set_title(f"{dtype}, B {way}, {layout}, {threads} threads", fontsize=9)
        axis.set_xlabel("flops per byte of the operands")
        axis.legend(frameon=False, fontsize=7.5, loc="lower right")
    for line in axes:
        line[0].set_ylabel("GFLOP/s (geometric mean over the weights)")
    finish(pyplot, figure, args)


def table_lines(here: list[Row], by_m: bool) -> dict[str, list[Row]]:
    """Which rows stand in which line of the table: each in its own, or those of the same m and layout in one."""
    lines: dict[str, list[Row]] = {}
    for row in here:
        lines.setdefault(f"{row.m} rows, {row.layout}" if by_m else row.label, []).append(row)
    return lines


def table(rows: list[Row], args: argparse.Namespace) -> None:
    """Geometric means where a line stands for several rows."""
    for group, here in groups_of([row for row in rows if row.ratios]).items():
        names = peers_of(here)
        print(f"**{title_of(group)}**\n")
        print("| shape | GFLOP/s | of the limit | spread |" + "".join(f" {name} |" for name in names) + " best |")
        print("|---|" + "---:|" * (4 + len(names)))
        for label, found in table_lines(here, args.by_m).items():
            limits = [row.percent_of_limit for row in found if row.first.get("percent_of_limit")]
            cells = [[row.ratios[name] for row in found if name in row.ratios] for name in names]
            print(
                f"| {label} | {geometric_mean(row.gflops for row in found):.0f} |"
                + (f" {geometric_mean(limits):.0f} % |" if limits else " |")
                + f" {statistics.median(row.spread for row in found):.0%} |"
                + "".join(f" {geometric_mean(cell):.2f} |" if cell else " |" for cell in cells)
                + f" **{geometric_mean(row.best for row in found):.2f}** |"
            )
        means = "".join(f" {geometric_mean(r.ratios[n] for r in here if n in r.ratios):.2f} |" for n in names)
        print(f"| geometric mean | | | |{means} **{geometric_mean(r.best for r in here):.2f}** |\n")
        lost = [f"{row.label} ({row.best:.2f}, {row.best_name})" for row in here if row.best < 1]
        print(f"Below 1: {', '.join(lost) or 'none'}.\n")


def summary(rows: list[Row], args: argparse.Namespace) -> None:
    """One line for each suite, type and way; then all shapes that are clearly lost."""
    del args
    rows = [row for row in rows if row.ratios]
    names, groups = peers_of(rows), groups_of(rows)
    print("| | shapes |" + "".join(f" {name} |" for name in names) + f" best | below 1 | below {CLEARLY} |")
    print("|---|---:|" + "---:|" * (3 + len(names)))
    for group, here in groups.items():
        found = [[row.ratios[name] for row in here if name in row.ratios] for name in names]
        means = "".join(f" {geometric_mean(ratios):.2f} |" if ratios else " |" for ratios in found)
        below = [sum(row.best < bound for row in here) for bound in (1, CLEARLY)]
        best = geometric_mean(row.best for row in here)
        print(f"| {title_of(group)} | {len(here)} |{means} **{best:.2f}** | {below[0]} | {below[1]} |")
    print()
    for group, here in groups.items():
        lost = sorted((row.best, f"{row.label} {row.best:.2f} ({row.best_name})") for row in here if row.best < CLEARLY)
        if lost:
            print(f"- {title_of(group)}: {', '.join(text for _, text in lost)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    drawn = {"ratios": ratios, "limit": limit, "roofline": roofline}
    pictures = {**drawn, "table": table, "summary": summary}
    parser.add_argument("picture", choices=pictures)
    parser.add_argument("files", nargs="+", help="JSON lines; - is standard input")
    parser.add_argument("-o", "--out", help=".svg, or whatever matplotlib writes by its name")
    parser.add_argument("--suite", help="with commas")
    parser.add_argument("--dtype", help="with commas")
    parser.add_argument("--way", help="plain, prepacked")
    parser.add_argument("--layout", help="with commas")
    parser.add_argument("--by-m", action="store_true", help="table: one line for each number of rows and layout")
    parser.add_argument("--columns", type=int, default=3, help="of panels")
    parser.add_argument("--caption", help="machine, date, commit: a line below")
    args = parser.parse_args()
    if args.picture in drawn and not args.out:
        parser.error("-o says where the picture goes")
    pictures[args.picture](read(args.files, args), args)


if __name__ == "__main__":
    main()
