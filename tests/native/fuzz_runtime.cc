// Damages files of a corpus and gives them to the runner's library, whose sanitizers end the program where it does
// wrong: fuzz_runtime BUNDLE CORPUS SCRATCH SEED TIMES. Files of the corpus go by their extension: .json are manifests,
// .so libraries, the rest inputs. Prints how many were taken and how many refused.
#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "cpu.h"
#include "error.h"
#include "inputs.h"
#include "manifest.h"

namespace {

using namespace ofa_tvm;

std::mt19937 random_bits;

size_t below(size_t most) { return most ? random_bits() % most : 0; }

void change(Bytes &file, const Bytes &other) {
  static const uint8_t kSpecial[] = {0, 1, 0x7f, 0x80, 0xc4, 0xd9, 0xda, 0xff};
  const size_t at = below(file.size());
  const auto here = [&] { return file.begin() + static_cast<std::ptrdiff_t>(at); };
  const size_t run = std::min(1 + below(24), file.size() - at), from = below(other.size());
  const size_t taken = std::min(1 + below(64), other.size() - from);
  switch (below(7)) {
    case 0:
      if (at < file.size()) file[at] ^= static_cast<uint8_t>(1 << below(8));
      break;
    case 1:
      if (at < file.size()) file[at] = kSpecial[below(sizeof kSpecial)];
      break;
    case 2:
      file.insert(here(), 1 + below(8), kSpecial[below(sizeof kSpecial)]);
      break;
    case 3:
      file.erase(here(), here() + static_cast<std::ptrdiff_t>(run));
      break;
    case 4:
      std::fill_n(here(), run, kSpecial[below(sizeof kSpecial)]);
      break;
    case 5:
      file.insert(here(), other.begin() + static_cast<std::ptrdiff_t>(from),
                  other.begin() + static_cast<std::ptrdiff_t>(from + taken));
      break;
    default:
      if (below(8) == 0) file.resize(at);
  }
}

// Right checksums for the chunks of a PNG file, so that what they hold is looked at.
void mend_checksums(Bytes &file) {
  for (size_t at = 8; at + 12 <= file.size();) {
    const size_t bytes = size_t{file[at]} << 24 | file[at + 1] << 16 | file[at + 2] << 8 | file[at + 3];
    if (bytes > file.size() - at - 12) return;
    uint32_t crc = 0xffffffff;
    for (size_t i = at + 4; i < at + 8 + bytes; ++i) {
      crc ^= file[i];
      for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? 0xedb88320 ^ crc >> 1 : crc >> 1;
    }
    for (size_t i = 0; i < 4; ++i) file[at + 8 + bytes + i] = static_cast<uint8_t>(~crc >> (24 - 8 * i));
    at += 12 + bytes;
  }
}

void write(const std::string &path, const Bytes &content) {
  FILE *file = std::fopen(path.c_str(), "wb");
  const bool is_written = file && std::fwrite(content.data(), 1, content.size(), file) == content.size();
  if (!is_written || std::fclose(file)) std::abort();
}

void use(const std::string &name, const Bytes &content, const std::string &scratch, const Model &model,
         const Bytes &library) {
  const std::string kind = extension(name), path = scratch + "/" + (kind == ".json" ? kManifest : "given" + kind);
  if (kind == ".so") return check_library(name, content, nullptr);
  write(path, content);
  if (kind == ".json") return verify_files(scratch, read_manifest(scratch), library);
  model.run_all(read_inputs({path}, model).values);
}

}  // namespace

int main(int count, char **arguments) {
  if (count != 6) return 2;
  const std::string corpus = arguments[2], scratch = arguments[3];
  const Model model(arguments[1], false);
  const Bytes library = read_file(model.library, "library");
  random_bits.seed(static_cast<unsigned>(std::atoi(arguments[4])));
  std::vector<std::string> names;
  std::vector<Bytes> files;
  DIR *folder = opendir(corpus.c_str());
  while (const dirent *entry = folder ? readdir(folder) : nullptr) {
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  }
  closedir(folder);
  std::sort(names.begin(), names.end());
  for (const std::string &name : names) files.push_back(read_file(corpus + "/" + name, "seed"));
  long taken = 0, refused = 0;
  for (long i = 0, times = std::atol(arguments[5]); i < times; ++i) {
    const size_t which = static_cast<size_t>(i) % names.size();
    Bytes content = files[which];
    const bool is_whole = static_cast<size_t>(i) < names.size();  // each is good as it is
    for (size_t changes = is_whole ? 0 : 1 + below(4); changes; --changes) change(content, files[below(files.size())]);
    if (!is_whole && extension(names[which]) == ".png" && below(8)) mend_checksums(content);
    try {
      use(names[which], content, scratch, model, library);
      ++taken;
    } catch (const Error &error) {
      if (is_whole) return std::fprintf(stderr, "%s: %s\n", names[which].c_str(), error.what()), 3;
      ++refused;
    } catch (const std::bad_alloc &) {
      ++refused;
    }
  }
  std::printf("%ld %ld\n", taken, refused);
  return 0;
}
