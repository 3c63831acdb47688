/* A subnet as a library. What comes before this, generated: sizes, the kernels, and `run_steps`. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (2 << 20)
#define ALIGNMENT 64

#define EXPORT __attribute__((visibility("default")))
#define REASON strerror

extern const char ofa_packed_weights[];

static char *block, *memory; /* as the system gave it; weights, then maps, aligned. NULL until the first call */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Whole huge pages, wherever the system's block begins: where only a part of one fits, there is none. */
static const size_t memory_bytes = ((WEIGHT_BYTES + ARENA_BYTES + HUGE_PAGE - 1) / HUGE_PAGE + 1) * HUGE_PAGE;

/* Weights and maps share one block of huge pages: reading them takes few translations, and their places in the
   caches, which follow from physical addresses, depend less on chance. */
static int prepare(void) {
  if (memory) return 0;
  void *found = mmap(0, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) return errno;
  madvise(found, memory_bytes, MADV_HUGEPAGE);
  block = found;
  memory = (char *)(((uintptr_t)block + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
  memcpy(memory, ofa_packed_weights, WEIGHT_BYTES);
  return 0;
}

/* Run all kernels on one image: a task's share of them. */
static __attribute__((noinline)) void run_share(int32_t task, const float *image, float *logits) {
  PLACE_STACK();
  run_steps(task, memory, memory + WEIGHT_BYTES, image, logits);
}

#if TASKS > 1
/* glibc 2.34 moved these two into libc.so under new versions. The first versions are there in every glibc, so the
   library also loads on systems older than the one that links it. */
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver pthread_create, pthread_create@GLIBC_2.2.5\n.symver pthread_join, pthread_join@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver pthread_create, pthread_create@GLIBC_2.17\n.symver pthread_join, pthread_join@GLIBC_2.17");
#endif

#define SPINS 20000 /* of a thread that waits, before it lets others run */

static void pause_after(long spins) {
  if (spins > SPINS) sched_yield();
}

/* Threads meet after each step. */
static _Atomic int waiting, phase;

static void meet(void) {
  int now = atomic_load(&phase);
  if (atomic_fetch_add(&waiting, 1) == TASKS - 1) {
    atomic_store(&waiting, 0);
    atomic_store(&phase, now + 1);
    return;
  }
  for (long spins = 0; atomic_load(&phase) == now; ++spins) pause_after(spins);
}

/* Threads of this library's own: all tasks must run at once, which a shared pool does not promise. Between calls they
   spin for some microseconds, then sleep. */
static pthread_t members[TASKS];
static int started; /* members that run, the caller included */
static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static _Atomic long published;
static _Atomic int stop;
static struct {
  const float *image;
  float *logits;
} current;

static void stay_on(int n) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || n-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

static void *member(void *argument) {
  int task = (int)(intptr_t)argument;
  stay_on(task);
  for (long seen = 0;; ++seen) {
    for (long spins = 0; spins < SPINS && atomic_load(&published) == seen; ++spins);
    pthread_mutex_lock(&bed);
    while (atomic_load(&published) == seen) pthread_cond_wait(&wake, &bed);
    pthread_mutex_unlock(&bed);
    if (atomic_load(&stop)) return 0;
    run_share(task, current.image, current.logits);
  }
}

static void publish(void) {
  pthread_mutex_lock(&bed);
  atomic_fetch_add(&published, 1);
  pthread_cond_broadcast(&wake);
  pthread_mutex_unlock(&bed);
}

static void end_members(void) {
  if (started > 1) {
    atomic_store(&stop, 1);
    publish();
    while (started > 1) pthread_join(members[--started], 0);
  }
  started = 0;
  atomic_store(&stop, 0);
  atomic_store(&published, 0);
}

/* A forked child has none of its parent's threads: it starts its own. */
static void forget_members(void) {
  started = 0;
  atomic_store(&published, 0);
  atomic_store(&waiting, 0);
  pthread_mutex_init(&bed, 0);
  pthread_cond_init(&wake, 0);
}

static int start_members(void) {
  static int registered;
  if (!registered) registered = !pthread_atfork(0, 0, forget_members);
  for (started = 1; started < TASKS; ++started) {
    int error = pthread_create(&members[started], 0, member, (void *)(intptr_t)started);
    if (!error) continue;
    end_members();
    return error;
  }
  return 0;
}

static int run_image(const float *image, float *logits) {
  int error = started ? 0 : start_members();
  if (error) return error;
  current.image = image;
  current.logits = logits;
  publish();
  run_share(0, image, logits);
  return 0;
}
#else
static void end_members(void) {}

static int run_image(const float *image, float *logits) {
  run_share(0, image, logits);
  return 0;
}
#endif

/* Run the network: images (BATCH, size, size, channels) to logits (BATCH, classes), both float32. Returns 0, or an
   error number. Calls from several threads wait for each other. */
EXPORT int ofa_tvm_run(const float *images, float *logits) {
  pthread_mutex_lock(&lock);
  int error = prepare();
  for (int i = 0; i < BATCH && !error; ++i) {
    const float *image = images + (size_t)i * IMAGE_FLOATS;
    if ((uintptr_t)image % ALIGNMENT) { /* kernels count on it */
      char *aligned = memory + WEIGHT_BYTES + IMAGE_COPY;
      image = memcpy(aligned, image, sizeof(float) * IMAGE_FLOATS);
    }
    char *found = memory + WEIGHT_BYTES + LOGITS_COPY;
    error = run_image(image, (float *)found);
    if (!error) memcpy(logits + (size_t)i * CLASSES, found, sizeof(float) * CLASSES);
  }
  pthread_mutex_unlock(&lock);
  return error;
}

__attribute__((destructor)) static void release(void) {
  end_members();
  if (block) munmap(block, memory_bytes);
}
