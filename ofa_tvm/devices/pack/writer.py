"""Packs: work to be measured, as a folder that travels to a device without network or compiler, and back.

==================  ====================================================================================
``manifest.json``   conditions, and how to measure
``entries.jsonl``   a line for each that is measured: candidate, files, inputs, expected outputs
``*.so.z``          compiled candidates, compressed
``*.arguments.z``   all that a kernel reads, as it lies in memory, compressed
``measure.py``      what measures them, see ``pack.alone``; with modules, ``README.txt`` and ``runtime/``
``results.jsonl``   the results; only this file has to come back
==================  ====================================================================================
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ofa_tvm.devices.pack.alone import write_modules
from ofa_tvm.devices.pack.entries import packed
from ofa_tvm.devices.pack.pack_files import ENTRIES, MANIFEST, append_line
from ofa_tvm.devices.pack.runtime import about_runtime, copy_runtime, machine_of
from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.devices.workers.worker_pool import WorkerPool
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.support.console import Task, log, warn
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, sha256_file, write_json
from ofa_tvm.support.system_errors import naming
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.job import KernelJob, SubnetJob, TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult

SCHEMA = 3
JOBS_MODULE = "ofa_tvm.devices.pack.jobs"
MAX_BYTES = 64 << 20
MAX_WORKERS = 16
"""Candidates that are built at once: each worker takes half a gigabyte."""
BUILD_TIMEOUT_S = 300
SUBNET_TIMEOUT_S = 300
KERNEL_TOLERANCE: dict[DType, float] = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 1e-2, "int8": 0.0}
SUBNET_TOLERANCE: dict[DType, float] = {"float32": 1e-3, "float16": 3e-2, "bfloat16": 3e-2, "int8": 0.0}
"""Largest differences from numpy, as ``digests.difference`` counts them; a step of bfloat16 is 1/128 of a number;
0: the same numbers."""
CPU_FLOAT16_TOLERANCE = 5e-2
"""Of kernels that also add up in float16, about what the longest sums may show (``kernel_jobs.tolerance``)."""
README = """Measure this on {device}:

    python3 measure.py               (--minutes 30 stops after so long; run it again to go on)

Then send results.jsonl back, and where the pack was made:

    python -m ofa_tvm.tune {options} --import-pack FOLDER    (this folder, results.jsonl in it)

It needs Python 3.9 or newer, numpy, and TVM's runtime libraries. {runtime}
No network and no compiler are needed. Nothing else should run meanwhile, and clocks should be fixed.
"""


@dataclass(frozen=True)
class Pack:
    """What was exported: entries, kernels that they are of, subnets among them, and bytes in all."""

    folder: Path
    entries: int
    kernels: int
    subnets: int
    size_bytes: int


class PackWriter:
    """Builds a pack; whatever ends that, what is in it can be measured.

    Args:
        target: what is compiled for.
        folder: a folder that is empty or does not exist.
        most_bytes: the pack takes no more entries beyond this.

    Raises:
        UserError: the folder holds something, or a compiler is not installed.
    """

    def __init__(self, target: TargetSpec, folder: Path, most_bytes: int = MAX_BYTES) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is not an empty folder", "name another one: a pack is written into its own")
        _require_compilers(target)
        folder.mkdir(parents=True, exist_ok=True)
        self._target, self._folder, self._most_bytes = target, folder, most_bytes
        self._entries = self._subnets = 0
        self._kernels: set[str] = set()
        self._reference: Record | None = None
        self._workers = WorkerPool([Worker(JOBS_MODULE) for _ in range(min(process_cores(), MAX_WORKERS))])
        try:
            has_runtime = copy_runtime(target, folder)
            write_modules(folder)
            self._write_manifest(about_runtime(target, folder, has_runtime))
        except OSError:
            shutil.rmtree(folder)  # it was empty before
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        return self.size_bytes >= self._most_bytes

    def add(self, spec: KernelSpec, candidates: Sequence[Candidate]) -> list[tuple[Candidate, TrialResult]]:
        """Build candidates of a kernel into the pack, on all cores; those that failed."""
        jobs = {trial.digest: KernelJob(spec, trial.schedule, self._target) for trial in candidates}
        answers = self._build("program" if self._target.has_templates else "function", jobs)
        failed = []
        for candidate, answer in zip(candidates, answers, strict=True):
            if answer["status"] == "ok":
                facts = {"title": f"{spec.key} {candidate.source}", "candidate": packed(candidate)}
                self._append({**facts, **answer["entry"]})
                self._kernels.add(spec.key)
            else:
                failed.append((candidate, TrialResult.of_answer(answer)))
        return failed

    def add_subnet(self, space: SearchSpace, config: SubnetConfig, winners: Path, schedules: str) -> str:
        """Build a subnet into the pack, to be timed in turn with its space's reference subnet.

        Args:
            space: its space.
            config: the subnet.
            winners: folder of the log whose winners it runs.
            schedules: their identity.

        Returns:
            Why it failed; empty where it is in.
        """
        if self._reference is None:
            (answer,) = self._build("subnet", {"reference": self._job(space, space.middle, None)})
            if answer["status"] != "ok":
                return f"the reference subnet: {answer['error']}"
            self._reference = answer["entry"]
        identity = hashlib.sha256(f"{config.key} {schedules}".encode()).hexdigest()[:24]
        (answer,) = self._build("subnet", {identity: self._job(space, config, winners)})
        if answer["status"] != "ok":
            return str(answer["error"])
        facts = {
            "title": config.key,
            "space": space.name,
            "classes": space.classes,
            "subnet": config.key,
            "schedules": schedules,
            "timeout_s": SUBNET_TIMEOUT_S,
            "reference": self._reference,
        }
        self._append({**facts, **answer["entry"]})
        self._subnets += 1
        return ""

    def _append(self, entry: Record) -> None:
        with naming(self._folder / ENTRIES):
            append_line(self._folder / ENTRIES, entry)
        self._entries += 1

    def _job(self, space: SearchSpace, config: SubnetConfig, winners: Path | None) -> SubnetJob:
        subnets = TunedSubnets.of(space, (config.key,), winners)
        return SubnetJob(subnets, self._target, WindowPlan(**self._target.measure.model_dump()))

    def _build(self, name: str, jobs: Mapping[str, KernelJob] | Mapping[str, SubnetJob]) -> list[Record]:
        """Have entries built, by identity; returns the answers."""
        arguments = [{"job": job, "identity": identity, "folder": self._folder} for identity, job in jobs.items()]
        answers = list(self._workers.map(name, BUILD_TIMEOUT_S, arguments))
        for identity, answer in zip(jobs, answers, strict=True):
            if answer["status"] != "ok":
                for path in self._folder.glob(f"{identity}.*"):
                    path.unlink()
        return answers

    def finish(self) -> Pack:
        """What the pack holds.

        Raises:
            UserError: there is nothing to measure.
        """
        if not self._entries:
            raise UserError("there is nothing to measure", "everything was tried: raise --trials-per-kernel")
        return Pack(self._folder, self._entries, len(self._kernels), self._subnets, self.size_bytes)

    def _write_manifest(self, runtime: str) -> None:
        target, tuning = self._target, self._target.tuning
        device = f"the {'GPU' if target.target.gpu else 'CPU'} of target {target.name} ({target.description})"
        readme = README.format(device=device, options=target.options, runtime=runtime)
        (self._folder / "README.txt").write_text(readme)
        paths = sorted(path for path in self._folder.rglob("*") if path.is_file())
        is_half = target.dtype == "float16" and not target.is_gpu
        manifest = {
            "schema": SCHEMA,
            "round": secrets.token_hex(8),
            "target": target.name,
            "fingerprint": target.fingerprint,
            "conditions": target.conditions,
            "machine": machine_of(target),
            "device": "cuda" if target.is_gpu else "cpu",
            **({"tensors": "cpu"} if target.is_gpu and target.has_templates else {}),
            "measure": {
                "repeats": tuning.repeats,
                "min_repeat_ms": tuning.min_repeat_ms,
                "timeout_s": tuning.timeout_s,
                "tolerance": CPU_FLOAT16_TOLERANCE if is_half else KERNEL_TOLERANCE[target.dtype],
                "subnet_tolerance": SUBNET_TOLERANCE[target.dtype],
                "is_gpu": target.is_gpu,
                **target.measure.model_dump(),
            },
            "files": {str(path.relative_to(self._folder)): sha256_file(path) for path in paths},
        }
        write_json(self._folder / MANIFEST, manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.close()
        if not self._entries:
            shutil.rmtree(self._folder)
        elif error is not None:
            warn(f"{self._folder} holds {self._entries} entries so far, and can be measured as it is")


def _require_compilers(target: TargetSpec) -> None:
    from ofa_tvm.compiler.assembly.c_compiler import require_compiler
    from ofa_tvm.compiler.cuda.nvrtc import FIX, cuda_compiler

    require_compiler(target.toolchain.linker)
    if target.is_gpu and cuda_compiler() is None:
        raise UserError("CUDA code cannot be compiled: neither NVRTC nor nvcc was found", FIX)


def export_kernels(
    writer: PackWriter,
    tuning_log: TuningLog,
    kernels: Mapping[str, KernelSpec],
    order: Sequence[str],
    ask: Callable[[str], Sequence[Candidate]],
    most: int | None = None,
) -> int:
    """Build the next candidates into a pack until it is full; those that cannot be built are committed as failed.

    Args:
        writer: the pack.
        tuning_log: held by the caller.
        kernels: by key.
        order: keys, the most urgent first.
        ask: a kernel's next candidates.
        most: candidates in all; None for no limit.

    Returns:
        How many could not be built.
    """
    failures = done = 0
    with Task("building the pack", len(order)) as task:
        for key in order if most != 0 else ():
            candidates = ask(key)[: None if most is None else most - done]
            done += len(candidates)
            failed = writer.add(kernels[key], candidates)
            if failed:
                tuning_log.commit(key, failed)
                failures += len(failed)
            task.advance(note=key)
            if most is not None and done >= most:
                break
            if writer.is_full:
                log(f"the pack is full ({writer.size_bytes >> 20} MiB); the rest follows in the next one")
                break
    return failures
