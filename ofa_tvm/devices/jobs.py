"""All jobs of the local device's worker process."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.assembler import Winners, assemble
from ofa_tvm.compiler.objects import ObjectCache
from ofa_tvm.compiler.runtime import LoadedModel
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.tuner import jobs as tuner_jobs
from ofa_tvm.tuner import trace_jobs
from ofa_tvm.tuner.log import winners
from ofa_tvm.weights import random_weights


@lru_cache(maxsize=1)
def _winners(folder: str, modified_ns: int) -> Winners:
    return winners(Path(folder))


@lru_cache(maxsize=2)
def _cache(target: str) -> ObjectCache:
    return ObjectCache(json.loads(target))


def network(
    space: str,
    classes: int,
    subnet: str,
    folder: str,
    target: dict[str, Any],
    linker: str,
    batch: int,
    warmup: int,
    repeats: int,
    min_repeat_ms: int,
) -> dict[str, Any]:
    """Assemble a subnet with the log's winners and random weights, and time it.

    Returns:
        ``status`` "ok" and ``times_ms``, one for each repeat; or "wrong_output" when the output is not finite.
    """
    path = Path(folder) / "kernels.jsonl"
    tuned = _winners(folder, path.stat().st_mtime_ns) if path.exists() else {}
    description = get_space(space).with_classes(classes).network(SubnetConfig.parse(subnet))
    cache = _cache(json.dumps(target, sort_keys=True))
    with tempfile.TemporaryDirectory() as made:
        library = Path(made) / "subnet.so"
        assemble(description, random_weights(description), tuned, cache, library, batch, linker)
        model = LoadedModel(library)
    shape = (batch, description.resolution, description.resolution, description.in_channels)
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for _ in range(1 + warmup):
        logits = model(images)
    if not np.isfinite(logits).all():
        return {"status": "wrong_output", "error": "the output is not finite"}
    return {"status": "ok", "times_ms": list(model.time_ms(images, repeats, 1, min_repeat_ms))}


JOBS = {**tuner_jobs.JOBS, **trace_jobs.JOBS, "network": network}
