"""Several boards that share jobs: one that vanishes costs no job, one that cannot be trusted gets no more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from ofa_tvm.devices.rpc.board_health import BoardState, Limits, complaint
from ofa_tvm.support.console import warn
from ofa_tvm.support.errors import DeviceUnreachable
from ofa_tvm.support.files import Record

Message = Record
Ask = Callable[..., Message]
PING_S = 60.0
MAX_LOSSES = 2
"""A job that lost this many boards is not tried again."""
EVERY_JOBS = 50
"""Jobs of a board after which it is checked again."""
CALMER_TRIES = 3
"""Times that a reference kernel is timed before a board is called noisy."""


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
    """A worker, and the address of the board that it had last."""

    worker: Caller
    address: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Checks:
    """How a board is checked.

    Args:
        connect: called with a function that asks a board (job, seconds, arguments); returns the board's facts.
        reference_ms: likewise; returns the times of a reference kernel.
        limits: what a board may do; None for boards whose times mean nothing.

    Both raise DeviceUnreachable, with the reason, when a board cannot be used.
    """

    connect: Callable[[Ask], Record]
    reference_ms: Callable[[Ask], list[float]]
    limits: Limits | None


class BoardPool:
    """Runs jobs on whichever board is free.

    Args:
        workers: one for each board; closed with the pool.
        access: how to reach a board; part of every job's ``request``, see ``session.BoardRequest``.
        checks: how a board is checked before its first job and now and then.
        advice: what to do when no board is left.
    """

    def __init__(self, workers: Sequence[Caller], access: object, checks: Checks, advice: str) -> None:
        self._slots = [Slot(worker) for worker in workers]
        self._access, self._checks, self._advice = access, checks, advice
        self._free: deque[Slot] = deque()
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(max(1, len(self._slots)))
        self.states: dict[str, BoardState] = {}

    @property
    def active(self) -> list[Slot]:
        """Slots that still get jobs."""
        return [slot for slot in self._slots if not slot.reason]

    def start(self) -> None:
        """Connect to all boards and check them.

        Raises:
            DeviceUnreachable: none can be used, and why.
        """
        list(self._threads.map(self._first, self._slots))
        for slot in self.active:
            self._judge(slot)  # now that all are known
        with self._changed:
            self._free.extend(self.active)
        if not self.active:
            raise self._unreachable()

    def _first(self, slot: Slot) -> None:
        answer = self._ask(slot, "ping", PING_S, {})
        if answer["status"] != "ok":
            self._retire(slot, answer["error"])
            return
        self._check(slot, answer["board"])

    def map(self, job: str, timeout_s: float, arguments: Sequence[Mapping[str, object]]) -> Iterator[Message]:
        """Answers of a job for each set of arguments, in order, as they come; see ``call``."""
        return self._threads.map(lambda values: self.call(job, timeout_s, values), arguments)

    def call(self, job: str, timeout_s: float, arguments: Mapping[str, object]) -> Message:
        """Run a job; when its board vanishes, on another one.

        Returns:
            The job's answer; "crashed" when boards keep going away with it.

        Raises:
            DeviceUnreachable: no board is left.
        """
        losses = 0
        while True:
            slot = self._take()
            try:
                answer = self._ask(slot, job, timeout_s, arguments)
                if not _is_lost(answer):
                    self._watch(slot, answer)
                    return answer
                is_begun = answer["status"] != "no_board"
                if self._is_there(slot, answer) and answer["status"] != "lost" and is_begun:
                    return answer  # the board lives, so the job itself failed
                losses += is_begun
                if losses == MAX_LOSSES:
                    return {"status": "crashed", "error": f"its board went away {MAX_LOSSES} times: {answer['error']}"}
            finally:
                self._give_back(slot)

    def _is_there(self, slot: Slot, answer: Message) -> bool:
        """Ask the board of a lost job whether it is there; if it does not answer, it gets no more jobs."""
        again = self._ask(slot, "ping", PING_S, {})
        if again["status"] == "ok":
            return True
        self._retire(slot, f"{answer['error']}, and again: {again['error']}")
        return False

    def _ask(self, slot: Slot, job: str, timeout_s: float, arguments: Mapping[str, object]) -> Message:
        avoid = [state.address for state in list(self.states.values()) if state.quarantine]
        others = len(self.active) - 1
        request = {"access": self._access, "avoid": avoid, "others": others}
        answer = slot.worker.call(job, timeout_s, request=request, **arguments)
        slot.address = answer.get("board", slot.address)
        return answer

    def _watch(self, slot: Slot, answer: Message) -> None:
        """Count a job, and check a board that is new or has done many since it was last checked."""
        address = answer.get("board", slot.address)
        state = self.states.get(address)
        if state is None or state.jobs % EVERY_JOBS == EVERY_JOBS - 1:
            state = self._check(slot, address)
        state.jobs += 1

    def _check(self, slot: Slot, address: str) -> BoardState:
        state = self.states.setdefault(address, BoardState(address))
        try:
            state.facts = self._checks.connect(self._asker(slot))
        except DeviceUnreachable as error:
            self._retire(slot, str(error.what))
        else:
            self._time_reference(slot, state)
        return state

    def _time_reference(self, slot: Slot, state: BoardState) -> None:
        if self._checks.limits is None:
            return
        for _ in range(CALMER_TRIES):
            try:
                state.references_ms.append(self._checks.reference_ms(self._asker(slot)))
            except DeviceUnreachable as error:
                self._retire(slot, str(error.what))
                return
            if not complaint(state, [], self._checks.limits):
                break
        self._judge(slot)

    def _judge(self, slot: Slot) -> None:
        if self._checks.limits is None:
            return
        state = self.states[slot.address]
        others = [
            self.states[board.address] for board in self.active if board is not slot and board.address in self.states
        ]
        if reason := complaint(state, others, self._checks.limits):
            self._retire(slot, reason)

    def _asker(self, slot: Slot) -> Ask:
        def ask(job: str, timeout_s: float, /, **arguments: object) -> Message:
            return self._ask(slot, job, timeout_s, arguments)

        return ask

    def _retire(self, slot: Slot, reason: str) -> None:
        """No more jobs for a slot and its board."""
        slot.reason = reason
        if slot.address in self.states:
            self.states[slot.address].quarantine = reason
        warn(f"board {slot.address or '(none)'} gets no more jobs: {reason}")
        slot.worker.close()

    def _take(self) -> Slot:
        with self._changed:
            while not self._free:
                if not self.active:
                    raise self._unreachable()
                self._changed.wait()
            return self._free.popleft()

    def _give_back(self, slot: Slot) -> None:
        with self._changed:
            if not slot.reason:
                self._free.append(slot)
            self._changed.notify_all()

    def _unreachable(self) -> DeviceUnreachable:
        reasons = dict.fromkeys(f"{slot.address}: {slot.reason}".removeprefix(": ") for slot in self._slots)
        return DeviceUnreachable(f"no board can be used: {'; '.join(reasons)}", self._advice)

    def close(self) -> None:
        """End all workers; jobs that wait are not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for slot in self._slots:
            slot.worker.close()


def _is_lost(answer: Message) -> bool:
    """Whether a job's board went away, or its worker process ended before it could say."""
    return answer["status"] in ("lost", "no_board") or (
        answer["status"] in ("crashed", "timed_out") and "board" not in answer
    )
