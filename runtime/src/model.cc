#include "model.h"

#include <dlfcn.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "clock.h"
#include "cpu.h"
#include "error.h"
#include "file.h"
#include "old_glibc.h"

OFA_TVM_FIRST_VERSION(dlopen, dlopen);
OFA_TVM_FIRST_VERSION(dlsym, dlsym);
OFA_TVM_FIRST_VERSION(dlerror, dlerror);
OFA_TVM_FIRST_VERSION(dlclose, dlclose);

namespace ofa_tvm {
namespace {

using Run = int (*)(const float *, float *);
using Number = int (*)();
using Time = int (*)(const float *, float *, double, double *);

void *symbol(void *loaded, const std::string &library, const char *name) {
  void *found = dlsym(loaded, name);
  if (found) return found;
  throw bad_input(library + " has no function " + name, "make it again with 'python -m ofa_tvm.deploy'");
}

// With a slash in it, as the system's loader would look elsewhere otherwise.
std::string full_path(const std::string &path) {
  char full[PATH_MAX];
  return realpath(path.c_str(), full) ? full : path;
}

// Whether a library asks the loader for others beside it, as a GPU's does: it needs its path in the folder.
bool looks_beside(const Bytes &library) {
  static const std::string origin = "$ORIGIN";
  return std::search(library.begin(), library.end(), origin.begin(), origin.end()) != library.end();
}

// Whether no number has an exponent of ones only, which NaN and infinity have. Without a branch, so several at once.
__attribute__((optimize("tree-vectorize"))) bool is_finite(const float *values, size_t count) {
  uint32_t carried = 0;
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], sizeof bits);
    carried |= (bits & 0x7f800000) + 0x00800000;
  }
  return !(carried >> 31);
}

// A library says more on stderr where the number does not tell all.
Error not_run(const std::string &library, int error) {
  const bool lacks = error == ENOMEM || error == EAGAIN;
  return failed(library + " did not run: " + strerror(error), lacks ? "free memory, or allow more threads" : "");
}

}  // namespace

Model::Model(const std::string &path, bool verify) : path(path), library(path) {
  if (is_folder(path)) {
    manifest = read_manifest(path);
    library = path + "/" + kLibrary;
    if (!is_file(library)) throw bad_input(library + " is missing from the bundle", kCopyAgain);
  }
  file_.emplace(library, "library");
  const Bytes content = file_->read();
  if (manifest && verify) verify_files(path, *manifest, content);
  looks_beside_ = looks_beside(content);
  check_library(library, content, manifest ? &manifest->target : nullptr);
  try {
    const double start = now_ms();
    load();
    load_ms = now_ms() - start;
    batch = reinterpret_cast<Number>(symbol(loaded_, library, "ofa_tvm_batch"))();
    classes = reinterpret_cast<Number>(symbol(loaded_, library, "ofa_tvm_classes"))();
    resolution = reinterpret_cast<Number>(symbol(loaded_, library, "ofa_tvm_resolution"))();
    channels = reinterpret_cast<Number>(symbol(loaded_, library, "ofa_tvm_channels"))();
    const std::vector<int> shape = {batch, resolution, resolution, channels};
    if (manifest && (manifest->input_shape != shape || manifest->classes != classes)) {
      throw bad_input(library + " is not the network that the manifest describes", kCopyAgain);
    }
  } catch (...) {
    unload();
    throw;
  }
}

// What to do where the system's loader refuses a library.
static const char *what_helps(const std::string &why) {
  if (why.find("GLIBC_") != std::string::npos)
    return "this system's glibc is too old for it: deploy on an older system";
  if (why.find("libcuda.so") == std::string::npos) return "";
  return "NVIDIA's driver is missing on this machine: install version 580 or newer";
}

void Model::load() {
  const std::string opened = looks_beside_ ? "" : file_->descriptor_path();
  const std::string from = opened.empty() ? full_path(library) : opened;
  loaded_ = dlopen(from.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!loaded_) {
    std::string why = dlerror();
    if (why.compare(0, from.size() + 2, from + ": ") == 0) why.erase(0, from.size() + 2);
    throw failed(library + " cannot be loaded: " + why, what_helps(why));
  }
  run_ = reinterpret_cast<Run>(symbol(loaded_, library, "ofa_tvm_run"));
}

void Model::unload() {
  if (!loaded_) return;
  dlclose(loaded_);
  loaded_ = nullptr;
  // Some libraries stay. To the system's loader, the next one of the same path would be this one.
  const std::string opened = looks_beside_ ? "" : file_->descriptor_path();
  if (void *stays = opened.empty() ? nullptr : dlopen(opened.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
    dlclose(stays);
    file_->keep();
  }
}

void Model::load_again() {
  unload();
  load();
}

Model::~Model() { unload(); }

void Model::run(const float *images, float *logits) const {
  const size_t at_once = static_cast<size_t>(batch);
  if (!is_finite(images, at_once * image_floats()))
    throw bad_input("an image has a number that is not finite", "give finite numbers");
  const int error = run_(images, logits);
  if (error) throw not_run(library, error);
  if (!is_finite(logits, at_once * static_cast<size_t>(classes)))
    throw failed(library + " answers with numbers that are not finite", "give images that are normalised");
}

Window Model::window(const float *images, double window_ms) const {
  std::vector<float> logits(static_cast<size_t>(batch) * static_cast<size_t>(classes));
  double figures[kFigures];
  const auto time = reinterpret_cast<Time>(symbol(loaded_, library, "ofa_tvm_window"));
  const int error = time(images, logits.data(), window_ms, figures);
  if (error) throw not_run(library, error);
  Window window;
  std::memcpy(&window, figures, sizeof window);
  return window;
}

std::vector<float> Model::run_all(const std::vector<float> &images) const {
  const size_t count = images.size() / image_floats(), at_once = static_cast<size_t>(batch);
  const size_t each = static_cast<size_t>(classes);
  std::vector<float> given(at_once * image_floats()), found(at_once * each), logits;
  for (size_t start = 0; start < count; start += at_once) {
    const size_t here = std::min(at_once, count - start);
    const auto from = images.begin() + static_cast<std::ptrdiff_t>(start * image_floats());
    const auto filled = std::copy(from, from + static_cast<std::ptrdiff_t>(here * image_floats()), given.begin());
    std::fill(filled, given.end(), 0.0F);
    run(given.data(), found.data());
    logits.insert(logits.end(), found.begin(), found.begin() + static_cast<std::ptrdiff_t>(here * each));
  }
  return logits;
}

const Preprocess &Model::preprocess() const {
  if (manifest && channels == 3) return manifest->preprocess;
  throw bad_input(path + " does not say how pixels become its input",
                  manifest ? "give normalised float32 numbers, as .npy or .raw"
                           : "name the whole bundle, or give normalised float32 numbers, as .npy or .raw");
}

size_t Model::image_floats() const {
  return static_cast<size_t>(resolution) * static_cast<size_t>(resolution) * static_cast<size_t>(channels);
}

}  // namespace ofa_tvm
