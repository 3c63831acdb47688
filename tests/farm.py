"""Boards that fail on schedule: pool, device and loop are real; what a board's process answers is made up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pytest

from ofa_tvm.devices.replay import made_up_result
from ofa_tvm.devices.rpc import board_pool, board_slots
from ofa_tvm.devices.rpc import device as rpc
from ofa_tvm.devices.rpc.device import RpcDevice
from ofa_tvm.hardware.target import Rpc, TargetSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.drift import REFERENCE

REFERENCE_MS = 0.05
FOR_EVER = 10**9
Kind = Literal["away", "tracker", "held", "hangs", "garbage", "wrong", "slow", "full"]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a board, from which of its calls on, and for how many."""

    kind: Kind
    at: int
    calls: int
    board: int = 0


@dataclass
class MadeUpBoard:
    """Stands for the worker process of one board; answers as ``rpc.jobs`` would."""

    address: str
    faults: Sequence[Fault]
    calls: int = 0
    tried: list[str] = field(default_factory=list)

    def call(self, job: str, timeout_s: float, /, request: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        kinds = {fault.kind for fault in self.faults if fault.at <= self.calls < fault.at + fault.calls}
        if job in ("ping", "connect"):
            return self._contact(kinds)
        return self._trial(kinds, arguments["job"], timeout_s)

    def _contact(self, kinds: set[Kind]) -> dict[str, Any]:
        reasons = {
            "away": "no further board 'farm' is registered",
            "tracker": "the tracker 127.0.0.1:9190 does not answer: Connection refused",
            "held": "no board 'farm' became free within 15 s",
        }
        for kind in kinds & reasons.keys():
            return {"status": "no_board", "error": reasons[kind]}
        if "hangs" in kinds:
            return {"status": "timed_out", "error": "took longer than 60 s"}
        return {"status": "ok", "board": self.address, "facts": {}}

    def _trial(self, kinds: set[Kind], job: Any, timeout_s: float) -> dict[str, Any]:
        if kinds & {"away", "tracker", "held"}:
            return {"status": "lost", "error": "the connection ended", "board": self.address}
        if "hangs" in kinds:
            return {"status": "timed_out", "error": f"took longer than {timeout_s:g} s"}
        if "garbage" in kinds:
            return {"status": "failed", "error": "a kernel's time cannot be nan ms", "board": self.address}
        if "full" in kinds:
            return {"status": "failed", "error": "No space left on device", "board": self.address}
        if "wrong" in kinds:
            return {"status": "wrong_output", "error": "differs from numpy by 1e+30", "board": self.address}
        slowness = 10.0 if "slow" in kinds else 1.0
        result = made_up_result(job.kernel, Candidate(job.kernel.key, "template", job.schedule))
        self.tried.append(job.kernel.key)
        times_ms = result.times_ms if job.kernel != REFERENCE else (REFERENCE_MS,) * job.target.tuning.repeats
        result = replace(result, times_ms=tuple(slowness * time_ms for time_ms in times_ms))
        return {**asdict(result), "beside_ms": slowness * REFERENCE_MS, "board": self.address}

    def close(self) -> None:
        """Nothing to end."""


class MadeUpTracker:
    """Lists the boards of a farm."""

    count = 2

    def __init__(self, address: str, key: str) -> None:
        """Asked for any key."""

    def boards(self) -> list[str]:
        return [f"10.0.0.{number}:9090" for number in range(self.count)]


def farm_target() -> TargetSpec:
    """This machine's target, as if it were the boards'."""
    access = Rpc(tracker_env="NONE", key="farm", session_timeout_s=60)
    return load_target("x86").model_copy(update={"device": "rpc", "rpc": access, "tracker": "127.0.0.1:9190"})


@contextmanager
def farm(
    monkeypatch: pytest.MonkeyPatch, faults: Sequence[Fault], boards: int = 2, return_s: float = 60.0
) -> Iterator[tuple[RpcDevice, list[MadeUpBoard]]]:
    """A device on boards with faults; a board that was set aside is tried again at once."""
    made: list[MadeUpBoard] = []

    def worker(module: str) -> MadeUpBoard:
        number = len(made)
        mine = [fault for fault in faults if fault.board == number]
        made.append(MadeUpBoard(f"10.0.0.{number}:9090", mine))
        return made[-1]

    monkeypatch.setattr(board_slots, "RETRY_S", 0.001)
    monkeypatch.setattr(board_pool, "RETURN_S", return_s)
    monkeypatch.setattr(rpc, "Worker", worker)
    monkeypatch.setattr(rpc, "Tracker", MadeUpTracker)
    monkeypatch.setattr(MadeUpTracker, "count", boards)
    with RpcDevice(farm_target()) as device:
        yield device, made
