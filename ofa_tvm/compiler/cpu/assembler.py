"""From a network, its weights and compiled kernels to one shared library, in a fraction of a second.

The library calls the kernels one after the other on a planned block of memory; nothing is allocated, looked up or
checked in between. It loads through TVM's runtime as a module with ``main(images, logits)``, or by plain ``dlopen`` as
``ofa_tvm_run``. If it uses several threads, these are its own: each call wakes them once, and they meet after each
kernel.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.assembly.memory_plan import Lifetime, aligned, plan_memory
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
from ofa_tvm.compiler.cpu.emit import EmittedKernel
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.tvm_api.headers import include_folders
from ofa_tvm.graph.fusion import Step
from ofa_tvm.graph.kernel import KernelSpec, Winners
from ofa_tvm.graph.mixed import network_steps
from ofa_tvm.graph.network import INPUT, NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.c_library import run_compiler
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.dtype import FLOAT32_BYTES
from ofa_tvm.support.errors import UserError

SOURCES = ("stack_place.h", "program.c", "facts.c", "window.c", "packed.c", "subnet_calls.c")
PROFILE = "profile.c"
SCRATCH = "scratch"
LOGITS_COPY = "logits copy"


@dataclass(frozen=True)
class Plan:
    """What a library is made of.

    Args:
        network: the network.
        steps: its calls.
        kernels: the kernel of each step.
        offsets: of the tensors in the arena, in bytes.
        arena_bytes: size of the arena.
        scratch_bytes: scratch memory of one thread.
    """

    network: NetworkSpec
    steps: tuple[Step, ...]
    kernels: tuple[EmittedKernel, ...]
    offsets: dict[str, int]
    arena_bytes: int
    scratch_bytes: int


def make_plan(network: NetworkSpec, weights: Weights, winners: Winners, cache: ObjectCache) -> Plan:
    """Choose kernels and places for the tensors of a network.

    Args:
        network: the network.
        weights: they say of what type its layers are, see ``graph.mixed``.
        winners: tuned schedules by kernel; other kernels get their default.
        cache: makes kernels.
    """
    steps = network_steps(network, weights)
    kernels = tuple(_emitted(step.kernel, winners, cache) for step in steps)
    scratch_bytes = aligned(FLOAT32_BYTES * max(kernel.scratch_floats for kernel in kernels))
    scratch = Lifetime(SCRATCH, scratch_bytes * cache.features.cores, 0, len(steps) - 1)
    offsets, arena_bytes = plan_memory([*tensors_of(steps, image_floats(network)), scratch])
    offsets[LOGITS_COPY] = offsets[steps[-1].writes[-1]]
    return Plan(network, steps, kernels, offsets, arena_bytes, scratch_bytes)


def _emitted(kernel: KernelSpec, winners: Winners, cache: ObjectCache) -> EmittedKernel:
    with from_log(kernel):
        return cache.kernel(kernel, winners.get(kernel.key))


def compile_kernels(plan: Plan, cache: ObjectCache) -> list[Path]:
    """The object files of a plan's distinct kernels; what the cache lacks is compiled, on all cores."""
    distinct = {kernel.spec.key: kernel for kernel in plan.kernels}
    # The longest jobs first: then no core is left with one while the others have nothing to do.
    in_order = sorted(distinct.values(), key=lambda kernel: kernel.spec.kind != "expand_depthwise")
    with ThreadPoolExecutor(process_cores()) as pool:
        return sorted(pool.map(lambda kernel: cache.get(kernel.spec, kernel.schedule), in_order))


def compile_program(
    plan: Plan, weights: Weights, tasks: int, batch: int, linker: str, folder: Path, profiled: bool = False
) -> Path:
    """The object file of the code that calls a plan's kernels, with the weights in it.

    Args:
        plan: what to call.
        weights: folded weights, see ``graph.weights``.
        tasks: threads that share each kernel.
        batch: images per call.
        linker: C compiler for where the code runs.
        folder: for files.
        profiled: it also reads the clock after each kernel, see ``native/profile.c``.

    Raises:
        UserError: the compiler is not installed.
        OfaTvmError: it fails.
    """
    if shutil.which(linker) is None:
        raise UserError(
            f"a subnet cannot be linked: {linker} is not installed", f"install it, e.g. apt install {linker}"
        )
    starts = write_constants(plan.steps, plan.kernels, weights, folder / "weights.bin")
    source, program = folder / "program.c", folder / "program.o"
    code = _source(plan, starts, folder / "weights.bin", batch, tasks, profiled)
    source.write_text(code, errors="surrogateescape")
    command = [linker, "-c", "-x", "c", "-std=gnu11", "-O1", "-w", "-fPIC", "-fvisibility=hidden"]
    _run([*command, *(f"-I{path}" for path in include_folders()), str(source), "-o", str(program)])
    return program


def link(program: Path, objects: Sequence[Path], tasks: int, linker: str, library: Path) -> None:
    """Write the library of a program, see ``compile_program``, and its plan's kernels.

    Raises:
        OfaTvmError: it cannot be linked.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    # By its full name also where it is empty: a glibc older than 2.34 has its threads in there.
    threads = ["-Wl,--no-as-needed", "-l:libpthread.so.0", "-Wl,--as-needed"] if tasks > 1 else []
    _run([linker, "-shared", str(program), *map(str, objects), "-o", str(library), *threads])


def _run(command: list[str]) -> None:
    run_compiler(command, f"{command[0]} could not link a subnet")


def assemble(
    network: NetworkSpec, weights: Weights, winners: Winners, cache: ObjectCache, library: Path, batch: int, linker: str
) -> None:
    """Plan, compile and link a network; see ``make_plan``, ``compile_program`` and ``link``."""
    plan = make_plan(network, weights, winners, cache)
    _assemble(plan, weights, cache, library, batch, linker)


def assemble_profiled(
    network: NetworkSpec, weights: Weights, winners: Winners, cache: ObjectCache, library: Path, linker: str
) -> Plan:
    """The library of ``assemble`` for one image, with a clock between its kernels; returns what it calls."""
    plan = make_plan(network, weights, winners, cache)
    _assemble(plan, weights, cache, library, 1, linker, profiled=True)
    return plan


def _assemble(
    plan: Plan, weights: Weights, cache: ObjectCache, library: Path, batch: int, linker: str, profiled: bool = False
) -> None:
    tasks = cache.features.cores
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        program = thread.submit(compile_program, plan, weights, tasks, batch, linker, Path(folder), profiled)
        objects = compile_kernels(plan, cache)
        link(program.result(), objects, tasks, linker, library)


def _source(
    plan: Plan, starts: Sequence[Sequence[int]], blob: Path, batch: int, tasks: int, profiled: bool = False
) -> str:
    defines = {
        **network_defines(plan.network, batch),
        "TASKS": tasks,
        "WEIGHT_BYTES": blob.stat().st_size,
        "ARENA_BYTES": plan.arena_bytes,
        "IMAGE_COPY": plan.offsets[IMAGE_COPY],
        "LOGITS_COPY": plan.offsets[LOGITS_COPY],
        "STEPS": len(plan.steps),
    }
    lines = [*c_prologue(defines), embedded("ofa_packed_weights", blob)]
    symbols = dict.fromkeys(step.kernel.symbol for step in plan.steps)
    lines += [f"extern void {symbol}();" for symbol in symbols]
    lines.append("static void meet(void);" if tasks > 1 else "")
    lines.append("static void mark(int32_t task, int step);" if profiled else "")
    lines.append("static void run_steps(int32_t task, const char *w, char *a, const float *image, float *logits) {")
    for number, (step, kernel, step_starts) in enumerate(zip(plan.steps, plan.kernels, starts, strict=True)):
        if profiled:
            lines.append(f"  mark(task, {number});")
        lines.append(f"  {step.kernel.symbol}({', '.join(_arguments(plan, step, kernel, step_starts))});")
        if tasks > 1:
            lines.append("  meet();")
    if profiled:
        lines.append("  mark(task, STEPS);")
    lines.append("}")
    sources = (*SOURCES, PROFILE) if profiled else SOURCES
    return "\n".join([*lines, *map(native_source, sources)])


def _arguments(plan: Plan, step: Step, kernel: EmittedKernel, weight_starts: Sequence[int]) -> list[str]:
    def place(name: str) -> str:
        return "image" if name == INPUT else f"a + {plan.offsets[name]}"

    data = step.kernel.data_inputs
    arguments = ["task", *map(place, step.reads[:data])]
    arguments += [f"w + {start}" for start in weight_starts]
    arguments += map(place, [*step.reads[data:], *step.writes])
    if kernel.scratch_floats:
        arguments.append(f"a + {plan.offsets[SCRATCH]} + task * {plan.scratch_bytes}")
    return arguments
