// The middle of numbers.
#pragma once

#include <algorithm>
#include <vector>

namespace ofa_tvm {

// Of one number or more.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

}  // namespace ofa_tvm
