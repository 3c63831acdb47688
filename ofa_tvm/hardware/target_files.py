"""Targets read from ``targets/*.toml``, by name or path, with a device and ``native`` values filled in."""

from __future__ import annotations

import os
import platform
import shlex
import tomllib
from pathlib import Path

from pydantic import TypeAdapter

from ofa_tvm.hardware.machine import cpu_flags, cpu_name, local_gpu, native_mcpu
from ofa_tvm.hardware.recording import replayed
from ofa_tvm.hardware.target import Rpc, TargetSpec
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, read_text
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.support.text import has_controls, printable
from ofa_tvm.support.typed import validated


def target_names() -> list[str]:
    """Names of the target files at hand."""
    return sorted(path.stem for path in shipped_folder("targets").glob("*.toml"))


def load_target(
    name: str,
    threads: int | None = None,
    batch: int | None = None,
    device: str | None = None,
    dtype: DType | None = None,
) -> TargetSpec:
    """Read a target by name or by the path of a TOML file.

    A target of boards is estimated where no tracker is given and its file says how to estimate.

    Args:
        name: ``x86``, or a path that ends with .toml.
        threads: instead of the file's.
        batch: instead of the file's.
        device: instead of the file's: ``local``, ``estimate``, ``pack``, ``rpc:HOST:PORT[:KEY]``, ``emulated``, or
            ``replay:FOLDER`` with the folder of a tuning log.
        dtype: instead of the file's.

    Raises:
        UserError: unknown target, a name that cannot be printed, or missing, unknown or wrong keys (each named).
    """
    target = _loaded(name, {"threads": threads, "batch": batch, "dtype": dtype}, device)
    given: Record = {"target": name, "device": None if device == "pack" else device}
    given |= {"threads": threads, "batch": batch, "dtype": dtype}
    options = [f"--{option} {shlex.quote(str(value))}" for option, value in given.items() if value is not None]
    return target.model_copy(update={"options": " ".join(options)})


def _loaded(name: str, overrides: Record, device: str | None) -> TargetSpec:
    path = Path(name) if name.endswith(".toml") else shipped_folder("targets") / f"{name}.toml"
    if not path.is_file():
        raise UserError(f"unknown target '{name}'", f"choose one of {', '.join(target_names())}, or a .toml file")
    if has_controls(path.stem):
        raise UserError(f"target file '{printable(name)}' has control characters or is not UTF-8", "rename it")
    values = _values(path)
    values["name"] = path.stem
    values.update({key: value for key, value in overrides.items() if value is not None})
    try:
        target = validated(_TARGET, values)
    except ValueError as error:
        raise UserError(f"{path}: {error}", f"a complete file: cat {shipped_folder('targets') / 'x86.toml'}") from error
    if target.dtype in ("int8", "bfloat16") and target.is_gpu:
        raise UserError(
            f"target {target.name} is a GPU: {target.dtype} is for CPUs", "float16 is what makes GPUs faster"
        )
    if device is not None and device.partition(":")[0] == "replay":
        if not (folder := device.partition(":")[2]):
            raise UserError("--device replay does not say which tuning log answers", "write replay:FOLDER")
        return replayed(target, Path(folder), overrides)
    target = _with_device(target, device, path)
    if target.rpc is not None and target.rpc.cores and len(set(target.rpc.cores)) < target.threads:
        raise UserError(f"{path}: key 'rpc.cores': {target.threads} threads need as many cores")
    if device == "local" and _machine_of(target) != platform.machine():
        raise UserError(
            f"target {target.name} is compiled for {_machine_of(target)}, this machine is {platform.machine()}",
            f"use {_devices_of(target)}",
        )
    is_own_cpu = target.device == "local" and target.target.mtriple is None
    flag, instructions, instead = CPU_FLAGS.get(target.dtype, ("", "", ""))
    if flag and is_own_cpu and flag not in cpu_flags():
        raise UserError(f"this CPU ({cpu_name()}) has no {instructions}, which {target.dtype} needs", instead)
    available = process_cores()
    if target.device == "local" and target.threads > available:
        raise UserError(
            f"{path}: key 'threads': {target.threads} threads, but this process may use {available} "
            f"{'core' if available == 1 else 'cores'}",
            "give it more cores (taskset, the container's limit), or fewer threads: --threads",
        )
    return _resolve_native(target)


_TARGET = TypeAdapter(TargetSpec)
CPU_FLAGS: dict[DType, tuple[str, str, str]] = {
    "int8": ("avx2", "AVX2", "leave out --dtype"),
    "bfloat16": ("avx512_bf16", "AVX512_BF16", "give --dtype int8, or leave out --dtype"),
    "float16": ("asimdhp", "half-precision arithmetic (ARM's FEAT_FP16)", "give --dtype bfloat16 or int8, or none"),
}
"""Of types that not every CPU has: what a CPU's flags must tell, as people write it, and what to do without it."""
TRACKER_ENV, SESSION_TIMEOUT_S = "OFA_TVM_TRACKER", 120
"""Of boards whose target file has no section [rpc]; they are registered by the target's name."""


def _values(path: Path) -> Record:
    text = read_text(path, "target", f"a complete file: cat {shipped_folder('targets') / 'x86.toml'}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # Python's own limits, in words that are of no help
        raise UserError(
            f"{path} is not valid TOML: a number has thousands of digits, or lists nest too deep"
        ) from error


def is_gpu_target(name: str) -> bool:
    """Whether a target's file is for a GPU, even one that is not here; False where it cannot be read."""
    path = Path(name) if name.endswith(".toml") else shipped_folder("targets") / f"{name}.toml"
    try:
        target = _values(path).get("target")
    except UserError:
        return False
    return isinstance(target, dict) and target.get("kind") == "cuda"


def _with_device(target: TargetSpec, device: str | None, path: Path) -> TargetSpec:
    """The target on the requested device, or on the one that is available."""
    kind, *address = (device or target.device).split(":")
    if address and kind != "rpc":
        raise UserError(f"target {target.name} cannot use device '{device}'", f"use {_devices_of(target)}")
    if kind in ("local", "pack"):
        return target.model_copy(update={"device": kind})
    if kind == "rpc" and target.rpc is None:
        target = target.model_copy(update={"rpc": _usual_rpc(target)})
    if kind == "emulated" and target.rpc is not None:
        return target.model_copy(update={"device": "emulated"})
    if kind == "rpc" and target.rpc is not None:
        address = address or os.environ.get(target.rpc.tracker_env, "").removeprefix("rpc:").split(":")
        if len(address) >= 2 and address[0] and address[1].isdigit():
            rpc = target.rpc if len(address) == 2 else target.rpc.model_copy(update={"key": ":".join(address[2:])})
            return target.model_copy(update={"device": "rpc", "rpc": rpc, "tracker": ":".join(address[:2])})
        if device is not None or address != [""]:
            where, prefix = ("--device", "rpc:") if device is not None else (target.rpc.tracker_env, "")
            raise UserError(
                f"{where} does not say where the tracker is",
                f"write {prefix}HOST:PORT or {prefix}HOST:PORT:KEY, for example {prefix}127.0.0.1:9190",
            )
        kind = "estimate"
    if kind == "estimate" and target.estimate is not None:
        if target.threads != 1:
            raise UserError(f"{path}: estimates are for one thread, not {target.threads}", "leave out --threads")
        return target.model_copy(update={"device": "estimate"})
    lacking = [f"[{name}]" for name in ("rpc", "estimate") if getattr(target, name) is None]
    sections = f"; {path} has no section {' or '.join(lacking)}" if lacking else ""
    raise UserError(
        f"target {target.name} cannot use device '{device or kind}'",
        f"use {_devices_of(target)}{sections}",
    )


def _machine_of(target: TargetSpec) -> str:
    return (target.target.mtriple or platform.machine()).partition("-")[0]


def _devices_of(target: TargetSpec) -> str:
    """The devices that a target can be measured on, as options name them."""
    is_cpu_elsewhere = target.rpc is not None or not (target.is_gpu or target.target.mcpu == "native")
    devices = {
        "local": _machine_of(target) == platform.machine(),
        "pack": True,
        "replay:FOLDER": True,
        "estimate": target.estimate is not None,
        "emulated": target.rpc is not None,
        "rpc:HOST:PORT[:KEY]": is_cpu_elsewhere,
    }
    *names, last = (name for name, is_possible in devices.items() if is_possible)
    return f"{', '.join(names)} or {last}"


def _usual_rpc(target: TargetSpec) -> Rpc | None:
    """Boards of a target whose file has no section [rpc]; None where code is for this machine or a GPU.

    Raises:
        UserError: the file does not say which CPU the boards have.
    """
    if target.is_gpu:
        return None
    if target.target.mcpu == "native":
        raise UserError(
            f"target {target.name} is this machine's own CPU ('native'), which boards may not have",
            "copy its file, name the boards' CPU as mcpu there, and give that .toml file as --target",
        )
    return Rpc(tracker_env=TRACKER_ENV, key=target.name, session_timeout_s=SESSION_TIMEOUT_S)


def _resolve_native(target: TargetSpec) -> TargetSpec:
    compiled_for, gpu = target.target, target.target.gpu
    if compiled_for.mcpu == "native":
        compiled_for = compiled_for.model_copy(update={"mcpu": native_mcpu()})
    if gpu is not None and gpu.arch == "native":
        local = local_gpu()
        if local is None:
            raise UserError(
                f"target {target.name}: no NVIDIA GPU was found here (nvidia-smi does not answer)",
                f"say which GPU is meant, --target {', '.join(gpu_targets())}; --export-pack needs no GPU here",
            )
        compiled_for = compiled_for.model_copy(update={"gpu": gpu.model_copy(update={"arch": local.arch})})
    return target.model_copy(update={"target": compiled_for})


def gpu_targets() -> list[str]:
    """Names of the target files for a particular GPU: ``cuda-sm...`` and ``jetson-orin``."""
    return [name for name in target_names() if name.startswith("cuda-sm") or name == "jetson-orin"]
