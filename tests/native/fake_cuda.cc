// The functions of NVIDIA's driver that compiler/native/cuda_driver.c calls, on a CPU: a libcuda.so.1 for tests.
// What should be a cubin names a library of emulated kernels (tests/fake_gpu.py). The GPU's memory is this process's,
// all ones until it is written; streams do at once what they are given, or record it; arguments are checked as hardware
// would.
//   FAKE_CUDA_ARCHITECTURE  of the GPU (90)
//   FAKE_CUDA_LAUNCHES      a file that gets a line for each launch: kernel, grid, threads, cluster, overlaps, recorded
//   FAKE_CUDA_FAILS         NAME=RESULT,...: functions that fail
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

using address_t = unsigned long long;
using Work = std::function<void()>;
using Clock = std::chrono::steady_clock;

enum { kInvalidValue = 1, kNotInitialized = 3, kNoContext = 201, kNotFound = 500, kNotReady = 600 };
enum { kClusterDimension = 4, kProgrammaticStreamSerialization = 6 };

struct Stream {
  bool records = false;
  std::vector<Work> work;
};
struct Graph {
  std::vector<Work> work;
};
struct Event {
  Clock::time_point at;
};
struct Function {
  std::string name;
  void (*launch)(const unsigned *grid, int threads, int cluster, void **arguments);
  int arguments;
};
// As cuda.h has them.
struct Attribute {
  int id;
  char padding[4];
  union {
    struct {
      unsigned x, y, z;
    } cluster;
    int is_on;
    char room[64];
    void *pointer;
  } value;
};
struct Configuration {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  void *stream;
  Attribute *attributes;
  unsigned attribute_count;
};

std::mutex mutex;
bool is_started;
int context;  // its address is the context
// Of contexts that are current; without a destructor, as libraries are released at the very end.
thread_local int depth;
std::map<address_t, size_t> blocks, host_blocks;

const char *setting(const char *name, const char *otherwise) {
  const char *found = std::getenv(name);
  return found ? found : otherwise;
}

int failure(const char *name) {
  const std::string fails = "," + std::string(setting("FAKE_CUDA_FAILS", "")), wanted = "," + std::string(name) + "=";
  const size_t at = fails.find(wanted);
  return at == std::string::npos ? 0 : std::atoi(fails.c_str() + at + wanted.size());
}

bool is_within(const std::map<address_t, size_t> &all, address_t at, size_t bytes) {
  auto block = all.upper_bound(at);
  if (block == all.begin()) return false;
  --block;
  return at + bytes <= block->first + block->second;
}

int put(void *stream, Work work) {
  auto *const into = static_cast<Stream *>(stream);
  if (into->records)
    into->work.push_back(std::move(work));
  else
    work();
  return 0;
}

int allocate(std::map<address_t, size_t> &all, void **memory, size_t bytes) {
  constexpr size_t kAlignment = 256;
  *memory = aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  std::memset(*memory, 0xff, bytes);
  all[reinterpret_cast<address_t>(*memory)] = bytes;
  return 0;
}

int release(std::map<address_t, size_t> &all, address_t memory) {
  if (!all.erase(memory)) return kInvalidValue;
  std::free(reinterpret_cast<void *>(memory));
  return 0;
}

}  // namespace

// Every function may be told to fail; all but the first few need a current context.
#define BEGIN(name)                                     \
  if (const int failed = failure(#name)) return failed; \
  const std::lock_guard<std::mutex> alone(mutex);
#define BEGIN_IN_CONTEXT(name) \
  BEGIN(name)                  \
  if (!depth) return kNoContext;

extern "C" {

int cuInit(unsigned) {
  BEGIN(cuInit)
  is_started = true;
  return 0;
}
int cuGetErrorString(int result, const char **text) {
  static const std::map<int, const char *> texts = {{1, "invalid argument"},
                                                    {2, "out of memory"},
                                                    {100, "no CUDA-capable device is detected"},
                                                    {201, "invalid context"},
                                                    {500, "named symbol not found"},
                                                    {700, "an illegal memory access was encountered"},
                                                    {209, "no kernel image is available for execution on the device"}};
  const auto found = texts.find(result);
  *text = found == texts.end() ? nullptr : found->second;
  return found == texts.end();
}
int cuDeviceGet(int *device, int number) {
  BEGIN(cuDeviceGet)
  *device = number;
  return is_started ? 0 : kNotInitialized;
}
int cuDeviceGetName(char *name, int bytes, int) {
  std::snprintf(name, bytes, "Fake GPU");
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
  const int architecture = std::atoi(setting("FAKE_CUDA_ARCHITECTURE", "90"));
  if (attribute != 75 && attribute != 76) return kInvalidValue;
  *value = attribute == 75 ? architecture / 10 : architecture % 10;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **retained, int) {
  BEGIN(cuDevicePrimaryCtxRetain)
  *retained = &context;
  return is_started ? 0 : kNotInitialized;
}
int cuCtxPushCurrent_v2(void *pushed) {
  BEGIN(cuCtxPushCurrent_v2)
  if (pushed != &context) return kNoContext;
  ++depth;
  return 0;
}
int cuCtxPopCurrent_v2(void **popped) {
  BEGIN_IN_CONTEXT(cuCtxPopCurrent_v2)
  *popped = &context;
  --depth;
  return 0;
}
int cuCtxSynchronize() {
  BEGIN_IN_CONTEXT(cuCtxSynchronize)
  return 0;
}

int cuModuleLoadData(void **module, const void *image) {
  BEGIN_IN_CONTEXT(cuModuleLoadData)
  *module = dlopen(static_cast<const char *>(image), RTLD_NOW | RTLD_LOCAL);
  if (!*module) std::fprintf(stderr, "%s\n", dlerror());
  return *module ? 0 : 209;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  BEGIN_IN_CONTEXT(cuModuleGetFunction)
  auto *const made = new Function{name};
  made->launch = reinterpret_cast<decltype(made->launch)>(dlsym(module, (made->name + "_launch").c_str()));
  auto *const arguments = static_cast<int *>(dlsym(module, (made->name + "_arguments").c_str()));
  if (!made->launch || !arguments) return kNotFound;
  made->arguments = *arguments;
  *function = made;
  return 0;
}
int cuModuleUnload(void *module) {
  BEGIN_IN_CONTEXT(cuModuleUnload)
  return dlclose(module);
}

int cuMemAlloc_v2(address_t *memory, size_t bytes) {
  BEGIN_IN_CONTEXT(cuMemAlloc_v2)
  return allocate(blocks, reinterpret_cast<void **>(memory), bytes);
}
int cuMemFree_v2(address_t memory) {
  BEGIN_IN_CONTEXT(cuMemFree_v2)
  return release(blocks, memory);
}
int cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
  BEGIN_IN_CONTEXT(cuMemHostAlloc)
  return allocate(host_blocks, memory, bytes);
}
int cuMemFreeHost(void *memory) {
  BEGIN_IN_CONTEXT(cuMemFreeHost)
  return release(host_blocks, reinterpret_cast<address_t>(memory));
}
int cuMemsetD8Async(address_t to, unsigned char value, size_t bytes, void *stream) {
  BEGIN_IN_CONTEXT(cuMemsetD8Async)
  if (!is_within(blocks, to, bytes)) return kInvalidValue;
  return put(stream, [=] { std::memset(reinterpret_cast<void *>(to), value, bytes); });
}
int cuMemcpyHtoDAsync_v2(address_t to, const void *from, size_t bytes, void *stream) {
  BEGIN_IN_CONTEXT(cuMemcpyHtoDAsync_v2)
  if (!is_within(blocks, to, bytes)) return kInvalidValue;
  return put(stream, [=] { std::memcpy(reinterpret_cast<void *>(to), from, bytes); });
}
int cuMemcpyDtoHAsync_v2(void *to, address_t from, size_t bytes, void *stream) {
  BEGIN_IN_CONTEXT(cuMemcpyDtoHAsync_v2)
  if (!is_within(blocks, from, bytes)) return kInvalidValue;
  return put(stream, [=] { std::memcpy(to, reinterpret_cast<const void *>(from), bytes); });
}

int cuStreamCreate(void **stream, unsigned) {
  BEGIN_IN_CONTEXT(cuStreamCreate)
  *stream = new Stream();
  return 0;
}
int cuStreamDestroy_v2(void *stream) {
  BEGIN_IN_CONTEXT(cuStreamDestroy_v2)
  delete static_cast<Stream *>(stream);
  return 0;
}
int cuStreamSynchronize(void *stream) {
  BEGIN_IN_CONTEXT(cuStreamSynchronize)
  return static_cast<Stream *>(stream)->records ? 900 : 0;
}
int cuStreamBeginCapture_v2(void *stream, int) {
  BEGIN_IN_CONTEXT(cuStreamBeginCapture_v2)
  static_cast<Stream *>(stream)->records = true;
  return 0;
}
int cuStreamEndCapture(void *stream, void **graph) {
  BEGIN_IN_CONTEXT(cuStreamEndCapture)
  auto *const from = static_cast<Stream *>(stream);
  *graph = new Graph{std::move(from->work)};
  *from = Stream();
  return 0;
}

int cuLaunchKernelEx(const Configuration *how, void *function, void **arguments, void **) {
  BEGIN_IN_CONTEXT(cuLaunchKernelEx)
  const auto *const kernel = static_cast<const Function *>(function);
  unsigned cluster = 1, overlaps = 0;
  for (unsigned i = 0; i < how->attribute_count; ++i) {
    const Attribute &one = how->attributes[i];
    if (one.id == kClusterDimension)
      cluster = one.value.cluster.x * one.value.cluster.y * one.value.cluster.z;
    else if (one.id == kProgrammaticStreamSerialization)
      overlaps = one.value.is_on;
    else
      return kInvalidValue;
  }
  if (!cluster || how->grid_z % cluster || how->block_x < 1 || how->block_x > 1024 || how->block_y != 1 ||
      how->block_z != 1 || how->shared_bytes) {
    return kInvalidValue;
  }
  std::vector<address_t> values;
  for (int i = 0; i < kernel->arguments; ++i) {
    values.push_back(*static_cast<address_t *>(arguments[i]));
    if (values.back() % 16 || !is_within(blocks, values.back(), 1)) return kInvalidValue;
  }
  const std::vector<unsigned> grid = {how->grid_x, how->grid_y, how->grid_z};
  const int threads = how->block_x;
  if (const char *path = std::getenv("FAKE_CUDA_LAUNCHES")) {
    std::FILE *const file = std::fopen(path, "a");
    std::fprintf(file, "%s %u %u %u %d %u %u %d\n", kernel->name.c_str(), grid[0], grid[1], grid[2], threads, cluster,
                 overlaps, static_cast<Stream *>(how->stream)->records);
    std::fclose(file);
  }
  return put(how->stream, [=]() mutable {
    std::vector<void *> given;
    for (address_t &value : values) given.push_back(&value);
    kernel->launch(grid.data(), threads, static_cast<int>(cluster), given.data());
  });
}

int cuGraphInstantiateWithFlags(void **made, void *graph, unsigned long long) {
  BEGIN_IN_CONTEXT(cuGraphInstantiateWithFlags)
  *made = new Graph(*static_cast<Graph *>(graph));
  return 0;
}
int cuGraphDestroy(void *graph) {
  delete static_cast<Graph *>(graph);
  return 0;
}
int cuGraphExecDestroy(void *made) {
  delete static_cast<Graph *>(made);
  return 0;
}
int cuGraphUpload(void *, void *) {
  BEGIN_IN_CONTEXT(cuGraphUpload)
  return 0;
}
int cuGraphLaunch(void *made, void *) {
  BEGIN_IN_CONTEXT(cuGraphLaunch)
  for (Work &work : static_cast<Graph *>(made)->work) work();
  return 0;
}

int cuEventCreate(void **event, unsigned) {
  BEGIN_IN_CONTEXT(cuEventCreate)
  *event = new Event();
  return 0;
}
int cuEventDestroy_v2(void *event) {
  delete static_cast<Event *>(event);
  return 0;
}
int cuEventRecord(void *event, void *stream) {
  BEGIN_IN_CONTEXT(cuEventRecord)
  return put(stream, [=] { static_cast<Event *>(event)->at = Clock::now(); });
}
int cuEventElapsedTime(float *ms, void *first, void *second) {
  BEGIN_IN_CONTEXT(cuEventElapsedTime)
  const auto span = static_cast<Event *>(second)->at - static_cast<Event *>(first)->at;
  *ms = std::chrono::duration<float, std::milli>(span).count();
  return 0;
}

}  // extern "C"
