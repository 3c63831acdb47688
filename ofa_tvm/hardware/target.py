"""TargetSpec: what code is compiled for, where it runs and how it is measured; read from ``targets/*.toml``."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ofa_tvm.hardware.llvm_names import check_names
from ofa_tvm.hardware.machine import cpu_name, local_gpu, package_version
from ofa_tvm.support.dtype import DTYPE_SUFFIX, DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.text import shortened

TargetAttributes = dict[str, Any]
"""What TVM's ``Target`` takes."""
SCHEMA = 1
LAYOUT = "NHWC"
KERNEL_SET = 2
"""Version; increased when kernels of the same key no longer run the same schedules."""


ARCHITECTURES = (50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)
"""Of GPUs that CUDA 12 or 13 makes code for."""
TEMPLATE_LIMITS = {
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 48 << 10,
    "registers_per_block": 1 << 16,
    "thread_warp_size": 32,
}
"""What kernels from templates keep to, whatever a GPU may have."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{shortened(text)!a} has letters that cannot be printed")
    return text


def _word(text: str) -> str:
    if not text or " " in text:
        raise ValueError(f"'{shortened(text)}' is no word: it is empty or has spaces")
    return text


def _program(text: str) -> str:
    if not text or text.startswith("-"):
        raise ValueError(f"'{shortened(text)}' names no program; a C++ compiler links, for example g++")
    return text


Printable = Annotated[str, AfterValidator(_printable)]
Word = Annotated[Printable, AfterValidator(_word)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Gpu(_Part):
    """An NVIDIA GPU: ``arch`` is ``sm_80``, say, or ``native``; the rest are limits of a thread block, and a warp."""

    arch: str = Field(pattern=r"^(sm_\d+|native)$")
    max_threads_per_block: int = Field(gt=0)
    max_shared_memory_per_block: int = Field(gt=0)
    registers_per_block: int = Field(gt=0)
    thread_warp_size: int = Field(gt=0)

    @model_validator(mode="after")
    def _is_known_to_cuda(self) -> Self:
        if self.arch != "native" and (number := int(self.arch.removeprefix("sm_"))) not in ARCHITECTURES:
            near = sorted(ARCHITECTURES, key=lambda known: abs(known - number))[:4]
            raise ValueError(f"CUDA knows no arch '{self.arch}'; it knows {', '.join(f'sm_{known}' for known in near)}")
        return self


class CompilerTarget(_Part):
    """What TVM compiles for (its target attributes); for a GPU, ``mcpu`` and ``mtriple`` are its machine's."""

    kind: Literal["llvm", "cuda"]
    mcpu: str
    mtriple: str | None = None
    mattr: tuple[str, ...] = ()
    keys: tuple[Word, ...] = ()
    device: Word | None = None
    gpu: Gpu | None = None

    @model_validator(mode="after")
    def _has_gpu(self) -> Self:
        if (self.kind == "cuda") != (self.gpu is not None):
            raise ValueError("kind 'cuda', and no other, needs a section [target.gpu]")
        return self

    @model_validator(mode="after")
    def _is_known_to_llvm(self) -> Self:
        check_names(self.mtriple, self.mcpu, self.mattr)
        return self

    def attributes(self, cores: int) -> TargetAttributes:
        """TVM's target dict."""
        attributes: TargetAttributes = {"kind": "llvm", "mcpu": self.mcpu, "num-cores": cores}
        for name in ("mtriple", "mattr", "keys", "device"):
            value = getattr(self, name)
            if value:
                attributes[name] = list(value) if isinstance(value, tuple) else value
        return attributes if self.gpu is None else {"kind": "cuda", **self.gpu.model_dump(), "host": attributes}


class Toolchain(_Part):
    """Host tools that link a library for the target."""

    linker: Annotated[Printable, AfterValidator(_program)]


class Measure(_Part):
    """How a subnet is timed: number of windows, length of one in ms, and the least seconds from one to the next."""

    windows: int = Field(ge=3, le=1000)
    window_ms: float = Field(ge=1, le=60_000)
    gap_s: float = Field(ge=0, le=3600)


class Tuning(_Part):
    """Defaults of ``tune``.

    Trials of a kernel, trials committed together, seconds after which a trial has failed, and how a kernel is timed:
    repeats, and the length of one in ms. ``max_noise`` is how many times its usual time a reference kernel may take
    beside a trial that counts (None: no limit here, where times are scaled; boards have limits of their own).
    """

    trials_per_kernel: int = Field(gt=0, le=1_000_000)
    batch: int = Field(gt=0, le=10_000)
    timeout_s: float = Field(ge=0.1, le=86_400)
    repeats: int = Field(gt=0, le=10_000)
    min_repeat_ms: int = Field(gt=0, le=60_000)
    max_noise: float | None = Field(default=None, gt=1, allow_inf_nan=False)


class Rpc(_Part):
    """Boards behind TVM's RPC tracker.

    Args:
        tracker_env: environment variable that holds HOST:PORT of the tracker, or HOST:PORT:KEY.
        key: what boards of this kind are registered as.
        session_timeout_s: seconds after which a board takes itself back from a job.
        cores: cores that code runs on, e.g. only the big ones; empty for all.
    """

    tracker_env: str
    key: Printable
    session_timeout_s: int = Field(gt=0, le=86_400)
    cores: tuple[Annotated[int, Field(ge=0, lt=63)], ...] = ()


class Estimate(_Part):
    """How times are estimated without a device: instruction counts under qemu, cycles by llvm-mca, cold weights.

    Args:
        llvm: major version of llvm-mca; another version may model the CPU differently.
        mca_cpu: the CPU model that is nearest.
        mca_options: further options of llvm-mca.
        clock_mhz: assumed clock.
        weights_gb_s: assumed rate at which a kernel's weights, which are not in the caches, arrive from memory.
    """

    llvm: int = Field(gt=0)
    mca_cpu: str
    mca_options: tuple[str, ...] = ()
    clock_mhz: float = Field(gt=0)
    weights_gb_s: float = Field(gt=0)


class Recording(_Part):
    """A tuning log that answers in a device's place.

    Args:
        folder: the log's folder.
        sha256: of the recorded content.
        conditions: conditions under which it was made, from its manifest.
    """

    folder: str
    sha256: str
    conditions: Record


DeviceKind = Literal["local", "rpc", "estimate", "emulated", "pack", "replay"]
Provenance = Literal["measured", "estimated", "replayed"]
"""How a stored time was obtained: measured on the device, estimated without one, or taken from a recording."""
PROVENANCE: dict[DeviceKind, Provenance] = {"estimate": "estimated", "replay": "replayed"}
"""Of devices that do not measure."""


class TargetSpec(_Part):
    """One target file, with ``native`` values filled in.

    ``tracker`` is the address of the boards' tracker, HOST:PORT, given on the command line or in the environment.
    ``recording`` is what ``--device replay:FOLDER`` names. ``kernels`` says where a GPU's come from.
    ``options`` are those of commands that name it, with what was named beside it; a pack goes without saying.
    """

    schema_version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    name: str
    description: Printable
    device: DeviceKind
    threads: int = Field(gt=0, le=1024)
    batch: int = Field(gt=0, le=4096)
    dtype: DType
    library_suffix: str = Field(pattern=r"^\.[A-Za-z0-9.]+$")
    target: CompilerTarget
    toolchain: Toolchain
    measure: Measure
    tuning: Tuning
    kernels: Literal["scheduled", "templates"] = "scheduled"
    rpc: Rpc | None = None
    estimate: Estimate | None = None
    tracker: str | None = None
    recording: Recording | None = None
    options: str = ""

    @model_validator(mode="after")
    def _has_no_templates_of_a_cpu(self) -> Self:
        if self.kernels == "templates" and not self.is_gpu:
            raise ValueError("key 'kernels': 'templates' is for GPUs; a CPU's kernels have no other form")
        if self.kernels == "templates" and self.target.gpu is not None:
            for name, limit in TEMPLATE_LIMITS.items():
                if (other := getattr(self.target.gpu, name)) != limit:
                    raise ValueError(f"key 'target.gpu.{name}': kernels from templates keep to {limit}, not {other}")
        return self

    @property
    def provenance(self) -> Provenance | Literal["emulated"]:
        """How times of this target are obtained."""
        return "emulated" if self.device == "emulated" else self.stored_provenance()

    def stored_provenance(self) -> Provenance:
        """How times of this target are obtained, for callers that store them.

        Raises:
            UserError: they must not be stored.
        """
        if self.device == "emulated":
            raise UserError(
                f"target {self.name} is emulated: times under emulation say nothing, so none are stored",
                "use --device estimate, or a board: --device rpc:HOST:PORT",
            )
        return PROVENANCE.get(self.device, "measured")

    @property
    def is_gpu(self) -> bool:
        """Whether networks run on a GPU."""
        return self.target.gpu is not None

    @property
    def has_templates(self) -> bool:
        """Whether kernels come from templates, as a CPU's do, so that a subnet's library is complete and takes arrays.

        Otherwise TVM schedules the kernels, and runs them.
        """
        return not self.is_gpu or self.kernels == "templates"

    @property
    def is_this_cpu(self) -> bool:
        """Whether networks run on this machine's CPU."""
        return self.device == "local" and not self.is_gpu

    @property
    def chip(self) -> str:
        """LLVM's name of the CPU, or the GPU's architecture."""
        return self.target.mcpu if self.target.gpu is None else self.target.gpu.arch

    @property
    def is_at_hand(self) -> bool:
        """Whether code for it can run from here: not on a device that packs travel to, nor on a recording."""
        return self.device not in ("pack", "replay")

    @property
    def attributes(self) -> TargetAttributes:
        """TVM's target dict."""
        return self.target.attributes(self.threads)

    def with_repeats(self, repeats: int) -> Self:
        """The target with another number of repeats for each kernel."""
        return self.model_copy(update={"tuning": self.tuning.model_copy(update={"repeats": repeats})})

    def with_max_noise(self, max_noise: float) -> Self:
        """The target with another limit of noise, see ``Tuning``.

        Raises:
            UserError: it is not above 1.
        """
        if not 1 < max_noise < math.inf:
            raise UserError(f"--max-noise {max_noise:g} is no limit", "give a number above 1, for example 1.5")
        return self.model_copy(update={"tuning": self.tuning.model_copy(update={"max_noise": max_noise})})

    @functools.cached_property
    def conditions(self) -> Record:
        """Conditions that affect speed; the fingerprint is a hash of them."""
        where: Record = {}
        if self.device in ("rpc", "emulated") and self.rpc is not None:
            where = {"board": self.rpc.key}
            if self.rpc.cores:
                where["cores"] = list(self.rpc.cores)
        if self.device == "estimate" and self.estimate is not None:
            where = {"estimate": self.estimate.model_dump(mode="json")}
        if self.device == "replay" and self.recording is not None:
            where = {"recording": {"sha256": self.recording.sha256, "conditions": self.recording.conditions}}
        if self.device == "local" and self.is_gpu:
            gpu = local_gpu()
            where = {"gpu": None if gpu is None else gpu.name}
        if self.kernels != "scheduled":
            where["kernels"] = self.kernels
        return {
            **where,
            "target": self.attributes,
            "device": self.device,
            "cpu": cpu_name() if self.is_this_cpu else None,
            "threads": self.threads,
            "batch": self.batch,
            "dtype": self.dtype,
            "layout": LAYOUT,
            "kernel_set": KERNEL_SET,
            "tvm": package_version("apache-tvm"),
        }

    @property
    def fingerprint(self) -> str:
        """Readable name and hash of the conditions; a log with another fingerprint is never used as an answer."""
        text = json.dumps(self.conditions, sort_keys=True)
        where = "" if self.device == "local" else f"-{self.device}"
        chip = self.chip
        dtype = f"-{suffix}" if (suffix := DTYPE_SUFFIX[self.dtype]) else ""
        readable = f"{chip}-{self.threads}t-b{self.batch}{dtype}{where}".lower()
        readable = re.sub(r"[^a-z0-9]+", "-", readable).strip("-")
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def require_cpu(target: TargetSpec, command: str) -> None:
    """Refuse a GPU for a command that supports CPUs only.

    Raises:
        UserError: the target is a GPU.
    """
    if target.is_gpu:
        raise UserError(
            f"{command} is for CPUs, target {target.name} is a GPU",
            "GPUs have: doctor, tune, compile, predict, search and deploy",
        )
