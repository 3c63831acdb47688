// Files that hold what is to be classified.
#pragma once

#include <string>
#include <vector>

#include "model.h"

namespace ofa_tvm {

// Normalised images, and which image of which file each one is.
struct Samples {
  std::vector<float> values;
  std::vector<std::string> files;
  std::vector<size_t> numbers;

  size_t count() const { return files.size(); }
};

// Read files of any kind, for a model. Throws bad_input.
Samples read_inputs(const std::vector<std::string> &paths, const Model &model);

}  // namespace ofa_tvm
