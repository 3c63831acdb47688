"""The forms of what a pack holds: how a library of each is loaded, timed and checked.

It lies in a pack beside ``measure.py``.
"""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ofa_tvm.devices.pack.digests import Array, complaint, inputs_of
from ofa_tvm.devices.pack.pack_files import Record
from ofa_tvm.devices.pack.tvm_runtime import CPU, Module, Runtime, Tensor
from ofa_tvm.devices.pack.wholeness import FIGURES
from ofa_tvm.support.nvml import gpu_millijoules

MIN_CALLS = 9
ENERGY_S, AT_ONCE_S = 0.5, 0.01
"""Calls for so long tell what one draws; so many are made between two looks at the counter."""


def open_runtime(folder: Path, kind: str) -> Runtime:
    """TVM's runtime: the pack's own, that of all packs beside it, or what is installed."""
    return Runtime([folder / "runtime", folder.parent / "runtime"], kind)


def tensors_of(manifest: Record) -> str:
    """Where a pack's libraries take tensors: on the device, or in this machine's memory, from where they copy them."""
    return str(manifest.get("tensors", manifest["device"]))


def seconds_of(
    runtime: Runtime, module: Module, arguments: Sequence[object], repeats: int, min_repeat_ms: int
) -> list[float]:
    """Seconds of one call of a module's ``main``, for each repeat."""
    make = runtime.function("runtime.RPCTimeEvaluator")
    timer = make(module, "main", runtime.device.kind, 0, 1, repeats, min_repeat_ms, 100, 0, 1, 0, "")
    return [float(value) for value in np.frombuffer(timer(*arguments), "<f8")]


def measure(runtime: Runtime, folder: Path, entry: Record, settings: Record) -> Record:
    """Time an entry, and check its output."""
    with tempfile.TemporaryDirectory() as name:
        library = unpacked(folder, entry, Path(name))
        return FORMS[entry["form"]](runtime, folder, entry, settings, library)


def unpacked(folder: Path, entry: Record, to: Path) -> Path:
    """An entry's library as a file that can be loaded."""
    library = to / f"{entry['id']}.so"
    library.write_bytes(zlib.decompress((folder / entry["library"]).read_bytes()))
    return library


def _program(runtime: Runtime, folder: Path, entry: Record, settings: Record, library: Path) -> Record:
    """A library with functions ``run`` and ``time`` on bytes of all arguments; they guard themselves."""
    module = runtime.module(library)
    tensor = runtime.tensor(np.frombuffer(zlib.decompress((folder / entry["arguments"]).read_bytes()), np.uint8))
    seconds = runtime.tensor(np.zeros(settings["repeats"]))
    outputs = runtime.tensor(np.zeros(entry["output_bytes"], np.uint8))
    time_us = 1000 * settings["min_repeat_ms"]
    for name, arguments in (("time", (tensor, seconds, time_us)), ("run", (tensor, outputs))):
        error = int(module[name](*arguments))
        if error:
            said = os.strerror(error) if error > 0 else f"the kernel was killed by signal {-error}"
            return {"status": "failed" if error > 0 else "crashed", "error": said}
    data = outputs.array().tobytes()
    arrays = [np.frombuffer(data, dtype, int(np.prod(shape)), at) for at, shape, dtype in entry["outputs"]]
    return _checked([1e3 * value for value in seconds.array()], arrays, entry, settings)


def _function(runtime: Runtime, folder: Path, entry: Record, settings: Record, library: Path) -> Record:
    """A library whose ``main`` takes tensors, the last ones of which it writes."""
    module = runtime.module(library)
    outputs = [runtime.tensor(np.full(shape, np.nan, dtype)) for _, shape, dtype in entry["outputs"]]
    arguments = [*map(runtime.tensor, inputs_of(entry)), *outputs]
    module["main"](*arguments)
    arrays = [tensor.array() for tensor in outputs]
    seconds = seconds_of(runtime, module, arguments, settings["repeats"], settings["min_repeat_ms"])
    return _checked([1e3 * value for value in seconds], arrays, entry, settings)


def _checked(times_ms: list[float], arrays: list[Array], entry: Record, settings: Record) -> Record:
    if error := complaint(arrays, entry["expected"], settings["tolerance"]):
        return {"status": "wrong_output", "error": error}
    return {"status": "ok", "times_ms": times_ms, "is_checked": True}


class Subnet:
    """A subnet's library: ``main(images, logits)``, or TVM's virtual machine."""

    def __init__(self, runtime: Runtime, entry: Record, library: Path) -> None:
        self._runtime = runtime
        self._module = runtime.module(library)
        self._arguments = [runtime.tensor(array) for array in inputs_of(entry)]
        self._logits = None
        if entry["form"] == "virtual_machine":
            kind = runtime.device.kind
            pooled = 2
            self._module = self._module["vm_load_executable"]()
            self._module["vm_initialization"](kind, 0, pooled, CPU, 0, pooled)
        else:
            self._logits = runtime.tensor(np.full(entry["outputs"][0][1], np.nan, np.float32))
            self._arguments.append(self._logits)

    def call(self) -> Tensor:
        """Logits where the code runs; a GPU may still be computing them."""
        answer: Tensor = self._module["main"](*self._arguments)
        return answer if self._logits is None else self._logits

    def run(self) -> Array:
        """Logits here."""
        return self.call().array()

    def overlap(self) -> None:
        """Let a GPU's kernels start before the one before has ended; of libraries with kernels from templates."""
        self._module["overlap"](1)

    def window(self, window_ms: float) -> list[float]:
        """Figures of single calls for about so many milliseconds; see ``timing.window.Window`` in ofa_tvm."""
        if self._logits is not None:
            figures = self._runtime.tensor(np.zeros(FIGURES))
            self._module["window"](*self._arguments, float(window_ms), figures)
            return [float(value) for value in figures.array()]
        once = float(np.median(seconds_of(self._runtime, self._module, self._arguments, MIN_CALLS, 0)))
        calls = max(MIN_CALLS, int(1e-3 * window_ms / once))
        seconds = seconds_of(self._runtime, self._module, self._arguments, calls, 0)
        percentiles = [1e3 * float(value) for value in np.percentile(seconds, (50, 90, 99))]
        return [*percentiles, *percentiles, calls, 0, 1, 0]

    def repeat(self, calls: int) -> int:
        """Call it one time after the other; how many calls there were, with those that warm up."""
        return 1 + len(seconds_of(self._runtime, self._module, self._arguments, calls, 0))


def energy_mj(repeat: Callable[[], int]) -> float | None:
    """What one call of a GPU draws, of calls between two steps of its counter; None where nothing counts.

    Args:
        repeat: makes some calls, one after the other, and tells how many.
    """
    begun: tuple[float, float] | None = None
    last, calls, end = gpu_millijoules(), 0, time.monotonic() + 4 * ENERGY_S
    while last is not None and time.monotonic() < end:
        calls += repeat()
        now = gpu_millijoules()
        if now is not None and now != last:  # it counts in steps of some tens of milliseconds
            if begun is None:
                begun, calls = (now, time.monotonic()), 0
            elif time.monotonic() - begun[1] >= ENERGY_S:
                return (now - begun[0]) / calls
        last = now
    return None


def _subnet(runtime: Runtime, folder: Path, entry: Record, settings: Record, library: Path) -> Record:
    """Time a subnet in turn with the reference subnet, so that a machine that drifts can be told."""
    with tempfile.TemporaryDirectory() as name:
        other = entry["reference"]
        subnets = [Subnet(runtime, entry, library), Subnet(runtime, other, unpacked(folder, other, Path(name)))]
        for subnet, expected in zip(subnets, (entry["expected"], other["expected"])):  # noqa: B905
            if error := complaint([subnet.run()], expected, settings["subnet_tolerance"]):
                return {"status": "wrong_output", "error": error}
        windows = []
        for number in range(settings["windows"]):
            time.sleep(settings["gap_s"] if number else 0)
            windows.append([one.window(settings["window_ms"]) for one in subnets])
        count = max(1, int(1e3 * AT_ONCE_S / windows[0][0][0]))
        is_gpu = settings.get("is_gpu")  # its library may take tensors from this machine's memory
        drawn_mj = energy_mj(lambda: subnets[0].repeat(count)) if is_gpu else None
    return {
        "status": "ok",
        "times_ms": [figures[0] for figures, _ in windows],
        "reference_ms": [other[0] for _, other in windows],
        "figures": [figures for figures, _ in windows],
        **({} if drawn_mj is None else {"energy_mj": drawn_mj}),
    }


FORMS = {"program": _program, "function": _function, "subnet": _subnet, "virtual_machine": _subnet}
