/* A kernel with its arguments, for a device that runs no Python: a library that TVM's runtime loads (`run`, `time`), or
   with STANDALONE a program that runs it once. What comes before this: packed.c, timer.c, and, generated, sizes and the
   kernel. */
#include <stdlib.h>
#include <string.h>

typedef struct {
  char *arguments[MAX_ARGUMENTS];
  int64_t steps[MAX_ARGUMENTS];
} places_t;

static void give_back(places_t *places) {
  for (int i = 0; i < ARGUMENTS; ++i) free(places->arguments[i]);
}

/* Copy the inputs, one argument after the other, to memory of their own; constants `copies` times. */
static int place(places_t *places, const char *inputs, int64_t copies) {
  memset(places, 0, sizeof *places);
  for (int i = 0; i < ARGUMENTS; inputs += sizes[i++]) {
    int64_t count = is_constant[i] ? copies : 1;
    places->steps[i] = is_constant[i] ? sizes[i] : 0;
    places->arguments[i] = aligned_alloc(64, sizes[i] * count);
    if (!places->arguments[i]) {
      give_back(places);
      return ENOMEM;
    }
    for (int64_t copy = 0; copy < count; ++copy) memcpy(places->arguments[i] + copy * sizes[i], inputs, sizes[i]);
  }
  return 0;
}

static int run_kernel(const char *inputs, char *outputs) {
  places_t places;
  double unused;
  int error = place(&places, inputs, 1);
  if (error) return error;
  error = time_kernel((void *)KERNEL, places.arguments, places.steps, 1, SCRATCH_ARGUMENT, SCRATCH_BYTES, TASKS, 0, 0.0,
                      &unused);
  for (int i = FIRST_OUTPUT; i < FIRST_OUTPUT + OUTPUTS; outputs += sizes[i++])
    memcpy(outputs, places.arguments[i], sizes[i]);
  give_back(&places);
  return error;
}

#ifdef STANDALONE
#include <stdio.h>

/* program INPUTS OUTPUTS: two files. */
int main(int count, char **names) {
  static char outputs[OUTPUT_BYTES];
  char *inputs = malloc(INPUT_BYTES);
  FILE *from = count == 3 ? fopen(names[1], "rb") : 0;
  if (!inputs || !from || fread(inputs, 1, INPUT_BYTES, from) != INPUT_BYTES) return 2;
  int error = run_kernel(inputs, outputs);
  FILE *to = error ? 0 : fopen(names[2], "wb");
  return !to || fwrite(outputs, 1, OUTPUT_BYTES, to) != OUTPUT_BYTES || fclose(to) ? 1 : 0;
}
#else
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
  const char *inputs;
  char *outputs; /* shared with the process that asks */
  double *seconds;
  int32_t repeats;
  double min_repeat_s;
} task_t;

static int run_task(const task_t *task) { return run_kernel(task->inputs, task->outputs); }

static int time_task(const task_t *task) {
  places_t places;
  int error = place(&places, task->inputs, COPIES);
  if (error) return error;
  return time_kernel((void *)KERNEL, places.arguments, places.steps, COPIES, SCRATCH_ARGUMENT, SCRATCH_BYTES, TASKS,
                     task->repeats, task->min_repeat_s, task->seconds);
}

/* Do a task in a process of its own: a kernel that crashes or never ends must not take the board's server with it.
   Returns 0, an error number, or minus the signal that ended it. */
static int in_child(int (*function)(const task_t *), const task_t *task) {
  static const int ours[] = {SIGALRM, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTERM};
  int status;
  pid_t child = fork();
  if (child < 0) return errno;
  if (!child) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < (int)(sizeof ours / sizeof *ours); ++i) signal(ours[i], SIG_DFL);
    alarm(MAX_SECONDS);
    _exit(function(task));
  }
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return errno;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Do a task that gives so many bytes. */
static int shared(int (*function)(const task_t *), task_t *task, void *result, size_t bytes) {
  void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno;
  task->outputs = memory;
  task->seconds = memory;
  int error = in_child(function, task);
  if (!error) memcpy(result, memory, bytes);
  munmap(memory, bytes);
  return error;
}

/* run(inputs, outputs): two tensors of bytes. Returns 0, an error number, or minus the signal that ended the kernel. */
__attribute__((visibility("default"))) int __tvm_ffi_run(void *self, const TVMFFIAny *args, int32_t count,
                                                         TVMFFIAny *result) {
  const DLTensor *inputs = count == 2 ? tensor_of(&args[0]) : 0, *outputs = count == 2 ? tensor_of(&args[1]) : 0;
  if (!inputs || !outputs || inputs->shape[0] != INPUT_BYTES || outputs->shape[0] != OUTPUT_BYTES)
    return finish(EINVAL, result);
  task_t task = {inputs->data};
  return finish(shared(run_task, &task, outputs->data, OUTPUT_BYTES), result);
}

/* time(inputs, seconds, min_repeat_us): inputs as above; one call's seconds for each repeat, float64. Returns as `run`.
 */
__attribute__((visibility("default"))) int __tvm_ffi_time(void *self, const TVMFFIAny *args, int32_t count,
                                                          TVMFFIAny *result) {
  const DLTensor *inputs = count == 3 ? tensor_of(&args[0]) : 0, *seconds = count == 3 ? tensor_of(&args[1]) : 0;
  if (!inputs || !seconds || inputs->shape[0] != INPUT_BYTES || seconds->shape[0] < 1) return finish(EINVAL, result);
  task_t task = {inputs->data, .repeats = (int32_t)seconds->shape[0], .min_repeat_s = 1e-6 * args[2].v_int64};
  return finish(shared(time_task, &task, seconds->data, sizeof(double) * seconds->shape[0]), result);
}
#endif
