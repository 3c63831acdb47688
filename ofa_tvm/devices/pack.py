"""Packs: what is to be measured, as a folder that travels to a device without network or compiler, and back.

==================  ====================================================================================
``manifest.json``   conditions, how to measure, and entries: candidate, files, inputs, expected outputs
``*.so.z``          compiled candidates, compressed
``*.places``        the order in which a CPU kernel takes the numbers of its inputs
``measure.py``      what measures them, see ``pack_measure``; with ``README.txt`` and TVM's ``runtime/``
``results.jsonl``   what came of it; this is all that has to come back
==================  ====================================================================================
"""

from __future__ import annotations

import json
import math
import platform
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

from ofa_tvm.console import Task, log
from ofa_tvm.devices import pack_measure
from ofa_tvm.devices.worker import Worker
from ofa_tvm.errors import UserError
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.storage import append_jsonl, read_json, read_jsonl, sha256_file, write_json
from ofa_tvm.targets import TargetSpec
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TrialResult, TrialStatus, TuningLog
from ofa_tvm.tuner.traces import keep_traces

SCHEMA = 1
JOBS_MODULE = "ofa_tvm.devices.pack_jobs"
MOST_BYTES = 64 << 20
BUILD_TIMEOUT_S = 120
IMPORTS_FILE = "packs.jsonl"
README = """Measure this on {device}:

    python measure.py                (--minutes 30 stops after so long; run it again to go on)

Then send results.jsonl back, and where the pack was made:

    python -m ofa_tvm.tune --target {target} --import-pack FOLDER    (this folder, with results.jsonl in it)

It needs Python 3.9 or newer, numpy, and TVM's runtime libraries: {runtime}
No network and no compiler are needed. Nothing else should run meanwhile, and clocks should be fixed.
"""


@dataclass(frozen=True)
class Pack:
    """What was exported: entries, kernels that they are of, and bytes in all."""

    folder: Path
    entries: int
    kernels: int
    size_bytes: int


class PackWriter:
    """Builds a pack; the folder becomes one when ``finish`` writes its manifest.

    Args:
        target: what is compiled for.
        folder: a folder that is empty or does not exist.
        most_bytes: the pack takes no more entries beyond this.

    Raises:
        UserError: the folder holds something, or a compiler is not installed.
    """

    def __init__(self, target: TargetSpec, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is not an empty folder", "name another one: a pack is written into its own")
        _require_compilers(target)
        folder.mkdir(parents=True, exist_ok=True)
        self._target, self._folder, self._most_bytes = target, folder, most_bytes
        self._entries: list[dict[str, Any]] = []
        self._worker = Worker(JOBS_MODULE)
        self._has_runtime = _copy_runtime(target, folder)
        shutil.copyfile(pack_measure.__file__, folder / "measure.py")

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        return self.size_bytes >= self._most_bytes

    def add(self, spec: KernelSpec, candidate: Candidate) -> TrialResult | None:
        """Build a candidate into the pack; what became of it where that failed, None where it is in."""
        arguments = {"kernel": asdict(spec), "candidate": candidate.schedule, "target": self._target.attributes}
        answer = self.build(
            "function" if self._target.target.gpu is not None else "program",
            candidate.digest,
            {"title": f"{spec.key} {candidate.source}", "candidate": asdict(candidate)},
            arguments,
        )
        return None if answer["status"] == "ok" else TrialResult.of_answer(answer)

    def build(self, job: str, identity: str, facts: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """Have a job build an entry; its answer."""
        same = {"compiler": self._target.toolchain.linker, "identity": identity, "folder": str(self._folder)}
        answer = self._worker.call(job, BUILD_TIMEOUT_S, **arguments, **same)
        if answer["status"] == "ok":
            self._entries.append({"id": identity, "library": f"{identity}.so.z", **facts, **answer["entry"]})
        else:
            for path in self._folder.glob(f"{identity}.*"):
                path.unlink()
        return answer

    def finish(self) -> Pack:
        """Write the manifest.

        Raises:
            UserError: there is nothing to measure.
        """
        if not self._entries:
            shutil.rmtree(self._folder)
            raise UserError("there is nothing to measure", "everything was tried: raise --trials-per-kernel")
        from ofa_tvm.tuner.jobs import TOLERANCE

        target, tuning = self._target, self._target.tuning
        runtime = "they are in runtime/." if self._has_runtime else _how_to_get_runtime(target)
        device = f"the {'GPU' if target.target.gpu else 'CPU'} of target {target.name} ({target.description})"
        (self._folder / "README.txt").write_text(README.format(device=device, target=target.name, runtime=runtime))
        paths = sorted(path for path in self._folder.rglob("*") if path.is_file())
        manifest = {
            "schema": SCHEMA,
            "round": secrets.token_hex(8),
            "target": target.name,
            "fingerprint": target.fingerprint,
            "conditions": target.conditions,
            "device": "cpu" if target.target.gpu is None else "cuda",
            "measure": {
                "repeats": tuning.repeats,
                "min_repeat_ms": tuning.min_repeat_ms,
                "timeout_s": tuning.timeout_s,
                "tolerance": TOLERANCE,
                "subnet_repeats": target.measure.repeats,
                "subnet_min_repeat_ms": target.measure.min_repeat_ms,
                "warmup": target.measure.warmup,
            },
            "files": {str(path.relative_to(self._folder)): sha256_file(path) for path in paths},
            "entries": self._entries,
        }
        write_json(self._folder / pack_measure.MANIFEST, manifest)
        kernels = {entry["candidate"]["kernel"] for entry in self._entries if "candidate" in entry}
        return Pack(self._folder, len(self._entries), len(kernels), self.size_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.close()


def _require_compilers(target: TargetSpec) -> None:
    from ofa_tvm.compiler.cuda_compiler import FIX, cuda_compiler
    from ofa_tvm.compiler.kernel_program import require_compiler

    require_compiler(target.toolchain.linker)
    if target.target.gpu is not None and cuda_compiler() is None:
        raise UserError("CUDA code cannot be compiled: neither NVRTC nor nvcc was found", FIX)


def _copy_runtime(target: TargetSpec, folder: Path) -> bool:
    """Copy TVM's runtime into the pack where the device's machine is of this one's kind."""
    triple = target.target.mtriple or platform.machine()
    if not triple.startswith(platform.machine()):
        return False
    names = pack_measure.LIBRARIES[: 1 if target.target.gpu is None else 2]
    files = metadata.files("apache-tvm") or []
    libraries = {Path(str(file)).name: Path(str(file.locate())) for file in files}
    (folder / "runtime").mkdir()
    for name in names:
        if name not in libraries:
            return False
        shutil.copyfile(libraries[name], folder / "runtime" / name)
    for file in metadata.files("apache-tvm-ffi") or []:
        if str(file).startswith("tvm_ffi/") and _is_needed(Path(str(file))):
            to = folder / "runtime" / str(file)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), to)
    return True


def _is_needed(path: Path) -> bool:
    """Whether a file of the package ``tvm_ffi`` is needed to run."""
    is_inner = len(path.parts) > 2 and path.parts[1] not in ("lib", "utils", "dataclasses")
    return not is_inner and path.suffix in (".py", ".so")


def _how_to_get_runtime(target: TargetSpec) -> str:
    wheels = f"apache-tvm=={metadata.version('apache-tvm')} and apache-tvm-ffi=={metadata.version('apache-tvm-ffi')}"
    return (
        f"\npip install {wheels},\nor unpack these wheels for {target.target.mtriple} and put "
        f"{', '.join(pack_measure.LIBRARIES)} and the folder tvm_ffi into runtime/."
    )


# Back ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Imported:
    """What came back: results taken into the log, of these failed; lines left out; entries without a result."""

    results: int
    failures: int
    known: int
    damaged: int
    missing: int
    device: str


def read_manifest(folder: Path, target: TargetSpec) -> dict[str, Any]:
    """A pack's manifest, which must be of a target.

    Raises:
        UserError: it is missing, damaged, or of other conditions.
    """
    path = folder / pack_measure.MANIFEST
    manifest = read_json(path, "pack manifest")
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise UserError(f"{path} is not a pack manifest of this version", "export the pack again")
    if manifest.get("conditions") != json.loads(json.dumps(target.conditions)):
        raise UserError(
            f"{folder} was made for {manifest.get('target')} ({manifest.get('fingerprint')}), "
            f"not for {target.name} ({target.fingerprint})",
            "name the target, batch and threads that it was exported with",
        )
    entries = manifest.get("entries")
    if not isinstance(entries, list) or not isinstance(manifest.get("round"), str):
        raise UserError(f"{path} is damaged", "copy it again from where the pack was made")
    for entry in entries:
        candidate = _candidate(entry)
        if candidate is not None and candidate.digest != entry.get("id"):
            raise UserError(f"{path} is damaged: an entry is not what its name says", "copy it again")
    return manifest


def _candidate(entry: Any) -> Candidate | None:
    try:
        return Candidate(**entry["candidate"]) if "candidate" in entry else None
    except (TypeError, KeyError) as error:
        raise UserError(f"a pack's entry is damaged: {error}", "copy the manifest again") from error


def import_kernels(folder: Path, target: TargetSpec, tuning_log: TuningLog) -> Imported:
    """Take a pack's results of kernels into the log, which the caller holds; nothing is taken twice.

    Raises:
        UserError: the pack or its results cannot be used, or come from another device than earlier ones.
    """
    manifest = read_manifest(folder, target)
    records, damaged = _records(folder, manifest["round"])
    device = _device(folder, records)
    _check_device(tuning_log.folder, device)
    candidates = {entry["id"]: _candidate(entry) for entry in manifest["entries"] if "candidate" in entry}
    found: dict[str, tuple[Candidate, TrialResult]] = {}
    for record in records:
        candidate = candidates.get(str(record.get("id")))
        if candidate is None:
            continue
        result = _result(record)
        if result is None:
            damaged += 1
        else:
            found[candidate.digest] = (candidate, result)
    if damaged:
        log(f"{folder / pack_measure.RESULTS}: {damaged} damaged lines are left out; measure.py measures them again")
    new = [pair for digest, pair in found.items() if digest not in tuning_log.tried]
    for kernel in dict.fromkeys(candidate.kernel for candidate, _ in new):
        mine = [pair for pair in new if pair[0].kernel == kernel]
        keep_traces(tuning_log.folder, mine)
        tuning_log.commit(kernel, mine)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"round": manifest["round"], "results": len(new), "imported_at": now, "device": device}
    append_jsonl(tuning_log.folder / IMPORTS_FILE, [line])
    return Imported(
        results=len(new),
        failures=sum(result.status != "ok" for _, result in new),
        known=len(found) - len(new),
        damaged=damaged,
        missing=len(candidates) - len(found),
        device=str(device.get("name")),
    )


def _records(folder: Path, name: str) -> tuple[list[dict[str, Any]], int]:
    """Records of a round, and how many lines are damaged.

    Raises:
        UserError: there is none.
    """
    path = folder / pack_measure.RESULTS
    if not path.is_file():
        raise UserError(
            f"{path} does not exist", "run measure.py on the device, and bring that file back into the pack"
        )
    records, damaged = pack_measure.read_results(path)
    mine = [record for record in records if record.get("round") == name]
    if not mine:
        others = "are of another pack" if records else "could be read"
        raise UserError(f"{path} holds no results of this pack: {len(records)} lines {others}, {damaged} are damaged")
    return mine, damaged


def _device(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    devices = [record["device"] for record in records if isinstance(record.get("device"), dict)]
    names = {str(device.get("name")) for device in devices}
    if len(names) > 1:
        raise UserError(
            f"{folder / pack_measure.RESULTS} holds results of several devices: {', '.join(sorted(names))}",
            "keep the lines of one of them",
        )
    return devices[-1] if devices else {"name": "unknown: its line is damaged"}


def _check_device(folder: Path, device: dict[str, Any]) -> None:
    """A log holds times of one device."""
    for line in read_jsonl(folder / IMPORTS_FILE, "list of packs"):
        before = line.get("device", {}).get("name")
        if before != device["name"] and "unknown" not in f"{before} {device['name']}":
            raise UserError(
                f"these results come from '{device['name']}', those in {folder} from '{before}'",
                "copy the target's file under another name, and use that for the other device",
            )


def _result(record: dict[str, Any]) -> TrialResult | None:
    """The result that a line tells; None where its values make no sense."""
    status: TrialStatus | None = next((one for one in get_args(TrialStatus) if one == record.get("status")), None)
    times = record.get("times_ms", [])
    if status is None or not isinstance(times, list):
        return None
    is_time = [isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in times]
    if not all(is_time) or (status == "ok") != bool(times):
        return None
    error = str(record.get("error", ""))[:300]
    return TrialResult(status, tuple(map(float, times)), error, record.get("is_checked") is True)


# A round -------------------------------------------------------------------------------------------------------


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
        for key in order:
            failed: list[tuple[Candidate, TrialResult]] = []
            for candidate in ask(key):
                if writer.is_full or (most is not None and done >= most):
                    break
                result = writer.add(kernels[key], candidate)
                done += 1
                if result is not None:
                    failed.append((candidate, result))
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
