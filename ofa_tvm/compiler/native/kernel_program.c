/* A kernel with its arguments, for a device that runs no Python: a library that TVM's runtime loads (`run`, `time`), or
   with STANDALONE a program that runs it once. What comes before this, generated: sizes, the kernel, and timer.c. */
#include <string.h>
#include <stdlib.h>

typedef struct {
  char *arguments[MOST_ARGUMENTS];
  int64_t steps[MOST_ARGUMENTS];
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
  error = time_kernel((void *)KERNEL, places.arguments, places.steps, 1, SCRATCH_ARGUMENT, SCRATCH_BYTES, TASKS, 0, 0.0, &unused);
  for (int i = FIRST_OUTPUT; i < FIRST_OUTPUT + OUTPUTS; outputs += sizes[i++]) memcpy(outputs, places.arguments[i], sizes[i]);
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
#include <tvm/ffi/c_api.h>

static const DLTensor *tensor_of(const TVMFFIAny *value) {
  if (value->type_index == kTVMFFIDLTensorPtr) return value->v_ptr;
  if (value->type_index == kTVMFFITensor) return (const DLTensor *)((char *)value->v_obj + sizeof(TVMFFIObject));
  return 0;
}

static int finish(int error, TVMFFIAny *result) {
  memset(result, 0, sizeof *result);
  result->type_index = kTVMFFIInt;
  result->v_int64 = error;
  return 0;
}

/* run(inputs, outputs): two tensors of bytes. Returns 0, or an error number. */
__attribute__((visibility("default"))) int __tvm_ffi_run(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  const DLTensor *inputs = count == 2 ? tensor_of(&args[0]) : 0, *outputs = count == 2 ? tensor_of(&args[1]) : 0;
  if (!inputs || !outputs || inputs->shape[0] != INPUT_BYTES || outputs->shape[0] != OUTPUT_BYTES) return finish(EINVAL, result);
  return finish(run_kernel(inputs->data, outputs->data), result);
}

/* time(inputs, seconds, min_repeat_us): inputs as above; one call's seconds for each repeat, float64. */
__attribute__((visibility("default"))) int __tvm_ffi_time(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  const DLTensor *inputs = count == 3 ? tensor_of(&args[0]) : 0, *seconds = count == 3 ? tensor_of(&args[1]) : 0;
  if (!inputs || !seconds || inputs->shape[0] != INPUT_BYTES) return finish(EINVAL, result);
  places_t places;
  int error = place(&places, inputs->data, COPIES);
  if (error) return finish(error, result);
  error = time_kernel((void *)KERNEL, places.arguments, places.steps, COPIES, SCRATCH_ARGUMENT, SCRATCH_BYTES, TASKS,
                      (int32_t)seconds->shape[0], 1e-6 * args[2].v_int64, seconds->data);
  give_back(&places);
  return finish(error, result);
}
#endif
