# SPDX-License-Identifier: Apache-2.0
"""Memory that runs short below Python: every request of the library to the system fails, once and for ever and at random (through the
preloaded tests/support/fault_preload.c), allocations of a context's pool fail on request, budgets and address space get smaller.
Either the result is right or tenon.OutOfMemory is raised with figures in its sentence; outputs are untouched, nothing is left over, the
next call works."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import resource
import sys
import unittest
from typing import Any, Callable, Iterator

import numpy as np
import tenon
from tenon._library import library

SEED = int(os.environ.get("TENON_TEST_SEED", "20240229"))
FULL = os.environ.get("TENON_TORTURE") == "full"
MOST_REQUESTS = 1000


class Injector:
    """fault_preload.c, if it was preloaded."""

    def __init__(self) -> None:
        program = ctypes.CDLL(None)
        try:
            self.find = program.fault_preload_find
        except AttributeError:
            if "fault_preload" in os.environ.get("LD_PRELOAD", ""):
                raise
            raise unittest.SkipTest("fault_preload is not preloaded, as meson test does it") from None
        self._arm, self._disarm, self._live = (
            getattr(program, f"fault_preload_{name}") for name in ("arm", "disarm", "live")
        )
        self._arm.argtypes = [ctypes.c_int64, ctypes.c_bool, ctypes.c_double, ctypes.c_uint64]
        self._disarm.restype = self._live.restype = ctypes.c_int64
        library()
        assert self.find(b"libtenon.so"), "libtenon is loaded and was not found"

    def arm(self, nth: int, sticky: bool) -> None:
        self._arm(nth, sticky, 0.0, 0)

    def arm_random(self, probability: float, seed: int) -> None:
        self._arm(0, False, probability, seed)

    def disarm(self) -> int:
        return int(self._disarm())

    def live(self) -> int:
        return int(self._live())


class Job:
    """A call whose result lies in `outs`. Each device's answer is right: a chain may fall back."""

    def __init__(self, name: str, call: Callable[[tenon.Context], Any], *outs: np.ndarray[Any, Any]) -> None:
        self.name, self.call, self.outs = name, call, outs
        self.answers = []
        for device in ("cpu", "reference"):
            with tenon.Context(device, threads=2) as ctx:
                self.prepare()
                call(ctx)
                self.answers.append([out.copy() for out in outs])

    def prepare(self) -> None:
        for out in self.outs:
            out.view(np.uint8).fill(0x5A)

    def right(self) -> bool:
        return any(all(map(np.array_equal, self.outs, answer)) for answer in self.answers)

    def untouched(self) -> bool:
        return all(bool((out.view(np.uint8) == 0x5A).all()) for out in self.outs)


def jobs() -> Iterator[Job]:
    rng = np.random.default_rng(SEED)

    def values(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape).astype(np.float32)

    a, b, bias = values(40, 300), values(300, 70), values(70)
    q, k, v = values(1, 4, 20, 32), values(1, 2, 70, 32), values(1, 2, 70, 32)
    parts, sums = [values(2, 9, 16) for _ in range(3)], [values(2, 9) for _ in range(3)]
    rows, positions = values(2, 2, 3, 16), np.array([4, 20], np.int32)
    c, y, o, m = values(40, 70), values(300, 70), values(1, 4, 20, 32), values(2, 9, 16)
    caches = values(2, 2, 32, 16), values(2, 2, 32, 16)

    def planned(ctx: tenon.Context) -> None:
        ctx.plan_attention(q, k, v, causal="bottom_right").run(out=o)

    def packed(ctx: tenon.Context) -> None:
        ctx.matmul(a, ctx.pack(b), out=c)

    yield Job("matmul", lambda ctx: ctx.matmul(a, b, bias=bias, activation="gelu", out=c), c)
    yield Job("packed", packed, c)
    yield Job("softmax", lambda ctx: ctx.softmax(b, axis=0, out=y), y)
    yield Job("attention", lambda ctx: ctx.attention(q, k, v, causal="top_left", out=o), o)
    yield Job("planned", planned, o)
    yield Job("merge", lambda ctx: ctx.attention_merge(parts, sums, out=m), m)
    yield Job("append", lambda ctx: ctx.kv_append(rows, rows, *caches, positions), *caches)


class Short(unittest.TestCase):
    """What an outcome must be."""

    def outcome(self, job: Job, call: Callable[[], object]) -> bool:
        """Makes a call that may be short of memory. True if it went well."""
        job.prepare()
        try:
            call()
        except tenon.OutOfMemory as error:
            self.assertIsInstance(error, MemoryError)
            self.assertRegex(str(error), r"\d", "the sentence has no figures")
            self.assertTrue(job.untouched(), "outputs were touched")
            return False
        self.assertTrue(job.right(), "wrong result")
        return True


class SystemFails(Short):
    def setUp(self) -> None:
        self.injector = Injector()

    def strike(self, job: Job, device: str, nth: int, sticky: bool, whole_life: bool) -> tuple[int, bool]:
        """One call with the nth request failing, and one after it. Returns the failures made, and whether it went well."""
        kept = None if whole_life else tenon.Context(device, threads=2)

        def call() -> None:
            if kept is not None:
                job.call(kept)
                return
            with tenon.Context(device, threads=2) as ctx:
                job.call(ctx)

        self.injector.arm(nth, sticky)
        try:
            well = self.outcome(job, call)
        finally:
            injected = self.injector.disarm()
        self.assertTrue(self.outcome(job, call), "the next call failed")
        return injected, well

    def sweep(self, job: Job, device: str, sticky: bool, whole_life: bool) -> tuple[int, int]:
        """Each request of one call. Returns the sites and the refusals."""
        refused = 0
        for nth in range(1, MOST_REQUESTS):
            live, injected = self.injector.live(), 1
            with self.subTest(job=job.name, device=device, nth=nth, sticky=sticky, whole_life=whole_life):
                injected, well = self.strike(job, device, nth, sticky, whole_life)
                self.assertEqual(self.injector.live(), live, "something is left over")
                refused += not well
            if injected == 0:
                return nth - 1, refused
        self.fail("requests without end")

    def test_each_request(self) -> None:
        sites = runs = refusals = 0
        for job in jobs():
            devices = ["cpu", "cpu,reference"] + ["reference"] * FULL
            for device in devices:
                for whole_life in (False, True):
                    for sticky in (False, True):
                        found, refused = self.sweep(job, device, sticky, whole_life)
                        sites += found * (not sticky)
                        runs += found
                        refusals += refused
        print(f"torture_python: {sites} sites, {runs} runs, {refusals} refusals", file=sys.stderr)
        self.assertGreater(sites, 50)
        self.assertGreater(refusals, 50)

    def test_random(self) -> None:
        rng = random.Random(SEED)
        live = self.injector.live()
        every = list(jobs())
        struck = refused = 0
        for probability in (0.01, 0.1, 0.5):
            ctx = tenon.Context("cpu", threads=2)
            for n in range(5000 if FULL else 300):
                job = rng.choice(every)
                with self.subTest(job=job.name, n=n, probability=probability, seed=SEED):
                    self.injector.arm_random(probability, rng.getrandbits(64))
                    try:
                        if n % 2:
                            refused += not self.outcome(job, lambda: job.call(tenon.Context("cpu", threads=1)))
                        else:
                            refused += not self.outcome(job, lambda: job.call(ctx))
                    finally:
                        struck += self.injector.disarm() > 0
                    self.assertTrue(self.outcome(job, lambda: job.call(ctx)), "the next call failed")
            del ctx
        self.assertEqual(self.injector.live(), live, "something is left over")
        self.assertGreater(struck, refused)
        self.assertGreater(refused, 0)


class FaultRule(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("fail_nth", ctypes.c_uint64),
        ("sticky", ctypes.c_int),
        ("fail_above", ctypes.c_size_t),
        ("probability", ctypes.c_double),
        ("seed", ctypes.c_uint64),
    ]


class PoolFails(Short):
    """tenon_memory_inject, budgets and limits: without a preloaded injector."""

    def inject(self, ctx: tenon.Context, **rule: Any) -> None:
        lib = library()
        inject = lib.tenon_memory_inject
        inject.argtypes = [ctypes.c_void_p, ctypes.POINTER(FaultRule)]
        handle = ctx._open()
        pool = lib.tenon_context_pool(handle.value, 0)
        self.assertEqual(inject(pool, FaultRule(ctypes.sizeof(FaultRule), **rule) if rule else None), 0)

    def test_each_allocation_of_the_pool(self) -> None:
        """The CPU device does without: it has algorithms that need no workspace. The reference device has to refuse."""
        refused = {"cpu": 0, "reference": 0}
        for job, device in itertools.product(jobs(), refused):
            for sticky, nth in itertools.product((0, 1), range(1, MOST_REQUESTS)):
                with tenon.Context(device, threads=2) as ctx, self.subTest(job=job.name, nth=nth, sticky=sticky, device=device):
                    before = ctx.memory
                    self.inject(ctx, fail_nth=nth, sticky=sticky)
                    well = self.outcome(job, lambda: job.call(ctx))
                    met = ctx.memory.ladder != before.ladder
                    self.inject(ctx)
                    self.assertTrue(self.outcome(job, lambda: job.call(ctx)), "the next call failed")
                    self.assertLessEqual(ctx.memory.blocks, before.blocks + 1)  # the workspace
                    refused[device] += not well
                if not met:
                    break
        self.assertEqual(refused["cpu"], 0)
        self.assertGreater(refused["reference"], 0)

    def test_ever_smaller_budgets(self) -> None:
        for job in jobs():
            for budget in [4096 << n for n in range(12)][::-1]:
                with tenon.Context("cpu", threads=2, budget=budget) as ctx, self.subTest(job=job.name, budget=budget):
                    self.assertTrue(self.outcome(job, lambda: job.call(ctx)))
                    self.assertLessEqual(ctx.memory.peak_reserved, budget)

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here")
    def test_ever_less_address_space(self) -> None:
        served = refused = 0
        for job in jobs():
            for kib in (16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 0):
                with self.subTest(job=job.name, kib=kib):
                    child = os.fork()
                    if child == 0:
                        os._exit(self.limited(job, kib << 10))
                    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    self.assertIn(status, (0, 1, 3), "0 right, 1 refused, 3 Python itself was short")
                    served += status == 0
                    refused += status == 1
        self.assertGreater(served, 0)

    def limited(self, job: Job, room: int) -> int:
        """In a child: the exit status."""
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (size + room, hard))

            def life() -> None:
                with tenon.Context("cpu", threads=2) as ctx:
                    job.call(ctx)

            well = self.outcome(job, life)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            return int(not well) if self.outcome(job, life) else 2
        except MemoryError:
            return 3
        except BaseException:
            return 2


if __name__ == "__main__":
    unittest.main()
