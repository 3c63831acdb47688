// numpy's .npy files: float32 or uint8, in C order.
#pragma once

#include <string>
#include <vector>

#include "file.h"

namespace ofa_tvm {

struct Array {
  std::vector<size_t> shape;
  bool is_float32 = false;  // else uint8
  Bytes data;

  // The numbers of a float32 array.
  std::vector<float> floats() const;
};

// Throws bad_input: it is damaged, or of another type or order.
Array read_npy(const std::string &path);

// Write a float32 array (rows, columns). Throws failed.
void write_npy(const std::string &path, const std::vector<float> &values, size_t rows, size_t columns);

}  // namespace ofa_tvm
