"""Several boards that share jobs: one that vanishes costs no job, one that cannot be trusted gets none.

A board that reboots, hangs, fails or is slow for a while is set aside. Whenever a job finds no other board free, one
that was set aside is tried again; it is given up when it has been aside for ``RETURN_S``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ofa_tvm.devices.rpc.board_health import BoardState, Limits, complaint, slow_now
from ofa_tvm.devices.rpc.board_slots import Caller, Message, Slot, Slots
from ofa_tvm.support.console import log, warn
from ofa_tvm.support.errors import DeviceUnreachable
from ofa_tvm.support.files import Record

Ask = Callable[..., Message]
PING_S = 60.0
MAX_LOSSES = 2
"""A job that lost this many boards, which were there right before, is not tried again."""
MAX_FAILURES = 2
"""Nor is one that failed this often on boards that were well right afterwards."""
EVERY_JOBS = 50
"""Jobs of a board after which it is checked again."""
CALMER_TRIES = 3
"""Times that a reference kernel is timed before a board is called noisy."""
RETURN_S = 300.0
"""How long a board may be set aside: it boots within that time, or its tracker starts again."""
SAVED = "what was measured is saved: run the same command again to go on"
CALMER = (
    "end what else runs on the boards, cool them, or set their clocks (governor 'performance'); "
    "'tune --max-noise 1.5' allows more, for less certain results"
)


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
        checks: how a board is checked before its first job, after a failure, and now and then.
        advice: what to do when no board is left.
    """

    def __init__(self, workers: Sequence[Caller], access: object, checks: Checks, advice: str) -> None:
        self._slots = Slots(workers)
        self._access, self._checks, self._advice = access, checks, advice
        self._threads = ThreadPoolExecutor(max(1, len(workers)))
        self._is_started = False
        self._expected_ms: float | None = None
        self.states: dict[str, BoardState] = {}

    @property
    def active(self) -> list[Slot]:
        """Slots that get jobs, now or when they are back."""
        return self._slots.active

    def start(self) -> None:
        """Connect to all boards and check them.

        Raises:
            DeviceUnreachable: none can be used, and why.
        """
        list(self._threads.map(self._first, self._slots.every))
        for slot in self.active:
            self._judge(slot)  # now that all are known
        self._slots.open()
        if not self.active:
            raise self._unreachable()
        self._is_started = True

    def expect(self, reference_ms: float) -> None:
        """What the reference kernel took when the log began: boards that take longer are set aside."""
        self._expected_ms = reference_ms
        for slot in self.active:
            self._judge(slot)

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
        """Run a job; when its board vanishes or fails a check, on another one.

        A failure is believed when it happens twice, on boards that pass their check right afterwards; a time, when a
        reference kernel beside it takes its usual time.

        Returns:
            The job's answer; "crashed" when boards keep going away with it.

        Raises:
            DeviceUnreachable: no board is left.
        """
        losses = failures = 0
        while losses < MAX_LOSSES:
            slot = self._take()
            try:
                if losses and not self._is_there(slot, "does not answer"):
                    continue  # it went away before, not because of this job
                answer = self._ask(slot, job, timeout_s, arguments)
                if answer["status"] == "ok" or (answer["status"] == "failed" and "board" not in answer):
                    if self._is_sound(slot, answer):
                        return answer
                    continue
                if _is_lost(answer):
                    is_there = self._is_there(slot, answer["error"])
                    is_begun = answer["status"] != "no_board"
                    losses += is_begun and (not is_there or answer["status"] == "lost")
                    is_believed = is_there and is_begun and answer["status"] != "lost"
                else:
                    self._check(slot, answer.get("board", slot.address))
                    is_believed = slot.is_usable
                failures += is_believed
                if failures == MAX_FAILURES:
                    return answer
            finally:
                self._slots.give_back(slot)
        return {"status": "crashed", "error": f"its board went away {MAX_LOSSES} times: {answer['error']}"}

    def _is_there(self, slot: Slot, why: str) -> bool:
        """Ask a board whether it is there; if it does not answer, it is set aside."""
        again = self._ask(slot, "ping", PING_S, {})
        if again["status"] != "ok":
            self._set_aside(slot, f"{why}, and again: {again['error']}")
        return slot.is_usable

    def _ask(self, slot: Slot, job: str, timeout_s: float, arguments: Mapping[str, object]) -> Message:
        avoid = [state.address for state in list(self.states.values()) if state.quarantine]
        others = sum(other is not slot and other.is_usable for other in self._slots.every)
        request = {"access": self._access, "avoid": avoid, "others": others}
        answer = slot.worker.call(job, timeout_s, request=request, **arguments)
        slot.address = answer.get("board", slot.address)
        return answer

    def _is_sound(self, slot: Slot, answer: Message) -> bool:
        """Count a job, unless its board is slow now: then that is set aside.

        A board that is new, or has done many jobs since it was last checked, is checked.
        """
        address = answer.get("board", slot.address)
        state = self.states.get(address)
        if state is None or state.jobs % EVERY_JOBS == EVERY_JOBS - 1:
            state = self._check(slot, address)
        limits, beside_ms = self._checks.limits, answer.get("beside_ms")
        reason = "" if limits is None or beside_ms is None else slow_now(state, beside_ms, limits, self._expected_ms)
        if reason:
            self._set_aside(slot, reason)
        state.jobs += slot.is_usable
        return slot.is_usable

    def _check(self, slot: Slot, address: str) -> BoardState:
        state = self.states.setdefault(address, BoardState(address))
        try:
            state.facts = self._checks.connect(self._asker(slot))
        except DeviceUnreachable as error:
            self._set_aside(slot, str(error.what))
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
                self._set_aside(slot, str(error.what))
                return
            if not complaint(state, [], self._checks.limits):
                break
        self._judge(slot)

    def _judge(self, slot: Slot) -> None:
        if self._checks.limits is None or slot.address not in self.states:
            return
        state = self.states[slot.address]
        others = [
            self.states[board.address]
            for board in self.active
            if board is not slot and not board.aside and board.address in self.states
        ]
        if reason := complaint(state, others, self._checks.limits, self._expected_ms):
            self._set_aside(slot, reason)

    def _asker(self, slot: Slot) -> Ask:
        def ask(job: str, timeout_s: float, /, **arguments: object) -> Message:
            return self._ask(slot, job, timeout_s, arguments)

        return ask

    def _set_aside(self, slot: Slot, reason: str) -> None:
        """No jobs for a slot and its board until it can be used again; before the first job, none at all."""
        if not self._is_started:
            self._retire(slot, reason)
            return
        if self._slots.set_aside(slot, reason):
            log(f"board {slot.address or '(none)'} gets no jobs for now: {reason}")
        if slot.address in self.states:
            self.states[slot.address].aside = reason

    def _is_back(self, slot: Slot) -> bool:
        """Whether a slot that was set aside can be used again; it is given up when that took too long."""
        slot.aside = ""
        answer = self._ask(slot, "ping", PING_S, {})
        if answer["status"] == "ok":
            self._check(slot, answer["board"])
        else:
            self._set_aside(slot, answer["error"])
        if slot.aside:
            assert slot.aside_since is not None
            if time.monotonic() - slot.aside_since > RETURN_S:
                self._retire(slot, slot.aside)
            return False
        slot.aside_since = None
        self.states[slot.address].aside = ""
        log(f"board {slot.address} is back")
        return True

    def _retire(self, slot: Slot, reason: str) -> None:
        """No more jobs for a slot and its board."""
        slot.reason = reason
        if slot.address in self.states:
            self.states[slot.address].quarantine = reason
        warn(f"board {slot.address or '(none)'} gets no more jobs: {reason}")
        slot.worker.close()

    def _take(self) -> Slot:
        """A slot whose board can be used.

        Raises:
            DeviceUnreachable: none is left.
        """
        while True:
            slot = self._slots.next()
            if slot is None:
                raise self._unreachable()
            try:
                if not slot.aside or self._is_back(slot):
                    return slot
            except BaseException:
                self._slots.give_back(slot)
                raise
            self._slots.give_back(slot)

    def _unreachable(self) -> DeviceUnreachable:
        reasons = dict.fromkeys(f"{slot.address}: {slot.reason}".removeprefix(": ") for slot in self._slots.every)
        are_unfit = [slot.reason.startswith(("noisy", "slow")) for slot in self._slots.every]
        hints = [CALMER] * any(are_unfit) + [self._advice] * (not all(are_unfit)) + [SAVED] * self._is_started
        return DeviceUnreachable(f"no board can be used: {'; '.join(reasons)}", "\n".join(hints))

    def close(self) -> None:
        """End all workers; jobs that wait are not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._slots.close()


def _is_lost(answer: Message) -> bool:
    """Whether a job's board went away, or its worker process ended before it could say."""
    return answer["status"] in ("lost", "no_board") or (
        answer["status"] in ("crashed", "timed_out") and "board" not in answer
    )
