"""Instructions of the int8 emitters: dot products of bytes, rounding, and narrowing, by what a CPU has."""

from __future__ import annotations

from ofa_tvm.compiler.cpu.emit.cpu_features import Dot
from ofa_tvm.compiler.cpu.emit.vector_ir import FLOAT, Expr, keep, number, spread
from ofa_tvm.compiler.tvm_api.names import tirx

WORD = 4
"""Bytes, and channels, of a word."""
SIGN_BITS = 0x80808080 - (1 << 32)
"""Of the four bytes of a word: changing them turns levels into signed numbers that are 128 less."""
LEVEL_OFFSET = 128

_DOT = {16: "llvm.x86.avx512.vpdpbusd.512", 8: "llvm.x86.avx512.vpdpbusd.256", 4: "llvm.x86.avx512.vpdpbusd.128"}
_MULTIPLY_PAIRS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}
_PACK_TO_16_BITS = {
    16: "llvm.x86.avx512.packssdw.512",
    8: "llvm.x86.avx2.packssdw",
    4: "llvm.x86.sse2.packssdw.128",
}
_PACK_TO_UNSIGNED_16_BITS = {
    16: "llvm.x86.avx512.packusdw.512",
    8: "llvm.x86.avx2.packusdw",
    4: "llvm.x86.sse41.packusdw",
}
_PACK_TO_BYTES = {16: "llvm.x86.avx512.packuswb.512", 8: "llvm.x86.avx2.packuswb", 4: "llvm.x86.sse2.packuswb.128"}
_ROUND = {8: "llvm.x86.avx.cvt.ps2dq.256", 4: "llvm.x86.sse2.cvtps2dq"}


def is_arm(how: Dot) -> bool:
    """Whether this is NEON: it multiplies by any lane of a register, and narrows without a shuffle."""
    return how in ("sdot", "usdot")


def takes_signed(how: Dot) -> bool:
    """Whether both sides of a dot product are signed: levels lose 128, and sums begin with what that takes away."""
    return how == "sdot"


def levels_of(how: Dot) -> int:
    """Levels of a word, as dot products take it: four bytes, or where only 16 bits can be multiplied, two of those."""
    return 2 if how == "madd" else WORD


def wide(dtype: str, lanes: int) -> str:
    """A vector's type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def call(dtype: str, intrinsic: str, *values: Expr) -> Expr:
    """An LLVM intrinsic."""
    return tirx.call_llvm_intrin(dtype, intrinsic, *values)


def bits(value: Expr, dtype: str) -> Expr:
    """The same bits as another type."""
    return tirx.reinterpret(dtype, value)


FIRST_UNUSED_BIT, UNUSED_BITS = 20, 11
"""Of the number of a task, also with that of a pixel added: they are small and not negative."""


def unknown_zero(task: Expr, pixel: int) -> Expr:
    """0, added to an address where each pixel is to load the same numbers (NEON).

    Its multiply-adds overwrite what they add to, so pixels need copies. Copies between registers take the place of
    arithmetic, loads do not. LLVM would load once and copy, did it know that no task has these bits.
    """
    return tirx.bitwise_and(task, number(1 << (FIRST_UNUSED_BIT + pixel % UNUSED_BITS)))


def filled(value: float, dtype: str, lanes: int) -> Expr:
    """A number in every lane."""
    return spread(tirx.const(value, dtype), lanes)


def fused(factor: Expr, other: Expr, plus: Expr, lanes: int) -> Expr:
    """A multiply-add that is rounded once."""
    return call(wide(FLOAT, lanes), "llvm.fma", factor, other, plus)


def dot(total: Expr, levels: Expr, weights: Expr, lanes: int, how: Dot) -> Expr:
    """``total`` (int32) plus the products of the levels (``levels_of``) and as many weights of each lane.

    Levels are unsigned, but where ``takes_signed``.
    """
    as_bytes = f"int8x{WORD * lanes}"
    if how == "sdot":
        # Levels come second: only there a lane of a register can be meant.
        return call(f"int32x{lanes}", "llvm.aarch64.neon.sdot", total, bits(weights, as_bytes), bits(levels, as_bytes))
    if how == "usdot":
        return call(f"int32x{lanes}", "llvm.aarch64.neon.usdot", total, bits(levels, as_bytes), bits(weights, as_bytes))
    if how == "vnni":
        return call(f"int32x{lanes}", _DOT[lanes], total, bits(levels, as_bytes), bits(weights, as_bytes))
    pairs = f"int16x{2 * lanes}"
    return total + call(f"int32x{lanes}", _MULTIPLY_PAIRS[lanes], bits(levels, pairs), bits(weights, pairs))


def matrix_product(total: Expr, levels: Expr, weights: Expr) -> Expr:
    """``total`` (2x2 int32) plus eight levels of two pixels times as many weights of two channels."""
    return call("int32x4", "llvm.aarch64.neon.usmmla", total, bits(levels, "int8x16"), bits(weights, "int8x16"))


def add_bytes(total: Expr, levels: Expr, ones: Expr, lanes: int, how: Dot) -> Expr:
    """``total`` (int32) plus those of four unsigned bytes of each lane where ``ones`` has a one."""
    if how == "vnni":
        return dot(total, levels, ones, lanes, how)
    if how == "madd":
        for part in (0, 8):
            total = dot(total, _every_other(levels, part, lanes), _every_other(ones, part, lanes), lanes, how)
        return total
    as_bytes = f"int8x{WORD * lanes}"
    return call(f"int32x{lanes}", "llvm.aarch64.neon.udot", total, bits(levels, as_bytes), bits(ones, as_bytes))


def _every_other(data: Expr, first_bit: int, lanes: int) -> Expr:
    """Every other byte, from a bit of the first two bytes on, as 16-bit numbers."""
    pairs = bits(data, f"uint16x{2 * lanes}")
    return tirx.bitwise_and(
        tirx.shift_right(pairs, filled(first_bit, "uint16", 2 * lanes)), filled(255, "uint16", 2 * lanes)
    )


def rounded(value: Expr, lanes: int, how: Dot) -> Expr:
    """The nearest even integers (int32)."""
    if is_arm(how):
        return call(wide("int32", lanes), "llvm.aarch64.neon.fcvtns", value)
    if lanes in _ROUND:
        return call(wide("int32", lanes), _ROUND[lanes], value)
    zeros, every, to_nearest = filled(0, "int32", lanes), tirx.const(-1, "int16"), tirx.const(4, "int32")
    return call(f"int32x{lanes}", "llvm.x86.avx512.mask.cvtps2dq.512", value, zeros, every, to_nearest)


def clipped(value: Expr, low: float, high: float, lanes: int, how: Dot) -> Expr:
    """Within a range."""
    if is_arm(how):
        # LLVM makes two instructions of each comparison, because of what a number that is none would give.
        at_most = call(wide(FLOAT, lanes), "llvm.minnum", value, filled(high, FLOAT, lanes))
        return call(wide(FLOAT, lanes), "llvm.maxnum", at_most, filled(low, FLOAT, lanes))
    return tirx.max(tirx.min(value, filled(high, FLOAT, lanes)), filled(low, FLOAT, lanes))


def narrowed(values: list[Expr], lanes: int, how: Dot) -> Expr:
    """Four int32 vectors as saturated bytes: of each 128-bit part four bytes of each vector, then the next part."""
    if is_arm(how):
        return _narrowed_by_neon(values)
    to_16, to_8 = wide("int16", 2 * lanes), wide("int8", 4 * lanes)
    halves = [keep(call(to_16, _PACK_TO_16_BITS[lanes], *values[at : at + 2])) for at in (0, 2)]
    return keep(call(to_8, _PACK_TO_BYTES[lanes], *halves))


def paired(first: Expr, second: Expr, lanes: int) -> Expr:
    """Two int32 vectors, saturated to bytes, as words of two 16-bit numbers."""
    halves = call(f"uint16x{2 * lanes}", _PACK_TO_UNSIGNED_16_BITS[lanes], first, second)
    levels = keep(tirx.min(halves, filled(255, "uint16", 2 * lanes)))
    # Packs interleave 128-bit parts: four numbers of the first, then four of the second.
    order = [8 * (lane // WORD) + WORD * half + lane % WORD for lane in range(lanes) for half in range(2)]
    return keep(bits(tirx.Shuffle([levels], [number(place) for place in order]), wide("int32", lanes)))


def _narrowed_by_neon(values: list[Expr]) -> Expr:
    quarters = [keep(call("int16x4", "llvm.aarch64.neon.sqxtn", value)) for value in values]
    halves = []
    for at in (0, 2):
        joined = tirx.Shuffle(quarters[at : at + 2], [number(lane) for lane in range(8)])
        halves.append(keep(call("int8x8", "llvm.aarch64.neon.sqxtun", joined)))
    return keep(tirx.Shuffle(halves, [number(lane) for lane in range(16)]))


def floats_of_bytes(data: Expr, first: int) -> Expr:
    """Four of 16 unsigned bytes as float32 (NEON): they become the last bits of 2^23, which is taken away."""
    nowhere, exponent = tirx.const(-1, "int8"), tirx.const(16, "int8")
    places = [
        place for byte in range(first, first + 4) for place in (tirx.const(byte, "int8"), nowhere, nowhere, exponent)
    ]
    order = tirx.Shuffle(places, [number(at) for at in range(16)])
    looked_up = call("int8x16", "llvm.aarch64.neon.tbl2", bits(data, "int8x16"), filled(0x4B, "int8", 16), order)
    return bits(looked_up, "float32x4") - filled(float(1 << 23), FLOAT, 4)
