// The model.so of a bundle for a GPU: the functions that the runner calls, around TVM's virtual machine in network.so
// beside it. Compiled with BATCH, CLASSES, RESOLUTION, CHANNELS, TASKS and DEVICE_TYPE (DLPack's
// number). What comes after this: facts.c and window.c.
#include <dlfcn.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <cerrno>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

namespace ffi = tvm::ffi;

constexpr int kPooled = 2;  // TVM's allocator that keeps memory
constexpr DLDevice kDevice = {static_cast<DLDeviceType>(DEVICE_TYPE), 0};
constexpr size_t kImageBytes = sizeof(float) * BATCH * RESOLUTION * RESOLUTION * CHANNELS;
constexpr size_t kLogitBytes = sizeof(float) * BATCH * CLASSES;

std::string own_folder() {
  Dl_info found;
  if (!dladdr(reinterpret_cast<void *>(&own_folder), &found)) throw std::runtime_error("model.so has no path");
  const std::string path = found.dli_fname;
  return path.substr(0, path.find_last_of('/'));
}

// network.so finds functions of TVM only in libraries that everybody sees, however this one was loaded.
void share(const char *name) {
  if (!dlopen(name, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL)) throw std::runtime_error(dlerror());
}

ffi::Function function(const ffi::Module &module, const char *name) {
  const ffi::Optional<ffi::Function> found = module->GetFunction(name, true);
  if (found.has_value()) return found.value();
  throw std::runtime_error(std::string("network.so has no function ") + name);
}

class Network {
 public:
  Network() {
    share("libtvm_ffi.so");
    share("libtvm_runtime.so");
    const ffi::Module loaded = ffi::Module::LoadFromFile(own_folder() + "/network.so");
    const ffi::Module machine = function(loaded, "vm_load_executable")().cast<ffi::Module>();
    function(machine, "vm_initialization")(DEVICE_TYPE, 0, kPooled, static_cast<int>(kDLCPU), 0, kPooled);
    main_ = function(machine, "main");
    const ffi::Function allocate = ffi::Function::GetGlobalRequired("runtime.TVMTensorAllocWithScope");
    const ffi::Shape shape{BATCH, RESOLUTION, RESOLUTION, CHANNELS};
    images_ = allocate(shape, DLDataType{kDLFloat, 32, 1}, kDevice, nullptr).cast<ffi::Tensor>();
    fill_ = ffi::Function::GetGlobalRequired("runtime.TVMTensorCopyFromBytes");
    read_ = ffi::Function::GetGlobalRequired("runtime.TVMTensorCopyToBytes");
  }

  // Copies in and out wait for the device.
  void run(const float *images, float *logits) const {
    fill_(images_, const_cast<void *>(static_cast<const void *>(images)), static_cast<int64_t>(kImageBytes));
    const ffi::Tensor made = main_(images_).cast<ffi::Tensor>();
    read_(made, static_cast<void *>(logits), static_cast<int64_t>(kLogitBytes));
  }

 private:
  ffi::Function main_, fill_, read_;
  ffi::Tensor images_;
};

std::mutex mutex;

}  // namespace

// 0, or an error number after a word on stderr.
EXPORT int ofa_tvm_run(const float *images, float *logits) {
  const std::lock_guard<std::mutex> alone(mutex);
  try {
    // Never freed: at the program's end the driver may be gone before it.
    static const Network *const network = new Network();
    network->run(images, logits);
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "model.so: %s\n", error.what());
    return EIO;
  }
}
