"""Compiled subnets in words."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_tvm.bundle.library import CompiledSubnet
from ofa_tvm.support.command import table


def compiled_text(compiled: Sequence[CompiledSubnet], fingerprint: str) -> str:
    """What each stage took, and what was made."""
    stages = list(dict.fromkeys(stage for result in compiled for stage in result.seconds))
    has_run = all(result.relative_error is not None for result in compiled)
    rows = [
        [
            result.subnet,
            *(f"{result.seconds[stage]:.2f}" for stage in stages),
            f"{result.tuned_kernels}/{result.tuned_kernels + result.default_kernels}",
            str(result.compiled_kernels),
            f"{result.relative_error:.1e}" if has_run else f"{(result.device_code_bytes or 0) >> 10}",
        ]
        for result in compiled
    ]
    last = "error" if has_run else "KiB of device code"
    lines = [table(["seconds of", *stages, "kernels tuned", "newly compiled", last], rows)]
    lines.append(f"no tuning trials; target {fingerprint}")
    if not has_run:
        lines.append("compiled, not run: that needs the GPU")
    lines += [f"wrote {result.library}" for result in compiled if result.library is not None]
    return "\n".join(lines)
