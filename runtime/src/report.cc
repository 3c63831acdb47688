#include "report.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <numeric>

#include "json.h"

namespace ofa_tvm {
namespace {

constexpr int kSchemaVersion = 1;

struct Answer {
  int number;
  std::string name;
  float logit, probability;
};

std::vector<Answer> best(const Report &report, size_t sample) {
  const size_t classes = static_cast<size_t>(report.model.classes);
  const float *logits = &report.logits[sample * classes];
  std::vector<size_t> order(classes);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  float sum = 0;
  for (size_t i = 0; i < classes; ++i) sum += std::exp(logits[i] - logits[order[0]]);
  order.resize(std::min(classes, static_cast<size_t>(report.top)));
  std::vector<Answer> answers;
  for (size_t i : order) {
    const bool named = report.model.manifest && i < report.model.manifest->class_names.size();
    const std::string name = named ? report.model.manifest->class_names[i] : "";
    answers.push_back({static_cast<int>(i), name, logits[i], std::exp(logits[i] - logits[order[0]]) / sum});
  }
  return answers;
}

__attribute__((format(printf, 1, 2))) std::string format(const char *text, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, text);
  std::vsnprintf(line, sizeof line, text, arguments);
  va_end(arguments);
  return line;
}

std::string title(const Samples &samples, size_t sample) {
  const bool several = std::count(samples.files.begin(), samples.files.end(), samples.files[sample]) > 1;
  return samples.files[sample] + (several ? ", image " + std::to_string(samples.numbers[sample]) : "");
}

std::string benchmark_text(const Benchmark &benchmark, const Model &model) {
  const Timing &timing = benchmark.timing;
  std::string text = format("one call    %.4f ms min, %.4f p50, %.4f p90, %.4f p99; batch %d, ", timing.min_ms,
                            timing.p50_ms, timing.p90_ms, timing.p99_ms, model.batch);
  text += model.threads() ? format("%d threads\n", model.threads()) : "threads unknown\n";
  text += format("            %d rounds of %ld single calls\n", timing.repeats, timing.calls_per_repeat);
  text += format("load        %.2f ms with the first run\n", benchmark.load_ms);
  const double memory = static_cast<double>(benchmark.peak_memory_bytes) / 1e6;
  text += memory > 0 ? format("memory      %.1f MB at most\n", memory) : "memory      unknown: no /proc\n";
  text += format("size        %.2f MB library, %.2f MB runner\n", static_cast<double>(benchmark.library_bytes) / 1e6,
                 static_cast<double>(benchmark.runner_bytes) / 1e6);
  return text;
}

Json benchmark_json(const Benchmark &benchmark, const Model &model) {
  const Timing &timing = benchmark.timing;
  return Json::Members{{"batch", model.batch},
                       {"threads", model.threads() ? Json(model.threads()) : Json()},
                       {"repeats", timing.repeats},
                       {"calls_per_repeat", timing.calls_per_repeat},
                       {"min_ms", timing.min_ms},
                       {"p50_ms", timing.p50_ms},
                       {"p90_ms", timing.p90_ms},
                       {"p99_ms", timing.p99_ms},
                       {"load_ms", benchmark.load_ms},
                       {"peak_memory_bytes", benchmark.peak_memory_bytes ? Json(benchmark.peak_memory_bytes) : Json()},
                       {"library_bytes", benchmark.library_bytes},
                       {"runner_bytes", benchmark.runner_bytes}};
}

}  // namespace

std::string as_text(const Report &report) {
  std::string text;
  for (size_t sample = 0; sample < report.samples.count(); ++sample) {
    text += title(report.samples, sample) + "\n";
    for (const Answer &answer : best(report, sample)) {
      text += format("  %6.2f %%  ", static_cast<double>(100 * answer.probability));
      text += (answer.name.empty() ? "class " + std::to_string(answer.number) : answer.name) + "\n";
    }
  }
  if (report.benchmark) text += benchmark_text(*report.benchmark, report.model);
  return text;
}

std::string as_json(const Report &report) {
  const Model &model = report.model;
  Json::Items results;
  for (size_t sample = 0; sample < report.samples.count(); ++sample) {
    Json::Items top;
    for (const Answer &answer : best(report, sample)) {
      top.push_back(Json::Members{{"class", answer.number},
                                  {"name", answer.name.empty() ? Json() : Json(answer.name)},
                                  {"logit", answer.logit},
                                  {"probability", answer.probability}});
    }
    results.push_back(Json::Members{
        {"input", report.samples.files[sample]}, {"image", report.samples.numbers[sample]}, {"top", top}});
  }
  Json::Members record = {{"schema_version", kSchemaVersion},
                          {"bundle", model.path},
                          {"subnet", model.manifest ? Json(model.manifest->subnet) : Json()},
                          {"results", results}};
  if (report.benchmark) record.emplace_back("benchmark", benchmark_json(*report.benchmark, model));
  return Json(record).dump() + "\n";
}

}  // namespace ofa_tvm
