"""A GPU for tests: ``native/fake_cuda.cc`` as its driver, and kernels compiled for this CPU instead of into a cubin."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from ofa_tvm.compiler.assembly.parts import native_source
from ofa_tvm.compiler.cuda.code import PRELUDE

NATIVE = Path(__file__).parent / "native"
KERNEL = re.compile(r"__global__ void .*?__launch_bounds__\(\d+, \d+\) (\w+)\(")
LAUNCHER = """
#include <utility>
template <class... T, size_t... n>
void start(void (*kernel)(T...), const unsigned *grid, int threads, int cluster, void **given,
           std::index_sequence<n...>) {
  launch({int(grid[0]), int(grid[1]), int(grid[2])}, threads, cluster, [&] { kernel(*static_cast<T *>(given[n])...); });
}
template <class... T>
constexpr std::index_sequence_for<T...> numbers(void (*)(T...)) { return {}; }
"""
LAUNCH = """
extern "C" const int NAME_arguments = decltype(numbers(NAME))::size();
extern "C" void NAME_launch(const unsigned *grid, int threads, int cluster, void **given) {
  start(NAME, grid, threads, cluster, given, numbers(NAME));
}
"""


def build_driver(folder: Path) -> Path:
    """Make ``libcuda.so.1`` in a folder, which is then one for ``LD_LIBRARY_PATH``."""
    driver = folder / "libcuda.so.1"
    _compile("-O1", str(NATIVE / "fake_cuda.cc"), "-ldl", "-Wl,-soname,libcuda.so.1", "-o", str(driver))
    return folder


def emulated_cubin(folder: Path) -> Callable[[str, str], bytes]:
    """What stands for ``nvrtc.cubin``: it names a library of the same kernels, which stays in the folder."""

    def cubin(source: str, architecture: str) -> bytes:
        prelude = native_source(PRELUDE)
        assert source.startswith(prelude)
        kernels = source.removeprefix(prelude)
        names = KERNEL.findall(kernels)
        library = folder / f"kernels{len(list(folder.iterdir()))}.so"
        text = [f'#include "{NATIVE / "cuda_emulation.h"}"', kernels, LAUNCHER]
        code = library.with_suffix(".cc")
        code.write_text("\n".join([*text, *(LAUNCH.replace("NAME", name) for name in names)]))
        _compile("-O1", "-w", "-fno-gnu-unique", "-pthread", str(code), "-o", str(library))
        return f"{library}\0".encode()

    return cubin


def _compile(*options: str) -> None:
    done = subprocess.run(
        ["g++", "-std=c++20", "-shared", "-fPIC", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:3000]
