"""Jobs of the worker process for this machine's GPU: what a pack does far away, done here in one go."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ofa_tvm.devices.pack import jobs as pack_jobs
from ofa_tvm.devices.pack import measure as pack_measure
from ofa_tvm.devices.pack.writer import KERNEL_TOLERANCE, SUBNET_TOLERANCE
from ofa_tvm.devices.workers.kernel_jobs import Answer
from ofa_tvm.spaces import get_space
from ofa_tvm.support.dtype import DType


class GpuJobs:
    """Trials and subnets on a GPU, and what one keeps for the next: TVM's runtime, and reference subnets."""

    def __init__(self) -> None:
        self._machine: pack_measure.Machine | None = None
        self._references: dict[str, tuple[dict[str, Any], bytes]] = {}

    def machine(self) -> pack_measure.Machine:
        """TVM's runtime with this machine's GPU, opened in the process that uses it: CUDA does not survive a fork."""
        if self._machine is None:
            self._machine = pack_measure.Machine(Path(), "cuda")
        return self._machine

    def trial(
        self,
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
            return pack_measure.measure(self.machine(), Path(folder), entry, settings)

    def networks(self, subnets: list[str], **arguments: Any) -> Answer:
        """Build subnets with a log's winners, check each, and time it in turn with the reference subnet.

        Returns:
            ``status`` "ok" and ``answers``.
        """
        return {"status": "ok", "answers": [self.network(subnet=subnet, **arguments) for subnet in subnets]}

    def network(
        self,
        space: str,
        classes: int,
        subnet: str,
        folder: str,
        target: dict[str, Any],
        linker: str,
        batch: int,
        dtype: DType,
        plan: dict[str, Any],
    ) -> Answer:
        """One of them."""
        settings = {**plan, "subnet_tolerance": SUBNET_TOLERANCE[dtype]}
        winners = folder if (Path(folder) / "kernels.jsonl").exists() else None
        with tempfile.TemporaryDirectory() as name:
            other = self._reference(space, target, batch, dtype, linker, Path(name))
            answer = pack_jobs.subnet(space, classes, subnet, winners, target, batch, dtype, linker, "subnet", name)
            entry = {**answer["entry"], "id": "subnet", "library": "subnet.so.z", "reference": other}
            return pack_measure.measure(self.machine(), Path(name), entry, settings)

    def _reference(
        self, space: str, target: dict[str, Any], batch: int, dtype: DType, linker: str, folder: Path
    ) -> dict[str, Any]:
        """The entry of a space's reference subnet, which is built once and written into a folder."""
        identity = f"reference-{space}-{dtype}"
        library = folder / f"{identity}.so.z"
        key = json.dumps([identity, target, batch, linker], sort_keys=True)
        if key not in self._references:
            space_of_jobs = get_space(space)
            middle, classes = space_of_jobs.middle.key, space_of_jobs.classes
            answer = pack_jobs.subnet(space, classes, middle, None, target, batch, dtype, linker, identity, str(folder))
            self._references[key] = ({**answer["entry"], "id": identity, "library": library.name}, library.read_bytes())
        entry, content = self._references[key]
        library.write_bytes(content)
        return entry


def jobs() -> dict[str, Callable[..., Answer]]:
    """The jobs of one process."""
    own = GpuJobs()
    return {"trial": own.trial, "networks": own.networks}
