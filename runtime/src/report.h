// What is printed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "benchmark.h"
#include "inputs.h"

namespace ofa_tvm {

struct Benchmark {
  Timing timing;
  double load_ms, first_ms;  // the system's loader; the first run
  uint64_t peak_memory_bytes, library_bytes, runner_bytes;
};

struct Report {
  const Model &model;
  Samples samples;
  std::vector<float> logits;
  int top;
  std::optional<Benchmark> benchmark;
};

std::string as_text(const Report &report);
std::string as_json(const Report &report);

// One JSON object a line for each image, without the benchmark.
std::string as_lines(const Report &report);

}  // namespace ofa_tvm
