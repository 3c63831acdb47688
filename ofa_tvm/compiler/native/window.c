/* One window of a measurement: single calls of `ofa_tvm_run`, beside a calibration kernel. What comes before this: the
   includes and TASKS, the threads that a call keeps busy; 0 where it may wait for a device without using the CPU. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALIBRATION_FLOATS (1 << 16)
#define CALIBRATION_PASSES 4
#define CALIBRATIONS 8  /* of a window, spread over it */
#define COLD_CALLS 2    /* after another program or a calibration: the caches are not the network's */
#define MAX_CALLS 20000 /* of a window */
#define MIN_CALLS 9
#define WORKING 0.98 /* of a call's time that its threads must be on a CPU */

/* What a window tells: times in ms, of the calls that nothing disturbed (of any, where there are none) and of any;
   calls, and those left out; the share of the time that its threads were on a CPU; and the time of the calibration
   kernel. */
enum { P50, P90, P99, ANY_P50, ANY_P90, ANY_P99, CALLS, LEFT_OUT, ON_CPU, CALIBRATION, FIGURES };

static double clock_ms(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static int by_value(const void *one, const void *other) {
  const double a = *(const double *)one, b = *(const double *)other;
  return (a > b) - (a < b);
}

/* As numpy.percentile: linear between the two nearest. */
static double percentile(const double *sorted, long count, double fraction) {
  if (count < 1) return 0;
  const double place = fraction * (double)(count - 1);
  const long below = (long)place, above = below + 1 < count ? below + 1 : below;
  return sorted[below] + (place - (double)below) * (sorted[above] - sorted[below]);
}

static void describe(double *times, long count, double *figures) {
  qsort(times, (size_t)count, sizeof *times, by_value);
  figures[0] = percentile(times, count, 0.5);
  figures[1] = percentile(times, count, 0.9);
  figures[2] = percentile(times, count, 0.99);
}

/* Arithmetic on a memory like a network's: slower when the clock is, when another thread shares the core, and when
   others take the caches. */
static double calibration_ms(void) {
  static float values[CALIBRATION_FLOATS];
  static int is_filled;
  for (int i = 0; i < CALIBRATION_FLOATS && !is_filled; ++i) values[i] = (float)(i % 7);
  is_filled = 1;
  const double start = clock_ms(CLOCK_MONOTONIC);
  float a = 0, b = 0, c = 0, d = 0;
  for (int pass = 0; pass < CALIBRATION_PASSES; ++pass) {
    for (int i = 0; i < CALIBRATION_FLOATS; i += 4) {
      a += values[i];
      b += values[i + 1];
      c += values[i + 2];
      d += values[i + 3];
    }
  }
  volatile float sum = a + b + c + d; /* so that the compiler leaves the loop in */
  (void)sum;
  return clock_ms(CLOCK_MONOTONIC) - start;
}

typedef struct {
  double wall_ms, cpu_ms;
} clocks_t;

static clocks_t read_clocks(void) {
  const clocks_t now = {clock_ms(CLOCK_MONOTONIC),
                        clock_ms(TASKS > 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID)};
  return now;
}

/* The share of the time since then that the threads were on a CPU. */
static double working(clocks_t then, clocks_t now) {
  return TASKS ? (now.cpu_ms - then.cpu_ms) / (TASKS * (now.wall_ms - then.wall_ms)) : 1;
}

#if TASKS
typedef cpu_set_t processors_t;

/* Keep this thread on the processor that it is on; with more threads, on the first, as the others have the next ones.
   Gives back where it was allowed to be; none where that is not known, as with more processors than a set holds. */
static processors_t pin(void) {
  processors_t allowed, one;
  int cpu = sched_getcpu();
  if (sched_getaffinity(0, sizeof allowed, &allowed)) {
    CPU_ZERO(&allowed);
    return allowed;
  }
  if (TASKS > 1)
    for (cpu = 0; cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed); ++cpu);
  CPU_ZERO(&one);
  if (cpu >= 0) CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
  return allowed;
}

static void unpin(const processors_t *allowed) {
  if (CPU_COUNT(allowed)) sched_setaffinity(0, sizeof *allowed, allowed);
}
#else
typedef int processors_t;
static processors_t pin(void) { return 0; }
static void unpin(const processors_t *allowed) { (void)allowed; }
#endif

static int calls_of(const float *images, float *logits, double span_ms, double *good, double *any, double *figures) {
  double calibrations[CALIBRATIONS], once_ms = 1e9;
  int error = 0;
  for (int i = 0; i < MIN_CALLS && !error; ++i) {
    const double start = clock_ms(CLOCK_MONOTONIC);
    error = ofa_tvm_run(images, logits);
    const double ms = clock_ms(CLOCK_MONOTONIC) - start;
    if (ms < once_ms) once_ms = ms;
  }
  long calls = (long)(span_ms / (once_ms > 1e-4 ? once_ms : 1e-4));
  calls = calls < MIN_CALLS ? MIN_CALLS : calls > MAX_CALLS ? MAX_CALLS : calls;
  long kept = 0, call = 0;
  const processors_t allowed =
      pin(); /* after the first calls: threads of the network's own start where this one may be */
  const clocks_t first = read_clocks();
  for (int round = 0; round < CALIBRATIONS; ++round) {
    calibrations[round] = calibration_ms();
    for (int i = 0; i < COLD_CALLS && !error; ++i) error = ofa_tvm_run(images, logits);
    int undisturbed = COLD_CALLS; /* calls in a row */
    clocks_t last = read_clocks();
    for (; call < calls * (round + 1) / CALIBRATIONS && !error; ++call) {
      const double start = clock_ms(CLOCK_MONOTONIC);
      error = ofa_tvm_run(images, logits);
      any[call] = clock_ms(CLOCK_MONOTONIC) - start;
      const clocks_t now = read_clocks();
      undisturbed = working(last, now) < WORKING ? 0 : undisturbed + 1;
      if (undisturbed > COLD_CALLS) good[kept++] = any[call];
      last = now;
    }
  }
  unpin(&allowed);
  if (error) return error;
  figures[ON_CPU] = working(first, read_clocks());
  figures[CALLS] = (double)calls;
  figures[LEFT_OUT] = (double)(calls - kept);
  describe(any, calls, figures + ANY_P50);
  if (kept)
    describe(good, kept, figures + P50);
  else
    memcpy(figures + P50, figures + ANY_P50, 3 * sizeof *figures);
  qsort(calibrations, CALIBRATIONS, sizeof *calibrations, by_value);
  figures[CALIBRATION] = percentile(calibrations, CALIBRATIONS, 0.5);
  return 0;
}

/* Time single calls for about `span_ms`; fills in the FIGURES above. Returns 0, or an error number. */
EXPORT int ofa_tvm_window(const float *images, float *logits, double span_ms, double *figures) {
  double *times = (double *)malloc(sizeof(double) * 2 * MAX_CALLS);
  if (!times) return ENOMEM;
  const int error = calls_of(images, logits, span_ms, times, times + MAX_CALLS, figures);
  free(times);
  return error;
}
