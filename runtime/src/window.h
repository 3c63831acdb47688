// What a library tells of a window of single calls: see `ofa_tvm_window`. Times in ms.
#pragma once

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

}  // namespace ofa_tvm
