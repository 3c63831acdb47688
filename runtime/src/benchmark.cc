#include "benchmark.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include "clock.h"
#include "median.h"

namespace ofa_tvm {
namespace {

constexpr size_t kAlignment = 64;  // a library copies images that are not aligned

using Floats = std::unique_ptr<float, decltype(&std::free)>;

Floats aligned_copy(const float *values, size_t count) {
  const size_t bytes = (count * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
  Floats copy(static_cast<float *>(std::aligned_alloc(kAlignment, bytes)), std::free);
  if (!copy) throw std::bad_alloc();
  std::copy(values, values + count, copy.get());
  return copy;
}

std::vector<double> sorted(const std::vector<Window> &windows, double Window::*figure) {
  std::vector<double> values;
  for (const Window &window : windows) values.push_back(window.*figure);
  std::sort(values.begin(), values.end());
  return values;
}

double middle(const std::vector<Window> &windows, double Window::*figure) { return median(sorted(windows, figure)); }

}  // namespace

Timing time_model(Model &model, const float *images, const WindowPlan &plan) {
  const Floats given = aligned_copy(images, static_cast<size_t>(model.batch) * model.image_floats());
  std::vector<Window> windows;
  double start = now_ms();
  for (int number = 0; number < plan.windows; ++number) {
    if (number) {
      sleep_ms(start + plan.gap_ms - now_ms());
      start = now_ms();
      model.load_again();  // its code and memory lie elsewhere then, which changes its speed
    }
    windows.push_back(model.window(given.get(), plan.window_ms));
  }
  const std::vector<Window> told = counted(windows);
  const std::vector<double> p50_ms = sorted(told, &Window::p50_ms);
  Timing timing = {windows,
                   median(p50_ms),
                   middle(told, &Window::p90_ms),
                   middle(told, &Window::p99_ms),
                   middle(windows, &Window::any_p50_ms),
                   middle(windows, &Window::any_p90_ms),
                   middle(windows, &Window::any_p99_ms),
                   p50_ms.front(),
                   p50_ms.back(),
                   0,
                   0,
                   middle(told, &Window::calibration_ms)};
  for (const Window &window : windows) {
    timing.calls += window.calls;
    timing.left_out += window.left_out;
  }
  return timing;
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
