"""A target as a tuning log knows it: what ``--device replay:FOLDER`` stands for."""

from __future__ import annotations

import hashlib
import platform
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ofa_tvm.hardware.target import KERNEL_SET, LAYOUT, Recording, TargetSpec
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.typed import Milliseconds, explained, read_form, validated

MANIFEST = "manifest.json"
FILES = ("kernels.jsonl", "trials.jsonl", "latency.jsonl")
HINT = "give the folder of a tuning log, as 'python -m ofa_tvm.targets --json' names it: --device replay:FOLDER"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]+$")]


class LogManifest(BaseModel):
    """What ``manifest.json`` of a tuning log says: conditions of all times, and the speed that they refer to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(ge=1, le=1)
    conditions: Record
    reference_ms: Milliseconds | None = None


_MANIFEST = TypeAdapter(LogManifest)


def read_log_manifest(folder: Path) -> LogManifest:
    """Read the manifest of a tuning log's folder.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    aside = f"mv {shlex.quote(str(folder))} {shlex.quote(str(folder))}.damaged"
    hint = f"restore it from a copy, or begin a new log: {aside}"
    return read_form(folder / MANIFEST, "manifest of the tuning log", _MANIFEST, hint)


class _Host(BaseModel):
    mcpu: Name
    mattr: list[Name] = []
    mtriple: Name | None = None


class _Chip(_Host):
    kind: Literal["llvm", "cuda"]
    arch: Name | None = None
    host: _Host | None = None
    mcpu: Name = ""  # a GPU's is its host's


class _Conditions(BaseModel):
    target: _Chip
    threads: int = Field(gt=0)
    batch: int = Field(gt=0)
    dtype: DType
    kernel_set: int
    layout: str
    kernels: Literal["scheduled", "templates"] = "scheduled"


_CONDITIONS = TypeAdapter(_Conditions)


def replayed(target: TargetSpec, folder: Path, asked: Record) -> TargetSpec:
    """The target with the chip, threads, batch and number type of a log, which answers in the device's place.

    Args:
        target: of the same kind, a CPU or a GPU.
        folder: the log's.
        asked: threads, batch and dtype as the user asked for them; None where not given.

    Raises:
        UserError: the folder holds no tuning log, or one of another kind, with other values, or of other kernels.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a tuning log: it has no {MANIFEST}", HINT)
    manifest = read_log_manifest(folder)
    try:
        conditions = validated(_CONDITIONS, manifest.conditions)
    except ValueError as error:
        raise UserError(f"{path} is not the manifest of a tuning log: {error}", HINT) from error
    is_gpu = conditions.target.kind == "cuda"
    if is_gpu != target.is_gpu:
        kinds = ("a GPU", "a CPU") if is_gpu else ("a CPU", "a GPU")
        raise UserError(f"{folder} was recorded on {kinds[0]}, target {target.name} is {kinds[1]}", HINT)
    host = conditions.target.host or conditions.target
    machine, wanted = (_machine(chip.mtriple) for chip in (host, target.target))
    if machine != wanted:
        raise UserError(f"{folder} was recorded on {machine}, target {target.name} is {wanted}", HINT)
    without = ("int8", "bfloat16") if is_gpu else () if machine == "aarch64" else ("float16",)
    if conditions.dtype in without:
        raise UserError(f"{path} tells of {conditions.dtype} on {'a GPU' if is_gpu else machine}: there is none", HINT)
    if (conditions.kernel_set, conditions.layout) != (KERNEL_SET, LAYOUT):
        raise UserError(f"{folder} was recorded by another version of ofa_tvm: its kernels are others", "record anew")
    recorded = {"threads": conditions.threads, "batch": conditions.batch, "dtype": conditions.dtype}
    for key, value in asked.items():
        if value is not None and value != recorded[key]:
            raise UserError(f"{folder} was recorded with {key} {recorded[key]}, not {value}", "another log may have it")
    values = target.model_dump(by_alias=True)
    replays = {"device": "replay", "recording": _recording(folder, manifest.conditions), "kernels": conditions.kernels}
    values |= recorded | replays
    values["target"] |= host.model_dump(include={"mcpu", "mattr", "mtriple"})
    if is_gpu:
        values["target"]["gpu"]["arch"] = conditions.target.arch
    try:
        return TargetSpec.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path} says what no target can be: {explained(error)}", HINT) from error


def _machine(triple: str | None) -> str:
    """The kind of processor that a triple names; without one, it is this machine's."""
    return (triple or platform.machine()).partition("-")[0]


def _recording(folder: Path, conditions: Record) -> Recording:
    """The recording with a hash of its content, so that recordings made under equal conditions still differ."""
    sha = hashlib.sha256()
    for name in FILES:
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        sha.update(f"{name} {len(content)}\n".encode() + content)
    return Recording(folder=str(folder), sha256=sha.hexdigest(), conditions=conditions)
