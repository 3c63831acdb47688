"""What a program takes until an engine has answered once: time and memory, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np

from ofa_tvm.engines.base import Engine
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import Record

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESETS_PEAK = "5"


@dataclass(frozen=True)
class Start:
    """A fresh process up to the engine's first answer; medians where it was started several times.

    Args:
        load_ms: importing the engine's package and loading the model.
        first_ms: the first inference.
        peak_mb: most memory over that of a Python process with numpy, in 1e6 bytes; None where the system does not say.
        file_mb: what was loaded, in 1e6 bytes.
    """

    load_ms: float
    first_ms: float
    peak_mb: float | None
    file_mb: float

    def record(self) -> Record:
        """As a JSON object."""
        return asdict(self)


def starts_of(
    engines: Mapping[str, Engine], network: NetworkSpec, weights: Weights, threads: int, times: int
) -> dict[str, Start]:
    """Start each engine some times, in turn; its files are in the system's cache by then.

    Raises:
        OfaTvmError: a process ended without an answer.
    """
    with tempfile.TemporaryDirectory() as name:
        files: dict[str, Path] = {}
        for engine_name, engine in engines.items():
            folder = Path(name) / engine_name
            folder.mkdir()
            files[engine_name] = engine.build(network, weights, threads, folder)
        found: dict[str, list[Start]] = {engine_name: [] for engine_name in engines}
        for _ in range(times):
            for engine_name, engine in engines.items():
                found[engine_name].append(_start(engine_name, engine, files[engine_name], network, threads))
    return {engine_name: _middle(starts) for engine_name, starts in found.items()}


def _middle(starts: list[Start]) -> Start:
    peaks = [start.peak_mb for start in starts if start.peak_mb is not None]
    return Start(
        median(start.load_ms for start in starts),
        median(start.first_ms for start in starts),
        median(peaks) if peaks else None,
        starts[0].file_mb,
    )


def _start(name: str, engine: Engine, file: Path, network: NetworkSpec, threads: int) -> Start:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, engine, file, network, threads), daemon=True)
    process.start()
    theirs.close()
    try:
        load_ms, first_ms, peak_mb = ours.recv()
    except EOFError:
        process.join()
        raise OfaTvmError(
            f"{name} did not answer in a fresh process, which ended with {process.exitcode}",
            "leave that engine out of --against, or give --starts 0",
        ) from None
    process.join()
    size = sum(one.stat().st_size for one in file.parent.iterdir()) / 1e6
    return Start(load_ms, first_ms, peak_mb, size)


def _child(answer: Connection, engine: Engine, file: Path, network: NetworkSpec, threads: int) -> None:
    images = np.ones((1, network.resolution, network.resolution, network.in_channels), np.float32)
    before = _memory_from_now()
    begun = time.perf_counter()
    model = engine.load_alone(file, network, threads)
    loaded = time.perf_counter()
    model.bind(images)()
    answered = time.perf_counter()
    peak = _memory("VmHWM")
    used = None if before is None or peak is None else (peak - before) / 1e6
    answer.send((1e3 * (loaded - begun), 1e3 * (answered - loaded), used))


def _memory_from_now() -> int | None:
    """Bytes of this process, whose peak counts from now on; None where the system does not count."""
    try:
        _CLEAR.write_text(RESETS_PEAK)
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(field: str) -> int | None:
    """Bytes of this process by the kernel's name for them."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)
