"""Boards under emulation, for tests: their results count, their times do not."""

from __future__ import annotations

from ofa_tvm.devices.emulation.emulator import emulated_boards
from ofa_tvm.devices.rpc.device import RpcDevice
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import UserError

SESSION_S = 600


class EmulatedDevice(RpcDevice):
    """Starts an emulated board with a tracker, and ends them with itself.

    Args:
        target: an arm64 target with a section ``[rpc]``.
        count: boards.

    Raises:
        UserError: the target is of another kind, or the emulator is not installed.
    """

    def __init__(self, target: TargetSpec, count: int = 1) -> None:
        triple = target.target.mtriple or ""
        if target.rpc is None or not triple.startswith("aarch64"):
            raise UserError(f"target {target.name} cannot be emulated", "only 64-bit ARM targets with [rpc] can")
        self.servers = emulated_boards(count, target.rpc.key)
        log("starting an emulated board (half a minute) ...")
        self.servers.__enter__()
        try:
            super().__init__(_emulated(target, self.servers.tracker), None)
        except BaseException:
            self.servers.close()
            raise

    def close(self) -> None:
        """End the sessions, the workers and the boards."""
        super().close()
        self.servers.close()


def _emulated(target: TargetSpec, tracker: str) -> TargetSpec:
    """The target with settings for an emulated board: long sessions, all cores, and nothing timed twice."""
    assert target.rpc is not None
    return target.model_copy(
        update={
            "tracker": tracker,
            "rpc": target.rpc.model_copy(update={"session_timeout_s": SESSION_S, "cores": ()}),
            "tuning": target.tuning.model_copy(update={"repeats": 1, "min_repeat_ms": 1}),
        }
    )
