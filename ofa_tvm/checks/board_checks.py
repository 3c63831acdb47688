"""What a target on another device needs: tools of this machine, a tracker, boards; each check says how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ofa_tvm.checks.machine_checks import TINY_KERNEL, Check, Status
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.job import KernelJob


def board_checks(name: str, device: str | None = None, dtype: DType | None = None) -> Iterator[Check]:
    """Check a target that runs elsewhere, tool by tool and board by board; nothing for this machine's own.

    Args:
        name: as for ``load_target``.
        device: as for ``load_target``.
        dtype: as for ``load_target``.
    """
    try:
        target = load_target(name, device=device, dtype=dtype)
    except OfaTvmError:  # ``target_checks`` says what is wrong
        return
    if target.device == "local" or not target.is_at_hand:
        return
    tools = list(_tools(target))
    yield from tools
    if all(check.status == "ok" for check in tools[:2]):
        yield _emulated_kernel(target)
    if target.device == "emulated":
        yield _emulated_board(target)
    elif target.device == "rpc":
        yield from _boards(target)
    elif target.rpc is not None:
        from ofa_tvm.devices.rpc.tracker import how_to_attach

        fix = f"{how_to_attach(None, target.rpc.key)}\n  then: export {target.rpc.tracker_env}=127.0.0.1:9190"
        yield Check("boards", "warn", "none is given, so times are estimated", fix)


def _tools(target: TargetSpec) -> Iterator[Check]:
    """The compiler, qemu, and, where the target can be estimated, what that takes."""
    from ofa_tvm.compiler.assembly.c_compiler import require_compiler
    from ofa_tvm.devices.emulation.instruction_counts import counting_plugin, emulator
    from ofa_tvm.devices.estimate.cycle_model import llvm_tool

    otherwise: Status = "fail" if target.device == "estimate" else "warn"
    linker, triple = target.toolchain.linker, target.target.mtriple
    yield _attempt("cross compiler", lambda: require_compiler(linker), "fail", linker)
    yield _attempt("qemu", lambda: emulator(triple), otherwise)
    if target.estimate is not None:
        major = target.estimate.llvm
        for tool in ("llvm-mca", "llvm-objdump"):
            yield _attempt(tool, lambda tool=tool: llvm_tool(tool, major), otherwise)  # type: ignore[misc]
        yield _attempt("instruction counter", counting_plugin, otherwise)


def _attempt(name: str, find: Callable[[], Any], otherwise: Status, found: str = "") -> Check:
    try:
        return Check(name, "ok", str(find() or found))
    except OfaTvmError as error:
        return Check(name, otherwise, error.what, error.hint)


def _emulated_kernel(target: TargetSpec) -> Check:
    """A tiny kernel, compiled here and run by qemu."""
    from ofa_tvm.devices.estimate.device import JOBS_MODULE
    from ofa_tvm.devices.workers.worker import Worker

    kernel = replace(TINY_KERNEL, dtype=target.dtype)
    try:
        with Worker(JOBS_MODULE) as worker:
            answer = worker.call("check", target.tuning.timeout_s + 30, job=KernelJob(kernel, {}, target))
    except OfaTvmError as error:
        return Check("tiny kernel", "fail", error.what, error.hint)
    if answer["status"] == "ok":
        return Check("tiny kernel", "ok", f"compiles, and computes what it should on qemu's {answer['cpu']}")
    fix = "the target's mcpu, or the compiler's libraries for it, may be wrong"
    return Check("tiny kernel", "fail", f"{answer['status']}: {answer['error']}", fix)


def _emulated_board(target: TargetSpec) -> Check:
    from ofa_tvm.devices.emulation.device import EmulatedDevice

    try:
        with EmulatedDevice(target) as device:
            device.start()
    except OfaTvmError as error:
        return Check("emulated board", "fail", error.what, error.hint)
    return Check("emulated board", "ok", "starts, and computes what it should; its times mean nothing")


def _boards(target: TargetSpec) -> Iterator[Check]:
    from ofa_tvm.devices.rpc.device import WARNING, RpcDevice
    from ofa_tvm.devices.rpc.tracker import Tracker, how_to_attach, is_loopback

    assert target.rpc is not None
    assert target.tracker is not None
    try:
        listed = Tracker(target.tracker, target.rpc.key).boards()
    except OfaTvmError as error:
        yield Check("tracker", "fail", error.what, error.hint)
        return
    yield Check("tracker", "ok", f"{target.tracker} has {len(listed)} boards '{target.rpc.key}'")
    if not is_loopback(target.tracker):
        yield Check("network", "warn", f"the tracker is reached over a network. {WARNING}", "join them by SSH")
    if not listed:
        yield Check("boards", "warn", "none is registered", how_to_attach(target.tracker, target.rpc.key))
        return
    unusable = None
    try:
        with RpcDevice(target) as device:
            try:
                device.start()
            except OfaTvmError as error:
                unusable = error
            yield from map(_board, device.boards())
    except OfaTvmError as error:
        unusable = error
    if unusable is not None:
        yield Check("boards", "fail", unusable.what, unusable.hint)


def _board(board: Record) -> Check:
    """A check of a board as ``RpcDevice.boards`` describes it."""
    facts = board["facts"]
    parts = [facts.get("model") or ", ".join(facts.get("processors", [])) or "unknown processor"]
    if "cores_online" in facts:
        parts.append(f"cores {facts['cores_online']}")
    if facts.get("clock_khz"):
        parts.append("/".join(f"{clock / 1e3:.0f}" for clock in facts["clock_khz"].values()) + " MHz")
    if "governor" in facts:
        parts.append(facts["governor"])
    if "millidegrees" in facts:
        parts.append(f"{facts['millidegrees'] / 1000:.0f} degrees C")
    if board["reference_ms"] is not None:
        spread = board["reference_spread"]
        parts.append(f"a reference kernel takes {board['reference_ms']:.3f} ms, spread {spread:.2f}x")
    name = f"board {board['board']}"
    if not board["quarantine"]:
        return Check(name, "ok", "; ".join(parts))
    fix = "nothing else may run there; fix its clock (governor 'performance'), cool it, or start its server again"
    return Check(name, "fail", "; ".join([board["quarantine"], *parts]), fix)
