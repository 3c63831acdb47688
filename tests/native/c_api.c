/* What the C interface refuses, and that it answers: c_api BUNDLE. Prints what failed. */
#include <ofa_tvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void check(int is_so, const char *what) {
  if (!is_so) fprintf(stderr, "%s; last error: %s\n", what, ofa_tvm_last_error()), ++failures;
}

static int refused(int code, const char *said) { return code == -1 && strstr(ofa_tvm_last_error(), said); }

int main(int count, char **arguments) {
  check(ofa_tvm_abi() == OFA_TVM_ABI, "another ABI");
  check(!strcmp(ofa_tvm_version(), OFA_TVM_VERSION), "another version");
  check(!ofa_tvm_model_open(NULL, OFA_TVM_VERIFY) && strstr(ofa_tvm_last_error(), "the path is NULL"), "no path");
  ofa_tvm_model_close(NULL);
  check(!ofa_tvm_model_batch(NULL) && !ofa_tvm_model_class_name(NULL, 0), "facts of no model");
  ofa_tvm_model *model = count == 2 ? ofa_tvm_model_open(arguments[1], OFA_TVM_VERIFY) : NULL;
  if (!model) return fprintf(stderr, "%s\n", ofa_tvm_last_error()), 1;
  const int size = ofa_tvm_model_resolution(model);
  const size_t classes = (size_t)ofa_tvm_model_classes(model),
               logit_count = classes * (size_t)ofa_tvm_model_batch(model);
  const size_t image_count = logit_count / classes * (size_t)(size * size * ofa_tvm_model_channels(model));
  float *images = calloc(image_count, sizeof(float)), *logits = calloc(logit_count, sizeof(float));
  const uint8_t pixels[12] = {0};
  check(refused(ofa_tvm_model_run(NULL, images, image_count, logits, logit_count), "the model is NULL"), "no model");
  check(refused(ofa_tvm_model_run(model, NULL, image_count, logits, logit_count), "images is NULL"), "no images");
  check(refused(ofa_tvm_model_run(model, images, image_count, NULL, logit_count), "logits is NULL"), "no logits");
  check(refused(ofa_tvm_model_run(model, images, 4 * image_count, logits, logit_count), "images has"), "bytes");
  check(refused(ofa_tvm_model_run(model, images, image_count, logits, logit_count - 1), "logits has"), "few logits");
  check(!ofa_tvm_model_run(model, images, image_count, logits, logit_count), "a run");
  check(refused(ofa_tvm_model_run_rgb(model, pixels, 11, 2, 2, logits, classes), "pixels has"), "few pixels");
  check(refused(ofa_tvm_model_run_rgb(model, pixels, 12, 2, -2, logits, classes), "no pixels"), "a negative height");
  check(refused(ofa_tvm_model_run_rgb(model, pixels, 12, 2, 2, logits, classes + 1), "logits has"), "many logits");
  check(refused(ofa_tvm_model_run_rgb(model, NULL, 12, 2, 2, logits, classes), "pixels is NULL"), "no pixels");
  check(!ofa_tvm_model_run_rgb(model, pixels, 12, 2, 2, logits, classes), "a picture");
  ofa_tvm_model_close(model);
  free(images);
  free(logits);
  return failures;
}
