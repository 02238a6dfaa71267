#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the rows that `tenon bench … --json` prints: speed over size, one line per contender, the measured limit above them.

    tenon bench gemm --mnk 64,128,256,512,1024,2048 --threads 2 --vs openblas=LIB --json | scripts/plot.py > docs/img/gemm.svg

Only the standard library; the picture is SVG with its own colours for light and dark pages.
"""
import json
import math
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 60, 130, 36, 48
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd"]


def size_of(row):
    """What the x axis shows: the edge of the cube with the same work, or the length of keys."""
    if row["op"] == "gemm":
        return round((row["m"] * row["n"] * row["k"]) ** (1 / 3))
    return row.get("k_len", row.get("cols"))


def read(lines):
    """Series {name: [(size, GFLOP/s)]} and the limit at each size."""
    series, limit = {}, []
    for line in lines:
        row = json.loads(line)
        x, speed = size_of(row), row["gflops"]
        series.setdefault("tenon", []).append((x, speed))
        if row.get("percent_of_limit"):
            limit.append((x, speed / row["percent_of_limit"] * 100))
        for peer in row.get("vs") or []:
            series.setdefault(peer["name"], []).append((x, speed / peer["ratio"]))
    return series, limit, row


def draw(series, limit, row):
    points = [p for values in series.values() for p in values] + limit
    if not points:
        sys.exit("plot.py: no rows on standard input")
    low, high = min(math.log2(x) for x, _ in points), max(math.log2(x) for x, _ in points)
    top = 1.05 * max(y for _, y in points)

    def at(x, y):
        across = (math.log2(x) - low) / (high - low) if high > low else 0.5
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
           '<style>text{fill:#333}.axis{stroke:#999}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>',
           f'<text x="{LEFT}" y="20" font-size="15">{row["op"]} {row["dtype"]}, {row["threads"]} threads: GFLOP/s over size</text>']
    for i in range(5):
        y = top * i / 4
        px, py = at(2 ** low, y)
        out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py:.1f}" y2="{py:.1f}" stroke-opacity="0.4"/>'
                   f'<text x="{LEFT - 8}" y="{py + 4:.1f}" text-anchor="end">{y:.0f}</text>')
    for x in sorted({x for x, _ in points}):
        px, _ = at(x, 0)
        out.append(f'<text x="{px:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{x}</text>')
    lines = [(name, sorted(values), COLOURS[i % len(COLOURS)], "") for i, (name, values) in enumerate(series.items())]
    lines.append(("measured limit", sorted(limit), "#999", ' stroke-dasharray="5 4"'))
    labels = []
    for name, values, colour, style in lines:
        if not values:
            continue
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in values))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{style}/>')
        labels.append([at(*values[-1])[1], name, colour])
    labels.sort()
    for above, label in zip(labels, labels[1:]):
        label[0] = max(label[0], above[0] + 16)
    for py, name, colour in labels:
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{py + 4:.1f}" style="fill:{colour}">{name}</text>')
    return "\n".join(out + ["</svg>"])


if __name__ == "__main__":
    print(draw(*read(line for line in sys.stdin if line.strip())))
