"""From a network, its weights and kernels from templates to one shared library, which needs NVIDIA's driver alone.

The library holds machine code and weights, and a table of launches over one planned block of the GPU's memory, which
becomes a CUDA graph at the first call (``native/cuda_program.c``). It loads through TVM's runtime as a module with
``main(images, logits)`` of tensors in this machine's memory, or by plain ``dlopen`` as ``ofa_tvm_run``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ofa_tvm.compiler.assembly.c_compiler import compile_c
from ofa_tvm.compiler.assembly.memory_plan import aligned, plan_memory
from ofa_tvm.compiler.assembly.parts import (
    IMAGE_COPY,
    c_prologue,
    embedded,
    from_log,
    image_floats,
    native_source,
    network_defines,
    tensors_of,
    write_constants,
)
from ofa_tvm.compiler.cuda.code import kernel_code
from ofa_tvm.compiler.cuda.device_code import CODE_AT, marked_code
from ofa_tvm.compiler.cuda.emit import EmittedCuda, default_schedule, expands_on
from ofa_tvm.compiler.cuda.emit.gpu_model import gpu_model
from ofa_tvm.compiler.cuda.emit.template import Launch
from ofa_tvm.graph.fusion import Step, fused_steps
from ofa_tvm.graph.kernel import KernelSpec, Winners
from ofa_tvm.graph.network import INPUT, NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.files import copy_file
from ofa_tvm.support.system_errors import naming

DRIVER = ("packed.c", "cuda_driver.c")
PROGRAM = ("cuda_program.c", "facts.c", "window.c", "subnet_calls.c")
LIBRARIES = ("-Wl,--no-as-needed", "-l:libdl.so.2", "-Wl,--as-needed")
"""By its full name also where it is empty: a glibc older than 2.34 has ``dlopen`` in there."""
CLUSTERS_FROM = 90
"""Architectures from here on have clusters of blocks."""


@dataclass(frozen=True)
class Plan:
    """What a library is made of.

    Args:
        network: the network.
        architecture: of the GPU, ``sm_90``, say.
        batch: images per call.
        steps: its launches.
        kernels: the kernel of each step.
        offsets: of the tensors in the arena, in bytes.
        arena_bytes: size of the arena.
        scratch: where each step's own memory begins behind it, and at last where that ends.
    """

    network: NetworkSpec
    architecture: str
    batch: int
    steps: tuple[Step, ...]
    kernels: tuple[EmittedCuda, ...]
    offsets: dict[str, int]
    arena_bytes: int
    scratch: tuple[int, ...]


def make_plan(network: NetworkSpec, winners: Winners, architecture: str, batch: int, dtype: DType) -> Plan:
    """Choose kernels and places for the tensors of a network.

    Args:
        network: a network whose kernels all have templates.
        winners: tuned schedules by kernel; other kernels get their default.
        architecture: of the GPU.
        batch: images per call.
        dtype: of its maps and weights.

    Raises:
        UserError: a winner is no schedule of its kernel, so the log is damaged.
    """
    steps = fused_steps(network, dtype, batch, expands_on(architecture))
    made = {step.kernel: _emitted(step.kernel, winners, architecture) for step in steps}
    kernels = tuple(made[step.kernel] for step in steps)
    offsets, arena_bytes = plan_memory(tensors_of(steps, batch * image_floats(network)))
    scratch = tuple(accumulate((aligned(kernel.scratch_bytes) for kernel in kernels), initial=0))
    return Plan(network, architecture, batch, steps, kernels, offsets, arena_bytes, scratch)


def _emitted(spec: KernelSpec, winners: Winners, architecture: str) -> EmittedCuda:
    winner = winners.get(spec.key)
    if winner is None:
        return EmittedCuda(spec, default_schedule(spec, gpu_model(architecture)))
    with from_log(spec):
        kernel = EmittedCuda(spec, winner)
        if kernel.launch.cluster > 1 and number_of(architecture) < CLUSTERS_FROM:
            raise ValueError(f"schedule {winner} of kernel {spec.key} needs clusters, which {architecture} lacks")
    return kernel


def number_of(architecture: str) -> int:
    """The number of an architecture: 90 for ``sm_90``."""
    return int(architecture.removeprefix("sm_"))


def assemble(plan: Plan, weights: Weights, linker: str, library: Path, overlaps: bool = False) -> None:
    """Compile and link the library of a plan.

    Args:
        plan: see ``make_plan``.
        weights: folded weights, see ``graph.weights``.
        linker: C compiler of the machine that the GPU is in.
        library: the file to write.
        overlaps: kernels may start before the one before has ended, where the GPU can do that; ``ofa_tvm_overlap``
            changes it while the library is loaded.

    Raises:
        UserError: a compiler is not installed.
        OfaTvmError: it refused the code.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blob, program = folder / "weights.bin", folder / "program.so"
        starts = write_constants(plan.steps, plan.kernels, weights, blob)
        arena = blob.stat().st_size
        scratch = arena + plan.arena_bytes
        defines = {
            **network_defines(plan.network, plan.batch),
            "TASKS": 0,
            "WEIGHT_BYTES": arena,
            "SCRATCH": scratch,
            "MEMORY_BYTES": scratch + plan.scratch[-1],
            "IMAGE_COPY": arena + plan.offsets[IMAGE_COPY],
            "LOGITS_COPY": arena + plan.offsets[plan.steps[-1].writes[-1]],
            "LAUNCHES": len(plan.steps),
        }
        places = _places(plan, starts, arena)
        numbers = function_numbers(plan.kernels)
        launches = [
            launch_text(numbers[kernel.spec.symbol], kernel.launch, at)
            for kernel, at in zip(plan.kernels, places, strict=True)
        ]
        parts = [
            *c_prologue(defines),
            embedded("ofa_packed_weights", blob),
            driver_source(plan.kernels, plan.architecture, max(map(len, places)), folder, overlaps),
            f"static const launch_t launches[] = {{{', '.join(launches)}}};",
            *map(native_source, PROGRAM),
        ]
        compile_c(linker, "\n".join(parts), program, True, libraries=LIBRARIES)
        with naming(library):
            library.parent.mkdir(parents=True, exist_ok=True)
            copy_file(program, library)


def _places(plan: Plan, starts: Sequence[Sequence[int]], arena: int) -> list[list[int]]:
    """Of each launch's arguments, in bytes from where the GPU's memory begins, in the order of ``CudaTemplate.emit``.

    Args:
        plan: the launches.
        starts: where the constants of each begin.
        arena: where the arena does.
    """
    offsets = {name: arena + offset for name, offset in plan.offsets.items()}
    offsets[INPUT] = offsets[IMAGE_COPY]
    places = []
    for number, (step, kernel) in enumerate(zip(plan.steps, plan.kernels, strict=True)):
        data = step.kernel.data_inputs
        read, written = ([offsets[name] for name in names] for names in (step.reads, step.writes))
        own = [arena + plan.arena_bytes + plan.scratch[number]] if kernel.scratch_bytes else []
        places.append([*read[:data], *starts[number], *read[data:], *written, *own])
    return places


def function_numbers(kernels: Iterable[EmittedCuda]) -> dict[str, int]:
    """Numbers of a library's functions, by name: steps that do the same share one."""
    return {symbol: number for number, symbol in enumerate(dict.fromkeys(kernel.spec.symbol for kernel in kernels))}


def driver_source(
    kernels: Sequence[EmittedCuda], architecture: str, most_arguments: int, folder: Path, overlaps: bool = False
) -> str:
    """C that speaks to the driver, with the kernels' machine code, for what uses it in the same source.

    Args:
        kernels: all that the library launches.
        architecture: of the GPU.
        most_arguments: of one of them.
        folder: for a file that the compiler reads.
        overlaps: see ``assemble``.

    Raises:
        UserError: no CUDA compiler is installed.
        OfaTvmError: it refused the code.
    """
    code = folder / "code.bin"
    with naming(code):
        code.write_bytes(marked_code(kernel_code(kernels, architecture)))
    symbols = function_numbers(kernels)
    defines = {
        "ARCHITECTURE": number_of(architecture),
        "OVERLAPS": int(overlaps),
        "FUNCTIONS": len(symbols),
        "MOST_ARGUMENTS": most_arguments,
        "CODE_AT": CODE_AT,
    }
    names = ", ".join(f'"{symbol}"' for symbol in symbols)
    return "\n".join(
        [
            *c_prologue(defines),
            f"static const char *const function_names[] = {{{names}}};",
            embedded("ofa_device_code", code),
            *map(native_source, DRIVER),
        ]
    )


def launch_text(function: int, launch: Launch, places: Sequence[int]) -> str:
    """A ``launch_t`` of ``native/cuda_driver.c``: the function's number, and the places of its arguments."""
    x, y, z = launch.grid
    at = ", ".join(map(str, places))
    return f"{{{function}, {{{x}, {y}, {z}}}, {launch.threads}, {launch.cluster}, {len(places)}, {{{at}}}}}"
