"""Where code runs; ``open_device`` makes the one that a target names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from ofa_tvm.compiler.codegen import Library, codegen_of
from ofa_tvm.hardware.machine import local_gpu
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.console import warn
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl
from ofa_tvm.tuner.device import Device

BOARDS_FILE = "boards.jsonl"

DEVICES = {
    "local": ("ofa_tvm.devices.local.device", "LocalDevice"),
    "rpc": ("ofa_tvm.devices.rpc.device", "RpcDevice"),
    "emulated": ("ofa_tvm.devices.emulation.device", "EmulatedDevice"),
    "estimate": ("ofa_tvm.devices.estimate.device", "EstimateDevice"),
    "replay": ("ofa_tvm.devices.replay", "replay_device"),
}
"""Module of each kind and what makes the device there; imported when needed."""


@contextmanager
def library_loader(target: TargetSpec) -> Iterator[Callable[[Path], Library]]:
    """What loads a library of a target where it can run: here, on a board, or under emulation.

    Raises:
        UserError: something that it needs is missing here.
    """
    if target.device == "local" or target.is_gpu:  # what is compiled for a GPU elsewhere is not loaded
        yield codegen_of(target).load
        return
    if target.recording is not None:
        raise UserError(f"target {target.name} answers from a recording: nothing runs there", "leave out --device")
    with open_device(target) as device:
        yield device.load


def open_device(target: TargetSpec) -> Device:
    """The device of a target, a context manager; logs it when its times are no measurements.

    Raises:
        UserError: something that it needs is missing here.
    """
    if target.provenance == "estimated":
        warn(f"{target.name}: no board is given, so times are estimated; with one: --device rpc:HOST:PORT")
    if target.recording is not None:
        warn(f"{target.name}: answers come from the recording {target.recording.folder}; nothing is measured")
    if target.device == "pack":
        raise UserError(
            f"target {target.name} is measured elsewhere, by packs: nothing runs here",
            "use tune with --export-pack and --import-pack",
        )
    if target.device == "local" and target.is_gpu and local_gpu() is None:
        raise UserError(
            f"target {target.name} is this machine's GPU: no NVIDIA GPU was found here (nvidia-smi does not answer)",
            "measure elsewhere: leave out --device local, and use tune with --export-pack",
        )
    module, name = DEVICES[target.device]
    device: Device = getattr(import_module(module), name)(target)
    return device


@contextmanager
def recorded_boards(folder: Path, device: Device) -> Iterator[None]:
    """Append what is known of a device's boards to a log's folder, before and after the block."""
    _record_boards(folder, device)
    try:
        yield
    finally:
        _record_boards(folder, device)


def _record_boards(folder: Path, device: Device) -> None:
    if boards := device.boards():
        append_jsonl(folder / BOARDS_FILE, boards)
