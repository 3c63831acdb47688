// What a bundle says of itself: manifest.json, as far as running needs it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "file.h"
#include "image.h"

namespace ofa_tvm {

inline const char kLibrary[] = "model.so";
inline const char kManifest[] = "manifest.json";
inline const char kCopyAgain[] =
    "copy the bundle again from where it was made, or make it again with 'python -m ofa_tvm.deploy'";

struct FileFacts {
  std::string name, sha256;
  uint64_t bytes;
};

// What the library was compiled for.
struct Target {
  std::string mcpu;
  std::vector<std::string> mattr;
  int threads = 0;
};

struct Manifest {
  std::string subnet;
  std::vector<int> input_shape;  // batch, height, width, channels
  int classes;
  std::vector<std::string> class_names;
  Preprocess preprocess;
  Target target;
  std::vector<FileFacts> files;
  double calibration_ms = 0;  // of the library's calibration kernel when the bundle was made; 0: not known
};

// Throws bad_input: there is none, it is damaged, or of a version that this program does not read.
Manifest read_manifest(const std::string &folder);

// Check the library's bytes, and what else is there of the files that the manifest vouches for. Throws bad_input.
void verify_files(const std::string &folder, const Manifest &manifest, const Bytes &library);

}  // namespace ofa_tvm
