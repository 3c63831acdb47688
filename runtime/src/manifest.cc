#include "manifest.h"

#include <cmath>
#include <limits>

#include "error.h"
#include "file.h"
#include "json.h"
#include "median.h"
#include "sha256.h"
#include "text.h"
#include "window.h"

namespace ofa_tvm {
namespace {

const char kFormat[] = "ofa_tvm.bundle";
constexpr int kSchemaVersion = 1;
constexpr double kMostStored = 4096;  // of the size that training stored images in

int count_of(const Json &record) {
  const int64_t count = record.integer();
  if (count < 0 || count > std::numeric_limits<int>::max()) throw JsonError("a number is out of range");
  return static_cast<int>(count);
}

std::vector<std::string> texts_of(const Json &record) {
  std::vector<std::string> texts;
  for (const Json &item : record.items()) texts.push_back(item.text());
  return texts;
}

// The same limits as in ofa_tvm/bundle/manifest.py.
constexpr double kMostMean = 1e3, kLeastStd = 1e-6, kMostStd = 1e6;

double number_within(const Json &record, double least, double most) {
  const double number = record.number();
  if (!(number >= least && number <= most)) throw JsonError("a number is out of range");
  return number;
}

void read_channels(const Json &record, double least, double most, float (&channels)[3]) {
  if (record.items().size() != 3) throw JsonError("a number for each of three channels is wanted");
  for (size_t i = 0; i < 3; ++i) channels[i] = static_cast<float>(number_within(record.items()[i], least, most));
}

// There is one way to prepare a picture. Manifests of older versions do not spell it out.
Preprocess preprocess_of(const Json &record) {
  const std::pair<const char *, const char *> known[] = {
      {"order", "upright, 8-bit RGB, crop, resize, scale, normalise"},
      {"crop", "largest centred square"},
      {"resize", "bilinear, antialiased"}};
  for (const auto &[key, value] : known) {
    const Json *said = record.find(key);
    if (said && said->text() != value) throw JsonError(std::string("preprocess: this '") + key + "' is not known");
  }
  if (const Json *scale = record.find("scale")) number_within(*scale, 0.999 / 255, 1.001 / 255);
  Preprocess preprocess;
  read_channels(record.at("mean"), -kMostMean, kMostMean, preprocess.mean);
  read_channels(record.at("std"), kLeastStd, kMostStd, preprocess.std);
  const Json *stored = record.find("stored_size");
  if (stored && !stored->is_null()) preprocess.stored_size = static_cast<int>(number_within(*stored, 1, kMostStored));
  return preprocess;
}

void check_figures(const Json &record) {
  const auto check = [&](const char *part, const char *key, double most) {
    const Json *facts = record.find(part), *figure = facts ? facts->find(key) : nullptr;
    if (figure && !figure->is_null()) number_within(*figure, 0, most);
  };
  check("accuracy", "test_top1", 1);
  check("latency", "measured_ms", std::numeric_limits<double>::max());
}

double calibration_of(const Json &timing) {
  const Json *windows = timing.find("windows");  // none where nothing was measured
  if (!windows || windows->items().empty()) return 0;
  std::vector<Window> taken;
  for (const Json &one : windows->items()) {
    Window window = {};
    window.calibration_ms = one.at("calibration_ms").number();
    window.calls = one.at("calls").number();
    window.left_out = one.at("left_out").number();
    taken.push_back(window);
  }
  std::vector<double> times_ms;
  for (const Window &window : counted(taken)) times_ms.push_back(window.calibration_ms);
  return median(times_ms);
}

Manifest from_json(const Json &record) {
  Manifest manifest;
  manifest.subnet = record.at("subnet").text();
  for (const Json &side : record.at("input").at("shape").items()) manifest.input_shape.push_back(count_of(side));
  manifest.classes = count_of(record.at("classes"));
  manifest.class_names = texts_of(record.at("class_names"));
  if (manifest.class_names.size() != static_cast<size_t>(manifest.classes)) {
    throw JsonError(std::to_string(manifest.classes) + " classes have " + std::to_string(manifest.class_names.size()) +
                    " names");
  }
  for (const std::string &name : manifest.class_names) {
    if (has_controls(name)) throw JsonError("class name '" + printable(name) + "' has control characters");
  }
  manifest.preprocess = preprocess_of(record.at("preprocess"));
  check_figures(record);
  const Json &target = record.at("target");
  manifest.target.threads = count_of(target.at("threads"));
  const Json &attributes = target.at("attributes");
  const Json *host = attributes.find("host");  // a GPU's names its machine's
  const Json &cpu = host ? *host : attributes;
  if (const Json *mcpu = cpu.find("mcpu")) manifest.target.mcpu = mcpu->text();
  if (const Json *mattr = cpu.find("mattr")) manifest.target.mattr = texts_of(*mattr);
  for (const auto &[name, facts] : record.at("files").members()) {
    const int64_t bytes = facts.at("bytes").integer();
    manifest.files.push_back({name, facts.at("sha256").text(), static_cast<uint64_t>(bytes)});
  }
  const Json *latency = record.find("latency"), *timing = latency ? latency->find("timing") : nullptr;
  if (timing) manifest.calibration_ms = calibration_of(*timing);
  return manifest;
}

Json parsed(const std::string &path) {
  try {
    return parse_json(read_file(path, "manifest"));
  } catch (const JsonError &error) {
    throw bad_input("manifest " + path + " is damaged: it is not JSON: " + error.what(), kCopyAgain);
  }
}

// A name that could lead out of the folder is none.
bool is_plain(const std::string &name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\") == std::string::npos &&
         !has_controls(name);
}

}  // namespace

Manifest read_manifest(const std::string &folder) {
  const std::string path = folder + "/" + kManifest;
  if (!is_file(path)) {
    throw bad_input(folder + " is not a bundle: it has no " + kManifest,
                    "name the bundle's folder first, or a model.so");
  }
  try {
    const Json record = parsed(path);
    const Json *format = record.find("format"), *version = record.find("schema_version");
    if (!format || format->dump() != Json(kFormat).dump()) {
      throw bad_input(path + " is not the manifest of a bundle", "name the bundle's folder first, or a model.so");
    }
    if (!version || version->dump() != Json(kSchemaVersion).dump()) {
      throw bad_input(path + " has schema version " + (version ? version->dump() : "none") + ", this program reads " +
                          std::to_string(kSchemaVersion),
                      "use the runner that came with the bundle, or make the bundle again");
    }
    return from_json(record);
  } catch (const JsonError &error) {
    throw bad_input("manifest " + path + " is damaged: " + error.what(), kCopyAgain);
  }
}

void verify_files(const std::string &folder, const Manifest &manifest, const Bytes &library) {
  const auto check = [&](const FileFacts &facts, const Bytes &content) {
    if (content.size() != facts.bytes || sha256(content) != facts.sha256) {
      throw bad_input(folder + "/" + facts.name + " is damaged: it is not the file that the manifest describes",
                      kCopyAgain);
    }
  };
  bool has_library = false;
  for (const FileFacts &facts : manifest.files) {
    if (!is_plain(facts.name)) {
      throw bad_input("manifest of " + folder + " is damaged: '" + facts.name + "' is no file name", kCopyAgain);
    }
    if (facts.name == "README.md") continue;  // whoever publishes the bundle may edit its card
    const std::string path = folder + "/" + facts.name;
    if (facts.name == kLibrary) {
      has_library = true;
      check(facts, library);
    } else if (is_file(path)) {  // a device may do without model.onnx
      check(facts, read_file(path, "file"));
    }
  }
  if (!has_library) {
    throw bad_input("manifest of " + folder + " is damaged: it does not vouch for " + kLibrary, kCopyAgain);
  }
}

}  // namespace ofa_tvm
