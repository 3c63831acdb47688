// The runner's command: parse, load, run, print.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "benchmark.h"
#include "clock.h"
#include "cpu.h"
#include "error.h"
#include "file.h"
#include "inputs.h"
#include "model.h"
#include "npy.h"
#include "options.h"
#include "report.h"
#include "stream.h"
#include "text.h"

namespace {

using namespace ofa_tvm;

// The first batch of the inputs, filled up with zeros; random numbers where there are no inputs.
std::vector<float> first_batch(const Samples &samples, const Model &model) {
  if (samples.values.empty()) return random_images(model);
  std::vector<float> images(static_cast<size_t>(model.batch) * model.image_floats());
  const size_t count = std::min(images.size(), samples.values.size());
  std::copy_n(samples.values.begin(), count, images.begin());
  return images;
}

int run(const std::vector<std::string> &arguments) {
  const Options options = parse_options(arguments);
  if (options.help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  Model model(options.bundle, options.verify);
  explain_illegal_instructions(model.manifest ? model.manifest->target.mcpu : "");
  if (options.stream) return stream({options.inputs, options.list, options.workers, options.top}, model) ? 3 : 0;
  Report report{model, read_inputs(options.inputs, model), {}, options.top, {}};

  const std::vector<float> images = first_batch(report.samples, model);
  std::vector<float> logits(static_cast<size_t>(model.batch) * static_cast<size_t>(model.classes));
  const double start = now_ms();
  model.run(images.data(), logits.data());
  const double first_ms = now_ms() - start;

  report.logits = model.run_all(report.samples.values);
  if (!options.logits.empty()) {
    write_npy(options.logits, report.logits, report.samples.count(), static_cast<size_t>(model.classes));
  }
  if (options.benchmark) {
    const Timing timing = time_model(model, images.data(), options.timing);
    report.benchmark = {
        timing, model.load_ms, first_ms, peak_memory_bytes(), file_bytes(model.library), file_bytes(own_path())};
  }
  const std::string text = options.json ? as_json(report) : as_text(report);
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout)) throw failed("the results cannot be written");
  return 0;
}

}  // namespace

int main(int count, char **arguments) {
  try {
    return run({arguments + 1, arguments + count});
  } catch (const Error &error) {
    std::fprintf(stderr, "error: %s\n", printable(error.what()).c_str());
    if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", printable(error.hint).c_str());
    return error.exit_code;
  } catch (const std::bad_alloc &) {
    std::fputs("error: there is not enough memory for these inputs\n  give fewer or smaller ones at once\n", stderr);
    return 1;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", printable(error.what()).c_str());
    return 1;
  }
}
