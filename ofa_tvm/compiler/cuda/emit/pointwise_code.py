"""CUDA C of ``pointwise``, see ``matrix_code``."""

from __future__ import annotations

from ofa_tvm.compiler.cuda.emit.matrix_code import ENDS, LANES, LEAVE, PIXELS, PRODUCTS, START, TO_MAP, finish
from ofa_tvm.compiler.cuda.emit.parts import block_sums
from ofa_tvm.support.dtype import DType

PARTS = r"""
  SHARED(parts, WARPS_K * BLOCK_ROWS * PART_STRIDE);
  float added[4] = {};
"""
PLACES = r"""
  const int image = blockIdx.x / TILES;
  int block_row = blockIdx.x % TILES * BLOCK_ROWS;
  /* Behind the last channel the first ones are read again, where weights are zero; behind the last pixel that one is,
     and what follows from it is not used. */
  const auto channel_of = [&](int step) {
    const int channel = ((first_step + step) * STEP_VECTORS + quarter) * NUMBERS;
    return channel < INPUTS ? channel : 0;
  };
  const auto place_of = channel_of;
  const auto pixel_at = [&](int m, int channel) {
    const int row = block_row + warp_row + m * LANES_M + lane_row, pixel = row < PIXELS ? row : PIXELS - 1;
    return read_map((const VECTOR *)(source + ((size_t)image * PIXELS + pixel) * INPUTS + channel));
  };
  const auto pixel_of = [&](int row) { return block_row + row < PIXELS ? image * PIXELS + block_row + row : -1; };
"""
LOOP = r"""
  for (int pass = 0; pass < PASSES; ++pass, block_row += BLOCK_ROWS) {
    /* Constants do not depend on the kernel before. */
    Weights right = read_weights(0), next_right = right;
    if (STEPS > 1) next_right = read_weights(1);
    int item = threadIdx.x;
    float4 item_bias = read_bias(item);
    if (pass == 0) {
      let_next_start();
      wait_for_inputs();
    }
    /* What ends need is asked for before the sums are there, or it is one more trip to memory. */
    Pixels left = read_pixels(0), next_left = left;
    FOUR item_residual = read_residual(item);
    Sums sum = {};
    /* Unrolled, the assembler would move reads to their products, and each would be waited for. */
#pragma unroll 1
    for (int step = 1; step < STEPS; ++step) {
      next_left = read_pixels(step);
      add_products(sum, left, right);
      left = next_left, right = next_right;
      next_right = read_weights(step + 1 < STEPS ? step + 1 : step);
    }
    add_products(sum, left, right);
"""
AGAIN = r"""
    if (PASSES > 1) __syncthreads(); /* `parts` is free again */
  }
"""
TO_SUMS = "added[0] += total.x, added[1] += total.y, added[2] += total.z, added[3] += total.w;"
TAKE_SUM = "if (block_column + channel < OUTPUTS) sums[(size_t)image * OUTPUTS + block_column + channel] = sum;"
SUMS = f"""
  {{
    const int group = threadIdx.x % GROUPS; /* of columns: that of all fours of a thread */
    {block_sums(TAKE_SUM)}
  }}
"""


def body(dtype: DType, is_pooled: bool) -> str:
    """The statements of a kernel."""
    took = finish(TO_SUMS if is_pooled else TO_MAP)
    pieces = (PARTS, START, LANES[dtype], PLACES, PIXELS, PRODUCTS[dtype], ENDS, LOOP, took, AGAIN, LEAVE)
    return "".join([*pieces, *[SUMS] * is_pooled])
