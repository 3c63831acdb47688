"""A network through TVM alone: one function a layer, its unscheduled loops, the Relax VM.

Nothing is deployed this way on a CPU; it is what tuned libraries are compared with, and what MetaSchedule tunes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.scheduled.relax_builder import build_relax
from ofa_tvm.compiler.tvm_api.names import IRModule, Target, ms, tvm
from ofa_tvm.compiler.tvm_api.quiet import without_chatter
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import DType

LINKER = "g++"
MIN_CALLS = 9
"""Calls of a window at least."""


def extract_kernels(module: IRModule, network: NetworkSpec, target: Target, batch: int = 1) -> dict[str, IRModule]:
    """The workloads that MetaSchedule extracts from a module of ``build_relax``, by kernel key.

    Raises:
        KeyError: the module holds a kernel that the network does not have.
    """
    keys = {spec.symbol: spec.key for _, spec in network_kernels(network, batch)}
    tasks = ms.relax_integration.extract_tasks(module, target)
    return {keys[task.task_name]: task.dispatched[0] for task in tasks}


def compile_loops(
    network: NetworkSpec, weights: Weights, target: Target, library: Path, batch: int = 1, dtype: DType = "float32"
) -> None:
    """Compile a subnet's unscheduled loops into a shared library for ``VirtualMachineModel``.

    Args:
        network: the subnet.
        weights: folded weights, see ``graph.weights``.
        target: what the code is for.
        library: the file to write.
        batch: images per call.
        dtype: of maps and weights.
    """
    executable = tvm.compile(build_relax(network, weights, batch, dtype), target)
    with without_chatter():
        executable.export_library(str(library), fcompile=tvm.support.cc.create_shared, cc=LINKER)


class VirtualMachineModel:
    """A library for TVM's virtual machine, ready to run: of ``compile_loops``, or of ``build_network`` for a GPU."""

    where: ClassVar = ""

    def __init__(self, library: Path, device: str = "cpu") -> None:
        module = tvm.runtime.load_module(str(library))
        self._device = tvm.device(device, 0)
        with without_chatter():
            self._machine: Any = tvm.runtime.vm.VirtualMachine(module, self._device)
        self._main = self._machine["main"]

    def bind(self, images: NDArray[np.float32]) -> Any:
        """The argument of ``run``."""
        return tvm.runtime.tensor(images, self._device)

    def run(self, images: Any) -> Any:
        """Run once; the logits as a tensor."""
        return self._main(images)

    def wait(self) -> None:
        """Until the device is done."""
        self._device.sync()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (batch, classes) of normalised images (batch, resolution, resolution, channels)."""
        logits: NDArray[np.float32] = self.run(self.bind(images)).numpy()
        return logits

    def window(self, images: NDArray[np.float32], window_ms: float) -> list[float]:
        """Figures of single calls without copies in and out; see ``timing.window.Window``."""
        bound = self.bind(images)
        once_ms = 1000 * self._machine.time_evaluator("main", self._device, repeat=9)(bound).median
        calls = max(MIN_CALLS, math.ceil(window_ms / once_ms))
        seconds = self._machine.time_evaluator("main", self._device, repeat=calls)(bound).results
        percentiles = [1000 * float(value) for value in np.percentile(seconds, (50, 90, 99))]
        return [*percentiles, *percentiles, calls, 0, 1, 0]  # a GPU's calls are not disturbed by this CPU's work
