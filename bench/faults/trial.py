# SPDX-License-Identifier: Apache-2.0
"""One trial: a driver in a process of its own, and what became of it.

Used by sweep.py, bench/peers/limited_memory.py and tests/faults. A trial ends in one of OUTCOMES, judged from outside the
process: what the driver wrote before it ended, how it ended, or that it did not end.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Sequence

OUTCOMES = {
    "ok": "the call succeeded and its result is right",
    "error": "the call said that it failed; the next one works",
    "poisoned": "the next call fails too, although there is memory again",
    "wrong": "a call said nothing and its result is wrong",
    "exit": "the library ended the process",
    "signal": "the process was killed by a signal: abort, segmentation fault, …",
    "hang": "no end within the time allowed",
    "missed": "this run did not get as far as the site: nothing was made to fail",
}
GOOD = ("ok", "error")

HANG_SECONDS = 10.0
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+")
SELF_MADE = ("OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "OMP_", "GOMP_", "KMP_", "TENON_")


def environment(threads: int, **more: str) -> dict[str, str]:
    """The caller's, without settings of the libraries under test but their number of threads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SELF_MADE)}
    kept.pop("LD_PRELOAD", None)
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
    # ggml calls a debugger before it aborts; what it says itself is enough.
    return {**kept, **{name: str(threads) for name in counts}, "GGML_NO_BACKTRACE": "1", **more}


@dataclass
class Trial:
    """The driver's lines by their first word, and how the process ended."""

    lines: dict[str, str] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)  # per subject: its name, how its call ended, and the next one
    sites: list[str] = field(default_factory=list)
    status: int = 0  # as subprocess has it: negative for signals
    hung: bool = False
    said: str = ""  # its last line on stdout or stderr
    armed: bool = False  # a failure was ordered

    def read(self, report: str, stderr: str) -> Trial:
        """Takes in what was written. Folders are left out: results are about libraries, not about where a machine has them."""
        report, stderr = (FOLDERS.sub("", text) for text in (report, stderr))
        for line in report.splitlines():
            word, _, rest = line.partition(" ")
            if word == "subject":
                self.calls.append([rest, "", ""])
            elif word == "site":
                self.sites.append(rest.partition(" ")[2])
            else:
                self.lines[word] = rest
            if word in ("call", "next"):
                self.calls[-1][1 if word == "call" else 2] = rest
        said = [line.strip() for line in stderr.splitlines() if line.strip()]
        self.said = said[-1][:200] if said else ""
        return self

    @property
    def count(self) -> int:
        return int(self.lines["sites"].split()[0])

    @property
    def outcome(self) -> str:
        if self.hung:
            return "hang"
        if self.status < 0:
            return "signal"
        if "done" not in self.lines:
            return "exit"
        _, hits = map(int, self.lines.get("sites", "0 0").split())
        if self.armed and hits == 0:
            return "missed"
        call, after = self.lines["call"].split()[0], self.lines["next"].split()[0]
        if "wrong" in (call, after):
            return "wrong"
        if after != "ok":
            return "poisoned"
        return call

    @property
    def detail(self) -> str:
        """What happened, for people: the signal's name, the exit status, what the library said."""
        kind = self.outcome
        if kind == "signal":
            return signal.Signals(-self.status).name
        if kind == "exit":
            return f"exit({self.status})"
        if kind == "hang":
            return "no end"
        if kind == "poisoned":
            return f"next call: {self.lines['next'].partition(' ')[2]}"
        if kind == "wrong":
            return next(v for v in (self.lines["call"], self.lines["next"]) if v.startswith("wrong"))
        return self.lines["call"].partition(" ")[2]


def queued(pid: int) -> float:
    """Seconds that the main thread of a process has spent ready to run without a core to run on."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def wait(ended: Callable[[], bool], seconds: float, pid: int) -> bool:
    """True once ended() is. What a busy machine or one that stands still takes is not counted: time in which this process could not run,
    and time in which `pid` waited for a core, up to three times the seconds allowed."""
    last, nap, counted = time.monotonic(), 0.001, 0.0
    while not ended():
        if counted - min(queued(pid), 3 * seconds) > seconds:
            return False
        time.sleep(nap)
        now = time.monotonic()
        counted += min(now - last, 0.1)
        last, nap = now, min(2 * nap, 0.02)
    return True


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def plain_process() -> None:
    """No core dumps; an end with the runner's, however that comes; and signals as a program finds them: a background job of a shell ignores
    SIGINT, and OpenBLAS raises it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


Command = Callable[[Sequence[str]], list[str]]  # a driver's command line with these options in it


def run_process(command: Command, options: Sequence[str], env: dict[str, str], seconds: float = HANG_SECONDS) -> Trial:
    """Runs a driver in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        report, stderr = Path(folder, "report"), Path(folder, "stderr")
        report.touch()
        with open(stderr, "wb") as errors:
            process = subprocess.Popen(
                command([*options, "--report", str(report)]),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                preexec_fn=plain_process,
            )
            hung = not wait(lambda: process.poll() is not None, seconds, process.pid)
            if hung:
                process.kill()
            status = process.wait()
        return Trial(status=status, hung=hung, armed="--nth" in options).read(
            report.read_text(), stderr.read_text(errors="replace")
        )


class Zygote:
    """A Python driver that has imported its package and forks a process per trial (python_driver.py --serve)."""

    def __init__(self, command: Command, env: dict[str, str]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="faults-")
        self.stderr = Path(self.folder.name, "stderr")
        with open(self.stderr, "ab") as errors:
            self.process = subprocess.Popen(
                command(["--serve"]),
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                preexec_fn=plain_process,
            )
        self.answer = self._line()

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().decode().strip()

    @property
    def ready(self) -> bool:
        return self.answer == "ready"

    def run(self, options: Sequence[str], seconds: float = HANG_SECONDS) -> Trial:
        assert self.process.stdin and self.process.stdout
        report = Path(self.folder.name, "report")
        report.write_text("")
        before = self.stderr.stat().st_size
        self.process.stdin.write((json.dumps([*options, "--report", str(report)]) + "\n").encode())
        child = int(self._line().split()[1])
        os.set_blocking(self.process.stdout.fileno(), False)
        answer = bytearray()

        def ended() -> bool:
            answer.extend(self.process.stdout.read(100) or b"")  # type: ignore[union-attr]
            return b"\n" in answer or self.process.poll() is not None

        hung = not wait(ended, seconds, child)
        if hung:
            os.kill(child, signal.SIGKILL)
            wait(ended, 60, child)
        os.set_blocking(self.process.stdout.fileno(), True)
        with open(self.stderr, "rb") as errors:
            errors.seek(before)
            said = errors.read().decode(errors="replace")
        return Trial(status=int(answer.split()[1]), hung=hung, armed="--nth" in options).read(report.read_text(), said)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()
