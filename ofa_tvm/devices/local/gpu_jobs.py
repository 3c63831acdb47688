"""Jobs of the worker process for this machine's GPU: what a pack does far away, done here in one go."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from ofa_tvm.devices.pack import jobs as pack_jobs
from ofa_tvm.devices.pack import measure as pack_measure
from ofa_tvm.devices.pack.writer import KERNEL_TOLERANCE, SUBNET_TOLERANCE
from ofa_tvm.devices.workers.kernel_jobs import Answer
from ofa_tvm.spaces import get_space
from ofa_tvm.support.dtype import DType


@lru_cache(maxsize=1)
def _machine() -> pack_measure.Machine:
    """TVM's runtime with this machine's GPU, opened in the process that uses it: CUDA does not survive a fork."""
    return pack_measure.Machine(Path(), "cuda")


def trial(
    kernel: dict[str, Any],
    candidate: dict[str, Any],
    target: dict[str, Any],
    compiler: str,
    repeats: int,
    min_repeat_ms: int,
) -> Answer:
    """Build, time and check a candidate."""
    tolerance = KERNEL_TOLERANCE[kernel["dtype"]]
    settings = {"repeats": repeats, "min_repeat_ms": min_repeat_ms, "tolerance": tolerance}
    with tempfile.TemporaryDirectory() as folder:
        answer = pack_jobs.function(kernel, candidate, target, compiler, "kernel", folder)
        entry = {**answer["entry"], "id": "kernel", "library": "kernel.so.z"}
        return pack_measure.measure(_machine(), Path(folder), entry, settings)


_KEPT = tempfile.TemporaryDirectory()
"""Where the reference subnet is kept."""


@lru_cache(maxsize=2)
def _reference(space: str, target: str, batch: int, dtype: DType, linker: str) -> dict[str, Any]:
    """The reference subnet of a space, built once."""
    identity = f"reference-{space}-{dtype}"
    middle = get_space(space).middle.key
    classes = get_space(space).classes
    answer = pack_jobs.subnet(
        space, classes, middle, None, json.loads(target), batch, dtype, linker, identity, _KEPT.name
    )
    return {**answer["entry"], "id": identity, "library": f"{identity}.so.z"}


def network(
    space: str,
    classes: int,
    subnet: str,
    folder: str,
    target: dict[str, Any],
    linker: str,
    batch: int,
    dtype: DType,
    warmup: int,
    repeats: int,
    min_repeat_ms: int,
) -> Answer:
    """Build a subnet with a log's winners, check it, and time it in turn with the reference subnet."""
    settings = {
        "subnet_repeats": repeats,
        "subnet_min_repeat_ms": min_repeat_ms,
        "warmup": warmup,
        "subnet_tolerance": SUBNET_TOLERANCE[dtype],
    }
    winners = folder if (Path(folder) / "kernels.jsonl").exists() else None
    with tempfile.TemporaryDirectory() as name:
        other = _reference(space, json.dumps(target, sort_keys=True), batch, dtype, linker)
        shutil.copy(Path(_KEPT.name) / other["library"], name)
        answer = pack_jobs.subnet(space, classes, subnet, winners, target, batch, dtype, linker, "subnet", name)
        entry = {**answer["entry"], "id": "subnet", "library": "subnet.so.z", "reference": other}
        return pack_measure.measure(_machine(), Path(name), entry, settings)


JOBS = {"trial": trial, "network": network}
