"""What must be in place before anything else can work; each check says what it found and how to mend it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from ofa_tvm.compiler.runner_headers import HEADER, HINT, finds_header
from ofa_tvm.compiler.tvm_api.versions import INSTALL, TESTED, check_versions
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.machine import cpu_name, mcpu_of, native_mcpu, package_version
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.support.c_library import is_noexec
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import cache_folder, sha256_file
from ofa_tvm.support.ledger import Meter
from ofa_tvm.support.shipped import shipped_supernets, vouched_sha256
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import logs_root
from ofa_tvm.tuner.trial import TrialResult

Status = Literal["ok", "warn", "fail"]
OLDEST_PYTHON = (3, 11)
SUPERNET_FILE = "supernet.safetensors"
TINY_KERNEL = KernelSpec("conv", 8, 16, 4, bias=True)


@dataclass(frozen=True)
class Check:
    """What one check found; ``fix`` is what to do about it, empty when there is nothing to do."""

    name: str
    status: Status
    found: str
    fix: str = ""


def machine_checks() -> Iterator[Check]:
    """Check this machine and this installation, one after the other."""
    yield _python()
    yield _tvm()
    yield _package("torch", "torch", "pip install torch (train, search and deploy need it)")
    yield _package("xgboost", "xgboost", "pip install xgboost-cpu")
    yield _package("onnx", "onnx", "pip install onnx", "warn")
    for engine in ("onnxruntime", "openvino"):
        yield _package(f"{engine} (optional)", engine, f"pip install {engine}: bench then compares with it", "warn")
    lite_rt = "pip install ai-edge-litert: bench then compares with it"
    yield _package("LiteRT (optional)", "ai_edge_litert.interpreter", lite_rt, "warn")
    yield _tool("linker", ("g++",), "install g++, e.g. apt install g++", "fail")
    yield _tool("C compiler", ("cc", "gcc", "clang"), "install gcc: training is then several times faster", "warn")
    yield _runner_header()
    yield _writable("tuning logs", logs_root(), "set OFA_TVM_LOGS to a folder that you may write")
    other = "to a folder that you may write, on a disk from which programs may run"
    yield _writable("cache", cache_folder(), f"set OFA_TVM_CACHE {other}", needs_to_run=True)
    yield _writable("temporary files", Path(tempfile.gettempdir()), f"set TMPDIR {other}", needs_to_run=True)
    yield _cpu()
    yield _energy()
    yield _data()
    yield from map(_supernet, shipped_supernets())


def target_checks(
    name: str,
    trial: Callable[[Any, KernelSpec, Candidate], TrialResult],
    device: str | None = None,
    dtype: DType | None = None,
) -> Iterator[Check]:
    """Check that a target can be used; on another device than this machine see ``board_checks``.

    Args:
        name: as for ``load_target``.
        trial: runs a trial on this machine in a worker that it starts.
        device: as for ``load_target``.
        dtype: as for ``load_target``.
    """
    try:
        target = load_target(name, device=device, dtype=dtype)
    except OfaTvmError as error:
        yield Check(f"target {name}", "fail", error.what, error.hint)
        return
    chip = target.chip
    yield Check(f"target {name}", "ok", f"{chip}, threads: {target.threads}, {target.fingerprint}")
    if target.device != "local":
        return
    kernel = replace(TINY_KERNEL, dtype=target.dtype)
    try:
        result = trial(target, kernel, Candidate(kernel.key, "default", {}))
    except OfaTvmError as error:
        yield Check("worker", "fail", error.what, error.hint)
        return
    yield Check("worker", "ok", "starts")
    if result.status == "ok":
        yield Check("tiny kernel", "ok", "compiles, runs and computes what it should")
    else:
        fix = "the CPU named by the target may not be this machine's: see its mcpu"
        yield Check("tiny kernel", "fail", f"{result.status}: {result.error}", fix)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("Python", "fail", version, "use Python 3.11 or newer")
    return Check("Python", "ok", version)


def _tvm() -> Check:
    try:
        check_versions()
    except OfaTvmError as error:
        return Check("TVM", "fail", error.what, error.hint)
    versions = f"apache-tvm {package_version('apache-tvm')}, apache-tvm-ffi {package_version('apache-tvm-ffi')}"
    check = _package("TVM", "ofa_tvm.compiler.tvm_api.package", INSTALL)
    if check.status == "fail":
        return replace(check, found=f"{versions}; {check.found}")
    if package_version("apache-tvm") != TESTED:
        why = f"tested with apache-tvm {TESTED}; logs that ship, and other logs of that version, do not serve this one"
        return Check("TVM", "warn", f"{versions}; {why}", INSTALL)
    return replace(check, found=versions)


def _package(name: str, module: str, fix: str, otherwise: Status = "fail") -> Check:
    try:
        import_module(module)
    except Exception as error:  # a broken installation may raise anything
        reason = error.what if isinstance(error, OfaTvmError) else f"cannot be imported: {error}"
        return Check(name, otherwise, reason, fix)
    version = getattr(sys.modules[module.partition(".")[0]], "__version__", "present")
    return Check(name, "ok", str(version))


def _tool(name: str, commands: tuple[str, ...], fix: str, otherwise: Status) -> Check:
    path_of_tool = next((path for command in commands if (path := shutil.which(command))), None)
    return (
        Check(name, "ok", path_of_tool)
        if path_of_tool
        else Check(name, otherwise, f"no {' or '.join(commands)} found", fix)
    )


def _runner_header() -> Check:
    if shutil.which("g++") is None:
        return Check("runner's header", "warn", "not looked for: no g++", "see linker above")
    if finds_header("g++"):
        return Check("runner's header", "ok", HEADER)
    return Check("runner's header", "warn", f"no {HEADER}: bundles read no .png and .jpg", HINT)


def _writable(name: str, folder: Path, fix: str, needs_to_run: bool = False) -> Check:
    """Whether files can be written to a folder, and where that is needed, be run from it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(name, "fail", f"{folder} cannot be written: {error.strerror}", fix)
    if needs_to_run and is_noexec(folder):
        return Check(name, "fail", f"{folder}: nothing may be run from its disk (it is mounted noexec)", fix)
    return Check(name, "ok", str(folder))


def _cpu() -> Check:
    mcpu = native_mcpu()
    description = f"{cpu_name()}; {process_cores()} cores; compiled for {mcpu}"
    if mcpu == mcpu_of(""):
        return Check("CPU", "warn", description, "without AVX2 code is slow; targets/ may hold a better file")
    try:
        from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
        from ofa_tvm.compiler.tvm_api.names import Target

        lanes = cpu_features(Target({"kind": "llvm", "mcpu": mcpu})).lanes
    except Exception as error:  # TVM's own check says how to mend it
        return Check("CPU", "warn", f"{description}; vector width unknown: {error}", "see TVM above")
    return Check("CPU", "ok", f"{description}, {lanes} float32 lanes")


def _energy() -> Check:
    method = Meter().read("check").method
    if method.startswith("metered"):
        return Check("energy", "ok", method)
    return Check("energy", "warn", method, "to meter it, let this user read /sys/class/powercap/intel-rapl:*/energy_uj")


def _data() -> Check:
    cached = cache_folder() / "cifar10.npz"
    if cached.exists():
        return Check("CIFAR-10", "ok", str(cached))
    return Check(
        "CIFAR-10", "warn", "not fetched yet", "what needs it first fetches it, or name it: --data cifar10:PATH"
    )


def _supernet(folder: Path) -> Check:
    path = folder / SUPERNET_FILE
    if not path.exists():
        return Check("shipped supernet", "warn", f"{path} is missing", "train one: python -m ofa_tvm.train")
    try:
        expected = vouched_sha256(path)
    except OfaTvmError as error:
        return Check("shipped supernet", "fail", error.what, "install the package again")
    if expected is None:
        return Check("shipped supernet", "ok", f"{path} (without a manifest to check it by)")
    if expected != sha256_file(path):
        said = f"{path} is not what its manifest says"
        return Check("shipped supernet", "fail", said, "install the package again")
    return Check("shipped supernet", "ok", str(path))
