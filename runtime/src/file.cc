#include "file.h"

#include <dirent.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

#include "error.h"

namespace ofa_tvm {

// Not by stat, whose name in libc.so is as young as glibc 2.33.
bool is_folder(const std::string &path) {
  DIR *folder = opendir(path.c_str());
  return folder && !closedir(folder);
}

bool is_file(const std::string &path) { return !access(path.c_str(), F_OK) && !is_folder(path); }

uint64_t file_bytes(const std::string &path) {
  FILE *file = std::fopen(path.c_str(), "rb");
  if (!file) return 0;
  const long bytes = std::fseek(file, 0, SEEK_END) ? 0 : std::ftell(file);
  std::fclose(file);
  return bytes < 0 ? 0 : static_cast<uint64_t>(bytes);
}

Bytes read_file(const std::string &path, const std::string &what) {
  if (is_folder(path)) throw bad_input(what + " " + path + " is a folder, not a file");
  FILE *file = std::fopen(path.c_str(), "rb");
  if (!file) throw bad_input(what + " " + path + " cannot be read: " + strerror(errno));
  Bytes content;
  uint8_t part[1 << 16];
  for (size_t got; (got = std::fread(part, 1, sizeof part, file)) > 0;) content.insert(content.end(), part, part + got);
  const bool whole = !std::ferror(file);
  std::fclose(file);
  if (!whole) throw bad_input(what + " " + path + " cannot be read to its end");
  return content;
}

std::string extension(const std::string &path) {
  size_t dot = path.rfind('.');
  if (dot == std::string::npos || path.find('/', dot) != std::string::npos) return "";
  std::string found = path.substr(dot);
  for (char &letter : found) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return found;
}

std::string own_path() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "";
}

std::string own_folder() {
  std::string path = own_path();
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

}  // namespace ofa_tvm
