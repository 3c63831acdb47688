"""Jobs of the estimating device's worker processes."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.devices.emulation.instruction_counts import count_blocks, emulator, instruction_counts
from ofa_tvm.devices.estimate.cycle_model import cycles, disassemble, pieces
from ofa_tvm.devices.workers.kernel_jobs import TOLERANCE, Answer, relative_error, stored_object
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import compute, random_inputs
from ofa_tvm.hardware.target import CompilerTarget, Estimate

EMULATED_CPU = "max"
"""Counts do not depend on it, and it knows every instruction."""


def trial(
    kernel: dict[str, Any],
    candidate: dict[str, Any],
    target: dict[str, Any],
    tasks: int,
    compiler: str,
    estimate: dict[str, Any],
    best_ms: float | None,
    most_s: float,
) -> Answer:
    """Build a candidate, run it once under qemu, and estimate its time.

    Returns:
        As ``tuner.jobs.trial``, with one estimated time.
    """
    spec, settings, compiled_for = KernelSpec(**kernel), Estimate(**estimate), CompilerTarget(**target)
    cache = ObjectCache(compiled_for.attributes(tasks))
    emitted = cache.kernel(spec, candidate)
    inputs, program = random_inputs(spec), KernelProgram(emitted, tasks)
    with tempfile.TemporaryDirectory() as name, stored_object(cache, emitted) as (code, keep):
        folder = Path(name)
        program_file, inputs_file, outputs_file = folder / "kernel", folder / "inputs", folder / "outputs"
        inputs_file.write_bytes(program.inputs(inputs))
        program.build(code, inputs, compiler, program_file, standalone=True)
        triple = compiled_for.mtriple
        blocks = count_blocks([str(program_file), str(inputs_file), str(outputs_file)], triple, EMULATED_CPU, most_s)
        listing = disassemble(program_file, spec.symbol, settings.llvm)
        counts = instruction_counts(blocks, [instruction.address for instruction in listing])
        count = cycles(pieces(listing, counts), triple, settings.mca_cpu, settings.mca_options, settings.llvm)
        time_ms = count / (1e3 * settings.clock_mhz) + spec.weight_bytes / (1e6 * settings.weights_gb_s)
        answer: Answer = {"status": "ok", "times_ms": [time_ms]}
        if best_ms is not None and time_ms >= best_ms:
            return answer
        error = relative_error(program.outputs(outputs_file.read_bytes()), compute(spec, inputs))
        if not error < TOLERANCE:
            return {"status": "wrong_output", "error": f"differs from the reference by {error:.2g}"}
        keep()
    return {**answer, "is_checked": True}


def check(kernel: dict[str, Any], target: dict[str, Any], tasks: int, compiler: str, most_s: float) -> Answer:
    """Build a kernel with its default schedule, run it under qemu, and compare with numpy.

    qemu emulates the CPU that is meant where it knows it, so that code which the CPU lacks does not run.
    """
    spec, compiled_for = KernelSpec(**kernel), CompilerTarget(**target)
    cache = ObjectCache(compiled_for.attributes(tasks))
    emitted = cache.kernel(spec)
    inputs, program, qemu = random_inputs(spec), KernelProgram(emitted, tasks), emulator(compiled_for.mtriple)
    known = subprocess.run([qemu, "-cpu", "help"], capture_output=True, text=True, check=False).stdout.split()
    cpu = compiled_for.mcpu if compiled_for.mcpu in known else EMULATED_CPU
    with tempfile.TemporaryDirectory() as name, stored_object(cache, emitted) as (code, _):
        program_file, inputs_file, outputs_file = (Path(name) / part for part in ("kernel", "inputs", "outputs"))
        inputs_file.write_bytes(program.inputs(inputs))
        program.build(code, inputs, compiler, program_file, standalone=True)
        command = [qemu, "-cpu", cpu, str(program_file), str(inputs_file), str(outputs_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=most_s)
        if done.returncode != 0:
            return {"status": "failed", "error": f"ended with {done.returncode} on qemu's {cpu}: {done.stderr[-300:]}"}
        error = relative_error(program.outputs(outputs_file.read_bytes()), compute(spec, inputs))
    if not error < TOLERANCE:
        return {"status": "wrong_output", "error": f"differs from the reference by {error:.2g}"}
    return {"status": "ok", "cpu": cpu}


def jobs() -> dict[str, Callable[..., Answer]]:
    """The jobs of one process."""
    return {"trial": trial, "check": check}
