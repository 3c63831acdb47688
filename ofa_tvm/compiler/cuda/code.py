"""Machine code of kernels from templates: one cubin for all of a library's, kept until what it depends on changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from ofa_tvm.compiler.assembly.parts import native_source
from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.nvrtc import cubin, cuda_compiler
from ofa_tvm.support.made_again import compiled_folder, made, unsealed

PRELUDE = "cuda_prelude.h"


def kernel_code(kernels: Iterable[EmittedCuda], architecture: str) -> bytes:
    """The cubin of kernels, each once; from the cache where it is.

    Args:
        kernels: those of the same ``KernelSpec`` have the same schedule.
        architecture: ``sm_90``, say.

    Raises:
        UserError: no CUDA compiler is installed.
        OfaTvmError: it refused the code.
    """
    sources = {kernel.spec.symbol: kernel.source for kernel in kernels}
    source = "\n".join([native_source(PRELUDE), *sources.values()])
    compiler = cuda_compiler()
    identity = [source, architecture, *([] if compiler is None else [compiler.name, compiler.version])]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    path = compiled_folder() / f"{digest}.cubin"
    return unsealed(made(path, lambda to: to.write_bytes(cubin(source, architecture))))
