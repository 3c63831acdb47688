"""Run a compiled subnet, on this machine or behind an RPC session."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.tvm_api.package import tvm, tvm_ffi
from ofa_tvm.support.c_library import unloadable
from ofa_tvm.support.files import sha256_file

FIGURES = 10
"""Numbers that describe a window."""


class RunnableModel:
    """A subnet's library, see ``compiler.cpu.assembler``, that is loaded somewhere.

    Args:
        module: TVM's module, which may be remote.
        device: TVM's device where its tensors live.
    """

    where: ClassVar = ""

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
        tensor, logits = self.bind(images)
        self.run(tensor, logits)
        answer: NDArray[np.float32] = logits.numpy()  # type: ignore[attr-defined]
        return answer

    def window(self, images: NDArray[np.float32], window_ms: float) -> list[float]:
        """Figures of single calls for about ``window_ms`` milliseconds; see ``timing.window.Window``."""
        figures = tvm.runtime.tensor(np.zeros(FIGURES), self._device)
        self._module["window"](*self.bind(images), float(window_ms), figures)
        values: list[float] = figures.numpy().tolist()
        return values


class LoadedModel(RunnableModel):
    """A subnet's library, ready to run on this machine's CPU; it is unloaded with the last reference to this.

    Args:
        library: the library. The system takes libraries that were ever loaded from the same path for the same one.

    Raises:
        HostFault: nothing may be run from the disk that it is on.
    """

    def __init__(self, library: Path) -> None:
        try:
            # TVM's own function never unloads: a search loads a library thousands of times, megabytes each.
            module = tvm_ffi.load_module(library, keep_module_alive=False)
        except Exception as error:  # of a type that depends on the version
            raise unloadable(library, error) from error
        super().__init__(module, tvm.cpu())


def load_anew(library: Path, sha256: str | None = None) -> LoadedModel:
    """Load a copy of a library: its code and memory then lie elsewhere, which changes its speed by some percent.

    Args:
        library: the library.
        sha256: what the copy must be; None for anything.

    Raises:
        OSError: it is another one, or cannot be copied.
    """
    with tempfile.TemporaryDirectory() as folder:  # to the system, a library of another name is another library
        copy = Path(shutil.copy(library, Path(folder) / f"{Path(folder).name}.so"))
        if sha256 is not None and sha256_file(copy) != sha256:
            raise OSError("it has changed since it was checked")
        return LoadedModel(copy)
