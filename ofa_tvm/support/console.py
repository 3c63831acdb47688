"""What people see while work goes on: messages and progress with ETA, all on stderr.

On a terminal progress is a live bar; in a pipe it is a plain line now and then. ``--quiet`` leaves warnings and errors;
``--verbose`` adds details, and the time to each line. NO_COLOR is rich's to heed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

stderr = Console(stderr=True, highlight=False)
PLAIN_LINE_EVERY_S = 15.0

Level = Literal["quiet", "usual", "verbose"]
_said: dict[str, Level] = {"level": "usual"}
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "?")
_began = time.monotonic()


def set_level(level: Level) -> None:
    """How much is said from now on."""
    _said["level"] = level


def level_options() -> list[str]:
    """The options that make another command of this package say as much as this one."""
    return [] if _said["level"] == "usual" else [f"--{_said['level']}"]


def log(message: str) -> None:
    """Print a line to stderr, unless quiet."""
    if _said["level"] != "quiet":
        warn(message)


def detail(message: str) -> None:
    """Print a line to stderr if verbose."""
    if _said["level"] == "verbose":
        warn(message)


def warn(message: str) -> None:
    """Print a line to stderr, also when quiet: what a user must know. Terminals obey nothing that a name contains."""
    message = message.translate(_CONTROLS)
    if _said["level"] == "verbose":
        message = f"[{time.monotonic() - _began:7.1f} s] {message}"
    if stderr.is_terminal:
        stderr.print(message, markup=False, soft_wrap=True)
    else:
        print(message, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as ``45 s``, ``3:20`` or ``1:05:00``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def wait_for(process: subprocess.Popen[Any], title: str) -> int:
    """Wait for a program that shows no progress, and log now and then that it runs; returns its exit code."""
    start = time.monotonic()
    while True:
        try:
            return process.wait(timeout=PLAIN_LINE_EVERY_S)
        except subprocess.TimeoutExpired:
            log(f"{title}: {duration(time.monotonic() - start)} so far")


class Task:
    """Progress of one piece of work; ``with Task("tuning", 186) as task: task.advance()``.

    Args:
        title: what is done.
        total: steps of it.
        done: steps that an earlier run did.
        seconds: after which it ends anyway; None for no such limit.
    """

    def __init__(self, title: str, total: int, done: int = 0, seconds: float | None = None) -> None:
        self.title = title
        self.total = total
        self.done = done
        self._resumed, self._seconds = done, seconds
        self._start = self._last = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if stderr.is_terminal and not stderr.is_dumb_terminal and _said["level"] != "quiet":
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=10),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TextColumn("{task.fields[left]}"),
                TextColumn(
                    "{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
                ),
            )
            # Drawn by ``advance`` alone: nothing is drawn while something is timed.
            self._bar = Progress(*columns, console=stderr, auto_refresh=False, expand=True)
            self._bar.start()
            self._id = self._bar.add_task(self.title, total=self.total, completed=self.done, note="", left="-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps as done."""
        self.done += steps
        now = time.monotonic()
        elapsed, worked = now - self._start, self.done - self._resumed
        left = elapsed / worked * max(0, self.total - self.done) if worked else 0.0
        if self._seconds is not None:
            left = min(left, max(0.0, self._seconds - elapsed))
        if self._bar is not None:
            self._bar.update(self._id, completed=self.done, note=note, left=duration(left), refresh=True)
            return
        is_due = _said["level"] == "verbose" or now - self._last >= PLAIN_LINE_EVERY_S
        if is_due or self.done >= self.total:
            self._last = now
            log(f"{self.title}: {self.done}/{self.total}, {duration(elapsed)}, {duration(left)} left  {note}".rstrip())
