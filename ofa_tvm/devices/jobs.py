"""All jobs of the local device's worker process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.pipeline import compile_network
from ofa_tvm.compiler.runtime import load
from ofa_tvm.compiler.tvm_import import Target
from ofa_tvm.kernels import network_kernels
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.tuner import jobs as tuner_jobs
from ofa_tvm.tuner.database import load_database
from ofa_tvm.tuner.log import best_records
from ofa_tvm.weights import random_weights


@lru_cache(maxsize=1)
def _records(folder: str, modified_ns: int) -> dict[str, Any]:
    return best_records(Path(folder))


def network(
    space: str,
    classes: int,
    subnet: str,
    folder: str,
    target: dict[str, Any],
    batch: int,
    warmup: int,
    repeats: int,
    min_repeat_ms: int,
) -> dict[str, Any]:
    """Compile a subnet with the log's records and random weights, and time it.

    Returns:
        ``status`` "ok" and ``times_ms``, one for each repeat; or "wrong_output" when the output is not finite.
    """
    path = Path(folder) / "records.jsonl"
    records = _records(folder, path.stat().st_mtime_ns) if path.exists() else {}
    description = get_space(space).with_classes(classes).network(SubnetConfig.parse(subnet))
    kernels = [kernel for _, kernel in network_kernels(description, batch)]
    executable = compile_network(
        description, random_weights(description), Target(target), load_database(kernels, records), batch
    )
    model = load(executable)
    shape = (batch, description.resolution, description.resolution, description.in_channels)
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for _ in range(1 + warmup):
        logits = model(images)
    if not np.isfinite(logits).all():
        return {"status": "wrong_output", "error": "the output is not finite"}
    return {"status": "ok", "times_ms": list(model.time_ms(images, repeats, 1, min_repeat_ms))}


JOBS = {**tuner_jobs.JOBS, "network": network}
