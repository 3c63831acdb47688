"""A library of another architecture, run under qemu: for what it computes, never for how long it takes."""

from __future__ import annotations

import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.runner_build import build_runner
from ofa_tvm.devices.emulation.instruction_counts import emulator
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.errors import OfaTvmError, UserError

Images = NDArray[np.float32]


class EmulatedModel:
    """Runs a subnet's library under emulation; any number of images a call, on all cores of this machine.

    Args:
        library: the library.
        triple: of the target.
        compiler: C++ compiler for the target, which builds the runner.

    Raises:
        OfaTvmError: the runner cannot be built; says how to mend it.
        UserError: qemu is not installed.
    """

    where: ClassVar = "under emulation"

    def __init__(self, library: Path, triple: str | None, compiler: str) -> None:
        self._library = library
        self._command = [emulator(triple), "-cpu", "max", "-L", f"/usr/{triple or ''}", str(build_runner(compiler))]

    def __call__(self, images: Images) -> Images:
        """Logits (n, classes) of normalised images (n, resolution, resolution, channels).

        Raises:
            OfaTvmError: the runner failed.
        """
        shares = [share for share in np.array_split(images, process_cores()) if len(share)]
        with ThreadPoolExecutor(len(shares)) as pool:
            return np.concatenate(list(pool.map(self._run, shares)))

    def window(self, images: Images, window_ms: float) -> list[float]:
        """Refused.

        Raises:
            UserError: always.
        """
        raise UserError("times under emulation say nothing", "give a board: --device rpc:HOST:PORT")

    def _run(self, images: Images) -> Images:
        with tempfile.TemporaryDirectory() as folder:
            images_file, logits_file = Path(folder) / "images.npy", Path(folder) / "logits.npy"
            np.save(images_file, np.ascontiguousarray(images), allow_pickle=False)
            command = [*self._command, str(self._library.resolve()), str(images_file), "--logits", str(logits_file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise OfaTvmError(f"{self._library.name} fails under emulation: {done.stderr.strip()[-300:]}")
            logits: Images = np.load(logits_file, allow_pickle=False)
            return logits
