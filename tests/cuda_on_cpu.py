"""Runs the CUDA code of a scheduled kernel on a CPU under a sanitizer, see ``native/cuda_on_cpu.h``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cuda.build import cuda_source
from ofa_tvm.compiler.tvm_api.names import IRModule, Schedule, Target
from ofa_tvm.graph.kernel import KernelSpec

HEADER = Path(__file__).parent / "native" / "cuda_on_cpu.h"
KERNEL = re.compile(r'extern "C" __global__ void .*?(\w+)\(([^()]*)\);')
TAGS = ("blockIdx.x", "blockIdx.y", "threadIdx.x", "threadIdx.y")


def launches(source: str) -> int:
    """Device kernels in CUDA code."""
    return len(KERNEL.findall(source))


def _extents(module: IRModule) -> list[dict[str, int]]:
    """Blocks and threads of each launch: the loops of each nest that are bound to them."""
    made = Schedule(module)
    nests: dict[object, dict[str, int]] = {}
    for block in made.get_child_blocks(made.get_sblock("root")):
        loops = [made.get(loop) for loop in made.get_loops(block)]
        extents = nests.setdefault(loops[0], dict.fromkeys(TAGS, 1))
        for loop in loops:
            if loop.thread_binding is not None:
                tag = str(loop.thread_binding.thread_tag)
                extents[tag] = max(extents.get(tag, 1), int(loop.extent))
    return list(nests.values())


def run_on_cpu(
    spec: KernelSpec, module: IRModule, target: Target, inputs: list[NDArray[np.float32]], sanitizer: str, folder: Path
) -> NDArray[np.float32]:
    """A float32 kernel's output.

    Args:
        spec: the kernel.
        module: its scheduled function.
        target: a GPU.
        inputs: as ``layer_compute`` takes them.
        sanitizer: ``address`` or ``thread``.
        folder: for files.
    """
    source = cuda_source(module, target)
    code = source[source.index('extern "C"') :]
    kernels, extents = KERNEL.findall(code), _extents(module)
    assert len(kernels) == len(extents), [name for name, _ in kernels]
    weights = [f"weight{number}" for number in range(len(spec.weight_shapes))]
    names = ["source", *["scales"] * spec.scaled, *weights, *["residual"] * spec.residual]
    between = [one for one in module["main"].body.block.alloc_buffers if one.scope() == "global"]
    shapes = {one.name: [int(extent) for extent in one.shape] for one in between}
    shapes |= {name: list(array.shape) for name, array in zip(names, inputs, strict=True)}
    shapes["output"] = list(spec.output_shape)
    lines = [f'#include "{HEADER}"', code, "int main() {"]
    lines += [f"std::vector<float> {name}({np.prod(shape)}, NAN);" for name, shape in shapes.items()]
    for name, array in zip(names, inputs, strict=True):
        (folder / f"{name}.bin").write_bytes(array.astype(np.float32).tobytes())
        lines.append(f'read_values("{folder}/{name}.bin", {name});')
    for (kernel, parameters), at in zip(kernels, extents, strict=True):
        names = [one.split()[-1].removesuffix("_ptr") for one in parameters.split(",")]
        given = ", ".join(f"{name}.data()" for name in names)
        shape = "{{{}, {}}}, {{{}, {}}}".format(*(at[tag] for tag in TAGS))
        lines.append(f"launch({shape}, [&] {{ {kernel}({given}); }});")
    lines += [f'write_values("{folder}/output.bin", output);', "}"]
    (folder / "program.cc").write_text("\n".join(lines))
    program = str(folder / "program")
    command = ["g++", "-std=c++20", "-g", "-w", f"-fsanitize={sanitizer}", "-pthread"]
    for step in ([*command, str(folder / "program.cc"), "-o", program], [program]):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
    return np.frombuffer((folder / "output.bin").read_bytes(), np.float32).reshape(spec.output_shape)
