#include "manifest.h"

#include <cmath>
#include <limits>

#include "error.h"
#include "file.h"
#include "json.h"
#include "median.h"
#include "sha256.h"
#include "window.h"

namespace ofa_tvm {
namespace {

const char kFormat[] = "ofa_tvm.bundle";
constexpr int kSchemaVersion = 1;
const char kCopyAgain[] =
    "copy the bundle again from where it was made, or make it again with 'python -m ofa_tvm.deploy'";

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

void read_channels(const Json &record, float (&channels)[3]) {
  if (record.items().size() != 3) throw JsonError("a number for each of three channels is wanted");
  for (size_t i = 0; i < 3; ++i) {
    channels[i] = static_cast<float>(record.items()[i].number());
    if (!std::isfinite(channels[i])) throw JsonError("a number is out of range");
  }
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
  read_channels(record.at("preprocess").at("mean"), manifest.preprocess.mean);
  read_channels(record.at("preprocess").at("std"), manifest.preprocess.std);
  for (const float std : manifest.preprocess.std) {
    if (!(std > 0)) throw JsonError("a standard deviation must be positive");
  }
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
  return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\") == std::string::npos;
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

void verify_files(const std::string &folder, const Manifest &manifest) {
  bool has_library = false;
  for (const FileFacts &facts : manifest.files) {
    if (!is_plain(facts.name)) {
      throw bad_input("manifest of " + folder + " is damaged: '" + facts.name + "' is no file name", kCopyAgain);
    }
    const std::string path = folder + "/" + facts.name;
    const bool is_library = facts.name == kLibrary;
    has_library = has_library || is_library;
    if (!is_file(path)) {  // a device may do without model.onnx
      if (is_library) throw bad_input(path + " is missing from the bundle", kCopyAgain);
      continue;
    }
    if (file_bytes(path) != facts.bytes || sha256(read_file(path, "file")) != facts.sha256) {
      throw bad_input(path + " is damaged: it is not the file that the manifest describes", kCopyAgain);
    }
  }
  if (!has_library) {
    throw bad_input("manifest of " + folder + " is damaged: it does not vouch for " + kLibrary, kCopyAgain);
  }
}

}  // namespace ofa_tvm
