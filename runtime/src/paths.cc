#include "paths.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "error.h"
#include "file.h"

namespace ofa_tvm {
namespace {

const char *const kKinds[] = {".png", ".jpg", ".jpeg", ".webp", ".ppm", ".npy", ".raw", ".bin", ".f32"};

bool is_input(const std::string &name) {
  const std::string kind = extension(name);
  return std::any_of(std::begin(kKinds), std::end(kKinds), [&](const char *known) { return kind == known; });
}

}  // namespace

Paths::Paths(const std::vector<std::string> &inputs, const std::string &list) {
  for (const std::string &input : inputs) {
    if (input == "-") {
      open_list(input);
    } else if (is_folder(input)) {
      const size_t before = known_.size();
      add_folder(input);
      if (known_.size() == before) throw bad_input("folder " + input + " holds no input", "see --help for the kinds");
    } else {
      known_.push_back(input);
    }
  }
  if (!list.empty()) open_list(list);
}

Paths::~Paths() {
  if (descriptor_ > 0) close(descriptor_);
}

bool Paths::next(std::string *path) {
  if (known_.empty()) return false;
  *path = std::move(known_.front());
  known_.pop_front();
  return true;
}

void Paths::read_more() {
  char text[1 << 16];
  const ssize_t count = read(descriptor_, text, sizeof text);
  if (count < 0 && errno == EINTR) return;
  if (count < 0) throw bad_input(std::string("the list of paths cannot be read: ") + strerror(errno));
  part_.append(text, static_cast<size_t>(count));
  if (!count && !part_.empty()) part_ += '\n';
  size_t start = 0;
  for (size_t end; (end = part_.find('\n', start)) != std::string::npos; start = end + 1) {
    std::string line = part_.substr(start, end - start);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) known_.push_back(line);
  }
  part_.erase(0, start);
  if (count) return;
  if (descriptor_ > 0) close(descriptor_);
  descriptor_ = -1;
}

void Paths::open_list(const std::string &list) {
  if (descriptor_ >= 0) throw bad_input("there are two lists of paths", "give one, by --list or as -");
  descriptor_ = list == "-" ? 0 : open(list.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw bad_input("list " + list + " cannot be read: " + strerror(errno));
}

void Paths::add_folder(std::string folder) {
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  DIR *opened = opendir(folder.c_str());
  if (!opened) throw bad_input("folder " + folder + " cannot be read: " + strerror(errno));
  std::vector<std::string> names, left_out;
  while (const dirent *entry = readdir(opened)) {
    const std::string name = entry->d_name, path = folder == "/" ? folder + name : folder + "/" + name;
    if (name[0] == '.') continue;  // hidden, or what Macs put beside pictures
    if (entry->d_type == DT_DIR || (entry->d_type == DT_UNKNOWN && is_folder(path)) || is_input(name)) {
      names.push_back(path);
    } else {
      left_out.push_back(path);
    }
  }
  closedir(opened);
  std::sort(names.begin(), names.end());
  for (const std::string &path : names) {
    if (is_folder(path)) {
      add_folder(path);
    } else {
      known_.push_back(path);
    }
  }
  if (left_out.empty()) return;
  const std::string first = *std::min_element(left_out.begin(), left_out.end());
  const char *what = left_out.size() == 1 ? "file of another kind is" : "files of other kinds are";
  std::fprintf(stderr, "%s: %zu %s left out, the first is %s\n", folder.c_str(), left_out.size(), what, first.c_str());
}

}  // namespace ofa_tvm
