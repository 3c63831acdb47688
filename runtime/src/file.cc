#include "file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

namespace {

// Not by fstat, whose name in libc.so is as young as glibc 2.33. The kernel's struct is glibc's on 64-bit systems.
int facts_of(int descriptor, struct stat *facts) { return static_cast<int>(syscall(SYS_fstat, descriptor, facts)); }

}  // namespace

OpenFile::OpenFile(const std::string &path, const std::string &what) : name_(what + " " + path) {
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // does not wait for a pipe's other end
  if (descriptor_ < 0) throw bad_input(name_ + " cannot be read: " + strerror(errno));
  struct stat facts = {};
  const bool is_regular = !facts_of(descriptor_, &facts) && S_ISREG(facts.st_mode);
  bytes_ = static_cast<size_t>(facts.st_size);
  if (is_regular) return;
  close(descriptor_);
  const char *kind = S_ISDIR(facts.st_mode) ? "a folder" : S_ISFIFO(facts.st_mode) ? "a pipe" : "a device or socket";
  throw bad_input(name_ + " is " + kind + ", not a file", S_ISDIR(facts.st_mode) ? "" : "copy its content to a file");
}

OpenFile::~OpenFile() {
  if (!is_kept_) close(descriptor_);
}

Bytes OpenFile::read(size_t most) const {
  if (bytes_ > most) throw bad_input(name_ + " is larger than " + std::to_string(most) + " bytes");
  Bytes content(bytes_);
  for (size_t at = 0; at < bytes_;) {
    const ssize_t got = pread(descriptor_, &content[at], bytes_ - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw bad_input(name_ + " cannot be read to its end");
    at += static_cast<size_t>(got);
  }
  return content;
}

std::string OpenFile::descriptor_path() const {
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor_);
  return access(path.c_str(), R_OK) ? "" : path;
}

Bytes read_file(const std::string &path, const std::string &what, size_t most) {
  return OpenFile(path, what).read(most);
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
