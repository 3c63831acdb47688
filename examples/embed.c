/* Run a bundle in a program of your own: embed BUNDLE RGB WIDTH HEIGHT, where RGB is a file of 8-bit pixels. */
#include <ofa_tvm.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what) { return fprintf(stderr, "%s\n", what), 1; }

int main(int count, char **arguments) {
  if (ofa_tvm_abi() != OFA_TVM_ABI) return fail("the library is of another version than its header");
  if (count != 5) return fail("usage: embed BUNDLE RGB WIDTH HEIGHT");
  int width = atoi(arguments[3]), height = atoi(arguments[4]);
  size_t bytes = 3 * (size_t)width * (size_t)height;
  unsigned char *pixels = malloc(bytes);
  FILE *file = fopen(arguments[2], "rb");
  if (!file || !pixels || fread(pixels, 1, bytes, file) != bytes) return fail("the pixels cannot be read");
  fclose(file);

  ofa_tvm_model *model = ofa_tvm_model_open(arguments[1], OFA_TVM_VERIFY);
  if (!model) return fail(ofa_tvm_last_error());
  int classes = ofa_tvm_model_classes(model), best = 0;
  float *logits = malloc(sizeof(float) * (size_t)classes);
  if (ofa_tvm_model_run_rgb(model, pixels, bytes, width, height, logits, (size_t)classes))
    return fail(ofa_tvm_last_error());
  for (int i = 1; i < classes; ++i) best = logits[i] > logits[best] ? i : best;
  printf("%s %.4f\n", ofa_tvm_model_class_name(model, best), logits[best]);
  ofa_tvm_model_close(model);
  free(logits);
  free(pixels);
  return 0;
}
