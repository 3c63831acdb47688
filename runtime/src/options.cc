#include "options.h"

#include <algorithm>
#include <cstdlib>

#include "error.h"
#include "file.h"
#include "manifest.h"

namespace ofa_tvm {

const char kUsage[] =
    R"(usage: run [BUNDLE] [INPUT ...] [options]

Classifies images with a compiled network. BUNDLE is a bundle's folder (default: where this program lies) or a lone .so.

INPUT  .png .jpg .jpeg   (where this program was built with stb_image),
       .webp             (where, too, the system has libwebp.so.7) and
       .ppm              an image of up to 67 million pixels: its central square is resized and normalised
       .npy              float32 (n, size, size, 3), already normalised; or uint8 images (n, height, width, 3)
       .raw .bin .f32    finite float32 numbers, already normalised
       a folder          all of these in it, by name
       -                 paths on stdin, one a line

  --top K               classes to print for each image (5)
  --json                print one JSON object
  --lines               print a JSON object a line, as soon as it is known (always for folders and lists)
  --list FILE           take inputs from a file, one path a line
  --workers N           processes that share the inputs of --lines (as many as cores allow)
  --logits FILE.npy     also write the logits (n, classes)
  --benchmark           also time the network; without INPUT on random numbers
  --windows N           windows of single calls that are timed (3)
  --window-ms M         how long a window takes (400)
  --gap-ms M            the least time from one window to the next (1000)
  --no-verify           do not check the hashes of the bundle's files
  --help                this text

Exit codes: 0 done, 1 failed, 2 bad input, 3 some inputs of --lines could not be used.
)";

namespace {

const char kSeeHelp[] = "see --help";

double number(const std::string &option, const std::string &text, double least) {
  char *end;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !(value >= least && value <= 1e6)) {
    throw bad_input(option + " takes a number from " + std::to_string(static_cast<int>(least)) + ", not '" + text + "'",
                    kSeeHelp);
  }
  return value;
}

}  // namespace

Options parse_options(const std::vector<std::string> &arguments) {
  Options options;
  std::vector<std::string> names;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string &option = arguments[i];
    const auto value = [&] {
      if (i + 1 == arguments.size()) throw bad_input(option + " needs a value", kSeeHelp);
      return arguments[++i];
    };
    if (option == "-" || option.compare(0, 1, "-") != 0) {
      names.push_back(option);
    } else if (option == "--top") {
      options.top = static_cast<int>(number(option, value(), 1));
    } else if (option == "--windows") {
      options.timing.windows = static_cast<int>(number(option, value(), 1));
    } else if (option == "--window-ms") {
      options.timing.window_ms = number(option, value(), 0);
    } else if (option == "--gap-ms") {
      options.timing.gap_ms = number(option, value(), 0);
    } else if (option == "--logits") {
      options.logits = value();
    } else if (option == "--list") {
      options.list = value();
    } else if (option == "--workers") {
      options.workers = static_cast<int>(number(option, value(), 1));
    } else if (option == "--lines") {
      options.stream = true;
    } else if (option == "--json") {
      options.json = true;
    } else if (option == "--benchmark") {
      options.benchmark = true;
    } else if (option == "--no-verify") {
      options.verify = false;
    } else if (option == "--help" || option == "-h") {
      options.help = true;
    } else {
      throw bad_input("unknown option " + option, is_file(option) ? "the file of that name is ./" + option : kSeeHelp);
    }
  }
  const bool beside = is_file(own_folder() + "/" + kManifest);
  const bool named = !names.empty() && (extension(names[0]) == ".so" || is_file(names[0] + "/" + kManifest) ||
                                        (is_folder(names[0]) && !beside));
  options.bundle = named ? names[0] : own_folder();
  options.inputs.assign(names.begin() + named, names.end());
  if (options.help) return options;
  if (!named && !beside) {
    const std::string what = names.empty() ? "" : names[0] + " is neither a folder nor a library, and ";
    throw bad_input(what + "there is no bundle beside this program, in " + options.bundle,
                    "name a bundle's folder first, or a model.so");
  }
  options.stream = options.stream || !options.list.empty() ||
                   std::any_of(options.inputs.begin(), options.inputs.end(),
                               [](const std::string &input) { return input == "-" || is_folder(input); });
  if (options.stream && (options.benchmark || !options.logits.empty()))
    throw bad_input("--benchmark and --logits are not for folders, lists and --lines", "name files, or leave them out");
  if (options.inputs.empty() && options.list.empty() && !options.benchmark)
    throw bad_input("nothing to do", "name an image, or give --benchmark");
  if (options.inputs.empty() && !options.logits.empty()) throw bad_input("--logits needs an input", kSeeHelp);
  return options;
}

}  // namespace ofa_tvm
