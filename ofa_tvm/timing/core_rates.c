/* What one core can do at most: multiply-adds in float32 on its vectors, and bytes that arrive from memory. */
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define CHAINS 12 /* independent sums: more than the units' latency times their number, fewer than registers */
#define STEPS 100000
#define BYTES (96L << 20) /* more than a core's share of the caches */
#define REPEATS 5

typedef float vector __attribute__((vector_size(4 * LANES)));

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double multiply_adds_s(void) {
  vector sums[CHAINS];
  volatile float one = 1.0F, small = 1e-9F;
  vector factor, term;
  for (int lane = 0; lane < LANES; ++lane) factor[lane] = one, term[lane] = small;
  for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = term;
  const double start = now_s();
  for (int step = 0; step < STEPS; ++step) {
#pragma GCC unroll 12
    for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = sums[chain] * factor + term;
  }
  const double seconds = now_s() - start;
  volatile float kept = 0;
  for (int chain = 0; chain < CHAINS; ++chain) kept = kept + sums[chain][0];
  return seconds;
}

static double reading_s(const vector *values) {
  vector sums[4] = {0};
  const double start = now_s();
  for (long place = 0; place < BYTES / (long)sizeof(vector); place += 4)
    for (int chain = 0; chain < 4; ++chain) sums[chain] += values[place + chain];
  const double seconds = now_s() - start;
  volatile float kept = sums[0][0] + sums[1][0] + sums[2][0] + sums[3][0];
  (void)kept;
  return seconds;
}

/* Writes GFLOP/s and GB/s; returns 0, or 1 where there is no memory. */
int ofa_tvm_core_rates(double *rates) {
  vector *values = aligned_alloc(64, BYTES);
  if (!values) return 1;
  for (long place = 0; place < BYTES / (long)sizeof(vector); ++place) values[place] = (vector){1};
  double calculating = 1e9, reading = 1e9;
  for (int repeat = 0; repeat < REPEATS; ++repeat) {
    const double once = multiply_adds_s(), read = reading_s(values);
    if (once < calculating) calculating = once;
    if (read < reading) reading = read;
  }
  free(values);
  rates[0] = 2.0 * LANES * CHAINS * STEPS / calculating / 1e9;
  rates[1] = BYTES / reading / 1e9;
  return 0;
}
