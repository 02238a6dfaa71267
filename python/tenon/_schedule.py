# SPDX-License-Identifier: Apache-2.0
"""The memory of a list of plans and buffers before it runs (tenon/schedule.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Union

from . import _abi, _checks
from ._context import Plan, _check
from ._library import library

Lifetime = Union[tuple[int, int, int], tuple[int, int, int, int]]


@dataclass(frozen=True)
class Step:
    """What a plan is to take: plan.choose(choice), then run with workspace=block[offset : offset + workspace]."""

    choice: int  # -1 without a plan
    offset: int
    workspace: int


@dataclass(frozen=True)
class Schedule:
    """One block for everything: `total` bytes, aligned to 64."""

    steps: tuple[Step, ...]
    offsets: tuple[int, ...]  # of the buffers
    total: int
    lower_bound: int  # most alive in one step
    preferred: int  # total with the fastest algorithms
    smallest: int  # total with the smallest: the smallest budget that works
    smallest_lower_bound: int
    seconds: float  # predicted
    seconds_preferred: float


def schedule(
    plans: Sequence[Optional[Plan]], buffers: Sequence[Lifetime], *, budget: int = 0, effort: float = 0.0
) -> Schedule:
    """Lays out buffers (bytes, first step, last step[, alignment]) and the workspaces of plans[i], which runs in step i.

    Under a budget, in bytes, each plan takes its fastest algorithm that fits; OverBudget if not even the smallest do.
    """
    held = [plan and plan._open() for plan in plans]
    steps = (_abi.Step * len(plans))(*(_abi.Step(plan=handle and handle.value) for handle in held))
    lifetimes = (_abi.Lifetime * len(buffers))()
    for i, (c, given) in enumerate(zip(lifetimes, buffers)):
        if not isinstance(given, (tuple, list)) or len(given) not in (3, 4):
            raise TypeError(f"buffers[{i}] is {given!r}, expected (bytes, first step, last step[, alignment])")
        c.bytes = _checks.size(f"buffers[{i}], its bytes", given[0])
        low, high = _checks.INT64_MIN, _checks.INT64_MAX
        c.first = _checks.integer(f"buffers[{i}], its first step", given[1], low, high)
        c.last = _checks.integer(f"buffers[{i}], its last step", given[2], low, high)
        c.alignment = _checks.size(f"buffers[{i}], its alignment", given[3]) if len(given) == 4 else 0
    budget, effort = _checks.size("budget", budget), _checks.number("effort", effort)
    desc = _abi.Schedule(ctypes.sizeof(_abi.Schedule), steps, len(plans), lifetimes, len(buffers), budget, effort)
    info = _abi.ScheduleInfo(struct_size=ctypes.sizeof(_abi.ScheduleInfo))
    _check(library().tenon_schedule_layout(None, ctypes.byref(desc), ctypes.byref(info)))
    return Schedule(
        steps=tuple(Step(c.choice, c.offset, c.workspace) for c in steps),
        offsets=tuple(c.offset for c in lifetimes),
        **{name: getattr(info, name) for name, *_ in _abi.ScheduleInfo._fields_[1:]},
    )
