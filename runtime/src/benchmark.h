// How fast a model is.
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"

namespace ofa_tvm {

struct Timing {
  int repeats;
  long calls_per_repeat;
  double min_ms, p50_ms, p90_ms, p99_ms;  // of single calls, each of a whole batch
};

// Time a model on a batch of images, after a warm-up.
Timing time_model(const Model &model, const float *images, int repeats, double min_repeat_ms);

// Numbers like those of normalised images, the same in every run.
std::vector<float> random_images(const Model &model);

// Most memory that this process has held so far; 0 where the system does not say.
uint64_t peak_memory_bytes();

}  // namespace ofa_tvm
