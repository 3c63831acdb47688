/* A kernel for an NVIDIA GPU with its arguments, as a library that TVM's runtime loads: `run` and `time`. What comes
   before this: packed.c, cuda_driver.c and, generated, sizes, the `launch` and the `arguments`. Numbers travel as
   float32, one argument after the other, each from a multiple of 64 bytes; the kernel's float16 ones are made here.
   It runs in this process: a GPU that one process has opened is lost to those that it forks. */
#include <signal.h>

typedef struct {
  int64_t numbers, bytes; /* bytes of one number as the kernel takes it */
} argument_t;

static const argument_t arguments[ARGUMENTS] = {ARGUMENT_LIST};
static address_t memory;

static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* To the nearest float16, ties to even. */
static uint16_t to_half(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return sign | 0x7e00;
  if (bits >= 0x477ff000) return sign | 0x7c00; /* larger than the largest, or infinite */
  if (bits < 0x38800000) {                      /* in steps of 2^-24 */
    const float steps = (value < 0 ? -value : value) * 0x1p24f;
    const uint16_t whole = (uint16_t)steps;
    const float rest = steps - whole;
    return sign | (whole + (rest > .5f || (rest == .5f && whole % 2)));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return sign | (bits - 0x38000000) >> 13;
}

static float from_half(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (!exponent) return (sign ? -0x1p-24f : 0x1p-24f) * (float)fraction;
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | fraction << 13;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Numbers as the kernel takes them, from float32 and back. */
static void narrow(const argument_t *argument, const float *from, char *to) {
  if (argument->bytes == sizeof *from)
    memcpy(to, from, sizeof *from * argument->numbers);
  else
    for (int64_t i = 0; i < argument->numbers; ++i) ((uint16_t *)to)[i] = to_half(from[i]);
}

static void widen(const argument_t *argument, const char *from, float *to) {
  if (argument->bytes == sizeof *to)
    memcpy(to, from, sizeof *to * argument->numbers);
  else
    for (int64_t i = 0; i < argument->numbers; ++i) to[i] = from_half(((const uint16_t *)from)[i]);
}

typedef struct {
  const char *inputs;
  char *outputs;
  double *seconds;
  int64_t repeats;
  double min_repeat_s;
} task_t;

static int finish_work(void) {
  TRY("run the kernel", cuStreamSynchronize(stream));
  return 0;
}

/* All arguments in the GPU's memory; what is behind them, the kernel's scratch memory, is zeros. */
static int fill_memory(const char *inputs, char *room) {
  TRY("get memory", cuMemAlloc_v2(&memory, MEMORY_BYTES));
  memset(room, 0, MEMORY_BYTES);
  for (int i = 0; i < ARGUMENTS; ++i) {
    narrow(&arguments[i], (const float *)inputs, room + launch.places[i]);
    inputs += rounded(sizeof(float) * arguments[i].numbers);
  }
  TRY("copy the kernel's arguments", cuMemcpyHtoDAsync_v2(memory, room, MEMORY_BYTES, stream));
  return finish_work();
}

static int read_outputs(char *room, char *outputs) {
  TRY("copy what the kernel wrote", cuMemcpyDtoHAsync_v2(room, memory, MEMORY_BYTES, stream));
  const int error = finish_work();
  for (int i = FIRST_OUTPUT; i < FIRST_OUTPUT + OUTPUTS && !error; ++i) {
    widen(&arguments[i], room + launch.places[i], (float *)outputs);
    outputs += rounded(sizeof(float) * arguments[i].numbers);
  }
  return error;
}

static int put_copies(const void *count) {
  int error = 0;
  for (int i = 0; i < *(const int *)count && !error; ++i) error = enqueue(&launch, memory, OVERLAPS && i > 0);
  return error;
}

#define FEW 20 /* calls of a graph, and of the longer one: what both take beside the calls is left out */
#define MANY 40
#define MIN_PAIRS 5
#define MAX_PAIRS 400 /* of a repeat */

typedef struct {
  void *few, *many, *first, *last;
} clocks_t;

static int by_value(const void *one, const void *other) {
  const float a = *(const float *)one, b = *(const float *)other;
  return (a > b) - (a < b);
}

static int time_graph(const clocks_t *clocks, void *graph, float *ms) {
  TRY("start the clock", cuEventRecord(clocks->first, stream));
  TRY("start the kernel", cuGraphLaunch(graph, stream));
  TRY("stop the clock", cuEventRecord(clocks->last, stream));
  const int error = finish_work();
  if (error) return error;
  TRY("read the clock", cuEventElapsedTime(ms, clocks->first, clocks->last));
  return 0;
}

/* Medians of both graphs, launched in turn, each alone; their difference is what MANY - FEW calls take. Where it is
   lost in the clock's noise, the longer one tells what a call takes at most. */
static int time_repeat(const clocks_t *clocks, double min_s, double *seconds) {
  static float few[MAX_PAIRS], many[MAX_PAIRS];
  int pairs = 0, error = 0;
  double spent_s = 0;
  while (!error && pairs < MAX_PAIRS && (pairs < MIN_PAIRS || spent_s < min_s)) {
    error = time_graph(clocks, clocks->few, &few[pairs]);
    if (!error) error = time_graph(clocks, clocks->many, &many[pairs]);
    spent_s += 1e-3 * (few[pairs] + many[pairs]);
    ++pairs;
  }
  if (error) return error;
  qsort(few, pairs, sizeof *few, by_value);
  qsort(many, pairs, sizeof *many, by_value);
  const float longer = many[pairs / 2], difference = longer - few[pairs / 2];
  *seconds = 1e-3 * (difference > 0 ? difference / (MANY - FEW) : longer / MANY);
  return 0;
}

static int time_calls(const task_t *task, clocks_t *clocks) {
  const int few = FEW, many = MANY;
  int error = record(put_copies, &few, &clocks->few);
  if (!error) error = record(put_copies, &many, &clocks->many);
  if (error) return error;
  TRY("make a clock", cuEventCreate(&clocks->first, 0));
  TRY("make a clock", cuEventCreate(&clocks->last, 0));
  for (int64_t i = 0; i < task->repeats && !error; ++i)
    error = time_repeat(clocks, task->min_repeat_s, &task->seconds[i]);
  return error;
}

static int do_task(const void *given) {
  const task_t *task = given;
  const int once = 1;
  clocks_t clocks = {0};
  char *room = malloc(MEMORY_BYTES);
  int error = room ? load_code() : say(ENOMEM, "no memory for the kernel's arguments");
  if (!error) error = fill_memory(task->inputs, room);
  if (!error) error = put_copies(&once); /* the driver may load the code only now, and not while it records */
  if (!error) error = finish_work();
  if (!error && task->repeats) error = time_calls(task, &clocks);
  if (!error && task->outputs) error = read_outputs(room, task->outputs);
  void *const graphs[] = {clocks.few, clocks.many}, *const events[] = {clocks.first, clocks.last};
  for (int i = 0; i < 2; ++i) {
    if (graphs[i]) cuGraphExecDestroy(graphs[i]);
    if (events[i]) cuEventDestroy_v2(events[i]);
  }
  if (memory) cuMemFree_v2(memory);
  memory = 0;
  unload_code();
  free(room);
  return error;
}

static int check_gpu(const void *unused) {
  TRY("use the GPU after this", cuCtxSynchronize());
  return 0;
}

/* An error of the kernel itself spoils the GPU for this process, so it counts as its crash. */
static int answer(task_t *task, TVMFFIAny *result) {
  pthread_mutex_lock(&lock);
  const int error = with_gpu(do_task, task);
  const int is_usable = !error || !context || !with_gpu(check_gpu, 0);
  pthread_mutex_unlock(&lock);
  return finish(is_usable ? error : -SIGSEGV, result);
}

/* run(inputs, outputs): two tensors of bytes. Returns 0, an error number, or minus a signal where the kernel crashed.
 */
EXPORT int __tvm_ffi_run(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  const DLTensor *inputs = count == 2 ? tensor_of(&args[0]) : 0, *outputs = count == 2 ? tensor_of(&args[1]) : 0;
  if (!inputs || !outputs || inputs->shape[0] != INPUT_BYTES || outputs->shape[0] != OUTPUT_BYTES)
    return finish(EINVAL, result);
  task_t task = {inputs->data, outputs->data};
  return answer(&task, result);
}

/* time(inputs, seconds, min_repeat_us): inputs as above; one call's seconds for each repeat, float64. Returns as `run`.
 */
EXPORT int __tvm_ffi_time(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  const DLTensor *inputs = count == 3 ? tensor_of(&args[0]) : 0, *seconds = count == 3 ? tensor_of(&args[1]) : 0;
  if (!inputs || !seconds || inputs->shape[0] != INPUT_BYTES || seconds->shape[0] < 1) return finish(EINVAL, result);
  task_t task = {inputs->data, 0, seconds->data, seconds->shape[0], 1e-6 * args[2].v_int64};
  return answer(&task, result);
}
