/* A subnet's functions as TVM calls them. What comes before this: window.c, packed.c, and program.c or cuda_program.c
   with its REASON, words for an error number. */

/* Weak: the library also loads where there is no TVM. */
#pragma weak TVMFFIErrorSetRaisedFromCStr

static int fail(const char *kind, const char *message) {
  if (TVMFFIErrorSetRaisedFromCStr) TVMFFIErrorSetRaisedFromCStr(kind, message);
  return -1;
}

/* Whether a tensor is a compact array of so many floats of so many bits in this CPU's memory. */
static int is_array(const DLTensor *tensor, int bits, int64_t floats) {
  if (!tensor || tensor->device.device_type != kDLCPU) return 0;
  if (tensor->dtype.code != kDLFloat || tensor->dtype.bits != bits || tensor->dtype.lanes != 1) return 0;
  int64_t count = 1;
  for (int i = tensor->ndim - 1; i >= 0; --i) {
    if (tensor->strides && tensor->shape[i] != 1 && tensor->strides[i] != count) return 0;
    count *= tensor->shape[i];
  }
  return count == floats;
}

static int is_batch(const DLTensor *tensor, int64_t floats) {
  return is_array(tensor, 32, BATCH * floats) && tensor->ndim > 0 && tensor->shape[0] == BATCH;
}

static void *data_of(const DLTensor *tensor) { return (char *)tensor->data + tensor->byte_offset; }

/* 0 where images and logits are what `ofa_tvm_run` takes. */
static int check_images(const DLTensor *images, const DLTensor *logits) {
  if (!is_batch(images, IMAGE_FLOATS))
    return fail("ValueError", "images must be a compact float32 CPU tensor " IMAGES_TEXT);
  if (!is_batch(logits, CLASSES)) return fail("ValueError", "logits must be a compact float32 CPU tensor " LOGITS_TEXT);
  return 0;
}

static int done(int error, TVMFFIAny *result) {
  return error ? fail("RuntimeError", REASON(error)) : finish(0, result);
}

/* main(images, logits) */
EXPORT int __tvm_ffi_main(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  if (count != 2) return fail("TypeError", "main takes two tensors: images, logits");
  const DLTensor *images = tensor_of(&args[0]), *logits = tensor_of(&args[1]);
  return check_images(images, logits) ? -1 : done(ofa_tvm_run(data_of(images), data_of(logits)), result);
}

/* window(images, logits, span_ms, figures): see `ofa_tvm_window`; figures is a float64 tensor. */
EXPORT int __tvm_ffi_window(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  if (count != 4 || args[2].type_index != kTVMFFIFloat)
    return fail("TypeError", "window takes images, logits, milliseconds as a float, and a tensor for figures");
  const DLTensor *images = tensor_of(&args[0]), *logits = tensor_of(&args[1]), *figures = tensor_of(&args[3]);
  if (check_images(images, logits)) return -1;
  if (!is_array(figures, 64, FIGURES)) return fail("ValueError", "figures must be a compact float64 CPU tensor");
  return done(ofa_tvm_window(data_of(images), data_of(logits), args[2].v_float64, data_of(figures)), result);
}

/* classes() and batch() */
EXPORT int __tvm_ffi_classes(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  return finish(CLASSES, result);
}
EXPORT int __tvm_ffi_batch(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  return finish(BATCH, result);
}
