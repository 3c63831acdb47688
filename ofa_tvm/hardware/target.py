"""TargetSpec: what code is compiled for, where it runs and how it is measured; read from ``targets/*.toml``."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ofa_tvm.graph.network import DType
from ofa_tvm.hardware.machine import cpu_name, local_gpu, native_mcpu, package_version
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.shipped import shipped_folder

SCHEMA = 1
LAYOUT = "NHWC"
KERNEL_SET = 2
"""Counts up when kernels of the same key no longer run the same schedules."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(_Part):
    """An NVIDIA GPU: ``arch`` is ``sm_80``, say, or ``native``; the rest are limits of a thread block, and a warp."""

    arch: str = Field(pattern=r"^(sm_\d+|native)$")
    max_threads_per_block: int = Field(gt=0)
    max_shared_memory_per_block: int = Field(gt=0)
    registers_per_block: int = Field(gt=0)
    thread_warp_size: int = Field(gt=0)


class CompilerTarget(_Part):
    """What TVM compiles for (its target attributes); for a GPU, ``mcpu`` and ``mtriple`` are its machine's."""

    kind: Literal["llvm", "cuda"]
    mcpu: str
    mtriple: str | None = None
    mattr: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    device: str | None = None
    gpu: Gpu | None = None

    @model_validator(mode="after")
    def _has_gpu(self) -> Self:
        if (self.kind == "cuda") != (self.gpu is not None):
            raise ValueError("kind 'cuda', and no other, needs a section [target.gpu]")
        return self

    def attributes(self, cores: int) -> dict[str, Any]:
        """TVM's target dict."""
        attributes: dict[str, Any] = {"kind": "llvm", "mcpu": self.mcpu, "num-cores": cores}
        for name in ("mtriple", "mattr", "keys", "device"):
            value = getattr(self, name)
            if value:
                attributes[name] = list(value) if isinstance(value, tuple) else value
        return attributes if self.gpu is None else {"kind": "cuda", **self.gpu.model_dump(), "host": attributes}


class Toolchain(_Part):
    """Host tools that link a library for the target."""

    linker: str


class Measure(_Part):
    """How a subnet is timed: ``repeats`` timings of about ``min_repeat_ms`` each, after ``warmup`` runs."""

    repeats: int = Field(gt=0)
    min_repeat_ms: int = Field(gt=0)
    warmup: int = Field(ge=0)


class Tuning(_Part):
    """Defaults of ``tune``.

    Trials of a kernel, trials committed together, seconds after which a trial has failed, and how a kernel is timed:
    repeats, and the length of one in ms.
    """

    trials_per_kernel: int = Field(gt=0)
    batch: int = Field(gt=0)
    timeout_s: float = Field(gt=0)
    repeats: int = Field(gt=0)
    min_repeat_ms: int = Field(gt=0)


class Rpc(_Part):
    """Boards behind TVM's RPC tracker.

    Args:
        tracker_env: environment variable that holds HOST:PORT of the tracker, or HOST:PORT:KEY.
        key: what boards of this kind are registered as.
        session_timeout_s: seconds after which a board takes itself back from a job.
        cores: that code runs on, of big and little ones, say; empty for all.
    """

    tracker_env: str
    key: str
    session_timeout_s: int = Field(gt=0)
    cores: tuple[Annotated[int, Field(ge=0, lt=63)], ...] = ()


class Estimate(_Part):
    """How times are estimated without a device: instruction counts under qemu, cycles by llvm-mca, cold weights.

    Args:
        llvm: major version of llvm-mca; another one may know the CPU otherwise.
        mca_cpu: the CPU model that is nearest.
        mca_options: further options of llvm-mca.
        clock_mhz: assumed clock.
        weights_gb_s: assumed rate at which a kernel's weights arrive, which are not in the caches.
    """

    llvm: int = Field(gt=0)
    mca_cpu: str
    mca_options: tuple[str, ...] = ()
    clock_mhz: float = Field(gt=0)
    weights_gb_s: float = Field(gt=0)


DeviceKind = Literal["local", "rpc", "estimate", "emulated", "pack"]


class TargetSpec(_Part):
    """One target file, with ``native`` values filled in.

    ``tracker`` is the address of the boards' tracker, HOST:PORT; it is said on the command line or in the environment.
    """

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    description: str
    device: DeviceKind
    threads: int = Field(gt=0)
    batch: int = Field(gt=0)
    dtype: DType
    library_suffix: str
    target: CompilerTarget
    toolchain: Toolchain
    measure: Measure
    tuning: Tuning
    rpc: Rpc | None = None
    estimate: Estimate | None = None
    tracker: str | None = None

    @property
    def provenance(self) -> Literal["measured", "estimated", "emulated"]:
        """How times of this target come about."""
        return "emulated" if self.device == "emulated" else self.stored_provenance()

    def stored_provenance(self) -> Literal["measured", "estimated"]:
        """How times of this target come about, for what stores them.

        Raises:
            UserError: they may not be.
        """
        if self.device == "emulated":
            raise UserError(
                f"target {self.name} is emulated: times under emulation say nothing, so none are stored",
                "use --device estimate, or a board: --device rpc:HOST:PORT",
            )
        return "estimated" if self.device == "estimate" else "measured"

    @property
    def attributes(self) -> dict[str, Any]:
        """TVM's target dict."""
        return self.target.attributes(self.threads)

    @functools.cached_property
    def conditions(self) -> dict[str, Any]:
        """What changes speed; the fingerprint is a hash of it."""
        where: dict[str, Any] = {}
        if self.device in ("rpc", "emulated") and self.rpc is not None:
            where = {"board": self.rpc.key}
            if self.rpc.cores:
                where["cores"] = list(self.rpc.cores)
        if self.device == "estimate" and self.estimate is not None:
            where = {"estimate": self.estimate.model_dump(mode="json")}
        if self.device == "local" and self.target.gpu is not None:
            gpu = local_gpu()
            where = {"gpu": None if gpu is None else gpu.name}
        return {
            **where,
            "target": self.attributes,
            "device": self.device,
            "cpu": cpu_name() if self.device == "local" and self.target.gpu is None else None,
            "threads": self.threads,
            "batch": self.batch,
            "dtype": self.dtype,
            "layout": LAYOUT,
            "kernel_set": KERNEL_SET,
            "tvm": package_version("apache-tvm"),
        }

    @property
    def fingerprint(self) -> str:
        """Readable name and hash of the conditions; logs of another fingerprint are never answers."""
        text = json.dumps(self.conditions, sort_keys=True)
        where = "" if self.device == "local" else f"-{self.device}"
        chip = self.target.mcpu if self.target.gpu is None else self.target.gpu.arch
        dtype = "" if self.dtype == "float32" else "-f16"
        readable = f"{chip}-{self.threads}t-b{self.batch}{dtype}{where}".lower()
        readable = re.sub(r"[^a-z0-9]+", "-", readable).strip("-")
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


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

    A target of boards whose tracker nobody names is estimated where its file says how.

    Args:
        name: ``x86``, or a path that ends with .toml.
        threads: instead of the file's.
        batch: instead of the file's.
        device: instead of the file's: ``local``, ``estimate``, ``pack``, ``rpc:HOST:PORT[:KEY]``, or ``emulated``.
        dtype: instead of the file's.

    Raises:
        UserError: unknown target, or a file with missing, unknown or wrong keys (each named).
    """
    path = Path(name) if name.endswith(".toml") else shipped_folder("targets") / f"{name}.toml"
    if not path.is_file():
        raise UserError(f"unknown target '{name}'", f"choose one of {', '.join(target_names())}, or a .toml file")
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    values["name"] = path.stem
    given = {"threads": threads, "batch": batch, "dtype": dtype}
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        target = TargetSpec.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}", "see targets/x86.toml for a complete file") from error
    if target.dtype == "float16" and target.target.gpu is None:
        raise UserError(f"target {target.name} is a CPU: float16 is for GPUs", f"{', '.join(gpu_targets())}, cuda")
    target = _with_device(target, device, path)
    if target.rpc is not None and target.rpc.cores and len(set(target.rpc.cores)) < target.threads:
        raise UserError(f"{path}: key 'rpc.cores': {target.threads} threads need as many cores")
    available = os.cpu_count() or 1
    if target.device == "local" and target.threads > available:
        raise UserError(f"{path}: key 'threads': {target.threads} threads, but this machine has {available} cores")
    return _resolve_native(target)


def require_cpu(target: TargetSpec, command: str) -> None:
    """Refuse a GPU where there is no way for it.

    Raises:
        UserError: the target is a GPU.
    """
    if target.target.gpu is not None:
        raise UserError(
            f"{command} is for CPUs, target {target.name} is a GPU",
            "GPUs have: doctor, tune, compile, predict, search and deploy",
        )


def is_gpu_target(name: str) -> bool:
    """Whether a target's file is for a GPU, even one that is not here; False where it cannot be read."""
    path = Path(name) if name.endswith(".toml") else shipped_folder("targets") / f"{name}.toml"
    try:
        target = tomllib.loads(path.read_text()).get("target")
    except (OSError, ValueError):
        return False
    return isinstance(target, dict) and target.get("kind") == "cuda"


def _with_device(target: TargetSpec, device: str | None, path: Path) -> TargetSpec:
    """The target on the device that is asked for, or on the one that there is."""
    kind, *address = (device or target.device).split(":")
    if kind in ("local", "pack"):
        return target.model_copy(update={"device": kind})
    if kind == "emulated" and target.rpc is not None:
        return target.model_copy(update={"device": "emulated"})
    if kind == "rpc" and target.rpc is not None:
        address = address or os.environ.get(target.rpc.tracker_env, "").split(":")
        if len(address) >= 2 and address[0] and address[1].isdigit():
            rpc = target.rpc if len(address) == 2 else target.rpc.model_copy(update={"key": ":".join(address[2:])})
            return target.model_copy(update={"device": "rpc", "rpc": rpc, "tracker": ":".join(address[:2])})
        if device is not None or address != [""]:
            where = "--device" if device is not None else target.rpc.tracker_env
            raise UserError(f"{where} does not say where the tracker is", "write rpc:HOST:PORT or rpc:HOST:PORT:KEY")
        kind = "estimate"
    if kind == "estimate" and target.estimate is not None:
        if target.threads != 1:
            raise UserError(f"{path}: estimates are for one thread, not {target.threads}", "leave out --threads")
        return target.model_copy(update={"device": "estimate"})
    sections = [f"[{name}]" for name in ("rpc", "estimate") if getattr(target, name) is None]
    raise UserError(
        f"target {target.name} cannot use device '{device or kind}'",
        f"use local, pack, estimate, emulated or rpc:HOST:PORT[:KEY]; {path} has no section {' or '.join(sections)}"
        if sections
        else "use local, pack, estimate, emulated or rpc:HOST:PORT[:KEY]",
    )


def _resolve_native(target: TargetSpec) -> TargetSpec:
    compiled_for, gpu = target.target, target.target.gpu
    if compiled_for.mcpu == "native":
        compiled_for = compiled_for.model_copy(update={"mcpu": native_mcpu()})
    if gpu is not None and gpu.arch == "native":
        found = local_gpu()
        if found is None:
            raise UserError(
                f"target {target.name}: no NVIDIA GPU was found here (nvidia-smi does not answer)",
                f"say which GPU is meant, --target {', '.join(gpu_targets())}; --export-pack needs no GPU here",
            )
        compiled_for = compiled_for.model_copy(update={"gpu": gpu.model_copy(update={"arch": found.arch})})
    return target.model_copy(update={"target": compiled_for})


def gpu_targets() -> list[str]:
    """Names of the target files that say which GPU they are for."""
    return [name for name in target_names() if name.startswith("cuda-") or name == "jetson-orin"]


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        match problem["type"]:
            case "extra_forbidden":
                problems.append(f"unknown key '{key}'")
            case "missing":
                problems.append(f"missing key '{key}'")
            case _:
                problems.append(f"key '{key}': {problem['msg']}")
    return "; ".join(problems)
