"""Slots of a pool of boards: workers with a board each, which are free, set aside for a while, or given up."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ofa_tvm.support.files import Record

RETRY_S = 5.0
"""Seconds after which a board that was set aside is tried again."""
Message = Record


class Caller(Protocol):
    """A worker process that holds one board at a time; see ``devices.workers.worker.Worker``."""

    def call(self, job: str, timeout_s: float, /, **arguments: object) -> Message:
        """Run a job."""
        ...

    def close(self) -> None:
        """End it, and so the session with its board."""
        ...


@dataclass
class Slot:
    """A worker, and the address of the board that it had last.

    ``reason`` is why it gets no more jobs; ``aside`` why it gets none from ``aside_since`` to ``again_at``, or longer.
    """

    worker: Caller
    address: str = ""
    reason: str = ""
    aside: str = ""
    aside_since: float | None = None
    again_at: float = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether it gets jobs now."""
        return not self.reason and not self.aside


class Slots:
    """Hands slots to threads that wait for one.

    Args:
        workers: one for each slot; closed with it.
    """

    def __init__(self, workers: Sequence[Caller]) -> None:
        self.every = [Slot(worker) for worker in workers]
        self._free: deque[Slot] = deque()
        self._aside: list[Slot] = []
        self._changed = threading.Condition()
        self._is_closed = False

    @property
    def active(self) -> list[Slot]:
        """Those that get jobs, now or when they are back."""
        return [slot for slot in self.every if not slot.reason]

    def open(self) -> None:
        """All active ones are free."""
        with self._changed:
            self._free.extend(self.active)

    def next(self) -> Slot | None:
        """A free slot, waited for, or else one that was set aside long enough ago; None where all are given up."""
        with self._changed:
            while True:
                if self._free:
                    return self._free.popleft()
                if self._is_closed or not self.active:
                    return None
                wait_s = min((slot.again_at for slot in self._aside), default=math.inf) - time.monotonic()
                if wait_s <= 0:
                    slot = min(self._aside, key=lambda one: one.again_at)
                    self._aside.remove(slot)
                    return slot
                self._changed.wait(None if wait_s == math.inf else wait_s)

    def give_back(self, slot: Slot) -> None:
        """It may be handed to the next, unless it was given up."""
        with self._changed:
            if not slot.reason:
                (self._aside if slot.aside else self._free).append(slot)
            self._changed.notify_all()

    def set_aside(self, slot: Slot, reason: str) -> bool:
        """No jobs for a slot until it is tried again; returns whether it had them until now."""
        now = time.monotonic()
        is_new = slot.aside_since is None
        if is_new:
            slot.aside_since = now
        slot.aside, slot.again_at = reason, now + RETRY_S
        with self._changed:
            if slot in self._free:
                self._free.remove(slot)
                self._aside.append(slot)
        return is_new

    def close(self) -> None:
        """End all workers; nobody waits any longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for slot in self.every:
            slot.worker.close()
