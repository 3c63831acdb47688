// What a library tells of a window of single calls: see `ofa_tvm_window`. Times in ms.
#pragma once

#include <algorithm>
#include <vector>

namespace ofa_tvm {

struct Window {
  double p50_ms, p90_ms, p99_ms;              // of the calls that nothing disturbed
  double any_p50_ms, any_p90_ms, any_p99_ms;  // of all calls
  double calls, left_out;
  double on_cpu;          // share of the time that all threads were on a CPU
  double calibration_ms;  // of the library's calibration kernel
};

inline constexpr int kFigures = 10;
static_assert(sizeof(Window) == kFigures * sizeof(double));

inline constexpr size_t kFewestWindows = 3;
inline constexpr double kFewestCalls = 3, kLeastKept = 0.25;

// Those windows of which enough calls were undisturbed; all where these are too few.
inline std::vector<Window> counted(const std::vector<Window> &windows) {
  std::vector<Window> sound;
  for (const Window &one : windows) {
    const double enough = std::max(std::min(kFewestCalls, one.calls), kLeastKept * one.calls);
    if (one.calls - one.left_out >= enough) sound.push_back(one);
  }
  return sound.size() < kFewestWindows ? windows : sound;
}

}  // namespace ofa_tvm
