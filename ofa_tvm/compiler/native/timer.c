/* Runs and times one kernel, on as many threads as it was emitted for. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define MAX_ARGUMENTS 10

/* More arguments than a kernel has do no harm: the caller removes them. */
typedef void (*kernel_t)(int32_t, char *, char *, char *, char *, char *, char *, char *, char *, char *, char *);

typedef struct {
  kernel_t kernel;
  char **arguments;
  const int64_t *steps; /* bytes from one copy of an argument to the next */
  int64_t copies;
  int64_t scratch_argument; /* -1: none */
  int64_t scratch_bytes;
  int32_t tasks;
  _Atomic int64_t published, finished;
  _Atomic int stop;
  int64_t copy;
  cpu_set_t allowed;
} work_t;

typedef struct {
  work_t *work;
  int32_t task;
} member_t;

static __attribute__((noinline)) void run_share(work_t *work, int32_t task) {
  PLACE_STACK();
  char *a[MAX_ARGUMENTS];
  for (int i = 0; i < MAX_ARGUMENTS; ++i) a[i] = work->arguments[i] + work->copy * work->steps[i];
  if (work->scratch_argument >= 0) a[work->scratch_argument] += task * work->scratch_bytes;
  work->kernel(task, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
}

static void pause_after(int64_t spins) {
  if (spins > 20000) sched_yield();
}

/* Keep a thread on the n-th processor that this process may use: two threads that spin on one would wait for the
   scheduler instead of each other. */
static void stay_on(const cpu_set_t *allowed, int n) {
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, allowed) || n-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

static void *member(void *argument) {
  member_t *self = argument;
  work_t *work = self->work;
  stay_on(&work->allowed, self->task);
  for (int64_t seen = 0;;) {
    for (int64_t spins = 0; atomic_load(&work->published) == seen; ++spins) {
      if (atomic_load(&work->stop)) return 0;
      pause_after(spins);
    }
    ++seen;
    run_share(work, self->task);
    atomic_fetch_add(&work->finished, 1);
  }
}

static void run_once(work_t *work, int64_t call) {
  work->copy = call % work->copies;
  if (work->tasks > 1) {
    atomic_store(&work->finished, 0);
    atomic_fetch_add(&work->published, 1);
  }
  run_share(work, 0);
  for (int64_t spins = 0; work->tasks > 1 && atomic_load(&work->finished) < work->tasks - 1; ++spins)
    pause_after(spins);
}

static double clock_s(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double now_s(void) { return clock_s(CLOCK_MONOTONIC); }

#define PARTS 8      /* of a repeat */
#define MAX_PARTS 4  /* times as many, where others take the processors */
#define WORKING 0.98 /* of a part's time that all threads must be on a processor */

/* Seconds of one call, over so many calls in parts that nothing interrupted; over all, where there are none such. */
static double seconds_of(work_t *work, int64_t calls, int64_t *next) {
  const clockid_t clock = work->tasks > 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID;
  const int64_t part = (calls + PARTS - 1) / PARTS;
  double good_s = 0, any_s = 0;
  int64_t good = 0, any = 0;
  while (good < calls && any < MAX_PARTS * calls) {
    const double cpu = clock_s(clock), start = now_s();
    for (int64_t call = 0; call < part; ++call) run_once(work, (*next)++);
    const double taken_s = now_s() - start;
    const int undisturbed = clock_s(clock) - cpu >= WORKING * work->tasks * taken_s;
    any_s += taken_s;
    any += part;
    if (!undisturbed) continue;
    good_s += taken_s;
    good += part;
  }
  return good ? good_s / good : any_s / any;
}

/* Seconds of one call, for each of `repeats` repeats of at least `min_repeat_s`; with no repeats one call is made.
   Returns 0, or an error number when a thread cannot be started. */
int time_kernel(void *kernel, char **arguments, const int64_t *steps, int64_t copies, int64_t scratch_argument,
                int64_t scratch_bytes, int32_t tasks, int32_t repeats, double min_repeat_s, double *seconds) {
  work_t work = {(kernel_t)kernel, arguments, steps, copies, scratch_argument, scratch_bytes, tasks};
  pthread_t threads[tasks];
  member_t members[tasks];
  int error = 0;
  int32_t started = 1;
  sched_getaffinity(0, sizeof work.allowed, &work.allowed);
  if (tasks > 1) stay_on(&work.allowed, 0);
  for (; started < tasks && !error; started += !error) {
    members[started] = (member_t){&work, started};
    error = pthread_create(&threads[started], 0, member, &members[started]);
  }
  if (!error) {
    double start = now_s();
    run_once(&work, 0);
    double first_s = now_s() - start;
    int64_t calls = copies;
    if (first_s * calls < min_repeat_s / 4) { /* the first call is a poor guess: guess again */
      start = now_s();
      for (int64_t call = 0; call < calls; ++call) run_once(&work, call);
      first_s = (now_s() - start) / calls;
    }
    if (min_repeat_s > first_s * calls) calls = (int64_t)(min_repeat_s / first_s) + 1;
    int64_t next = 0;
    for (int32_t repeat = 0; repeat < repeats; ++repeat) seconds[repeat] = seconds_of(&work, calls, &next);
  }
  atomic_store(&work.stop, 1);
  while (--started > 0) pthread_join(threads[started], 0);
  sched_setaffinity(0, sizeof work.allowed, &work.allowed);
  return error;
}
