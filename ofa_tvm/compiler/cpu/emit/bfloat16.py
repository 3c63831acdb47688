"""bfloat16 in vectors: its bits (uint16) to float32 and back, and products of pairs.

TVM's compiler crashes on the type itself. So buffers hold bits, and the one instruction that takes the type stands in
LLVM's own language.
"""

from __future__ import annotations

from typing import Any

from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.bfloat16 import PAIR

Expr = Any
BITS = "uint16"
WORD = "int32"
"""Of a pair, as products take it."""

_NARROW = {16: "llvm.x86.avx512bf16.cvtneps2bf16.512", 8: "llvm.x86.avx512bf16.cvtneps2bf16.256"}
_NARROW_TWO = {
    16: "llvm.x86.avx512bf16.cvtne2ps2bf16.512",
    8: "llvm.x86.avx512bf16.cvtne2ps2bf16.256",
    4: "llvm.x86.avx512bf16.cvtne2ps2bf16.128",
}
_PRODUCT = """
declare <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(<{n} x float>, <{pairs} x bfloat>, <{pairs} x bfloat>)
define <{n} x float> @add_products_{n}(<{n} x float> %total, <{n} x i32> %left, <{n} x i32> %right) {{
  %these = bitcast <{n} x i32> %left to <{pairs} x bfloat>
  %those = bitcast <{n} x i32> %right to <{pairs} x bfloat>
  %sum = call <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(
      <{n} x float> %total, <{pairs} x bfloat> %these, <{pairs} x bfloat> %those)
  ret <{n} x float> %sum
}}
"""
_PRODUCT_LANES = (16, 8, 4)


def _wide(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _filled(value: int, lanes: int) -> Expr:
    number = tirx.const(value, "uint32")
    return number if lanes == 1 else tirx.Broadcast(number, lanes)


def widened(bits: Expr, lanes: int) -> Expr:
    """float32 of a vector of bits."""
    words = tirx.shift_left(bits.astype(_wide("uint32", lanes)), _filled(16, lanes))
    return tirx.reinterpret(_wide("float32", lanes), words)


def narrowed(value: Expr, lanes: int) -> Expr:
    """Bits of the nearest bfloat16, to even, of a float32 vector."""
    if lanes in _NARROW:  # the result is declared as another type of its size, see above
        return tirx.reinterpret(f"{BITS}x{lanes}", tirx.call_llvm_intrin(f"int16x{lanes}", _NARROW[lanes], value))
    words = T.Bind(tirx.reinterpret(_wide("uint32", lanes), value))
    odd = tirx.bitwise_and(tirx.shift_right(words, _filled(16, lanes)), _filled(1, lanes))
    return tirx.shift_right(words + _filled(0x7FFF, lanes) + odd, _filled(16, lanes)).astype(_wide(BITS, lanes))


def paired(first: Expr, second: Expr, lanes: int) -> Expr:
    """The nearest bfloat16 of two float32 vectors as words of one number of each."""
    if lanes not in _NARROW_TWO:
        lower, upper = (narrowed(value, lanes).astype(_wide("uint32", lanes)) for value in (first, second))
        words = tirx.bitwise_or(lower, tirx.shift_left(upper, _filled(16, lanes)))
        return tirx.reinterpret(_wide(WORD, lanes), words)
    both = tirx.call_llvm_intrin(f"int16x{PAIR * lanes}", _NARROW_TWO[lanes], second, first)
    numbers = T.Bind(tirx.reinterpret(f"{BITS}x{PAIR * lanes}", both))
    order = [tirx.const(half * lanes + lane, "int32") for lane in range(lanes) for half in range(PAIR)]
    return tirx.reinterpret(f"{WORD}x{lanes}", tirx.Shuffle([numbers], order))


def words_at(buffer: Expr, at: Expr, lanes: int = 1) -> Expr:
    """Neighbouring pairs as words."""
    neighbours = tirx.Ramp(at, tirx.const(1, "int32"), PAIR * lanes)
    return tirx.reinterpret(_wide(WORD, lanes), tirx.BufferLoad(buffer, [neighbours]))


def declare_products() -> None:
    """Give LLVM what ``add_products`` calls; once in a kernel."""
    text = "".join(_PRODUCT.format(n=n, pairs=PAIR * n, bits=32 * n) for n in _PRODUCT_LANES)
    with T.attr({"pragma_import_llvm": text}):
        T.evaluate(0)


def add_products(total: Expr, these: Expr, those: Expr, lanes: int) -> Expr:
    """``total`` (float32) plus both products of the pairs in each lane's words."""
    if lanes in _PRODUCT_LANES:
        return tirx.call_pure_extern(f"float32x{lanes}", f"add_products_{lanes}", total, these, those)
    lower, upper = (_of_words(these, those, half, lanes) for half in range(PAIR))
    return total + lower + upper


def _of_words(these: Expr, those: Expr, half: int, lanes: int) -> Expr:
    """The product of the words' lower or upper numbers."""
    factors = []
    for words in (these, those):
        bits = tirx.reinterpret(_wide("uint32", lanes), words)
        upper = _filled(0xFFFF0000, lanes)
        kept = tirx.bitwise_and(bits, upper) if half else tirx.shift_left(bits, _filled(16, lanes))
        factors.append(tirx.reinterpret(_wide("float32", lanes), kept))
    return factors[0] * factors[1]
