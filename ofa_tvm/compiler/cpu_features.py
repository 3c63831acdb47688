"""What a schedule must know of a CPU: vector width and registers."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_tvm.compiler.tvm_import import Target, tvm


@dataclass(frozen=True)
class CpuFeatures:
    """Vector registers of one core, and cores.

    Args:
        lanes: float32 numbers in a vector register.
        registers: vector registers.
        cores: cores that a kernel may use.
    """

    lanes: int
    registers: int
    cores: int


def cpu_features(target: Target) -> CpuFeatures:
    """Read the features of an ``llvm`` target; ``num-cores`` counts as 1 where it is missing."""
    lanes = max(4, int(tvm.target.codegen.llvm_get_vector_width(target)) // 32)
    has_many_registers = lanes >= 16 or bool(target.features.is_aarch64)
    return CpuFeatures(lanes, 32 if has_many_registers else 16, int(target.attrs.get("num-cores", 1)))
