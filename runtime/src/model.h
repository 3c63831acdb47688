// A compiled network, loaded.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "file.h"
#include "manifest.h"
#include "window.h"

namespace ofa_tvm {

class Model {
 public:
  // Load a bundle's folder or a lone library. Throws bad_input, or failed where it does not run on this machine.
  Model(const std::string &path, bool verify);
  ~Model();
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;

  // From normalised images (batch, resolution, resolution, channels) to logits (batch, classes). Throws bad_input: an
  // image has a number that is not finite; failed.
  void run(const float *images, float *logits) const;

  // Time single calls for about so many ms. Throws failed; bad_input where the library is of a version that cannot.
  Window window(const float *images, double window_ms) const;

  // Load the library anew. Throws as the constructor does.
  void load_again();

  // Logits (count, classes) of any number of images; the last call is filled up with zeros. Throws as run.
  std::vector<float> run_all(const std::vector<float> &images) const;

  // How pixels become input. Throws bad_input: a lone library does not say.
  const Preprocess &preprocess() const;

  size_t image_floats() const;
  int threads() const { return manifest ? manifest->target.threads : 0; }  // 0: a lone library does not say

  std::string path, library;
  std::optional<Manifest> manifest;
  int batch, classes, resolution, channels;
  double load_ms;  // what the system's loader took

 private:
  void load();
  void unload();

  std::optional<OpenFile> file_;  // what was checked is what is loaded
  bool looks_beside_ = false;     // for other libraries, so it is loaded by its name
  void *loaded_ = nullptr;
  int (*run_)(const float *, float *) = nullptr;
};

}  // namespace ofa_tvm
