"""All jobs of the local device's worker process.

A shared machine's speed changes by tens of percent within minutes, for all subnets alike. So a subnet is timed in turn
with a reference subnet of its space, whose kernels do not depend on tuning, and both times are kept. Where the system
puts a library's memory matters too, so both are loaded several times.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.cpu.assembler import Winners, assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel, RunnableModel
from ofa_tvm.devices.workers.kernel_jobs import KernelJobs
from ofa_tvm.devices.workers.trace_jobs import trace_trial
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.tuner.log import winners

LOADS = 3
"""Times that a measurement loads each library."""


class AssembledSubnet:
    """An assembled subnet with random weights, and an input for it."""

    def __init__(self, network: NetworkSpec, winners: Winners, cache: ObjectCache, batch: int, linker: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.library = Path(self._folder.name) / "subnet.so"
        assemble(network, random_weights(network), winners, cache, self.library, batch, linker)
        shape = (batch, network.resolution, network.resolution, network.in_channels)
        self.images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def load(self) -> LoadedModel:
        """Load the library anew: to the system, a library of another name is another library."""
        with tempfile.TemporaryDirectory() as folder:
            return LoadedModel(Path(shutil.copy(self.library, Path(folder) / f"{Path(folder).name}.so")))


def time_in_turn(
    subnets: tuple[AssembledSubnet, AssembledSubnet],
    load: Callable[[AssembledSubnet], RunnableModel],
    warmup: int,
    repeats: int,
    min_repeat_ms: int,
) -> dict[str, Any]:
    """Time two subnets in turn.

    Returns:
        ``status`` "ok", ``times_ms`` and ``reference_ms``, one of each for each repeat; or "wrong_output" when the
        output is not finite.
    """
    times_ms = []
    for first in range(min(LOADS, repeats)):
        models = [load(subnet) for subnet in subnets]
        for _ in range(1 + warmup):
            logits = models[0](subnets[0].images)
        if not np.isfinite(logits).all():
            return {"status": "wrong_output", "error": "the output is not finite"}
        watches = [model.stopwatch(subnet.images, min_repeat_ms) for model, subnet in zip(models, subnets, strict=True)]
        times_ms += [[watch() for watch in watches] for _ in range(first, repeats, LOADS)]
    return {"status": "ok", "times_ms": [a for a, _ in times_ms], "reference_ms": [b for _, b in times_ms]}


class SubnetJobs:
    """Subnets built and timed, and what one keeps for the next: the log's winners, and reference subnets."""

    def __init__(self) -> None:
        self._winners = lru_cache(maxsize=1)(lambda folder, modified_ns: winners(folder))
        self._reference = lru_cache(maxsize=2)(self._assembled_reference)

    def assembled(
        self, space: str, classes: int, subnet: str, folder: str, target: dict[str, Any], linker: str, batch: int
    ) -> tuple[AssembledSubnet, AssembledSubnet]:
        """A subnet with the log's winners, and the reference subnet of its space."""
        path = Path(folder) / "kernels.jsonl"
        tuned = self._winners(path.parent, path.stat().st_mtime_ns) if path.exists() else {}
        network = get_space(space).with_classes(classes).network(SubnetConfig.parse(subnet))
        own = AssembledSubnet(network, tuned, ObjectCache(target), batch, linker)
        return own, self._reference(space, json.dumps(target, sort_keys=True), linker, batch)

    def _assembled_reference(self, space: str, target: str, linker: str, batch: int) -> AssembledSubnet:
        found = get_space(space)
        return AssembledSubnet(found.network(found.middle), {}, ObjectCache(json.loads(target)), batch, linker)

    def network(
        self,
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
        """Assemble a subnet with the log's winners and random weights; time it in turn with the reference subnet."""
        subnets = self.assembled(space, classes, subnet, folder, target, linker, batch)
        return time_in_turn(subnets, AssembledSubnet.load, warmup, repeats, min_repeat_ms)


def jobs() -> dict[str, Callable[..., dict[str, Any]]]:
    """The jobs of one process."""
    return {"trial": KernelJobs().trial, "trace_trial": trace_trial, "network": SubnetJobs().network}
