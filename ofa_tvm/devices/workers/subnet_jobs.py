"""All jobs of the local device's worker process.

A subnet is timed in windows some seconds apart, in turn with others, each time loaded anew: where the system puts a
library's memory changes its speed. Beside it runs a reference subnet of its space, whose kernels do not depend on
tuning, so that times of another hour can be compared.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.cpu.assembler import Winners, assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import RunnableModel, load_anew
from ofa_tvm.devices.workers.kernel_jobs import KernelJobs
from ofa_tvm.devices.workers.trace_jobs import trace_trial
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.timing.busy_cores import busy_cores
from ofa_tvm.timing.turns import WindowPlan, in_turn
from ofa_tvm.tuner.log import winners

Answer = dict[str, Any]
REFERENCE_SHARE = 0.5
"""Length of a reference subnet's window over its subnet's."""


class AssembledSubnet:
    """An assembled subnet with random weights, and an input for it."""

    def __init__(self, network: NetworkSpec, winners: Winners, cache: ObjectCache, batch: int, linker: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.library = Path(self._folder.name) / "subnet.so"
        assemble(network, random_weights(network), winners, cache, self.library, batch, linker)
        shape = (batch, network.resolution, network.resolution, network.in_channels)
        self.images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def time_in_turn(
    subnets: Sequence[AssembledSubnet],
    reference: AssembledSubnet,
    load: Callable[[Path], RunnableModel],
    plan: WindowPlan,
) -> list[Answer]:
    """Time subnets in turn, and the reference subnet beside each window.

    Returns:
        For each, ``status`` "ok" with the ``figures`` of its windows, their medians as ``times_ms``, and the reference
        subnet's as ``reference_ms``; or "wrong_output" when the output is not finite.
    """

    def window(subnet: AssembledSubnet) -> tuple[bool, list[float], float]:
        model = load(subnet.library)
        is_finite = bool(np.isfinite(model(subnet.images)).all())
        figures = model.window(subnet.images, plan.window_ms)
        beside = load(reference.library).window(reference.images, REFERENCE_SHARE * plan.window_ms)
        return is_finite, figures, beside[0]

    with busy_cores(plan.busy_cores):
        return [_answer(windows) for windows in in_turn([partial(window, subnet) for subnet in subnets], plan)]


def _answer(windows: Sequence[tuple[bool, list[float], float]]) -> Answer:
    if not all(is_finite for is_finite, _, _ in windows):
        return {"status": "wrong_output", "error": "the output is not finite"}
    return {
        "status": "ok",
        "times_ms": [figures[0] for _, figures, _ in windows],
        "reference_ms": [beside for _, _, beside in windows],
        "figures": [figures for _, figures, _ in windows],
    }


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
        space_of_jobs = get_space(space)
        return AssembledSubnet(
            space_of_jobs.network(space_of_jobs.middle), {}, ObjectCache(json.loads(target)), batch, linker
        )

    def networks(
        self,
        space: str,
        classes: int,
        subnets: list[str],
        folder: str,
        target: dict[str, Any],
        linker: str,
        batch: int,
        plan: dict[str, Any],
    ) -> Answer:
        """Assemble subnets with the log's winners and random weights, and time them; see ``time_in_turn``.

        Returns:
            ``status`` "ok" and ``answers``.
        """
        pairs = [self.assembled(space, classes, subnet, folder, target, linker, batch) for subnet in subnets]
        answers = time_in_turn([own for own, _ in pairs], pairs[0][1], load_anew, WindowPlan(**plan))
        return {"status": "ok", "answers": answers}


def jobs() -> dict[str, Callable[..., dict[str, Any]]]:
    """The jobs of one process."""
    return {"trial": KernelJobs().trial, "trace_trial": trace_trial, "networks": SubnetJobs().networks}
