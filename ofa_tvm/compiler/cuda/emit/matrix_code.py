"""CUDA C that products of a map's pixels and weights share. What is written in capitals is known when it is compiled.

A kernel is where its partial sums lie, ``START``, ``LANES`` of its number type, what it knows of its pixels (see
``PIXELS`` and ``ENDS``), ``PIXELS``, ``PRODUCTS`` of its type, ``ENDS``, its loop with ``finish`` in it, and ``LEAVE``.
"""

from __future__ import annotations

from ofa_tvm.support.dtype import DType

START = r"""
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, rank = blockIdx.z;
  const int warp_k = warp % WARPS_K, first_step = (rank * WARPS_K + warp_k) * STEPS;
  const int warp_row = warp / (WARPS_K * WARPS_N) * ROWS, warp_column = warp / WARPS_K % WARPS_N * COLUMNS;
  const int block_column = blockIdx.y * BLOCK_COLUMNS;
  float *const own = parts + (warp_k * BLOCK_ROWS + warp_row) * PART_STRIDE + warp_column;
"""
"""``parts`` has the sums over each warp's products."""

LANES: dict[DType, str] = {
    # A lane's 16 bytes are eight channels: its registers of two products. Maps are read in the order in which weights
    # are packed, so that a product's sixteen channels are any sixteen.
    "float16": r"""
  constexpr int LANES_M = 8, LANE_ROWS = ROWS / LANES_M, STEP_VECTORS = 4, NUMBERS = 8;
  const int lane_row = lane / 4, quarter = lane % 4;
""",
    # A lane has LANE_ROWS rows of four sums.
    "float32": r"""
  constexpr int LANES_N = COLUMNS / 4, LANES_M = 32 / LANES_N, LANE_ROWS = ROWS / LANES_M;
  constexpr int STEP_VECTORS = 1, NUMBERS = 4;
  const int lane_row = lane / LANES_N, lane_column = lane % LANES_N * 4, quarter = 0;
""",
}
"""A step has STEP_VECTORS vectors of NUMBERS channels; a lane reads its ``quarter``'s in every LANES_Mth row."""

PIXELS = r"""
  struct Pixels {
    VECTOR of[LANE_ROWS];
    float4 scales[NUMBERS / 4];
  };
  const auto read_pixels = [&](int step) {
    Pixels read;
    const int place = place_of(step);
#pragma unroll
    for (int m = 0; m < LANE_ROWS; ++m) read.of[m] = pixel_at(m, place);
#if SCALED
    const float4 *const scale = (const float4 *)(scales + image * INPUTS + channel_of(step));
#pragma unroll
    for (int v = 0; v < NUMBERS / 4; ++v) read.scales[v] = read_map(scale + v);
#endif
    return read;
  };
"""
"""A kernel says where a step's vector is (``place_of``), reads it in a lane's ``m``-th row (``pixel_at``), and knows
its ``image`` and first channel (``channel_of``)."""

PRODUCTS: dict[DType, str] = {
    "float16": r"""
  struct Weights {
    uint4 of[COLUMNS / 8];
  };
  struct Sums {
    float of[ROWS / 16][COLUMNS / 8][4];
  };
  const auto read_weights = [&](int step) {
    Weights read;
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; ++n) {
      const int panel = (first_step + step) * (PADDED / 8) + (block_column + warp_column) / 8 + n;
      read.of[n] = __ldg(weights + (size_t)panel * 32 + lane);
    }
    return read;
  };
  const auto add_products = [&](Sums &sum, Pixels &left, const Weights &right) {
#if SCALED
    const float4 first = left.scales[0], last = left.scales[1];
    const unsigned scale[4] = {pack2(first.x, first.y), pack2(first.z, first.w), pack2(last.x, last.y),
                               pack2(last.z, last.w)};
#pragma unroll
    for (int m = 0; m < LANE_ROWS; ++m) {
      uint4 &of = left.of[m];
      of = {multiply2(of.x, scale[0]), multiply2(of.y, scale[1]), multiply2(of.z, scale[2]), multiply2(of.w, scale[3])};
    }
#endif
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
      for (int m = 0; m < ROWS / 16; ++m) {
        const uint4 upper = left.of[2 * m], lower = left.of[2 * m + 1], weight = right.of[n];
        mma(sum.of[m][n], upper.x, lower.x, upper.y, lower.y, weight.x, weight.y);
        mma(sum.of[m][n], upper.z, lower.z, upper.w, lower.w, weight.z, weight.w);
      }
  };
  const auto put = [&](const Sums &sum) {
#pragma unroll
    for (int m = 0; m < LANE_ROWS; ++m)
#pragma unroll
      for (int n = 0; n < COLUMNS / 8; ++n) {
        const float *const two = sum.of[m / 2][n] + m % 2 * 2;
        *(float2 *)(own + (m * 8 + lane_row) * PART_STRIDE + n * 8 + quarter * 2) = {two[0], two[1]};
      }
  };
""",
    "float32": r"""
  struct Weights {
    float4 of[4];
  };
  struct Sums {
    float4 of[LANE_ROWS];
  };
  const auto read_weights = [&](int step) {
    Weights read;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const size_t row = (first_step + step) * 4 + k;
      read.of[k] = __ldg(weights + (row * PADDED + block_column + warp_column + lane_column) / 4);
    }
    return read;
  };
  const auto add_products = [&](Sums &sum, const Pixels &left, const Weights &right) {
#pragma unroll
    for (int m = 0; m < LANE_ROWS; ++m) {
      float4 pixel = left.of[m];
#if SCALED
      const float4 scale = left.scales[0];
      pixel.x *= scale.x, pixel.y *= scale.y, pixel.z *= scale.z, pixel.w *= scale.w;
#endif
      const float values[4] = {pixel.x, pixel.y, pixel.z, pixel.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        sum.of[m].x += values[k] * right.of[k].x, sum.of[m].y += values[k] * right.of[k].y;
        sum.of[m].z += values[k] * right.of[k].z, sum.of[m].w += values[k] * right.of[k].w;
      }
    }
  };
  const auto put = [&](const Sums &sum) {
#pragma unroll
    for (int m = 0; m < LANE_ROWS; ++m)
      *(float4 *)(own + (m * LANES_M + lane_row) * PART_STRIDE + lane_column) = sum.of[m];
  };
""",
}

ENDS = r"""
  const auto add = [](float4 &to, const float4 &one) { to.x += one.x, to.y += one.y, to.z += one.z, to.w += one.w; };
  /* Results are finished four at a time; each block of a cluster finishes ITEMS fours. */
  const auto row_of = [&](int item) { return (rank * ITEMS + item) / (BLOCK_COLUMNS / 4); };
  const auto column_of = [&](int item) { return (rank * ITEMS + item) % (BLOCK_COLUMNS / 4) * 4; };
  const auto exists = [&](int item) {
    return item < ITEMS && pixel_of(row_of(item)) >= 0 && block_column + column_of(item) < OUTPUTS;
  };
  const auto output_at = [&](int item) {
    return (size_t)pixel_of(row_of(item)) * OUTPUTS + block_column + column_of(item);
  };
  const auto read_bias = [&](int item) {
    float4 read = {};
#if BIAS
    if (exists(item)) read = __ldg((const float4 *)(bias + block_column + column_of(item)));
#endif
    return read;
  };
  const auto read_residual = [&](int item) {
    FOUR read = {};
#if RESIDUAL
    if (exists(item)) read = read_map((const FOUR *)(residual + output_at(item)));
#endif
    return read;
  };
"""
"""A kernel says which of all output pixels is in a block's row (``pixel_of``), or -1 for none."""

FINISH = r"""
    put(sum);
    __syncthreads();
#if CLUSTER > 1
    if (WARPS_K > 1)
      for (int at = threadIdx.x; at < BLOCK_ROWS * BLOCK_COLUMNS / 4; at += THREADS) {
        float *const to = parts + at / (BLOCK_COLUMNS / 4) * PART_STRIDE + at % (BLOCK_COLUMNS / 4) * 4;
        float4 total = *(const float4 *)to;
#pragma unroll
        for (int part = 1; part < WARPS_K; ++part) add(total, *(const float4 *)(to + part * BLOCK_ROWS * PART_STRIDE));
        *(float4 *)to = total;
      }
    cluster_sync();
#endif
    for (; item < ITEMS; item += THREADS) {
      const float4 next_bias = read_bias(item + THREADS);
      const FOUR next_residual = read_residual(item + THREADS);
      const float *const from = parts + row_of(item) * PART_STRIDE + column_of(item);
      float4 total = item_bias;
#if RESIDUAL
      add(total, four(item_residual));
#endif
#pragma unroll
      for (int part = 0; part < (CLUSTER > 1 ? CLUSTER : WARPS_K); ++part)
        add(total, CLUSTER > 1 ? read_remote(from, part) : *(const float4 *)(from + part * BLOCK_ROWS * PART_STRIDE));
      total = {activated(total.x), activated(total.y), activated(total.z), activated(total.w)};
      if (exists(item)) {
        TAKE_RESULT
      }
      item_bias = next_bias, item_residual = next_residual;
    }
"""
"""``item`` is the thread's first one, with its ``item_bias`` and ``item_residual``; ``TAKE_RESULT`` gets ``total``."""
TO_MAP = "write_map(map + output_at(item), total);"


def finish(take_result: str) -> str:
    """``FINISH`` with a statement for four results of a pixel."""
    return FINISH.replace("TAKE_RESULT", take_result)


LEAVE = r"""
#if CLUSTER > 1
  cluster_leave();
#endif
"""
