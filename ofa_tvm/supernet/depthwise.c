/* Depthwise convolutions of stride 1 or 2 in NHWC, forward and backward, 8 channels of one image at a time.
 *
 * Such a slice of a map is copied into a plane of its own with zeros around it, which stays in the first cache while
 * all taps of the kernel pass over it. Channels must be a multiple of LANES. Weights and their gradients are
 * [kernel][kernel][channels]; images are shared among threads. `before`: zeros before a map, kernel / 2 or one less.
 */
#include <stdlib.h>
#include <string.h>

#define LANES 8
#define TILE 8 /* outputs of a row that are summed at once */
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
  int channels, height, width, rows, columns, stride, kernel, before;
} Shape;

static inline int padded_height(const Shape *s) { return s->height + 2 * (s->kernel / 2); }
/* Wide enough for whole tiles to be read beyond the last output. */
static inline int padded_width(const Shape *s) { return s->width + 2 * (s->kernel / 2) + TILE * s->stride; }

/* A slice of a map, in the middle of a plane of zeros. */
static void spread(const float *map, int c, int channels, int height, int width, int top, int pitch, vec *plane) {
  for (int y = 0; y < height; ++y) {
    const float *from = map + (long)y * width * channels + c;
    vec *to = plane + (long)(y + top) * pitch + top;
    for (int x = 0; x < width; ++x) to[x] = *(const vec *)(from + (long)x * channels);
  }
}

/* out [rows][columns] of the plane; weights [kernel * kernel]. */
static inline __attribute__((always_inline)) void convolve(const vec *plane, int pitch, const vec *weights, float *out,
                                                           int c, int channels, int rows, int columns, const int stride,
                                                           const int kernel, const int tile) {
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; x += tile) {
      vec sum[TILE];
      for (int t = 0; t < tile; ++t) sum[t] = (vec){0};
      for (int i = 0; i < kernel; ++i) {
        const vec *from = plane + (long)(y * stride + i) * pitch + x * stride;
        for (int j = 0; j < kernel; ++j) {
          const vec weight = weights[i * kernel + j];
          for (int t = 0; t < tile; ++t) sum[t] += weight * from[t * stride + j];
        }
      }
      const int left = columns - x < tile ? columns - x : tile;
      for (int t = 0; t < left; ++t) *(vec *)(out + ((long)y * columns + x + t) * channels + c) = sum[t];
    }
  }
}

static void convolve_any(const vec *plane, int pitch, const vec *weights, float *out, int c, const Shape *s, int rows,
                         int columns, int stride) {
#define CASE(S, K)                                                                         \
  if (stride == S && s->kernel == K) {                                                     \
    if (columns <= TILE / 2)                                                               \
      convolve(plane, pitch, weights, out, c, s->channels, rows, columns, S, K, TILE / 2); \
    else                                                                                   \
      convolve(plane, pitch, weights, out, c, s->channels, rows, columns, S, K, TILE);     \
  }
  CASE(1, 3)
  CASE(1, 5)
  CASE(1, 7)
  CASE(2, 3)
  CASE(2, 5)
  CASE(2, 7)
#undef CASE
}

/* What gradients of stride 2 give at places of one parity: rows y with (y + before) % 2 == odd_y, and columns likewise.
 *
 * A tap i of the kernel meets only rows of its own parity, so each parity is a convolution with every other tap of each
 * direction. above: a plane of the gradients with EDGE zeros around it.
 */
#define EDGE 4
static inline
    __attribute__((always_inline)) void gather(const vec *above, int pitch, const vec *weights, float *din, int c,
                                               const Shape *s, const int odd_y, const int odd_x, const int kernel) {
  const int top = s->before, tall = (kernel - odd_y + 1) / 2, wide = (kernel - odd_x + 1) / 2;
  for (int y = (odd_y + top) % 2; y < s->height; y += 2) {
    const int row = (y + top - odd_y) / 2 + EDGE;
    for (int x = (odd_x + top) % 2; x < s->width; x += 2 * TILE) {
      const int column = (x + top - odd_x) / 2 + EDGE;
      vec sum[TILE];
      for (int t = 0; t < TILE; ++t) sum[t] = (vec){0};
      for (int a = 0; a < tall; ++a) {
        const vec *from = above + (long)(row - a) * pitch + column;
        for (int b = 0; b < wide; ++b) {
          const vec weight = weights[(odd_y + 2 * a) * kernel + odd_x + 2 * b];
          for (int t = 0; t < TILE; ++t) sum[t] += weight * from[t - b];
        }
      }
      for (int t = 0; t < TILE && x + 2 * t < s->width; ++t)
        *(vec *)(din + ((long)y * s->width + x + 2 * t) * s->channels + c) = sum[t];
    }
  }
}

static void gather_all(const vec *above, int pitch, const vec *weights, float *din, int c, const Shape *s) {
#define CASE(K)                                        \
  if (s->kernel == K) {                                \
    gather(above, pitch, weights, din, c, s, 0, 0, K); \
    gather(above, pitch, weights, din, c, s, 0, 1, K); \
    gather(above, pitch, weights, din, c, s, 1, 0, K); \
    gather(above, pitch, weights, din, c, s, 1, 1, K); \
  }
  CASE(3)
  CASE(5)
  CASE(7)
#undef CASE
}

/* sums [kernel * kernel] of the products of a plane and the gradients [rows][columns] beside each other. */
static inline __attribute__((always_inline)) void correlate(const vec *plane, int pitch, const vec *above, vec *sums,
                                                            int rows, int columns, const int stride, const int kernel) {
  for (int i = 0; i < kernel; ++i) {
    vec sum[7];
    for (int j = 0; j < kernel; ++j) sum[j] = sums[i * kernel + j];
    for (int y = 0; y < rows; ++y) {
      const vec *from = plane + (long)(y * stride + i) * pitch, *g = above + (long)y * columns;
      for (int x = 0; x < columns; ++x) {
        const vec one = g[x];
        for (int j = 0; j < kernel; ++j) sum[j] += one * from[x * stride + j];
      }
    }
    for (int j = 0; j < kernel; ++j) sums[i * kernel + j] = sum[j];
  }
}

static void load_weights(const float *weights, int c, int channels, int taps, int flipped, vec *to) {
  for (int tap = 0; tap < taps; ++tap)
    to[flipped ? taps - 1 - tap : tap] = *(const vec *)(weights + (long)tap * channels + c);
}

static int is_supported(int channels, int stride, int kernel) {
  return channels % LANES == 0 && (stride == 1 || stride == 2) && (kernel == 3 || kernel == 5 || kernel == 7);
}

/* Returns 0; 1 for an unsupported shape or where there is no memory. */
int depthwise_forward(const float *in, const float *weights, float *out, int batch, int channels, int height, int width,
                      int rows, int columns, int stride, int kernel, int before, int threads) {
  if (!is_supported(channels, stride, kernel)) return 1;
  const Shape s = {channels, height, width, rows, columns, stride, kernel, before};
  const int pitch = padded_width(&s);
  const size_t bytes = sizeof(vec) * pitch * padded_height(&s);
  int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    vec *plane = aligned_alloc(64, (bytes + 63) / 64 * 64), taps[49];
    if (!plane) {
      failed = 1;
      continue;
    }
    memset(plane, 0, bytes);
    for (int n = t; n < batch; n += threads) {
      for (int c = 0; c < channels; c += LANES) {
        load_weights(weights, c, channels, kernel * kernel, 0, taps);
        spread(in + (long)n * height * width * channels, c, channels, height, width, before, pitch, plane);
        convolve_any(plane, pitch, taps, out + (long)n * rows * columns * channels, c, &s, rows, columns, stride);
      }
    }
    free(plane);
  }
  return failed;
}

/* din may be null. dw: [threads][kernel][kernel][channels]. Returns as depthwise_forward. */
int depthwise_backward(const float *in, const float *weights, const float *dout, float *din, float *dw, int batch,
                       int channels, int height, int width, int rows, int columns, int stride, int kernel, int before,
                       int threads) {
  if (!is_supported(channels, stride, kernel)) return 1;
  const Shape s = {channels, height, width, rows, columns, stride, kernel, before};
  const int pitch = padded_width(&s), top = before, taps = kernel * kernel;
  const size_t count = (size_t)pitch * padded_height(&s),
               edged = (size_t)(columns + 2 * EDGE + TILE) * (rows + 2 * EDGE);
  const size_t bytes = ((count > edged ? count : edged) * sizeof(vec) + 63) / 64 * 64;
  int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    vec *plane = aligned_alloc(64, bytes), *below = aligned_alloc(64, bytes);
    vec *above = aligned_alloc(64, ((size_t)rows * columns * sizeof(vec) + 63) / 64 * 64);
    if (!plane || !below || !above) failed = 1;
    if (!failed) {
      memset(plane, 0, bytes);
      memset(below, 0, bytes);
    }
    float *sum = dw + (long)t * taps * channels;
    memset(sum, 0, sizeof(float) * taps * channels);
    for (int n = t; n < batch && !failed; n += threads) {
      const long place = (long)n * height * width * channels;
      const float *g = dout + (long)n * rows * columns * channels;
      for (int c = 0; c < channels; c += LANES) { /* all slices of an image while it is in the caches */
        vec own[49], sums[49];
        load_weights(weights, c, channels, taps, stride == 1, own);
        load_weights(sum, c, channels, taps, 0, sums);
        spread(in + place, c, channels, height, width, top, pitch, plane);
        spread(g, c, channels, rows, columns, 0, columns, above);
#define CASE(S, K) \
  if (stride == S && kernel == K) correlate(plane, pitch, above, sums, rows, columns, S, K)
        CASE(1, 3);
        CASE(1, 5);
        CASE(1, 7);
        CASE(2, 3);
        CASE(2, 5);
        CASE(2, 7);
#undef CASE
        for (int tap = 0; tap < taps; ++tap) *(vec *)(sum + (long)tap * channels + c) = sums[tap];
        if (!din) continue;
        if (stride == 1) { /* rows == height: a convolution with the kernel turned around */
          spread(g, c, channels, rows, columns, top, pitch, below);
          convolve_any(below, pitch, own, din + place, c, &s, height, width, 1);
          continue;
        }
        spread(g, c, channels, rows, columns, EDGE, columns + 2 * EDGE + TILE, below);
        gather_all(below, columns + 2 * EDGE + TILE, own, din + place, c, &s);
      }
    }
    free(plane);
    free(below);
    free(above);
  }
  return failed;
}
