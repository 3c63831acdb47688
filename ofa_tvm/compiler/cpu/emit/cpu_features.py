"""What a kernel must know of a CPU: vector width and registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ofa_tvm.compiler.tvm_api.names import Target, tvm

Dot = Literal["vnni", "madd", "sdot", "usdot"]
"""How levels meet weights: in one instruction, for which ``sdot`` needs signed levels; or in two, on pairs of 16-bit
numbers (``madd``)."""


@dataclass(frozen=True)
class CpuFeatures:
    """Vector registers of one core, and cores.

    Args:
        lanes: float32 numbers in a vector register; templates of float16 arithmetic are given twice as many.
        registers: vector registers.
        cores: threads that share a kernel.
        dot: how four bytes of a lane are multiplied and added; None where int8 kernels are not emitted.
        has_bfloat16: whether it multiplies pairs of bfloat16 and rounds to them (AVX512_BF16).
        has_float16: whether it computes in float16 (NEON with FEAT_FP16).
    """

    lanes: int
    registers: int
    cores: int
    dot: Dot | None = None
    has_bfloat16: bool = False
    has_float16: bool = False

    @property
    def is_neon(self) -> bool:
        """Whether it is a 64-bit ARM: no other has 128-bit vectors (of float16 twice the lanes) and 32 registers."""
        return self.registers == 32 and self.lanes < 16


# LLVM's feature, and the lanes and registers that come with it; the first one that a target has counts. Adding an
# instruction set is one line.
VECTOR_REGISTERS = {"avx512f": (16, 32), "avx": (8, 16), "neon": (4, 32), "sse2": (4, 16)}


def cpu_features(target: Target) -> CpuFeatures:
    """Read the features of an ``llvm`` target; ``num-cores`` counts as 1 where it is missing.

    TVM's own ``llvm_get_vector_width`` says 512 bits for every x86 CPU with AVX.
    """
    instruction_sets = set(tvm.target.codegen.llvm_get_cpu_features(target))
    lanes, registers = next((size for name, size in VECTOR_REGISTERS.items() if name in instruction_sets), (4, 16))
    cores, has_bfloat16 = int(target.attrs.get("num-cores", 1)), {"avx512bf16", "avx512vl"} <= instruction_sets
    has_float16 = {"neon", "fullfp16"} <= instruction_sets
    return CpuFeatures(lanes, registers, cores, _dot(instruction_sets, lanes), has_bfloat16, has_float16)


def _dot(instruction_sets: set[str], lanes: int) -> Dot | None:
    if {"avx512vnni", "avx512vl"} <= instruction_sets or ("avxvnni" in instruction_sets and lanes == 8):
        return "vnni"
    if {"neon", "dotprod"} <= instruction_sets:
        return "usdot" if "i8mm" in instruction_sets else "sdot"
    has_pairs = {"avx512bw", "avx512vl"} <= instruction_sets if lanes == 16 else "avx2" in instruction_sets
    return "madd" if has_pairs else None
