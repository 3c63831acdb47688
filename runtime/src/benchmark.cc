#include "benchmark.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include "clock.h"

namespace ofa_tvm {
namespace {

constexpr int kWarmUp = 10;
constexpr size_t kAlignment = 64;  // a library copies images that are not aligned

using Floats = std::unique_ptr<float, decltype(&std::free)>;

Floats aligned_copy(const float *values, size_t count) {
  const size_t bytes = (count * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
  Floats copy(static_cast<float *>(std::aligned_alloc(kAlignment, bytes)), std::free);
  if (!copy) throw std::bad_alloc();
  std::copy(values, values + count, copy.get());
  return copy;
}

// As numpy.percentile: linear between the two nearest.
double percentile(const std::vector<double> &sorted, double fraction) {
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(place), above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

Timing time_model(const Model &model, const float *images, int repeats, double min_repeat_ms) {
  const Floats given = aligned_copy(images, static_cast<size_t>(model.batch) * model.image_floats());
  std::vector<float> logits(static_cast<size_t>(model.batch) * static_cast<size_t>(model.classes));
  double once_ms = INFINITY;
  for (int i = 0; i < kWarmUp; ++i) {
    const double start = now_ms();
    model.run(given.get(), logits.data());
    once_ms = std::min(once_ms, now_ms() - start);
  }
  const long calls = std::max(1L, static_cast<long>(std::ceil(min_repeat_ms / std::max(once_ms, 1e-4))));
  std::vector<double> times_ms;
  for (long call = 0; call < repeats * calls; ++call) {  // each by itself: a mean of many has no slow ones
    const double start = now_ms();
    model.run(given.get(), logits.data());
    times_ms.push_back(now_ms() - start);
  }
  std::sort(times_ms.begin(), times_ms.end());
  return {repeats,
          calls,
          times_ms.front(),
          percentile(times_ms, 0.5),
          percentile(times_ms, 0.9),
          percentile(times_ms, 0.99)};
}

std::vector<float> random_images(const Model &model) {
  std::vector<float> values(static_cast<size_t>(model.batch) * model.image_floats());
  uint32_t state = 1;
  for (float &value : values) {  // a linear congruential generator is random enough
    state = state * 1664525 + 1013904223;
    value = static_cast<float>(state >> 8) / static_cast<float>(1 << 22) - 2;
  }
  return values;
}

uint64_t peak_memory_bytes() {
  FILE *file = std::fopen("/proc/self/status", "r");
  unsigned long kib = 0;
  char line[256];
  while (file && std::fgets(line, sizeof line, file)) {
    if (std::sscanf(line, "VmHWM: %lu", &kib) == 1) break;
  }
  if (file) std::fclose(file);
  return uint64_t{kib} * 1024;
}

}  // namespace ofa_tvm
