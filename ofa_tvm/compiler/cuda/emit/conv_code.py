"""CUDA C of ``conv``, see ``matrix_code``."""

from __future__ import annotations

from ofa_tvm.compiler.cuda.emit.matrix_code import ENDS, LANES, LEAVE, PIXELS, PRODUCTS, START, TO_MAP, finish
from ofa_tvm.support.dtype import DType

PARTS = r"""
  SHARED(parts, SHARED_FLOATS); /* before it has sums, the window lies there, twice if there are several stages */
"""
PLACES = r"""
  const int image = blockIdx.x / TILES * IMAGES;
  const int first_y = blockIdx.x % TILES / TILES_X * TILE_Y, first_x = blockIdx.x % TILES_X * TILE_X;
  const float *window = parts;
  int lane_places[LANE_ROWS]; /* of the first pixels that the lane's rows need */
#pragma unroll
  for (int m = 0; m < LANE_ROWS; ++m) {
    const int row = warp_row + m * LANES_M + lane_row;
    const int y = row / TILE_X % TILE_Y * SPACING, x = row % TILE_X * SPACING;
    const bool is_there = row < IMAGES * TILE_Y * TILE_X; /* of others, what follows is not used */
    lane_places[m] = is_there ? ((row / (TILE_Y * TILE_X) * IN_ROWS + y) * IN_COLUMNS + x) * PITCH : 0;
  }
  /* A stage's vectors by tap, then channels; behind the last one the first is read again, where weights are zero. */
  const auto vector_of = [&](int step) {
    const int vector = (warp_k * STAGE_STEPS + step) * STEP_VECTORS + quarter;
    return vector < KERNEL * KERNEL * GROUPS ? vector : 0;
  };
  const auto place_of = [&](int step) {
    const int vector = vector_of(step), tap = vector / GROUPS;
    return (tap / KERNEL * IN_COLUMNS + tap % KERNEL) * PITCH + vector % GROUPS;
  };
  const auto pixel_at = [&](int m, int place) { return *(const VECTOR *)(window + (lane_places[m] + place) * 4); };
  int first_group = rank * STAGES * GROUPS; /* of the stage */
  const auto channel_of = [&](int step) {
    const int group = first_group + vector_of(step) % GROUPS;
    return group < ALL_GROUPS ? group * NUMBERS : 0;
  };
  const auto pixel_of = [&](int row) {
    const int of = image + row / (TILE_Y * TILE_X), y = first_y + row / TILE_X % TILE_Y, x = first_x + row % TILE_X;
    const bool is_there = row < IMAGES * TILE_Y * TILE_X && of < BATCH && y < OUT_Y && x < OUT_X;
    return is_there ? (of * OUT_Y + y) * OUT_X + x : -1;
  };
  const auto copy_stage = [&](int stage) {
    float *const to = parts + stage % 2 * WINDOW;
    const int first = (rank * STAGES + stage) * GROUPS;
    for (int at = threadIdx.x; at < IMAGES * IN_ROWS * IN_COLUMNS * GROUPS; at += THREADS) {
      const int one = at % GROUPS, pixel = at / GROUPS, of = image + pixel / (IN_ROWS * IN_COLUMNS);
      const int y = first_y * STRIDE - PADDING + pixel / IN_COLUMNS % IN_ROWS * GAP;
      const int x = first_x * STRIDE - PADDING + pixel % IN_COLUMNS * GAP;
      const bool is_there =
          of < BATCH && y >= 0 && y < SIZE_Y && x >= 0 && x < SIZE_X && first + one < ALL_GROUPS;
      const size_t place = is_there ? ((size_t)(of * SIZE_Y + y) * SIZE_X + x) * ALL_GROUPS + first + one : 0;
      copy_async(to + (pixel * PITCH + one) * 4, (const VECTOR *)source + place, is_there);
    }
  };
"""
LOOP = r"""
  {
    Weights right = read_weights(0), next_right = right;
    if (STEPS > 1) next_right = read_weights(1);
    int item = threadIdx.x;
    float4 item_bias = read_bias(item);
    let_next_start();
    wait_for_inputs();
    copy_stage(0);
    FOUR item_residual = read_residual(item);
    Sums sum = {};
    int next = 2; /* weights to ask for: always two steps' are under way */
#pragma unroll 1
    for (int stage = 0; stage < STAGES; ++stage, first_group += GROUPS) {
      await_copies();
      __syncthreads();
      if (stage + 1 < STAGES) copy_stage(stage + 1);
      window = parts + stage % 2 * WINDOW;
#pragma unroll 1
      for (int step = 0; step < STAGE_STEPS; ++step, ++next) {
        Pixels left = read_pixels(step);
        add_products(sum, left, right);
        right = next_right;
        next_right = read_weights(next < STEPS ? next : STEPS - 1);
      }
    }
    __syncthreads(); /* the window is not read any more */
"""
AGAIN = r"""
  }
"""


def body(dtype: DType) -> str:
    """The statements of a kernel."""
    return "".join(
        (PARTS, START, LANES[dtype], PLACES, PIXELS, PRODUCTS[dtype], ENDS, LOOP, finish(TO_MAP), AGAIN, LEAVE)
    )
