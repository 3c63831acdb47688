/* Weight gradient of a stride-1 or -2 depthwise convolution in NHWC, 16 channels at a time.
 *
 * dw[i][j][c] = sum over n, y, x of  in[n][y * stride + i - pad][x * stride + j - pad][c] * dout[n][y][x][c]
 *
 * One kernel row of accumulators stays in registers while a pair of image rows streams past, which is what
 * makes it several times faster than the generic library routine for 5x5 and 7x7 kernels.
 * Channels must be a multiple of LANES. Sums of one thread's images go to its own slice of `dw`.
 */
#define LANES 16
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));

static void image(const float *in, const float *dout, float *dw, int channels, int height, int width, int rows,
                  int columns, int stride, const int kernel) {
  const int pad = kernel / 2;
  for (int c = 0; c < channels; c += LANES) {
    for (int i = 0; i < kernel; ++i) {
      vec sum[7];
      for (int j = 0; j < kernel; ++j) sum[j] = *(const vec *)(dw + (i * kernel + j) * channels + c);
      for (int y = 0; y < rows; ++y) {
        const int source = y * stride + i - pad;
        if (source < 0 || source >= height) continue;
        const float *in_row = in + (long)source * width * channels + c;
        const float *out_row = dout + (long)y * columns * channels + c;
        for (int x = 0; x < columns; ++x) {
          const int left = x * stride - pad;
          const vec g = *(const vec *)(out_row + (long)x * channels);
          const float *first = in_row + (long)left * channels;
          if (left >= 0 && left + kernel <= width) {
            for (int j = 0; j < kernel; ++j) sum[j] += g * *(const vec *)(first + (long)j * channels);
          } else {
            for (int j = 0; j < kernel; ++j)
              if (left + j >= 0 && left + j < width) sum[j] += g * *(const vec *)(first + (long)j * channels);
          }
        }
      }
      for (int j = 0; j < kernel; ++j) *(vec *)(dw + (i * kernel + j) * channels + c) = sum[j];
    }
  }
}

/* dw: [threads][kernel][kernel][channels], zeroed by the caller. Returns 0, or 1 for an unsupported shape. */
int depthwise_weight_gradient(const float *in, const float *dout, float *dw, int batch, int channels, int height,
                              int width, int rows, int columns, int stride, int kernel, int threads) {
  if (channels % LANES || (kernel != 3 && kernel != 5 && kernel != 7)) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    float *own = dw + (long)t * kernel * kernel * channels;
    for (int n = t; n < batch; n += threads) {
      const float *x = in + (long)n * height * width * channels, *g = dout + (long)n * rows * columns * channels;
      if (kernel == 3)
        image(x, g, own, channels, height, width, rows, columns, stride, 3);
      else if (kernel == 5)
        image(x, g, own, channels, height, width, rows, columns, stride, 5);
      else
        image(x, g, own, channels, height, width, rows, columns, stride, 7);
    }
  }
  return 0;
}
