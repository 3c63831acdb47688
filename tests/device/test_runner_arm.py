"""The runner and a library for 64-bit ARM, cross-compiled and emulated: right answers, and a clear word on a wrong CPU.

Emulated times say nothing of a real device, so none are looked at.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest

from ofa_tvm.bundle.folder import LIBRARY, MANIFEST
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.compiler.runner_build import build_runner, oldest_glibc
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.shipped import shipped_folder

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
CPU = "cortex-a76"
SUBNET, SIZE = "r12.5x4.3x2-7x4", 12
PACKAGES = {COMPILER: "g++-aarch64-linux-gnu", EMULATOR: "qemu-user"}
MISSING = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
# Counts the bytes of a vector register, which only a CPU with SVE can.
SVE = """
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#define TASKS 1
#define EXPORT
int ofa_tvm_batch(void) { return 1; }
int ofa_tvm_classes(void) { return 4; }
int ofa_tvm_resolution(void) { return 12; }
int ofa_tvm_channels(void) { return 3; }
int ofa_tvm_run(const float *images, float *logits) {
  long bytes;
  __asm__(".arch armv8-a+sve\\n cntb %0" : "=r"(bytes));
  for (int i = 0; i < 4; ++i) logits[i] = bytes;
  return 0;
}
"""
SVE += (files("ofa_tvm.compiler.native") / "window.c").read_text()

pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(bool(MISSING), reason=f"tools are missing: apt install {' '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def network(tiny_space):
    return tiny_space.network(tiny_space.parse(SUBNET))


@pytest.fixture(scope="module")
def program():
    return build_runner(COMPILER)


def emulated(program, *arguments, cpu=CPU):
    command = [EMULATOR, "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu", program, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def write_bundle(folder, library, mattr=()):
    """A bundle of what the runner reads."""
    folder.mkdir()
    shutil.copy(library, folder / LIBRARY)
    facts = {"bytes": (folder / LIBRARY).stat().st_size, "sha256": sha256_file(folder / LIBRARY)}
    record = {
        "format": "ofa_tvm.bundle",
        "schema_version": 1,
        "subnet": SUBNET,
        "input": {"shape": [1, SIZE, SIZE, 3]},
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "classes": 4,
        "class_names": ["red", "green", "blue", "yellow"],
        "target": {"threads": 1, "attributes": {"mcpu": CPU, "mattr": list(mattr)}},
        "files": {LIBRARY: facts},
    }
    (folder / MANIFEST).write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_those_of_this_machine(network, program, tmp_path, threads):
    weights = random_weights(network)
    arm = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": CPU, "num-cores": threads}
    assemble(network, weights, {}, ObjectCache(arm), tmp_path / "arm.so", 1, COMPILER)
    here = load_target("x86")
    own = {"kind": "llvm", "mcpu": here.target.mcpu, "num-cores": 1}
    assemble(network, weights, {}, ObjectCache(own), tmp_path / "own.so", 1, here.toolchain.linker)

    images = np.random.default_rng(0).standard_normal((3, SIZE, SIZE, 3), np.float32)
    np.save(tmp_path / "images.npy", images)
    bundle = write_bundle(tmp_path / "bundle", tmp_path / "arm.so")
    done = emulated(program, bundle, tmp_path / "images.npy", "--json", "--logits", tmp_path / "logits.npy")
    assert done.returncode == 0, done.stderr
    model = LoadedModel(tmp_path / "own.so")
    expected = np.concatenate([model(image[None]) for image in images])
    np.testing.assert_allclose(
        np.load(tmp_path / "logits.npy"), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    names = [result["top"][0]["name"] for result in json.loads(done.stdout)["results"]]
    assert names == [["red", "green", "blue", "yellow"][i] for i in expected.argmax(1)]

    version = oldest_glibc(tmp_path / "arm.so", program)
    assert version is not None
    assert tuple(map(int, version.split("."))) <= (2, 31)


def test_a_wrong_cpu_is_named(program, tmp_path):
    library = tmp_path / "sve.so"
    command = [COMPILER, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=SVE, text=True, check=True)
    untold = write_bundle(tmp_path / "untold", library)
    run = ("--benchmark", "--windows", 1, "--window-ms", 1)
    assert emulated(program, untold, *run, cpu="max").returncode == 0
    done = emulated(program, untold, *run)
    assert done.returncode == 1
    assert f"lacks an instruction that the bundle for {CPU} uses" in done.stderr

    told = write_bundle(tmp_path / "told", library, mattr=["+sve"])
    assert emulated(program, told, *run, cpu="max").returncode == 0
    done = emulated(program, told, *run)
    assert done.returncode == 1
    assert "this CPU lacks SVE" in done.stderr


def test_a_library_of_this_machine_is_refused(network, program, tmp_path):
    here = load_target("x86")
    cache = ObjectCache({"kind": "llvm", "mcpu": here.target.mcpu, "num-cores": 1})
    assemble(network, random_weights(network), {}, cache, tmp_path / "own.so", 1, here.toolchain.linker)
    done = emulated(program, tmp_path / "own.so", "--benchmark")
    assert done.returncode == 1
    assert "is for x86-64, this is aarch64" in done.stderr


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed: apt install cmake")
def test_cmake_cross_compiles(tmp_path):
    root = shipped_folder("runtime").parent
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={root / 'cmake' / 'aarch64-linux-gnu.cmake'}"
    quickly = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0")
    subprocess.run(["cmake", "-S", root, "-B", tmp_path, toolchain, *quickly], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path, "--parallel", "2"], check=True, capture_output=True)
    assert "usage: run" in emulated(tmp_path / "run", "--help").stdout
