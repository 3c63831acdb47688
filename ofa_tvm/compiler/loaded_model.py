"""Run a compiled subnet, on this machine or behind an RPC session."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.tvm_api.package import tvm


class RunnableModel:
    """A subnet's library, see ``compiler.assembler``, that is loaded somewhere.

    Args:
        module: TVM's module, which may be remote.
        device: TVM's device where its tensors live.
    """

    def __init__(self, module: Any, device: Any) -> None:
        self._module, self._device = module, device
        self._main = module["main"]
        self._logits_shape = (int(module["batch"]()), int(module["classes"]()))

    @property
    def batch(self) -> int:
        """Images of one call."""
        return self._logits_shape[0]

    def bind(self, images: NDArray[np.float32]) -> tuple[object, object]:
        """Arguments of ``main``: normalised images (batch, resolution, resolution, channels), and room for logits."""
        logits = np.zeros(self._logits_shape, np.float32)
        return tvm.runtime.tensor(images, self._device), tvm.runtime.tensor(logits, self._device)

    def run(self, images: object, logits: object) -> None:
        """Run once on what ``bind`` gave."""
        self._main(images, logits)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (batch, classes) of normalised images (batch, resolution, resolution, channels)."""
        given, logits = self.bind(images)
        self.run(given, logits)
        found: NDArray[np.float32] = logits.numpy()  # type: ignore[attr-defined]
        return found

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
        timer = self._module.time_evaluator(
            "main", self._device, number=number, repeat=repeats, min_repeat_ms=min_repeat_ms
        )
        return tuple(1000 * float(seconds) for seconds in timer(*self.bind(images)).results)

    def stopwatch(self, images: NDArray[np.float32], min_repeat_ms: float) -> Callable[[], float]:
        """A function that runs the subnet for about so many milliseconds, and returns the milliseconds of one call."""
        bound = self.bind(images)
        once_ms = 1000 * self._module.time_evaluator("main", self._device, number=1, repeat=9)(*bound).median
        number = math.ceil(min_repeat_ms / max(once_ms, 1e-3))
        timer = self._module.time_evaluator("main", self._device, number=number, repeat=1)
        return lambda: 1000 * float(timer(*bound).mean)


class LoadedModel(RunnableModel):
    """A subnet's library, ready to run on this machine's CPU.

    Args:
        library: the library. Two libraries that were ever loaded from the same path are the same to the system.
    """

    def __init__(self, library: Path) -> None:
        super().__init__(tvm.runtime.load_module(str(library)), tvm.cpu())
