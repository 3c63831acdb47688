"""A kernel as a library for boards: one that crashes or never ends is an answer, not the end of the server."""

from __future__ import annotations

import os
import signal
import subprocess

import numpy as np
import pytest

from ofa_tvm.compiler.cpu import kernel_program
from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.tvm_api.package import tvm
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import compute, random_inputs
from ofa_tvm.hardware.target_files import load_target

SPEC = KernelSpec("conv", 8, 16, 4, bias=True)
CRASH, HANG = "*(volatile int *)0 = 1;", 'for (;;) __asm__ volatile("");'


@pytest.fixture
def library(tmp_path):
    """Makes the library of a kernel, or of C code in its place; returns it with what it takes."""

    def library(body=None):
        kernel = ObjectCache(load_target("x86").attributes, tmp_path).kernel(SPEC)
        program, inputs = KernelProgram(kernel, 1), random_inputs(SPEC)
        if body is None:
            code = ObjectCache(load_target("x86").attributes, tmp_path).get(SPEC, kernel.schedule)
        else:
            code = tmp_path / "kernel.o"
            source = f"void {SPEC.symbol}() {{ {body} }}"
            subprocess.run(["gcc", "-x", "c", "-", "-c", "-o", str(code)], input=source, text=True, check=True)
        made = tmp_path / f"{os.urandom(4).hex()}.so"
        program.build(code, inputs, "gcc", made, standalone=False)
        given = tvm.runtime.tensor(np.frombuffer(program.inputs(inputs), np.uint8))
        return tvm.runtime.load_module(str(made)), program, inputs, given

    return library


def outputs(program):
    return tvm.runtime.tensor(np.zeros(program.output_bytes, np.uint8))


def test_a_kernel_runs_and_is_timed(library):
    module, program, inputs, given = library()
    found, seconds = outputs(program), tvm.runtime.tensor(np.zeros(3))
    assert module["run"](given, found) == 0
    assert module["time"](given, seconds, 1000) == 0
    np.testing.assert_allclose(program.outputs(found.numpy().tobytes())[0], compute(SPEC, inputs)[0], atol=1e-5)
    assert (seconds.numpy() > 0).all()


@pytest.mark.parametrize(("body", "ended_by"), [(CRASH, signal.SIGSEGV), (HANG, signal.SIGALRM)])
def test_a_kernel_that_fails_ends_alone(library, monkeypatch, body, ended_by):
    monkeypatch.setattr(kernel_program, "MAX_SECONDS", 1)
    module, program, _, given = library(body)
    assert module["run"](given, outputs(program)) == -ended_by
    assert module["time"](given, tvm.runtime.tensor(np.zeros(1)), 1000) == -ended_by


def test_arguments_of_another_size_are_refused(library):
    module, program, _, given = library()
    small = tvm.runtime.tensor(np.zeros(64, np.uint8))
    assert module["run"](small, outputs(program)) > 0
    assert module["run"](given, small) > 0
    assert module["time"](given, tvm.runtime.tensor(np.zeros(0)), 1000) > 0
