"""What this machine is: its processor, its GPU, and the versions of installed packages."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def package_version(name: str) -> str:
    """Installed version of a package, or ``none``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


@functools.cache
def cpu_name() -> str:
    """The processor's name and identity as the system reports them."""
    fields = {}
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    parts = [fields.get("model name", "unknown CPU")]
    parts += [f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields]
    return ", ".join(parts)


def native_mcpu() -> str:
    """LLVM's name of this machine's CPU, lowered to what the visible features support."""
    return mcpu_of(_cpuinfo())


def cpu_flags() -> set[str]:
    """What this machine's x86 CPU can do, as ``/proc/cpuinfo`` names it; empty for others."""
    return _flags(_cpuinfo())


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _flags(cpuinfo: str) -> set[str]:
    return next((set(line.split(":")[1].split()) for line in cpuinfo.splitlines() if line.startswith("flags")), set())


def mcpu_of(cpuinfo: str) -> str:
    """LLVM's name of an x86 CPU from the text of its ``/proc/cpuinfo``.

    Virtual machines often report a CPU whose newest features they hide, so the name is chosen by features.
    """
    flags = _flags(cpuinfo)
    amd = "AuthenticAMD" in cpuinfo
    for name, vendor_amd, needed in _CPU_BY_FEATURES:
        if vendor_amd in (None, amd) and needed <= flags:
            return name
    return "x86-64"


_AVX2 = {"avx2", "fma", "bmi1", "bmi2", "f16c"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
# The first entry whose features are all visible; compiled code then never uses what the machine lacks.
_CPU_BY_FEATURES: tuple[tuple[str, bool | None, set[str]], ...] = (
    ("sapphirerapids", False, _AVX512 | {"amx_tile", "amx_bf16", "amx_int8", "avx512_fp16", "avx512_bf16", "avx_vnni"}),
    ("znver5", True, _AVX512 | {"avx512_bf16", "avx512_vp2intersect", "movdiri", "avx_vnni"}),
    ("znver4", True, _AVX512 | {"avx512_bf16", "avx512_vnni", "avx512_vbmi2", "gfni", "vaes"}),
    ("icelake-server", False, _AVX512 | {"avx512_vnni", "avx512_vbmi2", "gfni", "vaes"}),
    ("cascadelake", False, _AVX512 | {"avx512_vnni"}),
    ("skylake-avx512", None, _AVX512),
    ("znver3", True, _AVX2 | {"vaes", "sha_ni"}),
    ("znver2", True, _AVX2 | {"clwb", "sha_ni"}),
    ("haswell", None, _AVX2),
    ("x86-64-v2", None, {"sse4_2", "ssse3", "popcnt"}),
)


@dataclass(frozen=True)
class LocalGpu:
    """This machine's first NVIDIA GPU, as its driver reports it."""

    name: str
    arch: str
    driver: str


@functools.cache
def local_gpu() -> LocalGpu | None:
    """This machine's GPU; None where there is none, or no driver."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = [field.strip() for field in done.stdout.partition("\n")[0].split(",")]
    if done.returncode != 0 or len(fields) != 3 or not re.fullmatch(r"\d+\.\d", fields[1]):
        return None
    return LocalGpu(fields[0], f"sm_{fields[1].replace('.', '')}", fields[2])
