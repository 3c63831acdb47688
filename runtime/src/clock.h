// Time that only goes forward.
#pragma once

#include <ctime>

namespace ofa_tvm {

inline double now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

}  // namespace ofa_tvm
