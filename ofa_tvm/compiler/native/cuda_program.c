/* A subnet for an NVIDIA GPU as a library. What comes before this: packed.c, cuda_driver.c and, generated, sizes and
   the table of `launches`. Weights, maps and scratch memory are one block of the GPU's memory, in this order. All
   between images and logits is one CUDA graph, recorded at the first call. */

#define IMAGE_BYTES (sizeof(float) * BATCH * IMAGE_FLOATS)
#define LOGIT_BYTES (sizeof(float) * BATCH * CLASSES)

extern const char ofa_packed_weights[];

static address_t memory;                 /* 0 until the first call */
static float *images_here, *logits_here; /* what the graph copies from and to: memory that stays in its place */
static void *recorded;
static int overlaps = OVERLAPS, is_running;

static int put_call(const void *unused) {
  TRY("copy images", cuMemcpyHtoDAsync_v2(memory + IMAGE_COPY, images_here, IMAGE_BYTES, stream));
  for (int i = 0; i < LAUNCHES; ++i) {
    const int error = enqueue(&launches[i], memory, overlaps && i > 0); /* before the first one there is a copy */
    if (error) return error;
  }
  TRY("copy logits", cuMemcpyDtoHAsync_v2(logits_here, memory + LOGITS_COPY, LOGIT_BYTES, stream));
  return 0;
}

static int forget_graph(const void *unused) {
  if (recorded) cuGraphExecDestroy(recorded);
  recorded = 0;
  return 0;
}

static int give_back(const void *unused) {
  forget_graph(0);
  if (memory) cuMemFree_v2(memory);
  if (images_here) cuMemFreeHost(images_here);
  if (logits_here) cuMemFreeHost(logits_here);
  memory = 0;
  images_here = logits_here = 0;
  unload_code();
  return 0;
}

/* At the program's end, before the driver's own, which was registered earlier; and where the library is unloaded. */
static void release(void) {
  if (!is_forked && context && !is_running) with_gpu(give_back, 0);
}

static int fill_memory(void) {
  static int is_registered;
  if (!is_registered) is_registered = !atexit(release);
  const int error = load_code();
  if (error) return error;
  TRY("get memory for images", cuMemHostAlloc((void **)&images_here, IMAGE_BYTES, 0));
  TRY("get memory for logits", cuMemHostAlloc((void **)&logits_here, LOGIT_BYTES, 0));
  TRY("get memory for the network", cuMemAlloc_v2(&memory, MEMORY_BYTES));
  TRY("copy weights", cuMemcpyHtoDAsync_v2(memory, ofa_packed_weights, WEIGHT_BYTES, stream));
  if (MEMORY_BYTES > SCRATCH) TRY("clear memory", cuMemsetD8Async(memory + SCRATCH, 0, MEMORY_BYTES - SCRATCH, stream));
  TRY("copy weights", cuStreamSynchronize(stream));
  return 0;
}

/* Kernels run once before they are recorded: the driver may load their code only then. */
static int prepare(const void *unused) {
  int error = memory ? 0 : fill_memory();
  if (error) return error;
  memset(images_here, 0, IMAGE_BYTES);
  error = put_call(0);
  if (error) return error;
  TRY("run the network", cuStreamSynchronize(stream));
  return record(put_call, 0, &recorded);
}

static int replay(const void *unused) {
  TRY("start the network", cuGraphLaunch(recorded, stream));
  TRY("run the network", cuStreamSynchronize(stream));
  return 0;
}

static int run_images(const float *images, float *logits) {
  int error = recorded && !is_forked ? 0 : with_gpu(prepare, 0);
  if (error && context && !is_forked) with_gpu(give_back, 0);
  if (error) return error;
  memcpy(images_here, images, IMAGE_BYTES);
  error = with_gpu(replay, 0);
  if (!error) memcpy(logits, logits_here, LOGIT_BYTES);
  return error;
}

/* Run the network: images (BATCH, size, size, channels) to logits (BATCH, classes), both float32. Returns 0, or an
   error number, with words for it on stderr. Calls from several threads wait for each other. */
EXPORT int ofa_tvm_run(const float *images, float *logits) {
  pthread_mutex_lock(&lock);
  is_running = 1;
  const int error = run_images(images, logits);
  is_running = 0;
  pthread_mutex_unlock(&lock);
  return error;
}

/* Whether a kernel may start before the one before has ended (programmatic dependent launch), from the next call on.
   Returns whether it could until now. */
EXPORT int ofa_tvm_overlap(int may_overlap) {
  pthread_mutex_lock(&lock);
  const int before = overlaps;
  overlaps = may_overlap;
  if (recorded && !is_forked) with_gpu(forget_graph, 0);
  pthread_mutex_unlock(&lock);
  return before;
}

/* overlap(number): see `ofa_tvm_overlap`. */
EXPORT int __tvm_ffi_overlap(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  return finish(ofa_tvm_overlap(count > 0 && args[0].v_int64), result);
}
