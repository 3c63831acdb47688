"""Parts of a network's library: tensors that need a place, constants in a file, what its C sources are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.assembly.memory_plan import Lifetime, aligned
from ofa_tvm.graph.fusion import Step
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import INPUT, NetworkSpec
from ofa_tvm.graph.quantisation import step_constants
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import FLOAT32_BYTES
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.system_errors import naming

IMAGE_COPY = "image copy"
Array = NDArray[Any]


class PackingKernel(Protocol):
    """A kernel with a schedule, which decides in which order it reads its constants."""

    def pack(self, constants: list[Array]) -> list[Array]:
        """Constants (``KernelSpec.weight_shapes``) as the code reads them."""
        ...


@contextmanager
def from_log(kernel: KernelSpec) -> Iterator[None]:
    """What makes a kernel of a log's schedule.

    Raises:
        UserError: the schedule is one that cannot be.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(
            f"the tuning log is damaged: {error}",
            f"remove the lines of {kernel.key} from its kernels.jsonl, or tune again",
        ) from error


def tensors_of(steps: Sequence[Step], image_floats: int) -> list[Lifetime]:
    """What steps write, and a copy of the images that they read, of so many floats. The last one's output stays."""
    last_step = len(steps) - 1
    last_read = {name: index for index, step in enumerate(steps) for name in step.reads}
    tensors = [
        Lifetime(name, output.nbytes, index, last_read.get(name, last_step))
        for index, step in enumerate(steps)
        for name, output in zip(step.writes, step.kernel.output_types, strict=True)
    ]
    return [*tensors, Lifetime(IMAGE_COPY, FLOAT32_BYTES * image_floats, 0, last_read[INPUT])]


def image_floats(network: NetworkSpec) -> int:
    """Numbers of an image."""
    return network.resolution**2 * network.in_channels


def write_constants(
    steps: Sequence[Step], kernels: Sequence[PackingKernel], weights: Weights, path: Path
) -> list[list[int]]:
    """Write all constants as the kernels read them; returns where those of each step begin, in bytes."""
    starts, at = [], 0
    with naming(path), path.open("wb") as file:
        for step, kernel in zip(steps, kernels, strict=True):
            step_starts = []
            for array in kernel.pack(step_constants(step, weights)):
                data = np.ascontiguousarray(array).tobytes()
                step_starts.append(at)
                file.write(data.ljust(aligned(len(data)), b"\0"))
                at += aligned(len(data))
            starts.append(step_starts)
    return starts


def network_defines(network: NetworkSpec, batch: int) -> dict[str, object]:
    """What the C sources of every network's library are told of it."""
    size, channels = network.resolution, network.in_channels
    return {
        "BATCH": batch,
        "CLASSES": network.classes,
        "RESOLUTION": size,
        "CHANNELS": channels,
        "IMAGE_FLOATS": image_floats(network),
        "IMAGES_TEXT": f'"({batch}, {size}, {size}, {channels})"',
        "LOGITS_TEXT": f'"({batch}, {network.classes})"',
    }


def c_prologue(defines: Mapping[str, object]) -> list[str]:
    """The first lines of a library's C source."""
    includes = ["#define _GNU_SOURCE", "#include <stddef.h>", "#include <stdint.h>"]
    return [*includes, *(f"#define {name} {value}" for name, value in defines.items())]


def embedded(symbol: str, file: Path) -> str:
    """C that makes a file's bytes an array of a library."""
    return (
        f'__asm__(".section .rodata\\n.balign 64\\n.hidden {symbol}\\n.global {symbol}\\n'
        f'{symbol}: .incbin \\"{file}\\"\\n.byte 0\\n.previous\\n");'
    )


def native_source(name: str) -> str:
    """A C source that travels with the package."""
    return files("ofa_tvm.compiler.native").joinpath(name).read_text()
