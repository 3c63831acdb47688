// How fast a model is.
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"

namespace ofa_tvm {

struct WindowPlan {
  int windows = 3;
  double window_ms = 400, gap_ms = 1000;  // from the start of one to the start of the next at least
};

// What the windows tell together, each of them on another load of the library; times in ms. See `counted`.
struct Timing {
  std::vector<Window> windows;
  double p50_ms, p90_ms, p99_ms;              // medians of the counted windows'
  double any_p50_ms, any_p90_ms, any_p99_ms;  // likewise, of all calls
  double fastest_ms, slowest_ms;              // the windows' p50
  double calls, left_out;                     // of all windows
  double calibration_ms;                      // median
};

// Time a model on a batch of images. Throws failed or bad_input.
Timing time_model(Model &model, const float *images, const WindowPlan &plan);

// Numbers like those of normalised images, the same in every run.
std::vector<float> random_images(const Model &model);

// Most memory that this process has held so far; 0 where the system does not say.
uint64_t peak_memory_bytes();

}  // namespace ofa_tvm
