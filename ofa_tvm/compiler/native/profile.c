/* The times of a subnet's kernels, in the library that calls them. What comes before this: program.c and window.c. */

static int64_t marks[STEPS + 1];

/* Called by `run_steps` before each step and after the last: when all threads have met. */
static void mark(int32_t task, int step) {
  struct timespec now;
  if (task) return;
  clock_gettime(CLOCK_MONOTONIC, &now);
  marks[step] = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

EXPORT int ofa_tvm_steps(void) { return STEPS; }

/* Run so often; nanoseconds of each step of each run. Returns 0, or an error number. */
EXPORT int ofa_tvm_profile(const float *images, float *logits, int64_t runs, int64_t *nanoseconds) {
  int error = 0;
  for (int64_t run = 0; run < runs && !error; ++run) {
    error = ofa_tvm_run(images, logits);
    for (int step = 0; step < STEPS; ++step) *nanoseconds++ = marks[step + 1] - marks[step];
  }
  return error;
}
