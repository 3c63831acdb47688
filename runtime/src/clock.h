// Time that only goes forward.
#pragma once

#include <ctime>

namespace ofa_tvm {

inline double now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

// Does nothing where the time has passed.
inline void sleep_ms(double ms) {
  if (!(ms > 0)) return;
  const timespec length = {static_cast<time_t>(ms / 1e3),
                           static_cast<long>(1e6 * (ms - 1e3 * static_cast<double>(static_cast<time_t>(ms / 1e3))))};
  nanosleep(&length, nullptr);
}

}  // namespace ofa_tvm
