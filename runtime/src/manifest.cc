#include "manifest.h"

#include <nlohmann/json.hpp>

#include "error.h"
#include "file.h"
#include "sha256.h"

namespace ofa_tvm {
namespace {

using Json = nlohmann::json;

const char kFormat[] = "ofa_tvm.bundle";
constexpr int kSchemaVersion = 1;
const char kCopyAgain[] = "copy the bundle again from where it was made, or make it again with 'python -m ofa_tvm.deploy'";

Manifest from_json(const Json &record) {
  Manifest manifest;
  record.at("subnet").get_to(manifest.subnet);
  record.at("input").at("shape").get_to(manifest.input_shape);
  record.at("classes").get_to(manifest.classes);
  record.at("class_names").get_to(manifest.class_names);
  record.at("preprocess").at("mean").get_to(manifest.preprocess.mean);
  record.at("preprocess").at("std").get_to(manifest.preprocess.std);
  const Json &target = record.at("target");
  target.at("threads").get_to(manifest.target.threads);
  const Json &attributes = target.at("attributes");
  const Json &cpu = attributes.contains("host") ? attributes.at("host") : attributes;  // a GPU's names its machine's
  manifest.target.mcpu = cpu.value("mcpu", "");
  manifest.target.mattr = cpu.value("mattr", std::vector<std::string>{});
  for (const auto &[name, facts] : record.at("files").items()) {
    manifest.files.push_back({name, facts.at("sha256").get<std::string>(), facts.at("bytes").get<uint64_t>()});
  }
  return manifest;
}

// A name that could lead out of the folder is none.
bool is_plain(const std::string &name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\") == std::string::npos;
}

}  // namespace

Manifest read_manifest(const std::string &folder) {
  const std::string path = folder + "/" + kManifest;
  if (!is_file(path)) {
    throw bad_input(folder + " is not a bundle: it has no " + kManifest, "name the bundle's folder first, or a model.so");
  }
  const Bytes text = read_file(path, "manifest");
  const Json record = Json::parse(text.begin(), text.end(), nullptr, false);
  if (record.is_discarded()) throw bad_input("manifest " + path + " is damaged: it is not JSON", kCopyAgain);
  if (!record.is_object() || record.value("format", Json()) != kFormat) {
    throw bad_input(path + " is not the manifest of a bundle", "name the bundle's folder first, or a model.so");
  }
  const Json version = record.value("schema_version", Json());
  if (version != kSchemaVersion) {
    throw bad_input(path + " has schema version " + version.dump() + ", this program reads " +
                        std::to_string(kSchemaVersion),
                    "use the runner that came with the bundle, or make the bundle again");
  }
  try {
    return from_json(record);
  } catch (const Json::exception &error) {
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
