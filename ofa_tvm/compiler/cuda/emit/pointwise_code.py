"""CUDA C of ``pointwise``. What is written in capitals is known when it is compiled.

A kernel is ``START``, ``PRODUCTS`` of its number type, ``REST``, and ``SUMS`` if it is pooled.
"""

from __future__ import annotations

from ofa_tvm.compiler.cuda.emit.parts import block_sums
from ofa_tvm.support.dtype import DType

START = r"""
  SHARED(parts, WARPS_K * BLOCK_ROWS * STRIDE); /* sums over each warp's channels */
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, rank = blockIdx.z;
  const int warp_k = warp % WARPS_K, first_chunk = (rank * WARPS_K + warp_k) * STEPS;
  const int warp_row = warp / (WARPS_K * WARPS_N) * ROWS, warp_column = warp / WARPS_K % WARPS_N * COLUMNS;
  const int image = blockIdx.x / TILES, block_column = blockIdx.y * BLOCK_COLUMNS;
  int block_row = blockIdx.x % TILES * BLOCK_ROWS;
  float *const own = parts + (warp_k * BLOCK_ROWS + warp_row) * STRIDE + warp_column;
  /* Behind the last channel the first ones are read again, where weights are zero; behind the last pixel that one is,
     and what follows from it is not used. */
  const auto existing = [](int channel) { return channel < INPUTS ? channel : 0; };
  const auto pixel_at = [&](int row, int channel) {
    row += block_row + warp_row;
    return source + ((size_t)image * PIXELS + (row < PIXELS ? row : PIXELS - 1)) * INPUTS + existing(channel);
  };
"""

PRODUCTS: dict[DType, str] = {
    # A lane's 16 bytes are eight channels: its registers of two products. Maps are read in the order in which weights
    # are packed, so that a product's sixteen channels are any sixteen.
    "float16": r"""
  const int group = lane / 4, quarter = lane % 4;
  struct Weights {
    uint4 of[COLUMNS / 8];
  };
  struct Pixels {
    uint4 of[ROWS / 8];
    float4 scales[2];
  };
  struct Sums {
    float of[ROWS / 16][COLUMNS / 8][4];
  };
  const auto read_weights = [&](int step) {
    Weights read;
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; ++n) {
      const int panel = (first_chunk + step) * (PADDED / 8) + (block_column + warp_column) / 8 + n;
      read.of[n] = __ldg(weights + (size_t)panel * 32 + lane);
    }
    return read;
  };
  const auto read_pixels = [&](int step) {
    Pixels read;
    const int channel = (first_chunk + step) * 32 + quarter * 8;
#pragma unroll
    for (int m = 0; m < ROWS / 8; ++m) read.of[m] = read_map((const uint4 *)pixel_at(m * 8 + group, channel));
#if SCALED
    const float4 *const scale = (const float4 *)(scales + image * INPUTS + existing(channel));
    read.scales[0] = read_map(scale), read.scales[1] = read_map(scale + 1);
#endif
    return read;
  };
  const auto add_products = [&](Sums &sum, Pixels &left, const Weights &right) {
#if SCALED
    const float4 first = left.scales[0], last = left.scales[1];
    const unsigned scale[4] = {pack2(first.x, first.y), pack2(first.z, first.w), pack2(last.x, last.y),
                               pack2(last.z, last.w)};
#pragma unroll
    for (int m = 0; m < ROWS / 8; ++m) {
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
    for (int m = 0; m < ROWS / 8; ++m)
#pragma unroll
      for (int n = 0; n < COLUMNS / 8; ++n) {
        const float *const two = sum.of[m / 2][n] + m % 2 * 2;
        *(float2 *)(own + (m * 8 + group) * STRIDE + n * 8 + quarter * 2) = {two[0], two[1]};
      }
  };
""",
    # A lane has LANE_ROWS rows of four sums.
    "float32": r"""
  constexpr int LANES_N = COLUMNS / 4, LANES_M = 32 / LANES_N, LANE_ROWS = ROWS / LANES_M;
  const int lane_row = lane / LANES_N, lane_column = lane % LANES_N * 4;
  struct Weights {
    float4 of[4];
  };
  struct Pixels {
    float4 of[LANE_ROWS], scales;
  };
  struct Sums {
    float4 of[LANE_ROWS];
  };
  const auto read_weights = [&](int step) {
    Weights read;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const size_t row = (first_chunk + step) * 4 + k;
      read.of[k] = __ldg(weights + (row * PADDED + block_column + warp_column + lane_column) / 4);
    }
    return read;
  };
  const auto read_pixels = [&](int step) {
    Pixels read;
    const int channel = (first_chunk + step) * 4;
#pragma unroll
    for (int m = 0; m < LANE_ROWS; ++m)
      read.of[m] = read_map((const float4 *)pixel_at(m * LANES_M + lane_row, channel));
#if SCALED
    read.scales = read_map((const float4 *)(scales + image * INPUTS + existing(channel)));
#endif
    return read;
  };
  const auto add_products = [&](Sums &sum, const Pixels &left, const Weights &right) {
#pragma unroll
    for (int m = 0; m < LANE_ROWS; ++m) {
      float4 pixel = left.of[m];
#if SCALED
      pixel.x *= left.scales.x, pixel.y *= left.scales.y, pixel.z *= left.scales.z, pixel.w *= left.scales.w;
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
      *(float4 *)(own + (m * LANES_M + lane_row) * STRIDE + lane_column) = sum.of[m];
  };
""",
}

REST = r"""
  const auto add = [](float4 &to, const float4 &one) { to.x += one.x, to.y += one.y, to.z += one.z, to.w += one.w; };
  /* Results are finished four at a time; each block of a cluster finishes ITEMS fours. */
  const auto row_of = [&](int item) { return (rank * ITEMS + item) / (BLOCK_COLUMNS / 4); };
  const auto column_of = [&](int item) { return (rank * ITEMS + item) % (BLOCK_COLUMNS / 4) * 4; };
  const auto exists = [&](int item) {
    return item < ITEMS && block_row + row_of(item) < PIXELS && block_column + column_of(item) < OUTPUTS;
  };
  const auto place = [&](int item) {
    return ((size_t)image * PIXELS + block_row + row_of(item)) * OUTPUTS + block_column + column_of(item);
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
    if (exists(item)) read = read_map((const FOUR *)(residual + place(item)));
#endif
    return read;
  };
  float added[VALUES] = {};
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
    put(sum);
    __syncthreads();
#if CLUSTER > 1
    if (WARPS_K > 1)
      for (int at = threadIdx.x; at < BLOCK_ROWS * BLOCK_COLUMNS / 4; at += THREADS) {
        float *const to = parts + at / (BLOCK_COLUMNS / 4) * STRIDE + at % (BLOCK_COLUMNS / 4) * 4;
        float4 total = *(const float4 *)to;
#pragma unroll
        for (int part = 1; part < WARPS_K; ++part) add(total, *(const float4 *)(to + part * BLOCK_ROWS * STRIDE));
        *(float4 *)to = total;
      }
    cluster_sync();
#endif
    for (; item < ITEMS; item += THREADS) {
      const float4 next_bias = read_bias(item + THREADS);
      const FOUR next_residual = read_residual(item + THREADS);
      const float *const from = parts + row_of(item) * STRIDE + column_of(item);
      float4 total = item_bias;
#if RESIDUAL
      add(total, four(item_residual));
#endif
#pragma unroll
      for (int part = 0; part < (CLUSTER > 1 ? CLUSTER : WARPS_K); ++part)
        add(total, CLUSTER > 1 ? read_remote(from, part) : *(const float4 *)(from + part * BLOCK_ROWS * STRIDE));
      total = {activated(total.x), activated(total.y), activated(total.z), activated(total.w)};
#if POOLED
      if (exists(item)) added[0] += total.x, added[1] += total.y, added[2] += total.z, added[3] += total.w;
#else
      if (exists(item)) write_map(map + place(item), total);
#endif
      item_bias = next_bias, item_residual = next_residual;
    }
    if (PASSES > 1) __syncthreads(); /* `parts` is free again */
  }
#if CLUSTER > 1
  cluster_leave();
#endif
"""

TAKE_SUM = "if (block_column + channel < OUTPUTS) sums[(size_t)image * OUTPUTS + block_column + channel] = sum;"
SUMS = f"""
  {{
    const int group = threadIdx.x % GROUPS; /* of columns: that of all fours of a thread */
    {block_sums(TAKE_SUM)}
  }}
"""
