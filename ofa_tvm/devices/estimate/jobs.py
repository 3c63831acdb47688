"""Jobs of the estimating device's worker processes."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.devices.emulation.instruction_counts import count_blocks, emulator, instruction_counts
from ofa_tvm.devices.estimate.cycle_model import cycles, disassemble, pieces
from ofa_tvm.devices.workers.kernel_jobs import relative_error, stored_object, tolerance, wrong_output
from ofa_tvm.graph.numpy_reference import Array, compute, random_inputs
from ofa_tvm.hardware.target import Estimate
from ofa_tvm.support.errors import UserError
from ofa_tvm.tuner.job import KernelJob
from ofa_tvm.tuner.trial import TrialResult, TrialStatus

EMULATED_CPU = "max"
"""Counts do not depend on it, and it knows every instruction."""


@dataclass(frozen=True)
class EmulatedKernel:
    """A kernel's program, run by qemu in a folder.

    Args:
        program: its arguments and outputs.
        code: its object file.
        folder: where files are written.
    """

    program: KernelProgram
    code: Path
    folder: Path

    def command(self, inputs: list[Array], compiler: str) -> list[str]:
        """Build the program; returns the command that runs it."""
        names = [str(self.folder / name) for name in ("kernel", "inputs", "outputs")]
        Path(names[1]).write_bytes(self.program.inputs(inputs))
        self.program.build(self.code, inputs, compiler, Path(names[0]), standalone=True)
        return names

    def difference(self, inputs: list[Array]) -> float:
        """Difference of its output from numpy's, see ``relative_error``."""
        outputs = self.program.outputs((self.folder / "outputs").read_bytes())
        return relative_error(outputs, compute(self.program.kernel.spec, inputs))


@contextmanager
def emulated(job: KernelJob) -> Iterator[tuple[EmulatedKernel, Callable[[], None]]]:
    """A job's kernel, and a function that keeps its object in the cache."""
    cache = ObjectCache(job.target.attributes)
    emitted = cache.kernel(job.kernel, job.schedule)
    with tempfile.TemporaryDirectory() as name, stored_object(cache, emitted) as (code, keep):
        yield EmulatedKernel(KernelProgram(emitted, job.target.threads), code, Path(name)), keep


def trial(job: KernelJob) -> TrialResult:
    """Build a kernel, run it once under qemu, and estimate its time.

    Raises:
        UserError: the target does not say how to estimate.
    """
    spec, target, estimate = job.kernel, job.target, job.target.estimate
    if estimate is None:
        raise UserError(f"target {target.name} does not say how to estimate", "its file needs a section [estimate]")
    inputs = random_inputs(spec)
    with emulated(job) as (kernel, keep):
        command = kernel.command(inputs, target.toolchain.linker)
        blocks = count_blocks(command, target.target.mtriple, EMULATED_CPU, target.tuning.timeout_s)
        listing = disassemble(Path(command[0]), spec.symbol, estimate.llvm)
        counts = instruction_counts(blocks, [instruction.address for instruction in listing])
        mca = estimate.mca_cpu, estimate.mca_options, estimate.llvm
        count = cycles(pieces(listing, counts), target.target.mtriple, *mca)
        result = TrialResult("ok", (_time_ms(count, spec.weight_bytes, estimate),))
        if job.best_ms is not None and result.times_ms[0] >= job.best_ms:
            return result
        difference = kernel.difference(inputs)
        if not difference < tolerance(job.kernel):
            return wrong_output(difference)
        keep()
    return replace(result, is_checked=True)


def _time_ms(count: float, weight_bytes: int, estimate: Estimate) -> float:
    return count / (1e3 * estimate.clock_mhz) + weight_bytes / (1e6 * estimate.weights_gb_s)


@dataclass(frozen=True)
class CheckedCode:
    """Whether a kernel computes what it should on an emulated CPU, and on which."""

    status: TrialStatus
    cpu: str = ""
    error: str = ""


def check(job: KernelJob) -> CheckedCode:
    """Build a kernel, run it under qemu, and compare with numpy.

    qemu emulates the CPU that is meant where it knows it, so that code which the CPU lacks does not run.
    """
    target, inputs = job.target.target, random_inputs(job.kernel)
    qemu = emulator(target.mtriple)
    cpus = subprocess.run([qemu, "-cpu", "help"], capture_output=True, text=True, check=False).stdout.split()
    cpu = target.mcpu if target.mcpu in cpus else EMULATED_CPU
    with emulated(job) as (kernel, _):
        command = [qemu, "-cpu", cpu, *kernel.command(inputs, job.target.toolchain.linker)]
        timeout_s = job.target.tuning.timeout_s
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
        if done.returncode != 0:
            reason = f"ended with {done.returncode} on qemu's {cpu}: {done.stderr[-300:]}"
            return CheckedCode("failed", error=reason)
        difference = kernel.difference(inputs)
    if not difference < tolerance(job.kernel):
        return CheckedCode("wrong_output", error=wrong_output(difference).error)
    return CheckedCode("ok", cpu)


def jobs() -> Mapping[str, Callable[..., object]]:
    """The jobs of one process."""
    return {"trial": trial, "check": check}
