#include "report.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <numeric>

#include "json.h"
#include "text.h"

namespace ofa_tvm {
namespace {

constexpr int kSchemaVersion = 1;
constexpr double kMany = 0.1;   // a share of interrupted calls that is worth a word
constexpr double kMoved = 1.1;  // a calibration kernel so many times slower or faster is worth a word

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

// The calibration kernel's time over what it was when the bundle was made; 0 where either is not known.
double slowness(const Timing &timing, const Model &model) {
  return model.manifest && model.manifest->calibration_ms > 0 ? timing.calibration_ms / model.manifest->calibration_ms
                                                              : 0;
}

std::string benchmark_text(const Benchmark &benchmark, const Model &model) {
  const Timing &timing = benchmark.timing;
  std::string text =
      format("one call    %.4f ms p50 (%.4f to %.4f in %zu windows), %.4f p90, %.4f p99; batch %d, ", timing.p50_ms,
             timing.fastest_ms, timing.slowest_ms, timing.windows.size(), timing.p90_ms, timing.p99_ms, model.batch);
  text += model.threads() ? format("%d threads\n", model.threads()) : "threads unknown\n";
  text += format("            of %.0f single calls, %.0f left out: other work interrupted them", timing.calls,
                 timing.left_out);
  text += timing.calls - timing.left_out < kLeastKept * timing.calls ? ", too many to trust these figures\n" : "\n";
  if (timing.left_out > kMany * timing.calls) {
    text += format("            with those %.4f ms p50, %.4f p90, %.4f p99: what a user of this machine sees now\n",
                   timing.any_p50_ms, timing.any_p90_ms, timing.any_p99_ms);
  }
  const double ratio = slowness(timing, model);
  if (ratio > 0) {
    text += format("calibration %.4f ms, %.2fx what it took when the bundle was made", timing.calibration_ms, ratio);
    text += ratio > kMoved       ? ": this machine is slower or busier now, and so is the network\n"
            : ratio < 1 / kMoved ? ": this machine is faster now, and so is the network\n"
                                 : "\n";
  }
  text += format("load        %.2f ms, then %.2f ms for the first run\n", benchmark.load_ms, benchmark.first_ms);
  const double memory = static_cast<double>(benchmark.peak_memory_bytes) / 1e6;
  text += memory > 0 ? format("memory      %.1f MB at most\n", memory) : "memory      unknown: no /proc\n";
  text += format("size        %.2f MB library, %.2f MB runner\n", static_cast<double>(benchmark.library_bytes) / 1e6,
                 static_cast<double>(benchmark.runner_bytes) / 1e6);
  return text;
}

Json windows_json(const Timing &timing) {
  Json::Items windows;
  for (const Window &one : timing.windows) {
    windows.push_back(Json::Members{{"p50_ms", one.p50_ms},
                                    {"p90_ms", one.p90_ms},
                                    {"p99_ms", one.p99_ms},
                                    {"any_p50_ms", one.any_p50_ms},
                                    {"any_p90_ms", one.any_p90_ms},
                                    {"any_p99_ms", one.any_p99_ms},
                                    {"calls", static_cast<int64_t>(one.calls)},
                                    {"left_out", static_cast<int64_t>(one.left_out)},
                                    {"on_cpu", one.on_cpu},
                                    {"calibration_ms", one.calibration_ms}});
  }
  return windows;
}

Json benchmark_json(const Benchmark &benchmark, const Model &model) {
  const Timing &timing = benchmark.timing;
  const double ratio = slowness(timing, model);
  return Json::Members{{"batch", model.batch},
                       {"threads", model.threads() ? Json(model.threads()) : Json()},
                       {"p50_ms", timing.p50_ms},
                       {"p90_ms", timing.p90_ms},
                       {"p99_ms", timing.p99_ms},
                       {"fastest_ms", timing.fastest_ms},
                       {"slowest_ms", timing.slowest_ms},
                       {"calls", static_cast<int64_t>(timing.calls)},
                       {"left_out", static_cast<int64_t>(timing.left_out)},
                       {"calibration_ms", timing.calibration_ms},
                       {"calibration_ratio", ratio > 0 ? Json(ratio) : Json()},
                       {"windows", windows_json(timing)},
                       {"load_ms", benchmark.load_ms},
                       {"first_ms", benchmark.first_ms},
                       {"peak_memory_bytes", benchmark.peak_memory_bytes ? Json(benchmark.peak_memory_bytes) : Json()},
                       {"library_bytes", benchmark.library_bytes},
                       {"runner_bytes", benchmark.runner_bytes}};
}

Json result_json(const Report &report, size_t sample) {
  Json::Items top;
  for (const Answer &answer : best(report, sample)) {
    top.push_back(Json::Members{{"class", answer.number},
                                {"name", answer.name.empty() ? Json() : Json(answer.name)},
                                {"logit", answer.logit},
                                {"probability", answer.probability}});
  }
  return Json::Members{
      {"input", report.samples.files[sample]}, {"image", report.samples.numbers[sample]}, {"top", top}};
}

}  // namespace

std::string as_text(const Report &report) {
  std::string text;
  for (size_t sample = 0; sample < report.samples.count(); ++sample) {
    text += printable(title(report.samples, sample)) + "\n";
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
  for (size_t sample = 0; sample < report.samples.count(); ++sample) results.push_back(result_json(report, sample));
  Json::Members record = {{"schema_version", kSchemaVersion},
                          {"bundle", model.path},
                          {"subnet", model.manifest ? Json(model.manifest->subnet) : Json()},
                          {"results", results}};
  if (report.benchmark) record.emplace_back("benchmark", benchmark_json(*report.benchmark, model));
  return Json(record).dump() + "\n";
}

std::string as_lines(const Report &report) {
  std::string lines;
  for (size_t sample = 0; sample < report.samples.count(); ++sample) lines += result_json(report, sample).line();
  return lines;
}

}  // namespace ofa_tvm
