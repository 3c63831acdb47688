"""Run a compiled subnet on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.quiet import without_chatter
from ofa_tvm.compiler.tvm_package import tvm


class LoadedModel:
    """A compiled subnet that is ready to run on this machine's CPU.

    Args:
        executable: a VM executable, or the path of an exported library.
    """

    def __init__(self, executable: Any) -> None:
        if isinstance(executable, Path):
            executable = tvm.runtime.load_module(str(executable))
        self._device = tvm.cpu()
        with without_chatter():
            self._machine = tvm.runtime.vm.VirtualMachine(executable, self._device)
        self._main = self._machine["main"]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (batch, classes) of normalised images (batch, resolution, resolution, channels)."""
        logits: NDArray[np.float32] = self._main(tvm.runtime.tensor(images)).numpy()
        return logits

    def time_ms(
        self, images: NDArray[np.float32], repeats: int = 10, number: int = 1, min_repeat_ms: int = 0
    ) -> tuple[float, ...]:
        """Milliseconds of one call, one value for each repeat, after one call that does not count.

        Args:
            images: the input.
            repeats: values to return.
            number: calls that one value averages over.
            min_repeat_ms: raise ``number`` until one repeat takes at least this long.
        """
        evaluator = self._machine.time_evaluator(
            "main", self._device, number=number, repeat=repeats, min_repeat_ms=min_repeat_ms
        )
        seconds = evaluator(tvm.runtime.tensor(images, self._device)).results
        return tuple(1000 * float(value) for value in seconds)


def load(executable: Any) -> LoadedModel:
    """A runnable model from a VM executable or the path of an exported library."""
    return LoadedModel(executable)
