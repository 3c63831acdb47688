/* Batch norm of a batch, residual and activation in NHWC, forward and backward, each in two passes over the maps.
 *
 *   z = (x - mean) * rstd * weight + bias + residual        y = activation(z)
 *
 * Torch's own operators pass over them six times forward and eight times backward; maps of a batch do not stay in a
 * CPU's caches, so passes are what a step costs. `x` is [rows][channels], rows = images * height * width. Each thread
 * has a share of the rows; sums over its rows are added in blocks, so that float32 does not lose small values.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 128 /* rows that are summed in float32 */

enum { NONE, RELU, HARD_SWISH, RELU6 };

static inline float activate(float z, const int kind) {
  if (kind == RELU) return z > 0 ? z : 0;
  if (kind == RELU6) return z < 0 ? 0 : z > 6 ? 6 : z;
  if (kind == HARD_SWISH) {
    const float gate = z + 3 < 0 ? 0 : z + 3 > 6 ? 6 : z + 3;
    return z * gate * (1.0f / 6);
  }
  return z;
}

/* The activation's derivative. */
static inline float slope(float z, const int kind) {
  if (kind == RELU) return z > 0 ? 1 : 0;
  if (kind == RELU6) return z > 0 && z < 6 ? 1 : 0;
  if (kind == HARD_SWISH) return z <= -3 ? 0 : z >= 3 ? 1 : z * (1.0f / 3) + 0.5f;
  return 1;
}

static void share_of(long rows, int thread, int threads, long *first, long *last) {
  *first = rows * thread / threads;
  *last = rows * (thread + 1) / threads;
}

/* mean, rstd [channels] of x; sums: [threads][2][channels] doubles of the caller. */
void norm_statistics(const float *x, long rows, int channels, float epsilon, float *mean, float *variance, double *sums,
                     int threads) {
  memset(sums, 0, sizeof(double) * 2 * channels * threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    double *own = sums + (long)t * 2 * channels;
    float block[2][channels];
    long first, last;
    share_of(rows, t, threads, &first, &last);
    for (long start = first; start < last; start += BLOCK) {
      const long end = start + BLOCK < last ? start + BLOCK : last;
      memset(block, 0, sizeof(block));
      for (long row = start; row < end; ++row) {
        const float *from = x + row * channels;
#pragma omp simd
        for (int c = 0; c < channels; ++c) {
          block[0][c] += from[c];
          block[1][c] += from[c] * from[c];
        }
      }
      for (int c = 0; c < channels; ++c) {
        own[c] += block[0][c];
        own[channels + c] += block[1][c];
      }
    }
  }
  for (int c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (int t = 0; t < threads; ++t) {
      sum += sums[(long)t * 2 * channels + c];
      squares += sums[(long)t * 2 * channels + channels + c];
    }
    const double middle = sum / rows, spread = squares / rows - middle * middle;
    mean[c] = (float)middle;
    variance[c] = spread > 0 ? (float)spread : 0;
  }
}

static inline void forward_rows(const float *x, const float *residual, float *y, long first, long last, int channels,
                                const float *scale, const float *shift, const int kind, const int adds) {
  for (long row = first; row < last; ++row) {
    const float *from = x + row * channels, *beside = residual + row * channels;
    float *to = y + row * channels;
#pragma omp simd
    for (int c = 0; c < channels; ++c) {
      const float z = from[c] * scale[c] + shift[c] + (adds ? beside[c] : 0);
      to[c] = activate(z, kind);
    }
  }
}

/* y; scale = weight * rstd, shift = bias - mean * scale. `residual` may be null. */
void norm_forward(const float *x, const float *residual, float *y, long rows, int channels, const float *scale,
                  const float *shift, int kind, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    long first, last;
    share_of(rows, t, threads, &first, &last);
    if (residual) {
      if (kind == NONE) forward_rows(x, residual, y, first, last, channels, scale, shift, NONE, 1);
      if (kind == RELU) forward_rows(x, residual, y, first, last, channels, scale, shift, RELU, 1);
      if (kind == HARD_SWISH) forward_rows(x, residual, y, first, last, channels, scale, shift, HARD_SWISH, 1);
      if (kind == RELU6) forward_rows(x, residual, y, first, last, channels, scale, shift, RELU6, 1);
    } else {
      if (kind == NONE) forward_rows(x, x, y, first, last, channels, scale, shift, NONE, 0);
      if (kind == RELU) forward_rows(x, x, y, first, last, channels, scale, shift, RELU, 0);
      if (kind == HARD_SWISH) forward_rows(x, x, y, first, last, channels, scale, shift, HARD_SWISH, 0);
      if (kind == RELU6) forward_rows(x, x, y, first, last, channels, scale, shift, RELU6, 0);
    }
  }
}

static inline void sum_rows(const float *x, const float *dy, long first, long last, int channels, const float *scale,
                            const float *shift, const int kind, float *block, double *own) {
  for (long start = first; start < last; start += BLOCK) {
    const long end = start + BLOCK < last ? start + BLOCK : last;
    memset(block, 0, sizeof(float) * 2 * channels);
    for (long row = start; row < end; ++row) {
      const float *from = x + row * channels, *above = dy + row * channels;
#pragma omp simd
      for (int c = 0; c < channels; ++c) {
        const float g = above[c] * slope(from[c] * scale[c] + shift[c], kind);
        block[c] += g;
        block[channels + c] += g * from[c];
      }
    }
    for (int c = 0; c < 2 * channels; ++c) own[c] += block[c];
  }
}

static inline void backward_rows(const float *x, const float *dy, float *dx, long first, long last, int channels,
                                 const float *scale, const float *shift, const float *times, const float *plus,
                                 const int kind) {
  for (long row = first; row < last; ++row) {
    const float *from = x + row * channels, *above = dy + row * channels;
    float *to = dx + row * channels;
#pragma omp simd
    for (int c = 0; c < channels; ++c) {
      const float g = above[c] * slope(from[c] * scale[c] + shift[c], kind);
      to[c] = scale[c] * g + times[c] * from[c] + plus[c];
    }
  }
}

/* dx, and gradients of weight and bias, where nothing was added: an activation behind a residual is not taken.
 *
 * With g = dy * slope and xhat = (x - mean) * rstd: dbias = sum g, dweight = sum g * xhat,
 * dx = scale * (g - dbias / rows - xhat * dweight / rows) = scale * g + times * x + plus.
 * sums: [threads][2][channels] doubles, work: [threads + 1][2][channels] floats of the caller.
 */
void norm_backward(const float *x, const float *dy, float *dx, long rows, int channels, const float *scale,
                   const float *shift, const float *mean, const float *rstd, float *dweight, float *dbias, int kind,
                   double *sums, float *work, int threads) {
  memset(sums, 0, sizeof(double) * 2 * channels * threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    double *own = sums + (long)t * 2 * channels;
    float *block = work + (long)(t + 1) * 2 * channels;
    long first, last;
    share_of(rows, t, threads, &first, &last);
    if (kind == NONE) sum_rows(x, dy, first, last, channels, scale, shift, NONE, block, own);
    if (kind == RELU) sum_rows(x, dy, first, last, channels, scale, shift, RELU, block, own);
    if (kind == HARD_SWISH) sum_rows(x, dy, first, last, channels, scale, shift, HARD_SWISH, block, own);
    if (kind == RELU6) sum_rows(x, dy, first, last, channels, scale, shift, RELU6, block, own);
  }
  float *times = work, *plus = work + channels;
  for (int c = 0; c < channels; ++c) {
    double g = 0, gx = 0;
    for (int t = 0; t < threads; ++t) {
      g += sums[(long)t * 2 * channels + c];
      gx += sums[(long)t * 2 * channels + channels + c];
    }
    const double weight = (gx - mean[c] * g) * rstd[c];
    dweight[c] = (float)weight;
    dbias[c] = (float)g;
    times[c] = (float)(-scale[c] * rstd[c] * weight / rows);
    plus[c] = (float)(-scale[c] * g / rows + scale[c] * rstd[c] * weight / rows * mean[c]);
  }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    long first, last;
    share_of(rows, t, threads, &first, &last);
    if (kind == NONE) backward_rows(x, dy, dx, first, last, channels, scale, shift, times, plus, NONE);
    if (kind == RELU) backward_rows(x, dy, dx, first, last, channels, scale, shift, times, plus, RELU);
    if (kind == HARD_SWISH) backward_rows(x, dy, dx, first, last, channels, scale, shift, times, plus, HARD_SWISH);
    if (kind == RELU6) backward_rows(x, dy, dx, first, last, channels, scale, shift, times, plus, RELU6);
  }
}
