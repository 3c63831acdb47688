/* NVIDIA's driver, looked for when it is first needed: neither its headers nor CUDA's runtime library take part. What
   comes before this, generated: ARCHITECTURE (90 is sm_90), OVERLAPS (whether kernels may start before the one before
   has ended), FUNCTIONS with their `function_names`, MOST_ARGUMENTS of one of them, and `ofa_device_code` with a cubin
   from CODE_AT on. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define REASON(error) (*reason ? reason : strerror(error))

/* glibc 2.34 moved these under new versions; the first ones are there in every glibc, see program.c. */
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver dlopen, dlopen@GLIBC_2.2.5\n.symver dlsym, dlsym@GLIBC_2.2.5\n.symver dlerror, dlerror@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver dlopen, dlopen@GLIBC_2.17\n.symver dlsym, dlsym@GLIBC_2.17\n.symver dlerror, dlerror@GLIBC_2.17");
#endif

extern const char ofa_device_code[];

typedef unsigned long long address_t; /* in the GPU's memory */

/* Of cuda.h, which this is compiled without. */
typedef struct {
  int id, padding;
  union {
    struct {
      unsigned x, y, z;
    } cluster;
    int is_on;
    char room[64];
    void *pointer; /* for its alignment */
  } value;
} attribute_t;

typedef struct {
  unsigned grid[3], threads[3], shared_bytes;
  void *stream;
  attribute_t *attributes;
  unsigned attribute_count;
} configuration_t;

enum { OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100 };      /* results */
enum { CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };                 /* of a device */
enum { CLUSTER_DIMENSION = 4, PROGRAMMATIC_STREAM_SERIALIZATION = 6 }; /* of a launch */
enum { NON_BLOCKING = 1, CAPTURE_OF_THIS_THREAD = 1 };                 /* streams */

/* The driver's functions by their names in its library, and what they take. */
#define DRIVER_FUNCTIONS(F)                                                                         \
  F(cuInit, (unsigned flags))                                                                       \
  F(cuGetErrorString, (int result, const char **text))                                              \
  F(cuDeviceGet, (int *device, int number))                                                         \
  F(cuDeviceGetName, (char *name, int bytes, int device))                                           \
  F(cuDeviceGetAttribute, (int *value, int attribute, int device))                                  \
  F(cuDevicePrimaryCtxRetain, (void **context, int device))                                         \
  F(cuCtxPushCurrent_v2, (void *context))                                                           \
  F(cuCtxPopCurrent_v2, (void **context))                                                           \
  F(cuCtxSynchronize, (void))                                                                       \
  F(cuModuleLoadData, (void **module, const void *image))                                           \
  F(cuModuleGetFunction, (void **function, void *module, const char *name))                         \
  F(cuModuleUnload, (void *module))                                                                 \
  F(cuMemAlloc_v2, (address_t * memory, size_t bytes))                                              \
  F(cuMemFree_v2, (address_t memory))                                                               \
  F(cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))                                  \
  F(cuMemFreeHost, (void *memory))                                                                  \
  F(cuMemsetD8Async, (address_t to, unsigned char value, size_t bytes, void *stream))               \
  F(cuMemcpyHtoDAsync_v2, (address_t to, const void *from, size_t bytes, void *stream))             \
  F(cuMemcpyDtoHAsync_v2, (void *to, address_t from, size_t bytes, void *stream))                   \
  F(cuStreamCreate, (void **stream, unsigned flags))                                                \
  F(cuStreamDestroy_v2, (void *stream))                                                             \
  F(cuStreamSynchronize, (void *stream))                                                            \
  F(cuStreamBeginCapture_v2, (void *stream, int mode))                                              \
  F(cuStreamEndCapture, (void *stream, void **graph))                                               \
  F(cuLaunchKernelEx, (const configuration_t *how, void *function, void **arguments, void **extra)) \
  F(cuGraphInstantiateWithFlags, (void **recorded, void *graph, unsigned long long flags))          \
  F(cuGraphDestroy, (void *graph))                                                                  \
  F(cuGraphExecDestroy, (void *recorded))                                                           \
  F(cuGraphUpload, (void *recorded, void *stream))                                                  \
  F(cuGraphLaunch, (void *recorded, void *stream))                                                  \
  F(cuEventCreate, (void **event, unsigned flags))                                                  \
  F(cuEventDestroy_v2, (void *event))                                                               \
  F(cuEventRecord, (void *event, void *stream))                                                     \
  F(cuEventElapsedTime, (float *ms, void *first, void *second))

#define DECLARED(name, types) static int(*name) types;
DRIVER_FUNCTIONS(DECLARED)

static char reason[400]; /* why the last call failed */

/* Tell an error on stderr, once in a row; gives back its number. */
__attribute__((format(printf, 2, 3))) static int say(int error, const char *format, ...) {
  char now[sizeof reason];
  va_list values;
  va_start(values, format);
  vsnprintf(now, sizeof now, format, values);
  va_end(values);
  if (strcmp(now, reason)) fprintf(stderr, "%s\n", now);
  memcpy(reason, now, sizeof reason);
  return error;
}

static int driver_error(const char *doing, int result) {
  const char *text = 0;
  if (cuGetErrorString(result, &text) || !text) text = "a result without a name";
  const int error = result == OUT_OF_MEMORY ? ENOMEM : result == NO_DEVICE ? ENODEV : EIO;
  return say(error, "NVIDIA's driver cannot %s: %s (%d)", doing, text, result);
}

/* Leave a function with an error number where the driver refuses a call. */
#define TRY(doing, call)                            \
  do {                                              \
    const int result = (call);                      \
    if (result) return driver_error(doing, result); \
  } while (0)

static int find_driver(void) {
  void *const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return say(ENODEV, "no NVIDIA driver on this machine: %s", dlerror());
#define FOUND(name, types)                          \
  if (!(name = (int(*) types)dlsym(driver, #name))) \
    return say(ENOSYS, "the NVIDIA driver of this machine is too old: it has no %s", #name);
  DRIVER_FUNCTIONS(FOUND)
  return 0;
}

static void *context, *module, *stream, *functions[FUNCTIONS];
static int is_forked; /* from a process that had opened the GPU */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A forked child has none of its parent's GPU: whoever calls is told so, instead of waiting for ever. */
static void lose_gpu(void) {
  is_forked = context != 0;
  pthread_mutex_init(&lock, 0);
}

/* The first GPU's context, which the process shares and which stays until it ends. */
static int open_gpu(void) {
  char name[96] = "";
  int device, major, minor;
  static int is_watched;
  if (!is_watched) is_watched = !pthread_atfork(0, 0, lose_gpu);
  const int error = find_driver();
  if (error) return error;
  TRY("start", cuInit(0));
  TRY("find a GPU", cuDeviceGet(&device, 0));
  TRY("name the GPU", cuDeviceGetName(name, sizeof name, device));
  TRY("tell the GPU's architecture", cuDeviceGetAttribute(&major, CAPABILITY_MAJOR, device));
  TRY("tell the GPU's architecture", cuDeviceGetAttribute(&minor, CAPABILITY_MINOR, device));
  if (major != ARCHITECTURE / 10 || minor < ARCHITECTURE % 10)
    return say(ENOEXEC, "this was compiled for sm_%d, and the GPU of this machine, %s, is sm_%d%d", ARCHITECTURE, name,
               major, minor);
  TRY("open the GPU", cuDevicePrimaryCtxRetain(&context, device));
  return 0;
}

/* Work with the GPU, which is opened first; the caller's own context is the current one again afterwards. */
static int with_gpu(int (*work)(const void *), const void *given) {
  void *unused;
  if (is_forked)
    return say(EIO, "this process was forked from one that had opened the GPU, and cannot use it: start a new one");
  int error = context ? 0 : open_gpu();
  if (error) return error;
  TRY("switch to the GPU", cuCtxPushCurrent_v2(context));
  error = work(given);
  cuCtxPopCurrent_v2(&unused);
  return error;
}

/* A stream, and the functions of the code. */
static int load_code(void) {
  TRY("make a stream", cuStreamCreate(&stream, NON_BLOCKING));
  TRY("load the kernels", cuModuleLoadData(&module, ofa_device_code + CODE_AT));
  for (int i = 0; i < FUNCTIONS; ++i)
    TRY("find a kernel", cuModuleGetFunction(&functions[i], module, function_names[i]));
  return 0;
}

static void unload_code(void) {
  if (module) cuModuleUnload(module);
  if (stream) cuStreamDestroy_v2(stream);
  module = stream = 0;
}

typedef struct {
  int function; /* its number */
  unsigned grid[3], threads, cluster;
  int arguments;
  int64_t places[MOST_ARGUMENTS]; /* of the arguments, in bytes from where the memory begins */
} launch_t;

/* Put a launch into the stream. `overlaps`: it may start before the kernel before it has ended. */
static int enqueue(const launch_t *launch, address_t memory, int overlaps) {
  attribute_t attributes[2] = {{0}};
  address_t values[MOST_ARGUMENTS];
  void *arguments[MOST_ARGUMENTS];
  unsigned count = 0;
  for (int i = 0; i < launch->arguments; ++i) {
    values[i] = memory + (address_t)launch->places[i];
    arguments[i] = &values[i];
  }
  if (launch->cluster > 1) {
    attributes[count].id = CLUSTER_DIMENSION;
    attributes[count].value.cluster.x = attributes[count].value.cluster.y = 1;
    attributes[count++].value.cluster.z = launch->cluster;
  }
  if (overlaps && ARCHITECTURE >= 90) {
    attributes[count].id = PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes[count++].value.is_on = 1;
  }
  const configuration_t how = {
      {launch->grid[0], launch->grid[1], launch->grid[2]}, {launch->threads, 1, 1}, 0, stream, attributes, count};
  TRY("launch a kernel", cuLaunchKernelEx(&how, functions[launch->function], arguments, 0));
  return 0;
}

/* Make a graph of what a function puts into the stream, ready to be launched. */
static int record(int (*put)(const void *), const void *given, void **recorded) {
  void *graph = 0;
  TRY("begin a graph", cuStreamBeginCapture_v2(stream, CAPTURE_OF_THIS_THREAD));
  int error = put(given);
  const int ended = cuStreamEndCapture(stream, &graph); /* in any case: the stream would stay what it is */
  if (!error && ended) error = driver_error("end a graph", ended);
  if (!error) {
    const int made = cuGraphInstantiateWithFlags(recorded, graph, 0);
    if (made) error = driver_error("make a graph", made);
  }
  if (graph) cuGraphDestroy(graph);
  if (error) return error;
  TRY("upload a graph", cuGraphUpload(*recorded, stream));
  TRY("upload a graph", cuStreamSynchronize(stream));
  return 0;
}
